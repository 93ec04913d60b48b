"""Background jobs seen from a session that goes on with other steps: alerts, and ends nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .record import jobs
from .record.jobs import Job


class JobWatch:
    """Tells what is new of the jobs that a session has to do with.

    Args:
        state: the ``.steps`` folder.
        say: prints lines.
    """

    def __init__(self, state: Path, say: Callable[[list[str]], None]) -> None:
        self._state = state
        self._say = say
        self._known: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Watch a job; what it has said until now is known."""
        self._known.setdefault(job.task_id, job)

    def drop(self, job: Job) -> None:
        """Watch a job no more."""
        self._known.pop(job.task_id, None)

    def look(self) -> None:
        """Print what came since the last look."""
        for task_id, old in list(self._known.items()):
            new = jobs.read(jobs.folder_of(self._state, task_id))
            if new is None or new == old:
                continue
            self._known[task_id] = new
            fresh = new.alert_count - old.alert_count
            if fresh > 0:
                shown = new.alerts[-fresh:]
                self._say([f"[JOB {new.step}] ! {alert.monitor}: {alert.text}" for alert in shown])
            if not new.live:
                del self._known[task_id]
                if new.state != jobs.PASSED:
                    self._say([f"[JOB {new.step}] ✗ {new.state}: {new.reason}; log: {new.log}"])
