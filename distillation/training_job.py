"""What a training is made of: configuration, data and schedule of the run folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import chat, checkpoints, client, config, generation_config, settings
from distillation.errors import DistillationError
from distillation.jsonl import read_rows
from distillation.prices import price_of
from distillation.split import TRAIN, VALIDATION
from distillation.training_loop import Examples, Schedule, TrainingClient, awaited, examples_of

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a training is made of.

    Attributes:
        folder: the run folder.
        base_model: as the service knows it.
        config: the numbers of step 11.
        schedule: the steps, with the rates lowered so far.
        examples: to train on.
        validation: to measure with at each checkpoint.
        fingerprint: of data and model; a checkpoint of another one is not gone on from.
    """

    folder: Path
    base_model: str
    config: config.TrainingConfig
    schedule: Schedule
    examples: Examples
    validation: Examples
    fingerprint: str

    @property
    def ttl_seconds(self) -> int:
        """How long a checkpoint is kept."""
        return self.config.checkpoint_days * DAY


def load_job() -> Job:
    """Read configuration and data of the run folder.

    Raises:
        DistillationError: a step before has not run, or a line of the data is spoilt.
    """
    folder, used = settings.run_folder(), config.current()
    base_model = client.base_model(used.base_model)
    pairs = [read_pairs(folder / name) for name in (TRAIN, VALIDATION)]
    tokenizer = chat.tokenizer_of(base_model)
    examples, validation = (
        examples_of([chat.datum(tokenizer, *pair) for pair in some])
        for some in (pairs[0], pairs[1][: used.validation_examples])
    )
    return Job(
        folder=folder,
        base_model=base_model,
        config=used,
        schedule=schedule_of(used, folder, base_model),
        examples=examples,
        validation=validation,
        fingerprint=fingerprint_of(folder, used, base_model),
    )


def schedule_of(used: config.TrainingConfig, folder: Path, base_model: str) -> Schedule:
    """The schedule of a configuration, with the rates lowered so far."""
    return Schedule(
        steps=used.steps,
        batch_size=used.batch_size,
        in_flight=used.in_flight,
        learning_rate=used.learning_rate,
        shape=used.schedule,
        seed=used.seed,
        lowered=tuple(checkpoints.recoveries(folder)),
        price=price_of(base_model),
        patience=generation_config.load().answer_timeout,
    )


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Questions and answers to train on or to validate with.

    Raises:
        DistillationError: a line has none, which is named: leaving it out would change every batch.
    """
    found = []
    for row in read_rows(path):
        value = row.value or {}
        pair = value.get("question"), value.get("answer")
        if not all(isinstance(text, str) and text.strip() for text in pair):
            problem = row.problem or "has no question and answer"
            raise DistillationError(f"{path}:{row.line}: {problem}; mend the line, or run step 10 again")
        found.append((str(pair[0]), str(pair[1])))
    if not found:
        raise DistillationError(f"{path}: is empty; run step 10 again")
    return found


def fingerprint_of(folder: Path, used: config.TrainingConfig, base_model: str) -> str:
    """Digest of what two parts of one training must share: data, model, batches; not rate and length.

    Raises:
        DistillationError: a file of the data is missing.
    """
    shared = [Path(base_model).name, used.rank, used.seed, used.batch_size, used.validation_examples]
    digest = hashlib.sha256(json.dumps(shared).encode())
    for path in (folder / TRAIN, folder / VALIDATION):
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as cause:
            raise DistillationError(f"{path}: {cause.strerror or cause}; run step 10") from cause
    return digest.hexdigest()[:16]


def new_client(service: Any, job: Job) -> TrainingClient:
    made = service.create_lora_training_client(job.base_model, rank=job.config.rank, seed=job.config.seed)
    client_: TrainingClient = awaited(made, f"a student of {job.base_model}", job.schedule.patience)
    return client_


def resumed_client(service: Any, job: Job, state: str) -> TrainingClient:
    try:
        client_: TrainingClient = awaited(
            service.create_training_client_from_state_with_optimizer(state),
            f"resume from {state}",
            job.schedule.patience,
        )
    except DistillationError as cause:
        raise DistillationError(
            f"{cause}; if the checkpoint is gone or has expired, go back to an earlier one of "
            f"{job.folder / checkpoints.LEDGER} with python -m distillation.train --resume-from STEP"
        ) from cause
    return client_
