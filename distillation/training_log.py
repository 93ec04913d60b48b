"""What a training leaves behind step by step in ``training_logs/``.

``metrics.jsonl`` is the record; ``loss.txt`` says the same for people and for whoever watches. A resume
cuts off what lies behind its checkpoint, so that the logs are those of a training that never stopped.
What was cut off was paid for none the less and goes to ``interruptions.jsonl``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.jsonl import Row, append, read_rows, write_bytes, write_rows

FOLDER = Path("training_logs")
LOSS = FOLDER / "loss.txt"
METRICS = FOLDER / "metrics.jsonl"
VALIDATION = FOLDER / "validation.jsonl"
INTERRUPTIONS = FOLDER / "interruptions.jsonl"

_LOSS_LINE = re.compile(r"step (\d+) loss (\S+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One training step.

    Attributes:
        step: counted from 1.
        loss: mean over the weighted tokens of the batch, before the step.
        tokens: of the whole batch, as they are paid for.
        weighted_tokens: those that the loss counts.
        seconds: from the end of the step before to the end of this one.
        learning_rate: of this step.
        cost_usd: what its tokens cost.
    """

    step: int
    loss: float
    tokens: int
    weighted_tokens: int
    seconds: float
    learning_rate: float
    cost_usd: float

    def line(self) -> str:
        """The step in ``loss.txt``."""
        return f"step {self.step} loss {self.loss:.4f}"

    def as_json(self) -> dict[str, Any]:
        """The step in ``metrics.jsonl``; JSON has no word for a loss that is not a number."""
        return asdict(self) | {"loss": self.loss if math.isfinite(self.loss) else None}


@dataclass(frozen=True, slots=True)
class Validation:
    """The loss on the validation examples after ``step`` steps; step 0 is the untrained student.

    Attributes:
        step: see above.
        loss: mean over the weighted tokens of all validation examples.
        tokens: of these examples, as they are paid for.
        cost_usd: what they cost.
    """

    step: int
    loss: float
    tokens: int
    cost_usd: float


class TrainingLog:
    """The open logs of a training that runs. Close it, or use it in a ``with`` statement.

    Args:
        folder: the run folder. Its logs must have been cut to the step at which the training goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[Path, int] = {}
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        try:
            for name in (METRICS, LOSS, VALIDATION):
                with writing(folder / name):
                    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                    self._files[folder / name] = os.open(folder / name, flags, 0o644)
        except DistillationError:
            self.close()
            raise
        self._folder = folder

    def step(self, step: Step) -> None:
        """Append a step to both logs."""
        self._append(METRICS, json.dumps(step.as_json()))
        self._append(LOSS, step.line())

    def validation(self, validation: Validation) -> None:
        """Append a validation loss."""
        self._append(VALIDATION, json.dumps(asdict(validation)))

    def sync(self) -> None:
        """Have everything on the disk, before a checkpoint is recorded that refers to it."""
        for path, descriptor in self._files.items():
            with writing(path):
                os.fsync(descriptor)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, name: Path, line: str) -> None:
        path = self._folder / name
        with writing(path):
            append(path, self._files[path], (line + "\n").encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write, as of a full disk, into one line.

    Raises:
        DistillationError: names the file and the way on.
    """
    try:
        yield
    except OSError as cause:
        raise DistillationError(
            f"{path}: {cause.strerror or cause}; make room or mend it, then run the step again: "
            "it goes on from the last checkpoint"
        ) from cause


def add_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add lines to a file in one go; what stands there stays as it is, broken lines included.

    Raises:
        DistillationError: it cannot be written.
    """
    with writing(path):
        before = path.read_bytes() if path.exists() else b""
        gap = b"" if before.endswith(b"\n") or not before else b"\n"
        added = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(path, before + gap + added.encode())


def read_steps(folder: Path) -> list[Step]:
    """All steps of ``metrics.jsonl``, in order from 1.

    Raises:
        DistillationError: the file is missing, or a line is not the step that belongs there.
    """
    return [_step(folder / METRICS, row, n) for n, row in enumerate(read_rows(folder / METRICS), 1)]


def read_losses(folder: Path) -> list[float]:
    """The losses of ``loss.txt``, in order from step 1.

    Raises:
        DistillationError: the file is missing, or a line is not the step that belongs there.
    """
    path = folder / LOSS
    losses = []
    for number, row in enumerate(read_rows(path), 1):
        found = _LOSS_LINE.fullmatch(row.text)
        if found is None or int(found[1]) != number:
            raise DistillationError(f"{path}:{row.line}: is not 'step {number} loss ...'; run step 13 again")
        try:
            losses.append(float(found[2]))
        except ValueError:
            raise DistillationError(f"{path}:{row.line}: {found[2]} is no loss; run step 13 again") from None
    return losses


def read_validations(folder: Path) -> list[Validation]:
    """The validation losses so far; empty when there are none.

    Raises:
        DistillationError: a line holds none.
    """
    path = folder / VALIDATION
    return [_validation(path, row) for row in read_rows(path)] if path.exists() else []


def read_interruptions(folder: Path) -> list[dict[str, Any]]:
    """Every resume: when, at which step, and what was trained a second time; empty when there was none."""
    path = folder / INTERRUPTIONS
    return [row.value for row in read_rows(path) if row.value] if path.exists() else []


def cut(folder: Path, next_step: int) -> list[Step]:
    """Cut the logs to the steps before ``next_step`` and note what was cut off.

    Args:
        folder: the run folder.
        next_step: at which the training goes on; 1 for one that begins; 0 to keep nothing, not even the
            validation loss of the untrained student.

    Returns:
        the steps that were cut off, as far as their lines are whole.

    Raises:
        DistillationError: a step before ``next_step`` is missing or spoilt.
    """
    path = folder / METRICS
    rows = read_rows(path) if path.exists() else []
    before = max(0, next_step - 1)
    kept = [_step(path, row, number) for number, row in enumerate(rows[:before], 1)]
    if len(kept) < before:
        raise DistillationError(
            f"{path}: ends at step {len(kept)}, and the last checkpoint is of step {before}; "
            "bring the file back, or run python -m distillation.train --resume-from 0 to begin anew"
        )
    lost = [step for row in rows[before:] if (step := _readable(row)) is not None]
    known = _whole_validations(folder / VALIDATION) if next_step else []
    validations = [one for one in known if one.step < next_step]
    with writing(folder / FOLDER):
        if lost or next_step > 1:
            _note_interruption(folder, next_step, lost)
        write_rows(path, (step.as_json() for step in kept))
        write_bytes(folder / LOSS, "".join(step.line() + "\n" for step in kept).encode())
        write_rows(folder / VALIDATION, (asdict(one) for one in validations))
    return lost


def _whole_validations(path: Path) -> list[Validation]:
    rows = read_rows(path) if path.exists() else []
    if rows and rows[-1].value is None:
        rows.pop()  # cut off in the middle; what it belongs to was not recorded either
    return [_validation(path, row) for row in rows]


def _validation(path: Path, row: Row) -> Validation:
    try:
        return Validation(**(row.value or {}))
    except TypeError:
        raise DistillationError(
            f"{path}:{row.line}: {row.problem or 'holds no validation loss'}; run step 13 again"
        ) from None


def _note_interruption(folder: Path, next_step: int, lost: Sequence[Step]) -> None:
    note = {
        "resumed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "next_step": next_step,
        "steps_lost": len(lost),
        "tokens_lost": sum(step.tokens for step in lost),
        "cost_usd_lost": sum(step.cost_usd for step in lost),
    }
    add_rows(folder / INTERRUPTIONS, [note])


def _step(path: Path, row: Row, number: int) -> Step:
    step = _readable(row)
    if step is None or step.step != number:
        raise DistillationError(
            f"{path}:{row.line}: {row.problem or f'is not step {number}'}; bring the line back, or run "
            "python -m distillation.train --resume-from 0 to begin anew"
        )
    return step


def _readable(row: Row) -> Step | None:
    value = row.value or {}
    try:
        return Step(**(value | {"loss": math.nan if value["loss"] is None else float(value["loss"])}))
    except (KeyError, TypeError, ValueError):
        return None
