"""A run folder that was made up: a small run as it is before step 17, with fakes for every model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from distillation import (
    audit,
    checkpoints,
    conversation,
    estimate,
    evaluate,
    generation,
    generation_config,
    metrics,
    split,
    training_report,
)
from distillation.command import run
from distillation.jsonl import write_bytes, write_json
from distillation.teacher import Asking
from distillation.training_log import Step, TrainingLog, Validation
from tests.distillation.evaluating import BEETHOVEN, Voices, connect
from tests.distillation.generating import lay_out_plan, put, records
from tests.distillation.test_metrics import WordTokenizer
from tests.distillation.training_fakes import BASE, CONFIG, PRICE

QUESTIONS = 100
SYSTEM = " ".join(["word"] * 698)


def finished(monkeypatch: pytest.MonkeyPatch, share: float = 0.95) -> Path:
    """Lay out the run folder, and put fakes in the place of whatever would ask a model.

    Args:
        share: of the student's answers that are like the teacher's.
    """
    folder = connect(monkeypatch, Voices(share))
    lay_out_plan()
    write_bytes(folder / "system_prompt.md", SYSTEM.encode())
    put(generation.DATA, records(100))
    generation.report(BEETHOVEN, generation_config.load(), None)
    audit.write(BEETHOVEN)
    split.write()
    estimate.write()
    with TrainingLog(folder) as log:
        log.validation(Validation(0, 3.4, 500, 0.0))
        for number in range(1, CONFIG.steps + 1):
            log.step(Step(number, 3.5 / number, 300, 90, 0.2, 0.05, 0.0))
            if number % CONFIG.checkpoint_every == 0:
                log.validation(Validation(number, 4.0 / number, 500, 0.0))
    for step in (8, 12):
        checkpoints.record(
            folder,
            checkpoints.Checkpoint(step, step + 1, f"state-{step}", f"sampler-{step}", 4 / step, "f", "now"),
        )
    training_report.write(folder, dataclasses.replace(CONFIG), BASE)
    assert run(evaluate.main, ["--start", "0", "--size", str(QUESTIONS), "--output", "batch.jsonl"]) == 0
    tokenizer = WordTokenizer()
    monkeypatch.setattr("distillation.chat.tokenizer_of", lambda _: tokenizer)
    metrics.write(BEETHOVEN.name)
    how = generation_config.load()
    monkeypatch.setattr(
        conversation, "prepare", lambda character: Asking(character, BASE, SYSTEM, how, PRICE)
    )
    monkeypatch.setattr(conversation, "speakers", Voices(1.0).speakers)
    return folder


def exported(folder: Path) -> None:
    """An export that never was."""
    write_json(
        folder / "export_report.json",
        {
            "engine": "local",
            "character": "Beethoven",
            "base_model": "a folder",
            "checkpoint": 12,
            "rank": 4,
            "folder": "models/beethoven_distilled",
            "merged": True,
            "adapter_bytes": 12_345,
            "merged_bytes": 3_456_789,
            "seconds": 8.1,
        },
    )
