"""Whether an answer is in character: judged by several traits of it, never by one catch-word.

The traits of a character stand in ``data/characters/<Name>.persona.json``. Each belongs to a family:
``manner`` (how others are addressed), ``world`` (what the images are taken from), ``views``, ``self``
(what the character says of itself) and ``speech`` (the rhythm of the sentences). A trait is found by any
of its phrases, or by a rule. An answer is in character with at least three traits of at least two
families, two of them found by phrases, and when it does not step out of the part. No word belongs to
two traits, and rhythm counts only in an answer of some length, so that repeating one word proves nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distillation import settings
from distillation.characters import find
from distillation.errors import DistillationError
from distillation.jsonl import read_json
from distillation.questions import normalised

FAMILIES = ("manner", "world", "views", "self", "speech")

MIN_TRAITS = 3
MIN_FAMILIES = 2
MIN_BY_PHRASES = 2

FULL_SCORE_TRAITS = 4
"""Traits from which on an answer has the full score."""

MIN_WORDS_FOR_RHYTHM = 10
"""Different words that an answer needs before the rhythm of its sentences counts."""

SHORT_SENTENCE_WORDS = 9
"""Mean number of words up to which sentences are short."""

OUT_OF_PART = (
    "language model",
    "ai model",
    "an ai",
    "as an assistant",
    "artificial intelligence model",
    "i am a model",
    "i am an assistant",
    "chatbot",
    "system prompt",
    "play the part",
    "play the role",
    "stay in character",
)
"""Phrases of somebody who explains the part instead of playing it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in an answer.

    Attributes:
        traits: names of the traits found, in the order of the persona's file.
        score: from 0 to 1; 0 when the answer steps out of the part.
        in_character: see the module's text.
    """

    traits: tuple[str, ...]
    score: float
    in_character: bool


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing by which a character is known; it has phrases or a rule, never both."""

    name: str
    family: str
    phrases: tuple[str, ...]
    rule: str | None


def judge(character: str, answer: str) -> Verdict:
    """Judge an answer.

    Args:
        character: a character's name; the letters' case does not matter.
        answer: what was said, without the question.

    Raises:
        DistillationError: there is no such character, or its persona file is broken.
    """
    padded = f" {normalised(answer)} "
    sentences = _sentences(answer)
    found = [trait for trait in persona(find(character).name) if _shows(trait, padded, sentences)]
    names = tuple(trait.name for trait in found)
    if any(f" {phrase} " in padded for phrase in OUT_OF_PART):
        return Verdict(names, 0.0, False)
    by_phrases = sum(bool(trait.phrases) for trait in found)
    families = len({trait.family for trait in found})
    return Verdict(
        names,
        min(1.0, len(found) / FULL_SCORE_TRAITS),
        len(found) >= MIN_TRAITS and families >= MIN_FAMILIES and by_phrases >= MIN_BY_PHRASES,
    )


@functools.cache
def persona(name: str) -> tuple[Trait, ...]:
    """The traits of the character of exactly this name.

    Raises:
        DistillationError: the file is missing or breaks a rule of the form; says which.
    """
    return load(settings.DATA / "characters" / f"{name}.persona.json")


def load(path: Path) -> tuple[Trait, ...]:
    """Read a persona file: an object with the list ``traits`` of objects ``name``, ``family`` and either
    ``phrases`` (lower case, without punctuation) or ``rule``.

    Raises:
        DistillationError: the file breaks that form, or one phrase would show two traits.
    """
    listed = read_json(path).get("traits")
    if not isinstance(listed, list) or not listed:
        raise DistillationError(f"{path}: needs a list 'traits'")
    traits = tuple(_trait(path, value) for value in listed)
    owned = [(phrase, trait.name) for trait in traits for phrase in trait.phrases]
    for phrase, name in owned:
        for other, owner in owned:
            if name != owner and f" {phrase} " in f" {other} ":
                raise DistillationError(
                    f"{path}: {phrase!r} shows {name!r} and, in {other!r}, also {owner!r}; keep one"
                )
    return traits


def _trait(path: Path, value: object) -> Trait:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise DistillationError(f"{path}: a trait without a name: {value!r}")
    name, family, rule = value["name"], value.get("family"), value.get("rule")
    phrases = value.get("phrases", [])
    if family not in FAMILIES:
        raise DistillationError(
            f"{path}: {name!r} has the family {family!r}; there are {', '.join(FAMILIES)}"
        )
    if not isinstance(phrases, list) or bool(phrases) == (rule is not None):
        raise DistillationError(f"{path}: {name!r} needs either 'phrases' or 'rule'")
    if rule is not None and rule not in _RULES:
        raise DistillationError(f"{path}: {name!r} has the rule {rule!r}; there are {', '.join(_RULES)}")
    for phrase in phrases:
        if not isinstance(phrase, str) or not phrase or normalised(phrase) != phrase:
            raise DistillationError(f"{path}: {phrase!r} of {name!r}: write it small and without punctuation")
    return Trait(name, family, tuple(phrases), rule)


def _sentences(answer: str) -> list[str]:
    return [piece for piece in re.findall(r"[^.!?…]+[.!?…]*", answer) if normalised(piece)]


def _shows(trait: Trait, padded: str, sentences: list[str]) -> bool:
    if trait.rule is None:
        return any(f" {phrase} " in padded for phrase in trait.phrases)
    words = padded.split()
    return len(set(words)) >= MIN_WORDS_FOR_RHYTHM and _RULES[trait.rule](words, sentences)


def _short_sentences(words: list[str], sentences: list[str]) -> bool:
    return len(sentences) >= 3 and len(words) / len(sentences) <= SHORT_SENTENCE_WORDS


def _cries_out(_: list[str], sentences: list[str]) -> bool:
    return any(sentence.rstrip().endswith("!") for sentence in sentences)


def _we_and_i(words: list[str], _: list[str]) -> bool:
    return bool({"we", "our", "us"} & set(words)) and bool({"i", "my", "me"} & set(words))


def _ends_with_question(_: list[str], sentences: list[str]) -> bool:
    return sentences[-1].rstrip("\"'»”’ \n").endswith("?")


_RULES: dict[str, Callable[[list[str], list[str]], bool]] = {
    "short_sentences": _short_sentences,
    "cries_out": _cries_out,
    "we_and_i": _we_and_i,
    "ends_with_question": _ends_with_question,
}
"""The rules that a persona file can name; each gets the normalised words and the sentences."""
