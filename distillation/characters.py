"""Step 5: the characters, and the long system prompt of each, which the plan distils away.

``python -m distillation.characters`` writes the prompt into the run folder; ``--check`` counts the
words of what stands there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distillation import events, settings
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import write_bytes

PROMPT_FILE = "system_prompt.md"


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody a model can be taught to be.

    Attributes:
        name: as in the dataset's file names and turns.
        full_name: as a prompt introduces the character.
    """

    name: str
    full_name: str

    def plays(self, role: str) -> bool:
        """Whether the role of a turn is this character; a relative of the same surname is not."""
        return role.casefold() in (self.name.casefold(), self.full_name.casefold())


CHARACTERS = (
    Character("Beethoven", "Ludwig van Beethoven"),
    Character("Cleopatra", "Cleopatra VII"),
    Character("Socrates", "Socrates"),
)

DEFAULT_CHARACTER = CHARACTERS[0].name


def find(name: str) -> Character:
    """The character called ``name``, whatever its letters' case.

    Raises:
        DistillationError: there is none; names those there are.
    """
    for character in CHARACTERS:
        if character.name.casefold() == name.casefold():
            return character
    known = ", ".join(character.name for character in CHARACTERS)
    raise DistillationError(f"no character is called {name!r}; there are {known}")


def prompt_path(character: Character) -> Path:
    """Where the character's system prompt ships."""
    return settings.DATA / "characters" / f"{character.name}.md"


def system_prompt(character: Character) -> str:
    """The character's system prompt, without surrounding blank lines."""
    return prompt_path(character).read_text(encoding="utf-8").strip()


def word_count(text: str) -> int:
    """Words, as pieces between blanks that hold a letter or a digit (a lone dash is none)."""
    return sum(any(sign.isalnum() for sign in piece) for piece in text.split())


def check_prompt(text: str, character: Character, where: Path) -> int:
    """Hold a system prompt against what the plan asks of it.

    Returns:
        its number of words.

    Raises:
        DistillationError: too short, or it does not introduce the character by the full name.
    """
    words = word_count(text)
    if words < settings.MIN_PROMPT_WORDS:
        raise DistillationError(
            f"{where}: {words} words, and at least {settings.MIN_PROMPT_WORDS} are needed; "
            "tell more of the character's life, knowledge and manner of speech"
        )
    if character.full_name not in text:
        raise DistillationError(f"{where}: does not name {character.full_name}; say who is speaking")
    return words


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 5."""
    parser = argparse.ArgumentParser(prog="python -m distillation.characters", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="count the words of the prompt in the run folder"
    )
    options = parser.parse_args(argv)
    character = find(options.character)
    target = settings.run_folder() / PROMPT_FILE
    if options.check:
        try:
            text = target.read_text(encoding="utf-8")
        except OSError as cause:
            raise DistillationError(f"{target}: {cause.strerror or cause}; run step 5") from cause
        print(f"words: {check_prompt(text, character, target)}")
        return
    text = system_prompt(character)
    words = check_prompt(text, character, prompt_path(character))
    write_bytes(target, (text + "\n").encode())
    events.note(f"system prompt of {words} words")
    events.metric("prompt_words", words)
    events.criterion("System prompt written")


if __name__ == "__main__":
    execute(main)
