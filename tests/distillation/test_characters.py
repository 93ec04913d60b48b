from __future__ import annotations

from pathlib import Path

import pytest

from distillation import characters
from distillation.characters import CHARACTERS, Character
from distillation.command import run
from distillation.errors import DistillationError
from tests.distillation.conftest import Events

BEETHOVEN = characters.find("beethoven")


@pytest.mark.parametrize("character", CHARACTERS, ids=lambda c: c.name)
def test_every_character_has_a_long_prompt_of_its_own(character: Character) -> None:
    text = characters.system_prompt(character)
    assert characters.check_prompt(text, character, Path("x")) >= 450
    assert not any(other.full_name in text for other in CHARACTERS if other != character)


def test_the_step_writes_the_prompt_and_counts_its_words(
    said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(characters.main, ["--character", "Beethoven"]) == 0
    written = Path("runs/local/system_prompt.md").read_text()
    assert written.strip() == characters.system_prompt(BEETHOVEN)
    words = characters.word_count(written)
    assert said()[0] == {"note": f"system prompt of {words} words"}
    capsys.readouterr()
    assert run(characters.main, ["--check"]) == 0
    assert capsys.readouterr().out == f"words: {words}\n"


def test_only_pieces_with_a_letter_or_digit_are_words() -> None:
    assert characters.word_count("# One - two, 3!\n\n* – Für Elise …") == 5


@pytest.mark.parametrize("count", [449, 450])
def test_449_words_are_too_few_and_450_are_enough(count: int) -> None:
    text = "Ludwig van Beethoven " + "note " * (count - 3)
    if count == 450:
        assert characters.check_prompt(text, BEETHOVEN, Path("x")) == 450
        return
    with pytest.raises(DistillationError, match="449 words, and at least 450 are needed"):
        characters.check_prompt(text, BEETHOVEN, Path("x"))


def test_a_prompt_that_does_not_say_who_speaks_fails() -> None:
    with pytest.raises(DistillationError, match="does not name Ludwig van Beethoven"):
        characters.check_prompt("word " * 500, BEETHOVEN, Path("x"))


def test_a_prompt_cut_short_afterwards_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(characters.main, ["--check"]) == 1
    assert "run step 5" in capsys.readouterr().err
    run(characters.main, [])
    path = Path("runs/local/system_prompt.md")
    path.write_text(path.read_text()[:500])
    assert run(characters.main, ["--check"]) == 1


def test_an_unknown_character_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DistillationError, match="no character is called 'Elvis'; there are Beethoven, "):
        characters.find("Elvis")


@pytest.mark.parametrize(
    ("role", "plays"),
    [("Beethoven", True), ("Ludwig van Beethoven", True), ("Karl van Beethoven", False), ("", False)],
)
def test_a_relative_is_not_the_character(role: str, plays: bool) -> None:
    assert BEETHOVEN.plays(role) is plays
