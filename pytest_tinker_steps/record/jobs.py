"""Background jobs on the disk: a folder each, with the state that its supervisor writes.

``job.json`` says what the supervisor knew last. Whether that still holds is for ``run.jobs.look`` to say,
which looks at the processes as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import field
from pathlib import Path

from ..plan.values import value
from .places import JOBS
from .plain import from_plain, to_plain

FILE = "job.json"
ALERTS_KEPT = 20
NOTES_KEPT = 100

STARTING, RUNNING, PASSED, FAILED = "starting", "running", "passed", "failed"
UNSUPERVISED, LOST = "unsupervised", "lost"
"""What only a look at the processes can tell: it runs without a supervisor; nobody knows how it ended."""
LIVE = frozenset({STARTING, RUNNING, UNSUPERVISED})
ENDED = frozenset({PASSED, FAILED, LOST})


@value
class Alert:
    """What a monitor found wrong.

    Attributes:
        timestamp: as in the journal.
        text: the line that raised it.
    """

    timestamp: str
    monitor: str
    text: str


@value
class Job:
    """A background job, as far as it is known.

    Attributes:
        command: as people would type it, redacted.
        pid, start: identity of its process; 0 before it was started.
        session, session_start: identity of the leader of its session, the shell that waits for the process.
        supervisor, supervisor_start: identity of its supervisor.
        boot: id of the machine's boot in which these identities mean something.
        began: wall time, as in the journal; empty before it was started.
        began_clock: seconds on the monotonic clock, comparable within one boot.
        state: ``starting``, ``running``, ``passed`` or ``failed``; a look at the processes may also say
            ``unsupervised`` or ``lost``.
        ready: whether the steps that only wait for its start may begin.
        reason: one line why it failed.
        exit: its exit code, negative for a signal; None while it runs or when nobody knows.
        ended: wall time; empty while it lives.
        seconds: from its start to its end.
        log: path of its output, relative to the folder of the list.
        progress: done, total, and done per second.
        metrics: last value of each number that it reported; ``cost_usd`` is added up.
        notes: what it noted; the last ones.
        met: success criteria that it reported.
        samples: the last one of each monitor.
        alerts: the last ones.
        alert_count: how many there were in all.
        stopped_by: who asked for its end.
        attempt: number of the step's attempt, from 1.
        events_read: bytes of its events file that are counted above.
    """

    step: str
    task_id: str
    run_id: str = ""
    command: str = ""
    pid: int = 0
    start: float = 0.0
    session: int = 0
    session_start: float = 0.0
    supervisor: int = 0
    supervisor_start: float = 0.0
    boot: str = ""
    began: str = ""
    began_clock: float = 0.0
    state: str = STARTING
    ready: bool = False
    reason: str = ""
    exit: int | None = None
    ended: str = ""
    seconds: float = 0.0
    log: str = ""
    progress: tuple[float, float, float] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    met: tuple[str, ...] = ()
    samples: dict[str, str] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    alert_count: int = 0
    stopped_by: str = ""
    attempt: int = 1
    events_read: int = 0

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE


def folder_of(state: Path, task_id: str) -> Path:
    """The folder of a job.

    Args:
        state: the ``.steps`` folder.
        task_id: of the attempt that started it.
    """
    # A task id holds the id of a step as people wrote it; it must stay one folder's name.
    return state / JOBS / re.sub(r"[^\w.-]", "-", task_id).lstrip(".")


def write(folder: Path, job: Job, *, sync: bool = False) -> None:
    """Replaces the state of a job at once, so that nobody ever reads half of it.

    Args:
        folder: of the job; it exists.
        sync: return only when it is on the disk.

    Raises:
        OSError: it could not be written; the state before stands.
    """
    temporary = folder / f".{FILE}.{os.getpid()}"
    data = json.dumps(to_plain(job), ensure_ascii=False).encode("utf-8", "backslashreplace")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(folder / FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read(folder: Path) -> Job | None:
    """The state of a job as it was written last; None when there is none, or none that can be read."""
    try:
        return from_plain(Job, json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def read_all(state: Path) -> list[Job]:
    """The states of all jobs of a list, the oldest first.

    Args:
        state: the ``.steps`` folder.
    """
    jobs = [job for folder in _folders(state) if (job := read(folder)) is not None]
    return sorted(jobs, key=lambda job: (job.began or "~", job.task_id))


def unwritten(state: Path) -> list[Path]:
    """The folders of jobs whose state nobody has written yet.

    Args:
        state: the ``.steps`` folder.
    """
    return [folder for folder in _folders(state) if not (folder / FILE).exists()]


def _folders(state: Path) -> list[Path]:
    try:
        return [state / JOBS / name for name in os.listdir(state / JOBS)]
    except OSError:
        return []
