"""Whole processes, measured in turns, and the table that shows them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

PATIENCE = 300.0
"""Seconds after which a process is taken to hang."""


@dataclass(frozen=True, slots=True)
class Run:
    """One whole process: wall-clock seconds, and the peak of its resident memory in MB."""

    seconds: float
    peak: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what is measured.
        unit: of the value, the limit and the peers, unless the value is a ratio (``x``).
        value: median over the runs.
        limit: the value must not be above it; None for a line that is only shown.
        peers: what else took how long in the same run, by name.
        samples: one value per run.
        at_least: the value must not be below the limit instead.
    """

    name: str
    unit: str
    value: float
    limit: float | None
    peers: dict[str, str] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)
    at_least: bool = False

    @property
    def met(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def environ(folder: Path) -> dict[str, str]:
    """The environment of every process: no settings of this shell; byte code and caches as in normal use.

    Args:
        folder: they are kept beside it, so that installed files and the user's own caches stay as they are.
    """
    dropped = (
        "PYTEST_",
        "CI",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
        "PYTHONOPTIMIZE",
        "PYTHONDEBUG",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    apart = {"PYTHONPYCACHEPREFIX": "bytecode", "XDG_CACHE_HOME": "cache"}
    return kept | {name: str(folder.parent / value) for name, value in apart.items()}


def run(command: Sequence[str], folder: Path) -> Run:
    """Run a process to its end; its output is not shown.

    Raises:
        SystemExit: it failed, so there is nothing to measure.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environ(folder), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
            raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{text[-4000:]}")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return Run(seconds, usage.ru_maxrss / scale)


def in_turns(times: int, *contestants: Callable[[], Run]) -> list[list[Run]]:
    """Run all of them so many times, in an order that turns round each time; a first run is not counted.

    Returns:
        the runs of each contestant.
    """
    runs: list[list[Run]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant()  # byte code, caches of the file system
    for turn in range(times):
        order = list(enumerate(contestants))
        for place, contestant in order if turn % 2 == 0 else reversed(order):
            runs[place].append(contestant())
    return runs


def load() -> str:
    """Other people's work on this machine is in every figure."""
    return f"{os.getloadavg()[0]:.1f}"


def median(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def ratios(ours: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """Of each pair of runs that followed one another."""
    return [mine.seconds / other.seconds for mine, other in zip(ours, theirs, strict=True)]


def table(figures: Sequence[Figure]) -> str:
    """All figures as one Markdown table."""
    rows = [
        ("figure", "median", "range", "limit", "met", "peers, same run"),
        ("-", "-:", "-:", "-:", "-", "-"),
    ]
    for figure in figures:
        digits = 2 if figure.unit in ("x", "s") else 1 if figure.value >= 1 else 3
        limit = "" if figure.limit is None else f"{figure.limit:g} {figure.unit}"
        limit = f"at least {limit}" if figure.at_least and limit else limit
        peers = ", ".join(f"{name} {value}" for name, value in figure.peers.items())
        middle = f"{figure.value:.{digits}f} {figure.unit}"
        spread = f"{min(figure.samples):.{digits}f} .. {max(figure.samples):.{digits}f}"
        rows.append((figure.name, middle, spread, limit, "yes" if figure.met else "NO", peers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if row[0] == "-":
            cells = [cell.rstrip().rjust(width, "-") for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show(figures: Sequence[Figure], file: Path | None) -> int:
    """Print the table, write all samples to a file if there is to be one; the exit code."""
    print(table(figures))
    if file is not None:
        values = [{**asdict(figure), "met": figure.met} for figure in figures]
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.met for figure in figures) else 1
