"""The form of one example: a prompt that sets the scene, and an output that is a dialogue.

The dataset's files ``prompted/prompted_agent_dialogue_<Name>.jsonl`` hold ``prompt``, ``output`` and
``source``. A prompt has the lines ``Location: ...`` and ``Status: ...``. An output is a row of turns
``Name (speaking): words`` or ``Name (thinking): words``, each ended by ``<|eot|>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

END_OF_TURN = "<|eot|>"

_TURN = re.compile(
    r"(?P<role>[^():\n]{1,80}?)\s*\((?P<action>[^()\n]{1,40})\)\s*:\s*(?P<words>.*)", re.DOTALL
)
_LOCATION = re.compile(r"^Location:[ \t]*(\S.*)$", re.MULTILINE)
_STATUS = re.compile(r"^Status:[ \t]*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Turn:
    """Who says or thinks what."""

    role: str
    action: str
    words: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the dialogue takes place and how things stand."""

    location: str
    status: str


def parse_scene(prompt: str) -> Scene:
    """Read the scene from a prompt.

    Raises:
        ValueError: there is no location or no status; says which.
    """
    location, status = _LOCATION.search(prompt), _STATUS.search(prompt)
    if location is None:
        raise ValueError("the prompt has no line 'Location: ...'")
    if status is None:
        raise ValueError("the prompt has no line 'Status: ...'")
    return Scene(location[1].strip(), status[1].strip())


def parse_turns(output: str) -> tuple[Turn, ...]:
    """Read the turns of an output.

    Raises:
        ValueError: the output does not end with the end mark, or a piece is no turn; says which.
    """
    *pieces, rest = output.split(END_OF_TURN)
    if not pieces or rest.strip():
        raise ValueError(f"the output does not end with {END_OF_TURN}")
    turns = []
    for number, piece in enumerate(pieces, 1):
        found = _TURN.fullmatch(piece.strip())
        if found is None or not found["words"].strip():
            raise ValueError(f"turn {number} is not 'Name (action): words'")
        turns.append(Turn(found["role"].strip(), found["action"].strip(), found["words"].strip()))
    return tuple(turns)
