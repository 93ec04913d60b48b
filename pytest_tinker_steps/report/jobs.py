"""The jobs of a list as a table, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..record.jobs import FAILED, LOST, PASSED, RUNNING, STARTING, UNSUPERVISED, Job
from ..record.state import Records
from ..run.expectations import one_line
from .lines import MARKS, duration, newest, progress

WORDS = {
    STARTING: "starting",
    RUNNING: "running",
    UNSUPERVISED: "running, without its supervisor",
    PASSED: "ended well",
    FAILED: "failed",
    LOST: "lost",
}
FALLEN = (FAILED, LOST)

COLUMNS = ("step", "state", "since", "for", "pid", "progress")
ALWAYS = ("step", "state")
GAP = "  "
INDENT = "    "
ALERTS_SHOWN = 3
SETTLED_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Sorted:
    """Jobs by what is still to be said of them.

    Attributes:
        open: they live, or have ended and their step has no verdict since.
        settled: they have ended, and so has their attempt; the one that ended last stands last.
    """

    open: tuple[Job, ...]
    settled: tuple[tuple[Job, str], ...]

    @property
    def live(self) -> list[Job]:
        return [job for job in self.open if job.live]


def sort_out(jobs: Sequence[Job], records: Records) -> Sorted:
    """Leave out the ended jobs of earlier attempts; part the others by the verdict of their attempt.

    Args:
        jobs: as a look at the processes found them, the oldest first.
        records: what the journal says.
    """
    newest = {job.step: job.task_id for job in jobs}
    settled: list[tuple[Job, str]] = []
    unsettled: list[Job] = []
    for job in jobs:
        state = records.of(job.step)
        if job.live:
            unsettled.append(job)
        elif job.task_id != (state.task_id or newest[job.step]):
            continue
        elif state.verdict in ("", "started", "cut off"):
            unsettled.append(job)
        else:
            settled.append((job, state.verdict))
    settled.sort(key=lambda pair: pair[0].ended)
    return Sorted(tuple(unsettled), tuple(settled))


def table(found: Sorted, name: str, *, clock: float, width: int) -> list[str]:
    """All jobs, line by line.

    Args:
        name: of the list, for the headline.
        clock: the monotonic clock of this boot, in seconds.
        width: columns of the screen. Paths are never cut.
    """
    if not found.open and not found.settled:
        return [f"{name}: no jobs"]
    lines = [_headline(found, name)]
    if found.open:
        lines += ["", *_open(found.open, clock, width)]
    if found.settled:
        lines += ["", "ended:"]
        lines += [_cut(_settled(job, verdict), width) for job, verdict in found.settled[-SETTLED_SHOWN:]]
        left_out = len(found.settled) - SETTLED_SHOWN
        if left_out > 0:
            lines.append(f"{INDENT}and {left_out} earlier")
    return lines


def hints(found: Sorted, command: str, *, following: bool = False) -> list[str]:
    """What to type next.

    Args:
        command: for a session on this list, without its options.
        following: whether the table is being followed already.
    """
    lines: list[str] = []
    if found.live:
        if not following:
            lines.append(f"to watch: {command} --steps-follow")
        lines.append(f"to end:   {command} --steps-stop {shlex.quote(_ids(found.live))}")
    why = []
    if well := [job for job in found.open if job.state == PASSED]:
        why.append(f"validates {_steps(well)}, then ticks")
    if alone := [job for job in found.open if job.state == UNSUPERVISED]:
        why.append(f"supervises the job of {_steps(alone)} again")
    if fallen := [job for job in found.open if job.state in FALLEN]:
        why.append(f"goes on with {_steps(fallen)}")
    if why:
        lines.append(f"next:     {command} --steps continue  ({'; '.join(why)})")
    return lines


def ended(job: Job) -> str:
    """How a job ended, in one line: ``ended well after 2h15m``, ``failed after 12.0s: exit code 3``."""
    text = WORDS[job.state]
    if job.state != LOST:
        text += f" after {duration(job.seconds)}"
    return f"{text}: {one_line(job.reason)}" if job.reason else text


def _ids(jobs: Iterable[Job]) -> str:
    return ",".join(dict.fromkeys(job.step for job in jobs))


def _steps(jobs: Sequence[Job]) -> str:
    return f"step{'' if len(jobs) == 1 else 's'} {_ids(jobs)}"


def _headline(found: Sorted, name: str) -> str:
    live = len(found.live)
    said = [f"{live or 'no'} job{'s' if live > 1 else ''} alive"]
    for state, word in ((PASSED, "ended well and not validated yet"), (FAILED, "failed"), (LOST, "lost")):
        if count := sum(job.state == state for job in found.open):
            said.append(f"{count} {word}")
    return f"{name}: {', '.join(said)}"


def _open(jobs: Sequence[Job], clock: float, width: int) -> list[str]:
    rows = [_cells(job, clock) for job in jobs]
    columns = [name for name in COLUMNS if any(row[name] for row in rows)]
    sizes = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    # What does not fit beside the rest stands below it.
    while sum(sizes[name] + len(GAP) for name in columns) - len(GAP) > width and columns[-1] not in ALWAYS:
        columns.pop()
    lines = [_row({name: name for name in columns}, columns, sizes)]
    for job, row in zip(jobs, rows, strict=True):
        lines.append(_cut(_row(row, columns, sizes), width))
        below = [(name, row[name]) for name in COLUMNS if name not in columns and row[name]]
        lines += _details(job, below, width)
    return lines


def _row(cells: Mapping[str, str], columns: Sequence[str], sizes: Mapping[str, int]) -> str:
    return GAP.join(f"{cells[name]:<{sizes[name]}}" for name in columns).rstrip()


def _cells(job: Job, clock: float) -> dict[str, str]:
    took = ""
    if job.live and job.began:
        took = duration(max(0.0, clock - job.began_clock))
    elif job.seconds:
        took = duration(job.seconds)
    told = job.progress and dict(zip(("done", "total", "rate"), job.progress, strict=True))
    return {
        "step": f"step_{job.step}",
        "state": WORDS[job.state],
        "since": f"{job.began[:19]}Z" if job.began else "",
        "for": took,
        "pid": str(job.pid) if job.pid and job.live else "",
        "progress": progress(told) if told else "",
    }


def _details(job: Job, below: Sequence[tuple[str, str]], width: int) -> list[str]:
    said = [*below, *((one_line(name), newest(text)) for name, text in job.samples.items())]
    left = max((len(name) for name, _ in said), default=0)
    lines = [f"{name:<{left}}{GAP}{text}" for name, text in said]
    if job.reason:
        lines.insert(len(below), f"✗ {one_line(job.reason)}")
    if job.stopped_by and job.stopped_by not in job.reason:
        lines.append(f"! its end was asked for by {one_line(job.stopped_by)}")
    if job.alerts:
        shown = job.alerts[-ALERTS_SHOWN:]
        count = max(job.alert_count, len(job.alerts))
        last = f"; the last {len(shown)}:" if count > len(shown) else ":"
        lines.append(f"! {count} alert{'' if count == 1 else 's'}{last}")
        lines += [f"!   {alert.timestamp[:19]}Z {alert.monitor}: {one_line(alert.text)}" for alert in shown]
    cut = [INDENT + _cut(line, width - len(INDENT)) for line in lines]
    return [*cut, f"{INDENT}log {job.log}"] if job.log else cut


def _cut(line: str, width: int) -> str:
    """A line of ours, cut at its end, with its own spaces."""
    return line if len(line) <= width else line[: max(1, width) - 1] + "…"


def _settled(job: Job, verdict: str) -> str:
    when = f"{job.ended[:19]}Z  " if job.ended else ""
    return f"{MARKS.get(verdict, '-')} step_{job.step}  {verdict}  {when}its job {ended(job)}"
