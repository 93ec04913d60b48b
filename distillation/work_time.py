"""How long the work of a step took: ``work_times/<work>.jsonl``, a line for every stretch of it.

Work that is done in pieces, killed, gone on with or done again took what all its stretches took together, so
a line is added while the work goes on and none is ever taken away. What comes after the last line of a
process that is killed is lost: some ``EVERY`` seconds, or the wait for the first answer.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from distillation.jsonl import append, read_rows, torn

FOLDER = Path("work_times")

GENERATION, TRAINING, EVALUATION = "generation", "training", "evaluation"
"""Work that is done in pieces. What is done in one go has its ``seconds`` in its own report alone."""

EVERY = 2.0
"""Seconds from one line to the next while the work goes on."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What all stretches make together.

    Attributes:
        seconds: of work.
        done: answers, or steps, that came of it; those that were done again count again.
        stretches: processes that worked.
    """

    seconds: float
    done: int
    stretches: int

    def as_json(self) -> dict[str, float]:
        """For a report."""
        return {
            "seconds": round(self.seconds, 2),
            "seconds_done": self.done,
            "seconds_stretches": self.stretches,
        }


class Clock:
    """Counts the seconds from ``with`` to its end, and notes them as the work goes on.

    Args:
        folder: the run folder.
        work: what is worked at, one of the names above.

    Raises:
        OSError: the file cannot be written; names it.
    """

    def __init__(self, folder: Path, work: str) -> None:
        self._path = folder / FOLDER / f"{work}.jsonl"
        self._noted = time.monotonic()
        self._done = 0
        self._first = True

    def lap(self, done: int = 0) -> None:
        """Say that ``done`` more are done; noted at once when the last line is ``EVERY`` seconds old."""
        self._done += done
        if time.monotonic() - self._noted >= EVERY:
            self._note()

    def __enter__(self) -> Clock:
        self._noted = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is None:
            self._note()
            return
        # What has gone wrong already is the thing to tell.
        with suppress(OSError):
            self._note()

    def _note(self) -> None:
        now = time.monotonic()
        row = {"began": self._first, "seconds": round(now - self._noted, 3), "done": self._done}
        gap = "\n" if self._first and torn(self._path) else ""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            append(self._path, descriptor, f"{gap}{json.dumps(row)}\n".encode())
        finally:
            os.close(descriptor)
        self._noted, self._done, self._first = now, 0, False


def worked(folder: Path, work: str) -> Worked | None:
    """How long was worked so far; ``None`` when nothing was noted. Names lines that hold no time.

    Raises:
        DistillationError: the file cannot be read.
    """
    path = folder / FOLDER / f"{work}.jsonl"
    if not path.exists():
        return None
    seconds, done, stretches = 0.0, 0, 0
    for row in read_rows(path):
        try:
            value = row.value or {}
            took, more, began = float(value["seconds"]), int(value["done"]), bool(value["began"])
        except (KeyError, TypeError, ValueError):
            print(f"{path}:{row.line}: {row.problem or 'holds no time'}; is not counted", flush=True)
            continue
        seconds, done, stretches = seconds + took, done + more, stretches + began
    return Worked(seconds, done, stretches)


def in_report(folder: Path, work: str) -> dict[str, float]:
    """``seconds`` and what belongs to it, for a report; nothing when no time was noted.

    Raises:
        DistillationError: as ``worked``.
    """
    found = worked(folder, work)
    return found.as_json() if found is not None else {}
