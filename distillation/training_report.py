"""What became of a training: ``training_report.json`` from its logs, and the count that checks it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillation import checkpoints, client, settings
from distillation.checkpoints import Checkpoint
from distillation.config import TrainingConfig
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json
from distillation.training_job import fingerprint_of
from distillation.training_log import (
    LOSS,
    METRICS,
    Step,
    read_interruptions,
    read_losses,
    read_steps,
    read_validations,
    writing,
)
from distillation.work_time import TRAINING, in_report

REPORT = "training_report.json"

PAUSE_FACTOR = 10.0
PAUSE_SECONDS = 5.0
"""A step is a pause when it took so many times the median, and at least so many seconds."""


def write(folder: Path, config: TrainingConfig, base_model: str) -> dict[str, Any]:
    """Write the report of a training that has ended.

    Raises:
        DistillationError: the logs are not whole.
    """
    steps = read_steps(folder)
    ratio, first, last = loss_ratio([step.loss for step in steps], config)
    saved = checkpoints.read(folder)
    best = checkpoints.best(folder)
    validations = read_validations(folder)
    interruptions = read_interruptions(folder)
    report = {
        "engine": settings.engine(),
        "base_model": base_model,
        "settings": settings_of(config),
        "fingerprint": best.fingerprint,
        "steps": len(steps),
        "loss_first": round(first, 4),
        "loss_last": round(last, 4),
        "loss_ratio": round(ratio, 4),
        "loss_ratio_max": config.loss_ratio_max,
        "checkpoints": [asdict(one) for one in saved],
        "best_checkpoint": best.step,
        "best_validation_loss": best.validation_loss,
        "validation": [{"step": one.step, "loss": round(one.loss, 4)} for one in validations],
        "lowered": [asdict(one) for one in checkpoints.recoveries(folder)],
        **_spent(steps, interruptions),
        **in_report(folder, TRAINING),
        "validation_tokens": sum(one.tokens for one in validations),
        "pauses": _pauses(steps),
        "interruptions": interruptions,
    }
    report["cost_usd"] += sum(one.cost_usd for one in validations)
    with writing(folder / REPORT):
        write_json(folder / REPORT, report)
    return report


def _spent(steps: Sequence[Step], interruptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lost = sum(float(one["cost_usd_lost"]) for one in interruptions)
    return {
        "tokens": sum(step.tokens for step in steps),
        "tokens_lost": sum(int(one["tokens_lost"]) for one in interruptions),
        "cost_usd": sum(step.cost_usd for step in steps) + lost,
        "step_seconds": round(sum(step.seconds for step in steps), 1),
        "seconds_per_step": round(statistics.median(step.seconds for step in steps), 4),
    }


def _pauses(steps: Sequence[Step]) -> list[dict[str, Any]]:
    usual = statistics.median(step.seconds for step in steps)
    long = max(PAUSE_SECONDS, PAUSE_FACTOR * usual)
    return [{"step": step.step, "seconds": step.seconds} for step in steps if step.seconds >= long]


SETTINGS = (
    "base_model",
    "rank",
    "learning_rate",
    "schedule",
    "batch_size",
    "steps",
    "checkpoint_every",
    "validation_examples",
    "seed",
)
"""What makes one training another one; thresholds and prices do not."""


def settings_of(config: TrainingConfig) -> dict[str, Any]:
    """The part of a configuration that the weights depend on."""
    return {name: getattr(config, name) for name in SETTINGS}


def loss_ratio(losses: Sequence[float], config: TrainingConfig) -> tuple[float, float, float]:
    """The mean of the last losses as a share of the mean of the first, and both means.

    Raises:
        DistillationError: there are too few losses.
    """
    if len(losses) < config.loss_first + config.loss_last:
        raise DistillationError(
            f"{len(losses)} losses, and the first {config.loss_first} and the last {config.loss_last} are "
            "to be compared; train on with step 13"
        )
    first = statistics.fmean(losses[: config.loss_first])
    last = statistics.fmean(losses[-config.loss_last :])
    return (last / first if first else math.nan), first, last


def check(folder: Path, config: TrainingConfig) -> list[str]:
    """Count the logs and checkpoints again and hold them against the report, in lines for the checks.

    Raises:
        DistillationError: something is missing, is not a number, or did not fall as it must.
    """
    losses, steps = read_losses(folder), read_steps(folder)
    _demand_same(folder, losses, steps)
    finite = all(math.isfinite(loss) for loss in losses)
    saved = checkpoints.read(folder)
    demand_checkpoints(folder, saved, config)
    now = fingerprint_of(folder, config, client.base_model(config.base_model))
    if any(one.fingerprint != now for one in saved):
        raise DistillationError(
            f"{folder / checkpoints.LEDGER}: of other data or another model than now; run step 13 again"
        )
    validations = {one.step: one.loss for one in read_validations(folder)}
    for one in saved:
        if validations.get(one.step) != one.validation_loss:
            raise DistillationError(
                f"{folder / checkpoints.LEDGER}: the validation loss of step {one.step} is not the logged "
                "one; run step 13 again"
            )
    ratio, first, last = loss_ratio(losses, config)
    if len(losses) != config.steps or not finite:
        raise DistillationError(
            f"{folder / LOSS}: {len(losses)} of {config.steps} steps, finite: {finite}; run step 13 again"
        )
    if not ratio <= config.loss_ratio_max:
        raise DistillationError(
            f"{folder / LOSS}: the loss fell to {ratio:.1%} of its beginning, not to "
            f"{config.loss_ratio_max:.0%}; look at step 9 and the learning rate"
        )
    best = min(one.validation_loss for one in saved)
    if not best < validations.get(0, math.nan):
        raise DistillationError(
            f"{folder / checkpoints.LEDGER}: no validation loss is below the untrained student's "
            f"{validations.get(0)}; look at steps 9 and 10"
        )
    _demand_report(
        folder, config, ratio, {"steps": len(losses), "checkpoints": [asdict(one) for one in saved]}
    )
    return [
        f"steps: {len(losses)}",
        f"checkpoints: {len(saved)}",
        f"checkpoint steps: {' '.join(str(one.step) for one in saved)}",
        f"finite: {int(finite)}",
        f"loss first: {first:.4f}",
        f"loss last: {last:.4f}",
        f"loss ratio: {ratio:.4f}",
        f"validation losses: {len(saved)}",
        *(f"validation loss {step}: {loss:.4f}" for step, loss in sorted(validations.items())),
        f"best validation share: {best / validations[0]:.4f}",
        f"interruptions: {len(read_interruptions(folder))}",
    ]


def _demand_same(folder: Path, losses: Sequence[float], steps: Sequence[Step]) -> None:
    lines = [f"{step.loss:.4f}" for step in steps]
    if lines != [f"{loss:.4f}" for loss in losses]:
        raise DistillationError(f"{folder / LOSS}: does not say what {METRICS} says; run step 13 again")


def demand_checkpoints(folder: Path, saved: Sequence[Checkpoint], config: TrainingConfig) -> None:
    """Refuse a ledger that lacks a checkpoint of the plan, or has another one.

    Raises:
        DistillationError: says which steps were expected.
    """
    expected = list(range(config.checkpoint_every, config.steps + 1, config.checkpoint_every))
    if (there := [one.step for one in saved]) != expected:
        raise DistillationError(
            f"{folder / checkpoints.LEDGER}: checkpoints of steps {there}, expected {expected}; "
            "run step 13 again"
        )


ROUNDING = 0.01
"""How much a loss ratio of ``loss.txt``, whose losses are rounded, may differ from that of the report."""


def _demand_report(folder: Path, config: TrainingConfig, ratio: float, counted: dict[str, Any]) -> None:
    path = folder / REPORT
    report = read_json(path)
    if not abs(float(report.get("loss_ratio", math.nan)) - ratio) <= ROUNDING:
        raise DistillationError(
            f"{path}: says {report.get('loss_ratio')} for loss_ratio, counted {ratio:.4f}; run step 13 again"
        )
    for key, value in (counted | {"engine": settings.engine(), "settings": settings_of(config)}).items():
        if report.get(key) != value:
            raise DistillationError(
                f"{path}: says {report.get(key)} for {key}, counted {value}; run step 13 again"
            )
