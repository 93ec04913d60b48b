"""The checkpoints of a training: ``checkpoints/checkpoints.jsonl`` and what belongs to it.

A checkpoint is recorded after the service has saved it, with the index of the next step. Weights lie with
the service; here stand their addresses. A diverged training leaves ``divergence.json``, and every
lowering of the learning rate a line in ``recoveries.jsonl``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.jsonl import Row, read_json, read_rows, write_json, write_rows
from distillation.training_log import add_rows, writing

FOLDER = Path("checkpoints")
LEDGER = FOLDER / "checkpoints.jsonl"
SET_ASIDE = FOLDER / "set_aside.jsonl"
RECOVERIES = FOLDER / "recoveries.jsonl"
DIVERGENCE = FOLDER / "divergence.json"
CLAIM = FOLDER / "training.json"

RECOVERY_FACTOR = 0.1
"""What the learning rate is multiplied with after a loss that was not a number."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved state of the training.

    Attributes:
        step: the last step that is in it, counted from 1.
        next_step: the step with which a resume goes on.
        state: address of weights and optimizer, for a resume.
        sampler: address of the weights for sampling.
        validation_loss: mean over the weighted tokens of the validation examples.
        fingerprint: of the data and of what a resume may not change; see ``training_job.fingerprint_of``.
        saved_at: UTC, ISO 8601.
    """

    step: int
    next_step: int
    state: str
    sampler: str
    validation_loss: float
    fingerprint: str
    saved_at: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """A lowered learning rate: from ``from_step`` on the rate is multiplied with ``factor``."""

    from_step: int
    factor: float


def read(folder: Path) -> list[Checkpoint]:
    """The recorded checkpoints, oldest first; empty when there are none.

    Args:
        folder: the run folder.

    Raises:
        DistillationError: a line is no checkpoint, or the steps do not rise.
    """
    path = folder / LEDGER
    found: list[Checkpoint] = []
    for row in read_rows(path) if path.exists() else ():
        one = _checkpoint(path, row)
        if found and one.step <= found[-1].step:
            raise DistillationError(f"{path}:{row.line}: step {one.step} does not follow {found[-1].step}")
        found.append(one)
    return found


def record(folder: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint, whose weights the service has saved, to the ledger."""
    add_rows(folder / LEDGER, [asdict(checkpoint)])


def set_aside(folder: Path, after_step: int) -> list[Checkpoint]:
    """Take checkpoints of steps behind ``after_step`` out of the ledger, into ``set_aside.jsonl``.

    The weights stay with the service until their time to live is over.
    """
    known = read(folder)
    gone = [one for one in known if one.step > after_step]
    if gone:
        add_rows(folder / SET_ASIDE, [asdict(one) for one in gone])
        with writing(folder / LEDGER):
            write_rows(folder / LEDGER, (asdict(one) for one in known if one.step <= after_step))
    return gone


def best(folder: Path) -> Checkpoint:
    """The checkpoint with the lowest validation loss; of equals the earlier one.

    Raises:
        DistillationError: there is none.
    """
    known = read(folder)
    if not known:
        raise DistillationError(f"{folder / LEDGER}: records no checkpoint; run step 13")
    return min(known, key=lambda one: one.validation_loss)


def claim(folder: Path, fingerprint: str) -> None:
    """Say of which data and model everything here is."""
    with writing(folder / CLAIM):
        write_json(folder / CLAIM, {"fingerprint": fingerprint})


def claimed(folder: Path) -> str | None:
    """Of which data and model everything here is; ``None`` before the first training."""
    return str(read_json(folder / CLAIM).get("fingerprint")) if (folder / CLAIM).exists() else None


def recoveries(folder: Path) -> list[Recovery]:
    """How the learning rate was lowered so far."""
    path = folder / RECOVERIES
    found = []
    for row in read_rows(path) if path.exists() else ():
        value = row.value or {}
        step, factor = value.get("from_step"), value.get("factor")
        if not isinstance(step, int) or not isinstance(factor, float) or not 0 < factor < 1:
            raise DistillationError(f"{path}:{row.line}: is no lowered rate; mend the line or remove it")
        found.append(Recovery(step, factor))
    return found


def factor_at(step: int, lowered: Sequence[Recovery]) -> float:
    """What the learning rate of ``step`` is multiplied with."""
    return math.prod(one.factor for one in lowered if one.from_step <= step)


def diverged(folder: Path) -> dict[str, Any] | None:
    """What is known of a loss that was not a number and has not been recovered from."""
    return read_json(folder / DIVERGENCE) if (folder / DIVERGENCE).exists() else None


def record_divergence(folder: Path, step: int, loss: float) -> None:
    """Note that the loss of ``step`` was not a number."""
    with writing(folder / DIVERGENCE):
        write_json(folder / DIVERGENCE, {"step": step, "loss": str(loss), "at": now()})


def recover(folder: Path) -> Recovery | None:
    """Lower the rate from the last good checkpoint on, when the training has diverged.

    Returns:
        the lowering, or ``None`` when nothing has diverged.
    """
    found = diverged(folder)
    if found is None:
        return None
    known = read(folder)
    lowered = Recovery(known[-1].next_step if known else 1, RECOVERY_FACTOR)
    note = asdict(lowered) | {"diverged_at_step": found.get("step"), "at": now()}
    add_rows(folder / RECOVERIES, [note])
    (folder / DIVERGENCE).unlink()
    return lowered


def forget_recoveries(folder: Path) -> None:
    """Begin with the configured learning rate again."""
    (folder / RECOVERIES).unlink(missing_ok=True)
    (folder / DIVERGENCE).unlink(missing_ok=True)


def now() -> str:
    """The time as it is recorded: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _checkpoint(path: Path, row: Row) -> Checkpoint:
    try:
        one = Checkpoint(**(row.value or {}))
        good = one.next_step == one.step + 1 and math.isfinite(one.validation_loss)
    except TypeError:
        good = False
    if not good:
        raise DistillationError(
            f"{path}:{row.line}: {row.problem or 'is no checkpoint'}; remove the line, and the training "
            "goes on from the checkpoint before"
        )
    return one
