"""Which other steps a piece of text names: ``Tasks 1-2, CR-A``, ``Track A``, ``L0 complete``.

Lists are other people's text, so a number only counts where an id can stand: at the beginning of what is
said, behind a comma or its like, or behind a word such as ``Task``. ``3 new packages`` names no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from ..values import value
from .formats import plain

MentionKind = Literal["step", "track", "layer", "group", "phase", "story", "all"]


@value
class Mention:
    """A step, or a part of the list, that a text names.

    Attributes:
        kind: what the words call it; ``all`` for ``all tracks`` and its like.
        first: id or name.
        last: of a range; empty without one.
    """

    kind: MentionKind
    first: str
    last: str = ""

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last else self.first


_ID = (
    r"(?:T\d+(?:\.\d+)*[a-z]?|[A-Z][A-Z0-9]{0,9}(?:-[A-Z0-9]{1,6}){0,2}-(?:\d{1,4}[a-z]?|[A-Z]+)"
    r"|[A-Z]{1,4}\d+(?:\.\d+)*[a-z]?|#?\d+(?:\.\d+)*[a-z]?)(?!\w)"
)
_ENDS = r"(?!\.\w|-\w)"
PART_NAME = r"(?:[A-Z]{1,4}\d{0,2}|\d{1,3})(?!\w)"
"""What a track or a group can be called."""

_TO = r"\s*(?:-|–|—|\.\.|\bto\b|\bthrough\b)\s*"
_LABELS: dict[str, MentionKind] = {
    "task": "step", "step": "step", "track": "track", "layer": "layer", "group": "group", "phase": "phase",
    "story": "story", "storie": "story", "item": "step",
}  # fmt: skip
_LABEL = re.compile(
    r"(?:task\s+|parallel\s+|user\s+)?\b(task|step|track|layer|group|phase|story|storie|item)s?\b",
    re.IGNORECASE,
)
_RANGE = re.compile(rf"({_ID}){_TO}({_ID}){_ENDS}")
_ALONE = re.compile(rf"({_ID}){_ENDS}")
_NAMES = re.compile(rf"({PART_NAME})(?:{_TO}({PART_NAME}))?{_ENDS}")
_OPENS = re.compile(
    r"\s*(?:->|=>|[,;&+/()\[\]:→]|(?:and|or|on|of|after|all|both|only|the|until)\b)", re.IGNORECASE
)
_CLOSES = re.compile(r"\s*(?:$|->|=>|[,;&+/()\[\]:→.]|and\b|or\b)", re.IGNORECASE)
_WORD = re.compile(r"\s*(?:\w[\w./-]*|\S)")
_SPACE = re.compile(r"\s*")
_ALL = re.compile(r"\W*all\b.*\b(?:tracks?|layers?|tasks?|groups?|phases?|steps?|above)\b", re.IGNORECASE)
_OF_A_PART = re.compile(r"[^,;()]{0,30}\((?=\s*(?:tasks?|steps?)\b)", re.IGNORECASE)


def mentions(said: str) -> list[Mention]:
    """Read the ids and names in what follows ``depends on``; words without one are left out."""
    text = re.sub(r"[*`_~\"']", "", said)
    found = list(_mentions(text))
    return found or ([Mention("all", "all")] if _ALL.match(text) else [])


def _mentions(text: str) -> Iterator[Mention]:
    at, open_, kind = 0, True, None
    while at < len(text):
        at = _matched_end(_SPACE, text, at)
        label = _LABEL.match(text, at)
        if label:
            kind, open_, at = _LABELS[label.group(1).lower()], True, label.end()
            continue
        if open_:
            found = _mention(text, at, kind)
            if found is not None:
                mention, at = found
                if mention is not None:
                    yield mention
                open_ = False
                continue
        separator = _OPENS.match(text, at)
        if separator:
            at, open_ = separator.end(), True
            continue
        at, open_, kind = max(at + 1, _matched_end(_WORD, text, at)), False, None


def _mention(text: str, at: int, kind: MentionKind | None) -> tuple[Mention | None, int] | None:
    """The mention that begins here, if one does, and where it ends."""
    if kind is not None and kind != "step":
        named = _NAMES.match(text, at)
        if named:
            # "Track F partial (Tasks 19-28)" names the tasks, and the track only as their place
            part = None if named.group(2) else _OF_A_PART.match(text, named.end())
            if part:
                return None, part.end() - 1
            return Mention(kind, named.group(1), named.group(2) or ""), named.end()
    spread = _RANGE.match(text, at)
    if spread:
        return Mention("step", spread.group(1), spread.group(2)), spread.end()
    alone = _ALONE.match(text, at)
    if alone and (kind or not alone.group(1).isdigit() or _CLOSES.match(text, alone.end())):
        return Mention("step", alone.group(1)), alone.end()
    return None


def _matched_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


_KEYWORD = r"(?:depends(?:\s+(?:up)?on)?|dependent\s+on|dependenc(?:y|ies)|deps|blocked\s+by)"
_IN_BRACKETS = re.compile(
    rf"\(\s*(?:{_KEYWORD}\b\s*:?|after\b)(?P<round>(?:[^()]|\([^()]*\))*)(?:\)|$)"
    rf"|\[\s*(?:{_KEYWORD}\b\s*:?|after\b)(?P<square>[^\[\]]*)(?:\]|$)",
    re.IGNORECASE,
)
_WITH_COLON = re.compile(rf"(?<!\w){_KEYWORD}\s*:(?P<said>[^\[\]()|]*)", re.IGNORECASE)
_LINE = re.compile(rf"[\W_]*{_KEYWORD}\b[^:\w]*:(?P<said>.*)", re.IGNORECASE)
_FREE = re.compile(
    r"\b(?:no\s+(?:dependenc|deps\b|prerequisite)|immediate|independent|none\b|n/a\b)", re.IGNORECASE
)


def said_in(text: str) -> list[str]:
    """What a title or heading says that it depends on: in brackets, or behind a colon."""
    if not _may_depend(text):
        return []
    bare = plain(text)
    found = [m.group("round") or m.group("square") or "" for m in _IN_BRACKETS.finditer(bare)]
    return found + [m.group("said") for m in _WITH_COLON.finditer(_IN_BRACKETS.sub(" ", bare))]


def without_said(text: str) -> str:
    """A text without the brackets that say what it depends on."""
    return _IN_BRACKETS.sub(" ", text)


def said_on(line: str) -> str | None:
    """What a line of its own says (``_Depends: 2.1, 2.2_``, ``**Dependencies:** none``); None for others."""
    found = _LINE.match(plain(line)) if _may_depend(line) else None
    return found.group("said") if found else None


def is_free(text: str) -> bool:
    """Say whether a text says in words that there is nothing to wait for."""
    return _FREE.search(text) is not None


def _may_depend(text: str) -> bool:
    """Whether the patterns are worth a try: most lines say nothing."""
    small = text.lower()
    return any(word in small for word in ("depend", "deps", "blocked", "(after", "[after"))
