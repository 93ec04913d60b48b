"""``--steps-monitor``, ``--steps-follow``, ``--steps-stop``: background jobs from outside of a session.

They look at processes and at what supervisors and sessions have written. They take no lock and read no
definitions, so they work beside a session that runs, and when the definitions are broken.

Exit codes: 0; 1 when a job failed while it was followed, or could not be ended; 2 after Ctrl-C; 4 when the
command line does not hold.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import locating
from .activation import JOURNAL
from .plan.model import Definitions, PlanError
from .record import journal, state
from .record.places import JOBS, STATE
from .report import jobs as report
from .report.lines import showable
from .run.background import jobs as running

if TYPE_CHECKING:
    from .record.jobs import Job

EVERY = 1.0
"""Seconds between two looks of ``--steps-follow``."""

PROGRESS_EVERY = 30.0
"""Seconds between two blocks that differ in nothing but progress, where nothing can be repainted."""

VERDICTS_EVERY = 10.0
"""Seconds after which the journal is read again though no job has changed its state."""

COMMAND_LENGTH = 200
"""Characters of a command line that are recorded with who has stopped a job."""

OK, FAILED, INTERRUPTED = map(
    int, (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
)


class JobList:
    """The jobs of one list, as they are whenever they are asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self.path = _path(config)
        self.name = locating.nodeid(config, self.path)
        self.command = locating.command_for(config, self.path)
        self.state = self.path.parent / STATE
        self._journal = self.path.parent / JOURNAL
        self._records = state.Records()
        self._seen: object = None
        self._read = 0.0

    def look(self) -> list[Job]:
        """All jobs, the oldest first."""
        return running.look_all(self.state)

    def sort_out(self, jobs: Sequence[Job]) -> report.Sorted:
        """Jobs by what is still to be said of them."""
        # Supervisors write into the journal all the time; it matters here only for verdicts.
        seen = [(job.task_id, job.state) for job in jobs]
        moment = time.monotonic()
        if seen != self._seen or moment - self._read >= VERDICTS_EVERY:
            self._records = state.fold(journal.read(self._journal))
            self._seen, self._read = seen, moment
        return report.sort_out(jobs, self._records)

    def table(self, found: report.Sorted) -> list[str]:
        width = shutil.get_terminal_size().columns
        return report.table(found, self.name, clock=time.monotonic(), width=width)


def show(config: pytest.Config) -> int:
    """Print all jobs of the list and what to type next.

    Raises:
        pytest.UsageError: there is no such list.
    """
    return _told(lambda: _show(JobList(config)))


def follow(config: pytest.Config) -> int:
    """Print all jobs again and again until none is alive.

    On a terminal the table is repainted. Elsewhere a new one is printed, below the time, when something has
    changed.

    Returns:
        0; 1 when a job that was alive has failed or was lost meanwhile; 2 after Ctrl-C.

    Raises:
        pytest.UsageError: there is no such list.
    """
    return _told(lambda: _follow(JobList(config)))


def stop(config: pytest.Config, selection: str) -> int:
    """End the jobs of the selected steps and print what became of each.

    Args:
        selection: as ``--steps`` takes it, without ``continue`` and ``next:N``; ``all`` is every job.

    Returns:
        0, also when there was nothing to end; 1 when a job is alive still; 2 after Ctrl-C.

    Raises:
        pytest.UsageError: there is no such list, or no such step.
    """
    return _told(lambda: _stop(JobList(config), selection, _who(config)))


def _told(act: Callable[[], int]) -> int:
    try:
        return act()
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    except KeyboardInterrupt:
        print()
        return INTERRUPTED


def _show(jobs: JobList) -> int:
    found = jobs.sort_out(jobs.look())
    _print([*jobs.table(found), *_below(report.hints(found, jobs.command))])
    return OK


def _follow(jobs: JobList) -> int:
    paint = _Screen().paint if sys.stdout.isatty() else _Stream().paint
    followed: set[str] = set()
    while True:
        looked = jobs.look()
        found = jobs.sort_out(looked)
        followed |= {job.task_id for job in found.live}
        hints = report.hints(found, jobs.command, following=True)
        paint([*jobs.table(found), *_below(hints)], found)
        if not found.live:
            break
        time.sleep(EVERY)
    fell = any(job.task_id in followed and job.state in report.FALLEN for job in looked)
    return FAILED if fell else OK


def _stop(jobs: JobList, selection: str, who: str) -> int:
    looked = jobs.look()
    names = _selected(jobs, looked, selection)
    live = [job for job in looked if job.live and job.step in names]
    idle = [name for name in names if name not in {job.step for job in live}]
    result = OK
    for job in live:
        _print([f"step_{job.step}: ending its job{f' (pid {job.pid})' if job.pid else ''} ..."])
        try:
            after = running.stop(jobs.state, job.task_id, who)
        except running.JobError as error:  # its folder was removed meanwhile
            result = FAILED
            _print([f"✗ step_{job.step}: {error}"])
            continue
        if after.live:
            result = FAILED
            _print([f"✗ step_{job.step}: its job is still alive: pid {after.pid}; log {after.log}"])
        else:
            _print([f"✓ step_{job.step}: its job {report.ended(after)}; log {after.log}"])
    if idle:
        _print([f"- without a job that is alive: {', '.join(f'step_{name}' for name in idle)}"])
    elif not live:
        _print([f"{jobs.name}: no job is alive"])
    return result


def _selected(jobs: JobList, found: Iterable[Job], selection: str) -> list[str]:
    """Ids of the steps that are meant."""
    parts = [part.strip().removeprefix("step_") for part in selection.split(",")]
    if parts == ["all"]:
        return list(dict.fromkeys(job.step for job in found if job.live))
    known = {job.step for job in found}
    if all(part in known for part in parts):  # whatever has become of the list since
        return list(dict.fromkeys(parts))
    for part in parts:
        if part == "continue" or part.startswith("next:"):
            raise PlanError(
                f"--steps-stop {selection}: name the steps, for example 13 or 1-5, or all of them"
            )
    from .plan import building, tasklist
    from .plan.selection import select

    try:
        data = jobs.path.read_bytes()
    except OSError as error:
        raise PlanError(f"{jobs.name}: the task list cannot be read: {error.strerror}") from None
    plan = building.build(tasklist.parse(data, jobs.name), Definitions(path=jobs.name))
    return list(select(selection, plan, lambda _: False, "--steps-stop").ids)


def _who(config: pytest.Config) -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    command = shlex.join(["pytest", *map(str, config.invocation_params.args)])[:COMMAND_LENGTH]
    return f"{user}@{os.uname().nodename} pid {os.getpid()}: {command}"


def _path(config: pytest.Config) -> Path:
    """The list that is meant. Jobs outlive it, so a folder that has jobs is enough."""
    given = config.args if config.args_source == pytest.Config.ArgsSource.ARGS else []
    base = config.invocation_params.dir
    named = {
        Path(os.path.abspath(base / argument.split("::")[0]))
        for argument in given
        if argument.split("::")[0].endswith(".md")
    }
    if len(named) > 1:
        raise PlanError(f"{' and '.join(sorted(map(str, named)))}: one task list, please")
    path = next(iter(named), None) or locating.default_list(config) or config.rootpath / locating.LISTS[0]
    if not path.is_file() and not (path.parent / STATE / JOBS).is_dir():
        raise PlanError(
            f"{path}: there is no such task list; name it on the command line, "
            "or set steps_list in the configuration"
        )
    return path


def _below(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _print(lines: Iterable[str]) -> None:
    print("\n".join(showable(lines, sys.stdout.encoding)), flush=True)


class _Stream:
    """Where nothing can be repainted: tables below each other, each with its time."""

    def __init__(self) -> None:
        self._told: object = None
        self._progress: list[tuple[float, float, float] | None] = []
        self._moment = 0.0

    def paint(self, lines: Sequence[str], found: report.Sorted) -> None:
        told = [
            (job.task_id, job.state, job.ready, job.samples, job.alert_count, job.stopped_by)
            for job in found.open
        ]
        progress = [job.progress for job in found.open]
        moment = time.monotonic()
        moved = progress != self._progress and moment - self._moment >= PROGRESS_EVERY
        if told == self._told and not moved:
            return
        self._told, self._progress, self._moment = told, progress, moment
        _print([f"-- {journal.now()}", *lines, ""])


class _Screen:
    """A terminal: each table is painted over the one before."""

    def __init__(self) -> None:
        self._painted: list[str] = []

    def paint(self, lines: Sequence[str], found: report.Sorted) -> None:
        size = shutil.get_terminal_size()
        shown = showable(lines, sys.stdout.encoding)
        # What has left the screen at its top cannot be painted over; the last table may be as long as it is.
        while found.live and len(shown) > 1 and _rows(shown, size.columns) > size.lines - 2:
            shown.pop()
        if len(shown) < len(lines):
            shown.append("... the rest does not fit: --steps-monitor shows it"[: size.columns])
        if shown == self._painted:
            return
        up = _rows(self._painted, size.columns)
        sys.stdout.write((f"\x1b[{up}F" if up else "") + "\x1b[J" + "".join(f"{line}\n" for line in shown))
        sys.stdout.flush()
        self._painted = shown


def _rows(lines: Iterable[str], columns: int) -> int:
    """How many rows of a terminal the lines take."""
    widths = (sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line) for line in lines)
    return sum(max(1, -(-width // max(1, columns))) for width in widths)
