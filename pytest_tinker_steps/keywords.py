"""Words of the command line that name steps: ``-k`` and ``--deselect`` go by substring and prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .record.frozen import Frozen

WORD = re.compile(r"[\w:+\-.\[\]\\/]+")
"""What pytest's ``-k`` takes for one word."""

ITEM = "::step::"
"""Keyword of every step, so that an ordinary test is told from a step in an expression."""


def named_in(expression: str) -> list[str]:
    """Ids of the ``step_<id>`` words of a ``-k`` expression."""
    words = (match[0] for match in WORD.finditer(expression))
    return [word[len("step_") :] for word in words if re.match(r"step_.", word, re.IGNORECASE)]


def exact_keywords(expression: str) -> str:
    """A ``-k`` expression in which ``step_1`` means that one step, and what it meant for other tests."""

    def exact(match: re.Match[str]) -> str:
        word = match[0]
        if not re.match(r"step_.", word, re.IGNORECASE):
            return word
        return f"({ITEM}{word[len('step_') :].lower()}:: or (not {ITEM} and {word}))"

    return WORD.sub(exact, expression)


def exact_deselect(prefixes: Iterable[str], frozen: Frozen) -> tuple[list[str], set[str]]:
    """``--deselect`` goes by prefix, so ``SPEC.md::step_1`` would take 10 to 19 along.

    Returns:
        the prefixes that are none of ours, and the node ids of the steps that are meant.
    """
    others, steps = [], set()
    for prefix in prefixes:
        if frozen.step_of(prefix):
            steps.add(prefix)
        else:
            others.append(prefix)
    return others, steps
