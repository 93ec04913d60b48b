"""Background jobs, seen from outside: started, looked at, waited for, stopped, and given a new supervisor.

A look tells the truth also when the supervisor is dead: it asks the processes, and the exit code on the disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ...record import jobs
from ...record.jobs import FAILED, LOST, PASSED, UNSUPERVISED, Job, folder_of
from ...record.journal import now
from .. import handover, proctree
from ..ended import UNKNOWN_END, exit_words
from ..process import JOB, MARKERS, SUPERVISOR, Processes, start_detached
from ..redaction import Redactor, secret_values
from . import job_lock, job_program
from .job_handover import end_elsewhere
from .job_process import STOP_SIGNALS, JobProcess, read_exit, written_end
from .job_spec import ERRORS, STOP, JobSpec, read_spec, write_spec

PROGRAM = job_program.PROGRAM.format(module="supervisor")

INTERRUPTED = "an interrupted session"
"""Who stops a job that has not become ready when its session is interrupted."""

_TAKES_OVER_WITHIN = 30.0
_STOPS_WITHIN = sum(seconds for _, seconds in STOP_SIGNALS) + handover.STOP_WITHIN + 18.0
"""Seconds: the signals, the stop of a runner, monitors that do not end, and a slow disk."""
_LOOKED_EVERY = 1.0
_ADOPTED_EVERY = 5.0
_READY_PAUSE = 0.02
_END_PAUSE = 0.05
_ERROR_SHOWN = 300


class JobError(Exception):
    """A job cannot be started, or has no supervisor and gets none: one line."""


# -- looking


def look(state: Path, task_id: str) -> Job | None:
    """A job as it is now; None when there is none.

    Args:
        state: the ``.steps`` folder.
    """
    seen = _see(folder_of(state, task_id))
    return None if seen is None else seen[0]


def look_all(state: Path) -> list[Job]:
    """All jobs of a list as they are now, the oldest first. One that is just being started is waited for.

    Whoever started it may have been killed before it was written down, and would start it once more.
    """
    until = time.monotonic() + _TAKES_OVER_WITHIN
    for folder in jobs.unwritten(state):
        while _begins(folder) and time.monotonic() < until:
            time.sleep(_READY_PAUSE)
    return [look(state, job.task_id) or job for job in jobs.read_all(state)]


def _begins(folder: Path) -> bool:
    """Whether a supervisor lives that has not written down its job yet."""
    try:
        task_id = read_spec(folder).task_id
    except (OSError, ValueError):
        return False
    return jobs.read(folder) is None and bool(proctree.find(SUPERVISOR, task_id))


def _see(folder: Path) -> tuple[Job, bool] | None:
    """The job as it is; and whether it is an orphan: not written down as ended, and nobody looks after it."""
    job = jobs.read(folder)
    if job is None:
        return None
    if job.state in jobs.ENDED or job_lock.held(folder, job):
        return job, False
    # Its supervisor may have written its end before it let the lock go.
    job = jobs.read(folder) or job
    return (job, False) if job.state in jobs.ENDED else (_without_supervisor(folder, job), True)


def _without_supervisor(folder: Path, job: Job) -> Job:
    here = job.boot == proctree.boot()
    if here and proctree.alive(job.pid, job.start):
        return replace(job, state=UNSUPERVISED)
    code = read_exit(folder)
    if code is None and here:
        if proctree.alive(job.session, job.session_start) or proctree.find(JOB, job.task_id):
            return replace(job, state=UNSUPERVISED)
        code = read_exit(folder)
    stopped_by = job.stopped_by or _asked(folder)
    if code is None:
        why, state = UNKNOWN_END, LOST
    else:
        why = exit_words(code)
        state = FAILED if why else PASSED
    if stopped_by:
        why, state = f"stopped by {stopped_by}", FAILED
    ended, seconds = written_end(folder, job.began)
    ready = job.ready or state == PASSED
    return replace(
        job,
        state=state,
        reason=why,
        exit=code,
        ended=ended,
        seconds=seconds,
        stopped_by=stopped_by,
        ready=ready,
    )


# -- starting, and starting to look after


def start(spec: JobSpec, environ: Mapping[str, str]) -> Job:
    """Starts a job; returns when its supervisor has taken over.

    Args:
        environ: the job's whole environment. It is written nowhere.

    Raises:
        JobError: it cannot be started.
        BaseException: whatever interrupts it, once the job is told to stop.
    """
    folder = spec.job_folder
    try:
        folder.mkdir(mode=0o700, parents=True)
        write_spec(spec)
        supervisor = _start_supervisor(folder, spec.task_id, environ)
    except OSError as error:
        raise JobError(f"{error.filename or folder}: {error.strerror or error}") from None
    try:
        return _taken_over(folder, supervisor)
    except BaseException:
        _ask(folder, INTERRUPTED)
        until = time.monotonic() + _STOPS_WITHIN
        while proctree.alive(*supervisor) and time.monotonic() < until:
            time.sleep(_READY_PAUSE)
        raise


def adopt(state: Path, task_id: str, *, environ: Mapping[str, str]) -> Job:
    """Gives a job whose supervisor has died a new one; returns when that has taken over.

    It goes on with the log, the monitors and the deadlines. For a job that has ended meanwhile it ends what
    is left and writes its end down, which is waited for. Nothing is done for a job that has a supervisor, or
    whose end is written.

    Args:
        state: the ``.steps`` folder.
        environ: of the monitors; its secrets are hidden in the output.

    Raises:
        JobError: there is no such job, or the supervisor did not take over.
    """
    folder = folder_of(state, task_id)
    seen = _see(folder)
    if seen is None:
        raise JobError(f"there is no job {task_id}")
    if not seen[1]:
        return seen[0]
    try:
        supervisor = _start_supervisor(folder, task_id, environ)
    except OSError as error:
        raise JobError(f"{error.filename or folder}: {error.strerror or error}") from None
    return _taken_over(folder, supervisor, settled=not seen[0].live)


def adopt_all(state: Path, *, environ: Mapping[str, str]) -> list[Job]:
    """Gives every job of a list that needs one a supervisor, as `adopt` does; returns these jobs.

    One that cannot be adopted is left out: a look tells what it is.
    """
    adopted = []
    for job in jobs.read_all(state):
        seen = _see(folder_of(state, job.task_id))
        if seen is not None and seen[1]:
            with contextlib.suppress(JobError):
                adopted.append(adopt(state, job.task_id, environ=environ))
    return adopted


def _start_supervisor(folder: Path, task_id: str, environ: Mapping[str, str]) -> proctree.Identity:
    own = {name: value for name, value in environ.items() if name not in MARKERS}
    return start_detached(
        job_program.arguments(PROGRAM, folder, *([own["LC_CTYPE"]] if "LC_CTYPE" in own else ())),
        env={**own, SUPERVISOR: task_id},
        errors=folder / ERRORS,
    )


def _taken_over(folder: Path, supervisor: proctree.Identity, *, settled: bool = False) -> Job:
    """Waits until a new supervisor has the job or, when `settled`, until it has written the end down."""
    until = time.monotonic() + _TAKES_OVER_WITHIN
    while True:
        lives = proctree.alive(*supervisor)
        job = jobs.read(folder)
        if job is not None and (job.state in jobs.ENDED or (job.supervisor == supervisor[0] and not settled)):
            return job
        if not lives and job is not None and job_lock.held(folder, job):
            return job  # somebody else was faster
        if not lives or time.monotonic() > until:
            raise JobError(f"its supervisor {'did not start' if lives else 'died'}{_last_error(folder)}")
        time.sleep(_READY_PAUSE / 2)


def _last_error(folder: Path) -> str:
    try:
        lines = (folder / ERRORS).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1][:_ERROR_SHOWN]}" if said else ""


# -- waiting


def wait_ready(
    state: Path, task_id: str, on_poll: Callable[[Job], None], *, environ: Mapping[str, str] | None = None
) -> Job:
    """Waits until a job is ready or has ended.

    Args:
        on_poll: told the job as it is, many times a second.
        environ: for a new supervisor when the job's dies meanwhile; this process's if not given.

    Raises:
        JobError: there is no such job.
    """
    return _wait(state, task_id, on_poll, environ, lambda job: job.ready, _READY_PAUSE)


def wait_end(
    state: Path, task_id: str, on_poll: Callable[[Job], None], *, environ: Mapping[str, str] | None = None
) -> Job:
    """Waits until a job has ended; the arguments are those of `wait_ready`."""
    return _wait(state, task_id, on_poll, environ, lambda _: False, _END_PAUSE)


def _wait(
    state: Path,
    task_id: str,
    on_poll: Callable[[Job], None],
    environ: Mapping[str, str] | None,
    enough: Callable[[Job], bool],
    pause: float,
) -> Job:
    folder = folder_of(state, task_id)
    written: tuple[int, int] | None = (0, 0)
    next_look = next_adoption = 0.0
    while True:
        moment = time.monotonic()
        newest = _written(folder)
        if newest != written or moment >= next_look:
            written, next_look = newest, moment + _LOOKED_EVERY
            seen = _see(folder)
            if seen is None:
                raise JobError(f"the job {task_id} is gone: its folder was removed")
            job, orphan = seen
            if orphan and moment >= next_adoption:
                next_adoption = moment + _ADOPTED_EVERY
                try:
                    job = adopt(state, task_id, environ=os.environ if environ is None else environ)
                except JobError:
                    if not job.live:
                        return job
        on_poll(job)
        if not job.live or enough(job):
            return job
        time.sleep(pause)


def _written(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder / jobs.FILE)  # noqa: PTH116  called many times a second
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


# -- stopping


def stop(state: Path, task_id: str, by: str) -> Job:
    """Ends a job in order: SIGTERM, time to save what it has, SIGKILL. Returns it when it has ended.

    Args:
        by: who wants it; recorded with the job.

    Raises:
        JobError: there is no such job.
    """
    folder = folder_of(state, task_id)
    seen = _see(folder)
    if seen is None:
        raise JobError(f"there is no job {task_id}")
    job, orphan = seen
    if not job.live and not orphan:
        return job
    if job.live:
        _ask(folder, by)
    if orphan:
        with contextlib.suppress(JobError):
            adopt(state, task_id, environ=os.environ)
    else:
        _wake(job)
    until = time.monotonic() + _STOPS_WITHIN
    while time.monotonic() < until:
        seen = _see(folder)
        if seen is None or seen[1]:
            break
        if not seen[0].live:
            return seen[0]
        time.sleep(_READY_PAUSE)
    return _end_alone(folder, jobs.read(folder) or job)


def ask_to_stop(state: Path, task_id: str, by: str) -> None:
    """Asks for the end of a job, if there is such a job and it lives, and does not wait for it.

    Args:
        by: as for `stop`.
    """
    folder = folder_of(state, task_id)
    seen = _see(folder)
    if seen is not None and seen[0].live:
        _ask(folder, by)
        _wake(seen[0])


def _end_alone(folder: Path, job: Job) -> Job:
    """Ends a job that has no supervisor, and gets none, or one that hangs."""
    if job.boot == proctree.boot():
        proctree.send((job.supervisor, job.supervisor_start), signal.SIGKILL)
    process = JobProcess.adopted(folder, job)
    process.end(_ignored)
    _end_elsewhere(folder)
    process.sweep(_ignored)
    ended = _without_supervisor(folder, job)
    if ended.live:
        return ended
    ended = replace(ended, ended=ended.ended or now())
    lock = job_lock.take(folder)
    if lock is not None:
        with contextlib.suppress(OSError):
            jobs.write(folder, ended, sync=True)
        os.close(lock)
    return ended


def _end_elsewhere(folder: Path) -> None:
    with (
        contextlib.suppress(OSError, ValueError),
        Processes(redactor=Redactor(secret_values(os.environ)[0])) as processes,
    ):
        end_elsewhere(read_spec(folder), processes, os.environ, _ignored, "ended alone", None)


def _ignored(*_: str) -> None:
    """Nobody reads the output of a process that ends alone; what has become of a stop is in its log."""


def _wake(job: Job) -> None:
    """Has a supervisor of this machine look at once whether it is asked for the end of its job."""
    if job.boot == proctree.boot():
        proctree.send((job.supervisor, job.supervisor_start), signal.SIGUSR1)


def _ask(folder: Path, by: str) -> None:
    """Writes down who wants the end of a job; the first one stays."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(folder / STOP, flags, 0o600)
        try:
            os.write(descriptor, by.encode("utf-8", "replace") + b"\n")
        finally:
            os.close(descriptor)


def _asked(folder: Path) -> str:
    try:
        return " ".join((folder / STOP).read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return ""
