"""Which engine the plan runs on, where its files go, and the numbers that the plan promises."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Engine = Literal["tinker", "local"]

KEY_VARIABLE = "TINKER_API_KEY"
BASE_URL_VARIABLE = "TINKER_BASE_URL"

RUNS = Path("runs")
"""Relative to the current folder, which is that of the task list."""

DATA = Path(__file__).parent / "data"
"""What ships with the plan: the sample of the dataset and the characters' system prompts."""

DATASET = "fnlp/character-llm-data"
"""The public dataset's id on the Hugging Face hub. Licence: CC BY-NC 4.0, research only."""

MIN_EXAMPLES_FULL = 500
"""Usable examples that the full dataset must have for a character."""

MIN_EXAMPLES_SAMPLE = 36
"""Usable examples that the shipped sample must have for the character of the plan."""

MIN_USABLE_SHARE = 0.9
"""Share of a character's lines that must be usable: below it the file, not a line, is at fault."""

MIN_PROMPT_WORDS = 450
"""Length of a system prompt worth distilling, in words."""


def api_key() -> str | None:
    """The key from ``TINKER_API_KEY`` as it stands; ``None`` when it is unset or empty."""
    return os.environ.get(KEY_VARIABLE) or None


def engine() -> Engine:
    """``tinker`` when there is a key, else ``local``: a run without a key never costs anything."""
    return "tinker" if api_key() else "local"


def run_folder() -> Path:
    """Where this engine's files go: ``runs/tinker`` or ``runs/local``. Not created here."""
    return RUNS / engine()
