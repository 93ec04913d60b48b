"""What a run has cost so far, and whether anything more may begin.

Every process that reports costs appends them to one ledger: the session, its workers, and the supervisors of
background jobs. Each cost is a line of its own, written at once, so that none is lost or counted twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import defaultdict
from pathlib import Path


def costs_of(state: Path, run_id: str) -> Path:
    """The ledger of a run.

    Args:
        state: the ``.steps`` folder.
    """
    return state / "costs" / f"{run_id}.jsonl"


class Budget:
    """The costs of one run and their limit.

    Args:
        path: of the ledger; it and its folder are made with the first cost.
        limit: US dollars that the whole run may cost; None for no limit.

    Attributes:
        path, limit: as given.
    """

    def __init__(self, path: Path, limit: float | None) -> None:
        self.limit = limit
        self.path = path
        self._costs: defaultdict[str, float] = defaultdict(float)
        self._offset = 0
        self._torn = b""
        self._unwritten: defaultdict[str, float] = defaultdict(float)

    def add(self, step: str, usd: float) -> None:
        """Enter a cost. One that cannot be written still counts in this process."""
        if not math.isfinite(usd):
            return
        # The line break in front ends what another writer may have left torn when the disk was full.
        line = b"\n" + json.dumps({"step": step, "usd": usd}).encode() + b"\n"
        try:
            written = self._append(line)
        except OSError:
            written = 0
        # Without its last byte, which is the line break, the line still is whole for the next writer.
        if written < len(line) - 1:
            self._unwritten[step] += usd

    def total(self) -> float:
        """US dollars that the run has cost."""
        self._read()
        return sum(self._costs.values()) + sum(self._unwritten.values())

    def of(self, step: str) -> float:
        """US dollars that one step has cost in this run."""
        self._read()
        return self._costs.get(step, 0.0) + self._unwritten.get(step, 0.0)

    def reached(self, step: str, step_limit: float | None, spent_before: float) -> str:
        """One line why nothing more of a step may begin, or an empty string.

        A budget is reached once something was spent and the sum is at the limit or above.

        Args:
            step_limit: US dollars that the step may cost; None for no limit.
            spent_before: US dollars that it has cost in earlier runs.
        """
        if step_limit is not None:
            spent = spent_before + self.of(step)
            if 0 < spent >= step_limit:
                return f"{_dollars(spent)} of {_dollars(step_limit)} spent by step_{step}"
        if self.limit is not None:
            spent = self.total()
            if 0 < spent >= self.limit:
                return f"{_dollars(spent)} of {_dollars(self.limit)} spent by this run"
        return ""

    def _append(self, line: bytes) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, flags, 0o600)
        try:
            return os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _read(self) -> None:
        """Take the lines that were added since the last time, by whomever."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
            self._offset += len(data)
            *lines, self._torn = (self._torn + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    entry = json.loads(line)
                    self._costs[str(entry["step"])] += float(entry["usd"])


def _dollars(usd: float) -> str:
    """Cents as people write them, and smaller sums so that they are not nothing."""
    return f"${usd:,.2f}" if not 0 < abs(usd) < 0.01 else f"${usd:.2g}"
