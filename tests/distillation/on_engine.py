"""A small run on the real local engine, by its commands, each a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distillation import characters, settings
from distillation.jsonl import write_bytes, write_rows
from distillation.questions import training_questions
from tests.distillation.conftest import ROOT
from tests.distillation.generating import BEETHOVEN, change, in_character

SMALL = {
    "steps": 12,
    "checkpoint_every": 4,
    "batch_size": 4,
    "validation_examples": 4,
    "loss_first": 2,
    "loss_last": 3,
    "loss_ratio_max": 1,
    "max_tokens": 16,
}


def demand_packages() -> None:
    """Skip the test where the engine and the SDK are not installed."""
    for module in ("torch", "transformers", "peft", "tinker", "sacrebleu"):
        # Looked for and not imported: only the commands need them.
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def lay_out(folder: Path) -> None:
    """Everything up to step 11 in ``folder``, with 20 examples to train on."""
    demand_packages()
    folder.mkdir()
    for name in ("training_config.yaml", "data_generation_config.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
        for option, value in SMALL.items():
            change(folder / name, option, value)
    run_folder = folder / settings.run_folder()
    write_bytes(run_folder / characters.PROMPT_FILE, characters.system_prompt(BEETHOVEN).encode())
    records = [
        {"id": one.id, "question": one.text, "answer": in_character(one.text)}
        for one in training_questions(26)
    ]
    write_rows(run_folder / "train.jsonl", records[:20])
    write_rows(run_folder / "val.jsonl", records[20:])
    command(folder, "config")


def start(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``python -m distillation.<module>`` in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", f"distillation.{module}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(folder: Path, module: str, *arguments: str) -> str:
    """Run ``python -m distillation.<module>`` in ``folder`` to its good end; what it printed."""
    process = start(folder, module, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out
