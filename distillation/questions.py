"""The questions that are put to teacher, student and base: templates of five kinds times many topics.

``all_questions`` has one fixed order in which the kinds take turns, so that any first ``n`` of them are
balanced. Its front is for training and its end is held out; the two never meet. Templates are short
beside their topics, so that no two questions of the space are near-duplicates of each other.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from dataclasses import dataclass

from distillation.errors import DistillationError

ORDER_SEED = 1770
"""Fixes the order of the questions; another value would mix training and held-out ones."""

HELD_OUT = 2_000
"""Questions at the end of the order that are never given out for training."""

NEAR_DUPLICATE = 0.85
"""Two questions are near-duplicates from this similarity on, see ``similarity``."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "opinion": (
        "What do you think of {topic}?",
        "Do you care for {topic} at all?",
        "What is your honest opinion of {topic}?",
        "Is too much said about {topic}?",
        "Would you ever give up {topic}?",
        "Do people make too much of {topic}?",
        "Tell me your view of {topic}.",
        "How highly do you value {topic}?",
        "Could you live without {topic}?",
    ),
    "memory": (
        "When did you first learn about {topic}?",
        "What do you remember about {topic}?",
        "Tell me a story about {topic}.",
        "Was your life ever changed by {topic}?",
        "Who taught you the most about {topic}?",
        "As a child, did you like {topic}?",
        "What has happened to you through {topic}?",
        "When were you last surprised by {topic}?",
        "Which memory do you connect with {topic}?",
    ),
    "advice": (
        "What advice would you give about {topic}?",
        "How should I deal with {topic}?",
        "How can a beginner understand {topic}?",
        "What should the young know about {topic}?",
        "Where do I go wrong with {topic}?",
        "Help me, I am worried about {topic}.",
        "Should I give more hours to {topic}?",
        "What mistake do people make with {topic}?",
        "Can you teach me something about {topic}?",
    ),
    "meaning": (
        "What is the meaning of {topic}?",
        "Why do people care about {topic}?",
        "Why is there so much talk of {topic}?",
        "What is at the heart of {topic}?",
        "Explain {topic} in plain words.",
        "What would the world be without {topic}?",
        "What have you learned from {topic}?",
        "Where is the truth in {topic}?",
        "What secret is hidden in {topic}?",
    ),
    "picture": (
        "Describe {topic} to me.",
        "Paint me a picture of {topic}.",
        "What comes to mind with {topic}?",
        "What would you compare with {topic}?",
        "Imagine an evening given to {topic}.",
        "What is the sound of {topic}?",
        "Give me one image for {topic}.",
        "Let us talk a while about {topic}.",
        "How does one recognise {topic}?",
    ),
}
"""Nine templates of each kind; at most seven words beside the topic, see the module's text."""

KINDS = tuple(TEMPLATES)

_TOPICS = {
    "nature": """
        the sea; the moon; rain; snow; winter; spring; the wind; thunderstorms; mountains; the forest;
        rivers; the stars; sunrise; autumn leaves; birds; horses; bees; roses; the desert; fire
    """,
    "art": """
        music; poetry; painting; dancing; the theatre; a good song; sculpture; beauty; genius;
        imagination; applause; a new melody; critics; storytelling; silence; rehearsals; masterpieces;
        inspiration; improvisation; the piano
    """,
    "virtue": """
        courage; honesty; justice; patience; modesty; loyalty; generosity; wisdom; discipline; mercy;
        gratitude; honour; moderation; kindness; faith; hope; prudence; dignity; forgiveness; obedience
    """,
    "feeling": """
        love; anger; grief; jealousy; fear; joy; loneliness; shame; boredom; pride; desire; regret;
        homesickness; envy; trust; despair; curiosity; laughter; tears; longing
    """,
    "people": """
        friendship; marriage; children; teachers; strangers; enemies; neighbours; brothers; mothers;
        fathers; servants; flatterers; rivals; guests; young lovers; old friends; cowards; heroes;
        beggars; liars
    """,
    "power": """
        kings; war; peace; freedom; the law; taxes; empires; soldiers; rebellion; exile; victory;
        defeat; diplomacy; money; debts; fame; ambition; revolution; democracy; prisons
    """,
    "work": """
        hard work; tools; cooking; gardening; weaving; carpentry; shipbuilding; medicine; farming;
        trade; teaching; daily practice; failure; success; leisure; a long apprenticeship; bargains;
        contracts; clumsy hands; retirement
    """,
    "home": """
        bread; wine; coffee; sleep; dreams; breakfast; old clothes; letters; a warm house; long walks;
        big cities; travelling; gossip; games; gifts; perfume; mirrors; cats; dogs; festivals
    """,
    "mind": """
        truth; knowledge; reason; logic; books; foreign languages; education; philosophy; mathematics;
        astronomy; ignorance; doubt; superstition; opinions; proverbs; rumours; difficult questions;
        riddles; lies; arguments
    """,
    "fate": """
        death; old age; youth; time; fate; luck; illness; deafness; poverty; wealth; the soul; the gods;
        prophecies; miracles; the future; the past; change; eternity; birth; farewells
    """,
    "later": """
        computers; railways; aeroplanes; television; photography; electric light; telephones; the
        internet; robots; the cinema; skyscrapers; vaccines; rockets; motor cars; refrigerators;
        satellites; plastic; gramophones; video cameras; artificial intelligence
    """,
}

TOPICS: dict[str, tuple[str, ...]] = {
    field: tuple(" ".join(topic.split()) for topic in listed.split(";")) for field, listed in _TOPICS.items()
}
"""Topics by field; those of ``later`` are things that no character of the past can know."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        id: stable name, made of kind, number of the template and topic.
        text: what is asked.
        kind: one of ``KINDS``.
        topic: what it is about, as it stands in the text.
    """

    id: str
    text: str
    kind: str
    topic: str


@functools.cache
def all_questions() -> tuple[Question, ...]:
    """Every question, in the one fixed order; at any place the kinds so far differ by one at most."""
    shuffle = random.Random(ORDER_SEED).shuffle
    topics = [topic for field in TOPICS.values() for topic in field]
    by_kind = []
    for kind, templates in TEMPLATES.items():
        questions = [
            Question(f"{kind}-{number}-{topic.replace(' ', '-')}", text.format(topic=topic), kind, topic)
            for number, text in enumerate(templates)
            for topic in topics
        ]
        shuffle(questions)
        by_kind.append(questions)
    return tuple(itertools.chain.from_iterable(zip(*by_kind, strict=True)))


def training_questions(n: int) -> tuple[Question, ...]:
    """The first ``n`` questions that may be trained on.

    Raises:
        DistillationError: there are not so many.
    """
    return _first(all_questions()[:-HELD_OUT], n, "for training")


def held_out_questions(n: int) -> tuple[Question, ...]:
    """The first ``n`` questions that are kept for evaluation.

    Raises:
        DistillationError: there are not so many.
    """
    return _first(all_questions()[-HELD_OUT:], n, "held out")


def _first(pool: tuple[Question, ...], n: int, purpose: str) -> tuple[Question, ...]:
    if not 0 <= n <= len(pool):
        raise DistillationError(f"{n} questions {purpose} were asked for; there are {len(pool)}")
    return pool[:n]


def normalised(text: str) -> str:
    """The text without what makes no difference: case, punctuation, kinds and number of blanks."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def similarity(one: str, other: str) -> float:
    """How much of their words two texts share, from 0 to 1: the Jaccard index of the normalised words.

    Two texts without any word are the same text.
    """
    words, others = set(normalised(one).split()), set(normalised(other).split())
    union = words | others
    return len(words & others) / len(union) if union else 1.0
