"""Words of the command line that name steps: ``-k`` and ``--deselect`` go by substring and prefix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from _pytest.mark.expression import Expression

from .plan.model import PlanError, Step
from .record.frozen import Frozen

WORD = re.compile(r"[\w:+\-.\[\]\\/]+")
"""What pytest's ``-k`` takes for one word."""

ITEM = "::step::"
"""Keyword of every step, so that an ordinary test is told from a step in an expression."""


def named_in(expression: str) -> list[str]:
    """Ids of the ``step_<id>`` words of a ``-k`` expression."""
    words = (match[0] for match in WORD.finditer(expression))
    return [word[len("step_") :] for word in words if re.match(r"step_.", word, re.IGNORECASE)]


def marks_of(step: Step) -> list[str]:
    """Names of the markers of a step: ``track_a``, ``layer_l0``."""
    places = (("track", step.track), ("layer", step.layer))
    return [_mark(word, name) for word, name in places if name]


def _mark(word: str, name: str) -> str:
    return f"{word}_{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}"


def about_parts(expression: str) -> bool:
    """Whether a ``-m`` expression has words for parts of a plan."""
    return any(re.match(r"(?:track|layer)_.", match[0]) for match in WORD.finditer(expression))


def matching(expression: str) -> Callable[[Step], bool]:
    """Whether a step is in what a ``-m`` expression asks for.

    Raises:
        PlanError: it is no expression.
    """
    try:
        compiled = Expression.compile(expression)
    except SyntaxError as error:
        # What pytest itself says of it, some lines later.
        raise PlanError(f"Wrong expression passed to '-m': {expression}: {error}") from None

    def matches(step: Step) -> bool:
        marks = marks_of(step)
        return compiled.evaluate(lambda name, /, **_: name in marks)

    return matches


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
