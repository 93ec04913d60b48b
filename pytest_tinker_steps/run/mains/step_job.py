"""Background mains of a step: from its definition to a job, and to the job's end."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from ...plan.model import Command
from ...record.jobs import PASSED, Job
from ..background import jobs
from ..background.job_spec import JobSpec
from ..failure import PhaseFailed
from ..phases import Emit, Setting, handover_of
from ..process import EVENTS
from .background import failure_of, start_and_wait_ready
from .command import shown

SHOWN_EVERY = 1.0
"""Seconds between two lines of a wait."""


def start(at: Setting, what: Command) -> Job:
    """Start the job of a background main; returns when it is ready, or has ended well.

    Raises:
        PhaseFailed: neither.
    """
    at.emit("phase_started", phase="main", what=shown(what, at.definition.main.runner))
    began = time.monotonic()
    try:
        job = start_and_wait_ready(spec_of(at, what), at.env, on_poll=Waiting(at.emit))
    except PhaseFailed as failure:
        why = failure.message.partition("\n")[0].removeprefix("main failed: ")
        _tell_phase(at, "failed", time.monotonic() - began, why)
        raise
    if job.live:
        # Its supervisor has recorded it; here it is for those who watch.
        seconds = time.monotonic() - began
        at.emit("job_ready", status="running", shown=True, pid=job.pid, seconds=seconds, log=job.log)
    else:
        _tell_phase(at, "passed", job.seconds, "")
    return job


def wait_for_end(at: Setting, job: Job) -> Job:
    """Wait until a job has ended, well or not.

    Raises:
        PhaseFailed: nobody can say any more what becomes of it.
    """
    try:
        ended = jobs.wait_end(at.around.state, job.task_id, Waiting(at.emit), environ=at.env)
    except jobs.JobError as error:
        raise PhaseFailed(None, f"main failed: {error}") from None
    status = "passed" if ended.state == PASSED else "failed"
    at.emit(
        "job_ended", status=status, shown=True, exit=ended.exit, reason=ended.reason, seconds=ended.seconds
    )
    return ended


def end(state: Path, task_id: str, why: str) -> None:
    """End the job that an attempt may have left which died before its job was ready."""
    with contextlib.suppress(jobs.JobError):  # it has none
        jobs.stop(state, task_id, why)


def judge(at: Setting, ended: Job) -> None:
    """What the end of a job means for its main.

    Raises:
        PhaseFailed: it has not ended well.
    """
    if ended.state != PASSED:
        raise failure_of(ended, at.around.folder)


def spec_of(at: Setting, what: Command) -> JobSpec:
    """What the supervisor of the job has to do."""
    main, around = at.definition.main, at.around
    assert around.journal is not None, "a job without a journal would end untold"
    return JobSpec(
        step=at.env["STEP_ID"],
        task_id=at.env["TASK_ID"],
        run_id=around.run_id,
        attempt=int(at.env["ATTEMPT"]),
        command=what,
        shown=around.redactor.text(shown(what, main.runner)),
        folder=around.folder,
        state=around.state,
        cwd=at.cwd,
        journal=around.journal,
        events=Path(at.env[EVENTS]),
        ledger=None if around.budget is None else around.budget.path,
        log_size=main.log_size,
        startup=main.timeout,
        max_runtime=main.max_runtime,
        ready_when=main.ready_when,
        monitors=at.definition.background,
        progress=main.progress,
        criteria=tuple(item.text for item in main.criteria if item.check is None),
        secrets=around.secrets,
        interpreter=around.interpreter,
        handover=None if main.runner is None else handover_of(at, main.runner),
    )


class Waiting:
    """Tells, while something waits for a job, how long it has been running and how far it is."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._next = time.monotonic() + SHOWN_EVERY

    def __call__(self, job: Job) -> None:
        moment = time.monotonic()
        if moment < self._next or not job.live:
            return
        self._next = moment + SHOWN_EVERY
        seconds = max(0.0, moment - job.began_clock) if job.began_clock else 0.0
        progress = None if job.progress is None else list(job.progress)
        self._emit("waiting", shown=True, job=job.step, seconds=seconds, progress=progress)


def _tell_phase(at: Setting, status: str, seconds: float, message: str) -> None:
    at.emit("phase", phase="main", status=status, seconds=seconds, message=message)
