"""``data_generation_config.yaml``: how the teacher is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import settings
from distillation.options import Number, Text, read_sections

CONFIG = Path("data_generation_config.yaml")
"""Relative to the current folder, which is that of the task list."""

KINDS: dict[str, Number | Text] = {
    "examples": Number(1, 6_000, whole=True),
    "trial": Number(1, 100, whole=True),
    "temperature": Number(0, 2),
    "top_p": Number(0.01, 1),
    "max_tokens": Number(8, 4096, whole=True),
    "max_tries": Number(1, 10, whole=True),
    "seed": Number(0, 2**31 - 1, whole=True),
    "answer_timeout": Number(1, 86_400),
    "in_character_min": Number(0, 1),
    "budget_usd": Number(0, 10_000),
}


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """One engine's section.

    Attributes:
        examples: answers to generate, each to another question.
        trial: answers of the trial.
        temperature, top_p: how freely the teacher speaks.
        max_tokens: longest answer; one that reaches it is cut off.
        max_tries: how often in all a question is asked whose answer is empty or cut off.
        seed: each question gets its own seed from it.
        answer_timeout: seconds in which at least one more answer must come.
        in_character_min: share of a chunk's answers that must speak as the character.
        budget_usd: US dollars for all answers together.
    """

    examples: int
    trial: int
    temperature: float
    top_p: float
    max_tokens: int
    max_tries: int
    seed: int
    answer_timeout: float
    in_character_min: float
    budget_usd: float


def load(path: Path = CONFIG) -> GenerationConfig:
    """The section of the engine in use.

    Raises:
        DistillationError: the file has a mistake; names the line.
    """
    values: dict[str, Any] = read_sections(path, KINDS)[settings.engine()].values
    return GenerationConfig(**values)
