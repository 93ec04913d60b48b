"""The model card of an exported student: what it is made of, what was measured, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillation import settings
from distillation.characters import Character

LICENCE = "CC BY-NC 4.0"
"""Of the public dataset; its authors ask for academic use only."""


_REHEARSAL = "**Made on the local engine: a rehearsal with a tiny model, not a model for use.**\n\n"
_MERGED = "\n- `merged/`: base model and adapter in one, in 32-bit floats, with the tokenizer"


def model_card(
    character: Character,
    adapter: Mapping[str, Any],
    checkpoint: int,
    metrics: Mapping[str, Any],
    results: Mapping[str, Any],
    merged: bool,
) -> str:
    """The card as Markdown with the hub's front matter.

    Args:
        character: who was distilled.
        adapter: the adapter's own configuration.
        checkpoint: the training step.
        metrics: ``metrics.json``.
        results: ``evaluation_results.json``.
        merged: whether a merged model lies beside the adapter.
    """
    base = str(adapter["base_model_name_or_path"])
    note = _REHEARSAL if settings.engine() == "local" else ""
    rows = "\n".join(
        [
            f"| similarity, {name} | {one['value']:.1%} ({one['low']:.1%} to {one['high']:.1%}) |"
            for name, one in metrics["similarity"].items()
        ]
        + [
            f"| answers in character, {voice.replace('_', ' ')} | {one['value']:.1%} |"
            for voice, one in metrics["in_character"].items()
        ]
    )
    return f"""---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
license: cc-by-nc-4.0
tags: [lora, prompt-distillation, role-play]
datasets: [{settings.DATASET}]
---

# {character.full_name}, distilled

{note}A LoRA adapter with which the base model speaks as {character.full_name} without a system prompt.
It learned that from a teacher, the same model with a long system prompt.

| what | value |
|---|---|
| base model | `{base}` |
| adapter | LoRA, rank {adapter.get("r")}, alpha {adapter.get("lora_alpha")} |
| checkpoint | step {checkpoint}, the one with the lowest validation loss |
| evaluated on | {results["questions"]} questions that it was not trained on |
{rows}
| prompt tokens saved | {metrics["prompt_tokens_saved"]:.1%} |

Similarity is measured between a floor, the base model without a prompt (0 %), and a ceiling, a second
answer of the teacher (100 %).

## Files

- `adapter/`: for PEFT, with the base model above{_MERGED if merged else ""}
- `example.py`: `python example.py "What is music to you?"`
- `SHA256SUMS`: `sha256sum -c SHA256SUMS`

## Licence

The plan explores and validates the dialogues of `{settings.DATASET}`, which are licensed {LICENCE} and given
for academic use only. This model was made in a plan that builds on them: use it for research, not
commercially, and name the source. The base model's own licence holds as well.

## Limits

- It plays a part. What it says of persons and events is not to be relied on.
- It was measured on questions of the same kinds that it was trained on, each without any before it.
- Someone who asks it to leave the part may succeed.
"""
