"""Mains that are background jobs: started, and waited for until they are ready."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ...plan.model import RetryCause
from ...record.jobs import FAILED, LOST, Job
from ..background import jobs
from ..background.job_spec import JobSpec
from ..ended import NO_END, NOT_READY, Ended
from ..failure import PhaseFailed, process_failed
from ..output import TAIL


def start_and_wait_ready(spec: JobSpec, environ: Mapping[str, str], *, on_poll: Callable[[Job], None]) -> Job:
    """Starts a job; returns when it is ready, or has ended well before.

    Args:
        environ: the job's whole environment.
        on_poll: told the job as it is, many times a second.

    Raises:
        PhaseFailed: it could not be started, has failed, or was not ready in time.
        BaseException: whatever interrupts the wait, once the job is stopped.
    """
    try:
        jobs.start(spec, environ)
    except jobs.JobError as error:
        raise PhaseFailed(None, f"main could not start: {error}") from None
    try:
        job = jobs.wait_ready(spec.state, spec.task_id, on_poll, environ=environ)
    except jobs.JobError as error:
        raise PhaseFailed(None, f"main failed: {error}") from None
    except BaseException:
        jobs.stop(spec.state, spec.task_id, jobs.INTERRUPTED)
        raise
    if job.state in (FAILED, LOST):
        raise failure_of(job, spec.folder)
    return job


def failure_of(job: Job, folder: Path) -> PhaseFailed:
    """The failure of a job that has not ended well.

    Args:
        folder: of the task list.
    """
    cause: RetryCause | None = "exit"
    if job.stopped_by:
        cause = None
    elif job.reason.startswith((NOT_READY, NO_END)):
        cause = "timeout"
    path = folder / job.log
    tail = _tail(path)
    ended = Ended(job.exit, "timeout" if cause == "timeout" else "exit", job.seconds, tail, job.reason)
    return process_failed("main", cause, job.command, ended, job.log if path.exists() else "")


def _tail(path: Path) -> str:
    """The last lines of a log; one that lost its beginning is left out, unless it is all there is."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            data = file.read(TAIL)
    except OSError:
        return ""
    if size > TAIL:
        data = data[data.find(b"\n") + 1 :] or data
    return data.decode("utf-8", "replace")
