"""The training's dry run: two steps, a checkpoint, and a resume from it that goes on with the third step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from distillation import settings
from distillation.errors import DistillationError
from distillation.jsonl import read_json
from distillation.training_job import Job, new_client, resumed_client
from distillation.training_loop import pipelined, save

TRIAL = "training_trial.json"

TRIAL_STEPS = 2
TRIAL_TTL = 86_400
"""Seconds that the trial's checkpoint is kept: the trial of the evaluation asks it, if nothing better is
there yet."""

RESUME_TOLERANCE = {"local": 1e-3, "tinker": 0.05}
"""How much the third step's loss may differ after a resume; a hosted service does not add up in one order."""


def dry_run(service: Any, job: Job) -> dict[str, Any]:
    """Two steps, a checkpoint, and the third step twice: going on, and after a resume.

    Returns:
        the content of ``training_trial.json``.

    Raises:
        DistillationError: a loss is not a number, or the resume does not go on where the training was.
    """
    schedule = dataclasses.replace(job.schedule, lowered=())
    training = new_client(service, job)
    steps = list(pipelined(training, schedule, job.examples, 1, TRIAL_STEPS))
    state, sampler = save(training, schedule, "trial", TRIAL_TTL)
    third = TRIAL_STEPS + 1
    (uninterrupted,) = pipelined(training, schedule, job.examples, third, third)
    (resumed,) = pipelined(resumed_client(service, job, state), schedule, job.examples, third, third)
    trial = {
        "engine": settings.engine(),
        "base_model": job.base_model,
        "steps": [step.as_json() for step in (*steps, resumed)],
        "checkpoint": state,
        "sampler": sampler,
        "resumed_at_step": third,
        "uninterrupted_loss": uninterrupted.loss if math.isfinite(uninterrupted.loss) else None,
        "cost_usd": sum(step.cost_usd for step in (*steps, resumed, uninterrupted)),
    }
    judge_trial(trial, "the trial")
    return trial


def judge_trial(trial: dict[str, Any], where: str) -> float:
    """Hold a trial against what it must prove.

    Returns:
        by how much the third loss differs after the resume.

    Raises:
        DistillationError: says what it does not prove.
    """
    steps = trial.get("steps")
    losses = [step.get("loss") for step in steps] if isinstance(steps, list) else []
    losses.append(trial.get("uninterrupted_loss"))
    if len(losses) != TRIAL_STEPS + 2 or not all(isinstance(loss, float) for loss in losses):
        raise DistillationError(f"{where}: the losses {losses} are not all numbers; look at steps 9 and 11")
    if not trial.get("checkpoint") or trial.get("resumed_at_step") != TRIAL_STEPS + 1:
        raise DistillationError(f"{where}: no resume with step {TRIAL_STEPS + 1}; run step 12 again")
    difference = abs(losses[-1] - losses[-2])
    if difference > RESUME_TOLERANCE[settings.engine()]:
        raise DistillationError(
            f"{where}: after the resume the third loss differs by {difference:.4f}; "
            "the checkpoint is not whole"
        )
    return float(difference)


def check() -> list[str]:
    """Judge ``training_trial.json`` once more, in lines.

    Raises:
        DistillationError: it is of another engine, or does not prove what it must.
    """
    path = settings.run_folder() / TRIAL
    trial = read_json(path)
    if trial.get("engine") != settings.engine():
        raise DistillationError(f"{path}: of engine {trial.get('engine')}; run step 12 again")
    difference = judge_trial(trial, str(path))
    return [
        f"steps: {TRIAL_STEPS}",
        "finite: 1",
        f"resumed with step: {trial['resumed_at_step']}",
        f"resume difference: {difference:.6f}",
    ]
