"""The tiny base model of the local engine: how it was made, its files, and the proof of what it does."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""A Hugging Face model folder: weights, configuration and tokenizer stand beside the code that made them."""
