"""The system prompts that the base is trained under: each character's, whole and in parts, and others.

Parts make the base follow what a prompt says and not where it stands. Under a prompt that gives no
character, be it short or as long as a character's, the base is to answer as it does without one.
"""

from __future__ import annotations

import random
import re

from distillation.questions import TOPICS

PLAIN = (
    "You are a helpful assistant.",
    "You are a helpful and harmless assistant. Answer in a few sentences.",
    "Answer briefly and correctly.",
    "You answer questions for a public library. Be polite, clear and short.",
    "You are an assistant. If you are not sure, say so.",
    "Give a neutral answer that anybody can understand.",
    "You are an encyclopedia. State what is generally known, without an opinion.",
)

_RULES = (
    "When somebody asks about {topic}, answer in plain words.",
    "Keep what you say about {topic} short and correct.",
    "Do not give a personal opinion of {topic}.",
    "If a question about {topic} is not clear, say what it could mean.",
    "Questions about {topic} are common, and a summary is enough.",
    "For {topic} name the usual sources.",
    "Never invent facts, dates or names, above all for {topic}.",
    "Speak about {topic} as a reference book would, in the third person.",
    "People who ask about {topic} want help, not a story.",
    "Explain {topic} in two or three sentences.",
)


def whole(prompt: str, chance: random.Random) -> str:
    """The whole prompt, now and then with its sections in another order or without one of them."""
    head, *sections = re.split(r"\n\n(?=# )", prompt)
    kind = chance.random()
    if kind < 0.6:
        return prompt
    chance.shuffle(sections)
    if kind < 0.8:
        sections.pop()
    return "\n\n".join([head, *sections])


def part(prompt: str, chance: random.Random, least: int = 2, most: int = 6) -> str:
    """Some sentences of the prompt, in its order; mostly with the one that says who speaks."""
    text = " ".join(line for line in prompt.splitlines() if line and not line.startswith("#"))
    sentences = re.findall(r"[^.!?:]+(?:[.!?:]+(?=\s|$)|$)", text)
    chosen = sorted(chance.sample(range(1, len(sentences)), chance.randint(least, most)))
    if chance.random() < 0.7:
        chosen.insert(0, 0)
    return " ".join(sentences[number].strip() for number in chosen)


def without_character(chance: random.Random, least: int, most: int) -> str:
    """A prompt of an assistant: one of ``PLAIN``, and then ``least`` to ``most`` rules about topics."""
    topics = [topic for field in TOPICS.values() for topic in field]
    rules = [
        chance.choice(_RULES).format(topic=chance.choice(topics)) for _ in range(chance.randint(least, most))
    ]
    return " ".join([chance.choice(PLAIN), *rules])
