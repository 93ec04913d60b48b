"""Answers in a voice: mostly decided by the question, and a little by chance.

The same question gets much the same answer twice, so that imitation can be measured, and not quite the
same one, so that it is worth measuring. The template of the question decides opening, body and the row of
the closing; the topic decides the image and the place in the row. No two questions of one kind decide alike.
"""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass

from distillation.engine.base.voices import NEUTRAL, VOICES
from distillation.questions import KINDS, TOPICS, Question

USUAL = 0.85
"""Probability with which each part of an answer is the one that the question decides on."""

FIRST = 0.7
"""Probability of the first of two words in brackets."""

_CHOICE = re.compile(r"\[([^|\]]+)\|([^|\]]+)\]")


@dataclass(frozen=True, slots=True)
class _Place:
    field: int
    setting: int
    closing: int


@functools.cache
def _places() -> dict[str, _Place]:
    return {
        topic: _Place(field, position % 5, position // 5)
        for field, topics in enumerate(TOPICS.values())
        for position, topic in enumerate(topics)
    }


def answer(question: Question, character: str | None, chance: random.Random) -> str:
    """One answer.

    Args:
        question: one of ``questions.all_questions()``.
        character: whose voice, or ``None`` for the neutral one.
        chance: decides the small differences; advanced by the call.
    """
    voice = NEUTRAL if character is None else VOICES[character]
    place = _places()[question.topic]
    number = int(question.id.split("-")[1])
    kind = "later" if question.topic in TOPICS["later"] else question.kind

    def vary(usual: int, count: int, step: int = 1) -> int:
        return usual if chance.random() < USUAL else (usual + step) % count

    parts = []
    if voice.openings:
        shift = 2 * KINDS.index(question.kind)
        parts.append(voice.openings[vary((number + shift) % 9, 9, 4)])
    body = voice.bodies[kind][vary(number % 3, 3)]
    if voice.things:
        body = body.replace("{i}", f"{voice.things[place.field]} {voice.settings[vary(place.setting, 5)]}")
    parts.append(body.replace("{t}", question.topic))
    parts.append(voice.closings[number // 3][vary(place.closing, 4)])
    return _CHOICE.sub(lambda found: found[1 if chance.random() < FIRST else 2], " ".join(parts))
