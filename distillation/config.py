"""Step 11: fix every number of the training, and what it will cost.

``python -m distillation.config`` judges ``training_config.yaml`` and writes what is used, each value with
its origin, to ``training_config.json``, and the price of it all to ``cost_estimate.json``. Overrides of
an earlier run are dropped then, and named. ``--set learning_rate=1e-5`` (or ``*0.1``: times a tenth) lays
a value over the file for this run alone; what is committed stays as it is. ``--check`` reads everything
again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from distillation import client, events, settings
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json
from distillation.options import Number, Section, Text, Value, parse, read_sections

CONFIG = Path("training_config.yaml")
"""Relative to the current folder, which is that of the task list."""

USED = "training_config.json"
OVERRIDES = "training_overrides.json"

KINDS: dict[str, Number | Text] = {
    "base_model": Text(optional=True),
    "rank": Number(1, 256, whole=True),
    "learning_rate": Number(1e-7, 0.1),
    "schedule": Text(choices=("linear", "constant")),
    "batch_size": Number(1, 1024, whole=True),
    "steps": Number(1, 100_000, whole=True),
    "checkpoint_every": Number(1, 100_000, whole=True),
    "in_flight": Number(1, 16, whole=True),
    "validation_examples": Number(1, 5_000, whole=True),
    "checkpoint_days": Number(1, 3_650, whole=True),
    "seed": Number(0, 2**31 - 1, whole=True),
    "loss_first": Number(1, 1_000, whole=True),
    "loss_last": Number(1, 1_000, whole=True),
    "loss_ratio_max": Number(0.01, 1),
    "evaluation_questions": Number(1, 2_000, whole=True),
    "evaluation_interval": Number(0.001, 0.5),
    "similarity_min": Number(0, 1),
    "similarity_max": Number(0, 1),
    "budget_usd": Number(0, 100_000),
}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The numbers of the training and of its evaluation.

    Attributes:
        base_model: what the student is made of; ``None`` is the local engine's own model.
        rank: of the LoRA adapter.
        learning_rate: at the first step.
        schedule: ``linear`` falls to nothing at the last step, ``constant`` stays.
        batch_size: examples per step.
        steps: in all.
        checkpoint_every: steps from one checkpoint to the next; divides ``steps``.
        in_flight: steps that are submitted ahead of the one that is awaited.
        validation_examples: how many of the validation set are measured at each checkpoint.
        checkpoint_days: how long a checkpoint is kept.
        seed: of the adapter's first weights and of the order of the examples.
        loss_first, loss_last: numbers of steps whose mean losses are compared.
        loss_ratio_max: the largest share that the last may be of the first.
        evaluation_questions: held-out questions that the evaluation may ask.
        evaluation_interval: half of the width of the mean's 95 % confidence interval that is enough.
        similarity_min: the least normalised similarity that is enough.
        similarity_max: the largest that is expected. An evaluation is called suspiciously high when the
            whole 95 % confidence interval of every measure lies above; the estimate alone decides nothing.
        budget_usd: US dollars for everything the plan does.
    """

    base_model: str | None
    rank: int
    learning_rate: float
    schedule: Literal["linear", "constant"]
    batch_size: int
    steps: int
    checkpoint_every: int
    in_flight: int
    validation_examples: int
    checkpoint_days: int
    seed: int
    loss_first: int
    loss_last: int
    loss_ratio_max: float
    evaluation_questions: int
    evaluation_interval: float
    similarity_min: float
    similarity_max: float
    budget_usd: float


def load(path: Path = CONFIG, overrides: Mapping[str, Value] | None = None) -> TrainingConfig:
    """The section of the engine in use, with ``overrides`` over it.

    Raises:
        DistillationError: the file has a mistake, or its numbers do not go together; names the line.
    """
    section = read_sections(path, KINDS)[settings.engine()]
    return _together(section, overrides or {}, path)


def _together(section: Section, overrides: Mapping[str, Value], path: Path) -> TrainingConfig:
    values: dict[str, Any] = {**section.values, **overrides}
    config = TrainingConfig(**values)
    demands = (
        (
            "checkpoint_every",
            config.steps % config.checkpoint_every == 0,
            f"must divide the {config.steps} steps",
        ),
        (
            "loss_last",
            config.loss_first + config.loss_last <= config.steps,
            f"leaves no room in {config.steps} steps",
        ),
        (
            "similarity_max",
            config.similarity_min <= config.similarity_max,
            f"must not lie below the {config.similarity_min:g} of 'similarity_min'",
        ),
        (
            "base_model",
            settings.engine() == "local" or config.base_model is not None,
            "must name a model of the hosted service",
        ),
    )
    for key, holds, what in demands:
        if not holds:
            raise DistillationError(f"{path}:{section.lines[key]}: '{key}' {what}; correct one of them")
    return config


def current() -> TrainingConfig:
    """What step 11 settled on, with what was set for this run since.

    Raises:
        DistillationError: step 11 has not run, or its file was spoilt.
    """
    path = settings.run_folder() / USED
    record = read_json(path)
    if record.get("engine") != settings.engine():
        raise DistillationError(f"{path}: written for engine {record.get('engine')}; run step 11 again")
    values = record.get("values")
    names = [field.name for field in fields(TrainingConfig)]
    if not isinstance(values, dict) or set(values) != set(names):
        raise DistillationError(f"{path}: does not hold all values; run step 11 again")
    for name in names:
        text = "" if values[name] is None else str(values[name])
        if parse(KINDS, name, text, str(path)) != values[name]:
            raise DistillationError(f"{path}: '{name}' is of the wrong type; run step 11 again")
    return TrainingConfig(**values)


def settle(overrides: Mapping[str, Value]) -> dict[str, Any]:
    """Write ``training_config.json``: the values that are used, and where each comes from.

    Returns:
        the record.

    Raises:
        DistillationError: the file has a mistake.
    """
    section = read_sections(CONFIG, KINDS)[settings.engine()]
    config = _together(section, overrides, CONFIG)
    record = {
        "engine": settings.engine(),
        "base_model": client.base_model(config.base_model),
        "values": asdict(config),
        "origin": {key: _origin(key, section, overrides) for key in KINDS},
    }
    write_json(settings.run_folder() / USED, record)
    return record


def _origin(key: str, section: Section, overrides: Mapping[str, Value]) -> str:
    if key in overrides:
        return f"{(settings.run_folder() / OVERRIDES).as_posix()}, over {section.values[key]} in {CONFIG}"
    return f"{CONFIG}:{section.lines[key]}"


def read_overrides() -> dict[str, Value]:
    """What was set for this run alone; empty when nothing was.

    Raises:
        DistillationError: the file was spoilt.
    """
    path = settings.run_folder() / OVERRIDES
    if not path.is_file():
        return {}
    return {key: parse(KINDS, key, str(value), str(path)) for key, value in read_json(path).items()}


def override(assignments: Sequence[str]) -> dict[str, Any]:
    """Lay values over the configuration for this run, besides those that were laid over it before.

    Args:
        assignments: ``name=value``, or ``name=*factor`` for a multiple of the value in use.

    Returns:
        the record of what is used now.

    Raises:
        DistillationError: an assignment is none, or its value is out of range. Nothing is changed then.
    """
    overrides = read_overrides()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise DistillationError(f"--set {assignment}: must be name=value, such as learning_rate=1e-5")
        if text.startswith("*"):
            text = _multiple(name, text[1:], overrides, assignment)
        overrides[name] = parse(KINDS, name, text, f"--set {assignment}")
    load(overrides=overrides)
    write_json(settings.run_folder() / OVERRIDES, dict(overrides))
    return settle(overrides)


def _multiple(name: str, factor: str, overrides: Mapping[str, Value], assignment: str) -> str:
    before = getattr(load(overrides=overrides), name, None)
    if not isinstance(before, float):
        raise DistillationError(f"--set {assignment}: '{name}' is no number with a fraction")
    try:
        return repr(before * float(factor))
    except ValueError:
        raise DistillationError(f"--set {assignment}: '{factor}' is no factor, such as *0.1") from None


def drop_overrides() -> None:
    """Forget what was set for an earlier run, and say what that was."""
    for key, value in read_overrides().items():
        print(f"no longer set: {key}={value}", flush=True)
    (settings.run_folder() / OVERRIDES).unlink(missing_ok=True)


def check_used() -> TrainingConfig:
    """Hold ``training_config.json`` against the file and the overrides it was made from.

    Raises:
        DistillationError: they are not what it says.
    """
    used = current()
    expected = load(overrides=read_overrides())
    for field in fields(TrainingConfig):
        there, here = getattr(used, field.name), getattr(expected, field.name)
        if there != here:
            raise DistillationError(
                f"{settings.run_folder() / USED}: says {field.name} {there}, and {CONFIG} with its overrides "
                f"says {here}; run step 11 again"
            )
    return used


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 11."""
    from distillation import estimate

    parser = argparse.ArgumentParser(prog="python -m distillation.config", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--set", action="append", metavar="NAME=VALUE", help="set a value for this run alone")
    mode.add_argument("--check", action="store_true", help="hold what is used against the files once more")
    options = parser.parse_args(argv)
    if options.check:
        used = check_used()
        print(f"options: {len(KINDS)}\noverridden: {len(read_overrides())}")
        print(f"learning rate: {used.learning_rate:g}\nsteps: {used.steps}")
        print(f"checkpoints: {used.steps // used.checkpoint_every}")
        print("\n".join(estimate.check()))
        return
    if options.set:
        record = override(options.set)
        said = ", ".join(f"{key} {value}" for key, value in read_overrides().items())
        events.note(f"set for this run: {said}")
        return
    load()
    drop_overrides()
    record = settle({})
    values = record["values"]
    cost = estimate.write()
    events.note(
        f"{values['steps']} steps of {values['batch_size']} examples at {values['learning_rate']:g}, rank "
        f"{values['rank']}, on {Path(record['base_model']).name}; {estimate.in_words(cost)}"
    )
    events.metric("estimated_usd", cost["usd"])
    events.criterion("Training configured")
    events.criterion("Cost estimated")


if __name__ == "__main__":
    execute(main)
