"""The names in braces with which a runner asks for what it is about to start: ``{run}``, ``{cwd}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NAMES = ("step", "task_id", "run", "cwd")
"""What is filled in: ``run`` is another word for each process, in small letters, digits and hyphens."""

_PLACEHOLDER = re.compile(r"(?<![${])\{([A-Za-z_][\w.]*)\}(?!\})")
"""Braces that belong to others stay as they are: ``${HOME}``, ``{{.Names}}``, ``{"gpus": 1}``."""


def named(word: str) -> list[str]:
    """The names that stand in braces in a word, known or not."""
    return _PLACEHOLDER.findall(word)


def filled(words: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The words of a command with their placeholders replaced.

    Args:
        values: for each of ``NAMES``.
    """
    return tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in words)
