"""Looks after one background job from its start to its end, whatever becomes of pytest.

A program of its own, started by `jobs.start` and, for a job whose supervisor has died, by `jobs.adopt`. One
thread sleeps until the job prints something, ends, somebody wakes it, or something is due.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from ...record import jobs
from ...record.jobs import FAILED, PASSED, RUNNING, Job
from ...record.journal import now
from .. import proctree
from ..ended import NO_END, NOT_READY, UNKNOWN_END, duration, ended_words, exit_words, why_not_started
from ..monitoring.monitors import Monitors
from ..process import EVENTS, SUPERVISOR, Processes
from ..redaction import Redactor, secret_values
from ..telling import Telling
from . import job_lock
from .job_handover import end_elsewhere
from .job_output import JobOutput
from .job_process import JobProcess, start_job, written_end
from .job_record import JobRecord
from .job_spec import CLOCK, SERIES, STOP, JobSpec, read_spec, write_spec
from .readiness import Readiness, stamp

_TICK = 1.0
"""Seconds between two looks at what wakes nobody: the events file, a request to stop."""
_LOOK_EVERY = 60.0
"""Seconds between two looks for sessions that the job has opened; each reads the whole process table."""
_WITHOUT_DESCRIPTORS = 0.25
"""Seconds between two looks at the job where the system tells nobody of its end."""
_LAST_OUTPUT = 0.1
"""Seconds to wait for output of others when the job itself has ended."""
_PAUSE = 0.01


class Supervisor:
    """One job, from its start, or its adoption, to its end.

    Args:
        folder: of the job; its lock is held by this process.
        spec: what to do.
        environ: of this process, which is that of the job but for the markers.
    """

    def __init__(self, folder: Path, spec: JobSpec, environ: dict[str, str]) -> None:
        self._folder = folder
        self._spec = spec
        self._env = {**environ, EVENTS: str(spec.events)}
        self._env.pop(SUPERVISOR, None)
        redactor = Redactor(secret_values(environ, spec.secrets)[0])
        self._redactor = redactor
        known = jobs.read(folder)
        self._adopts = known is not None
        job = known or Job(spec.step, spec.task_id, spec.run_id, redactor.text(spec.shown), log=spec.log)
        me = os.getpid()
        self._record = JobRecord(
            folder,
            replace(
                job,
                attempt=spec.attempt,
                boot=job.boot or proctree.boot(),
                supervisor=me,
                supervisor_start=proctree.started(me) or 0.0,
            ),
            journal=spec.journal,
            redact=redactor.text,
            on_cost=self._cost if spec.ledger is not None else None,
        )
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._processes = Processes(redactor=redactor)
        self._monitors = Monitors(
            spec.monitors,
            runs=self._processes,
            cwd=Path(spec.cwd),
            env=self._env,
            redact=redactor.text,
            series=folder / SERIES,
            notify=self._wake,
        )
        self._telling = Telling(
            spec.events, self._record.told, heard=self._monitors.metric, offset=job.events_read
        )
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._asked_by = ""
        self._late = False
        self._next_tick = self._next_look = 0.0
        # Of a job that has started.
        self._process: JobProcess
        self._output: JobOutput
        self._readiness: Readiness

    def run(self) -> None:
        """Starts the job, or goes on with it; returns when it has ended and that is written down."""
        self._listen()
        if not self._adopts:
            # Before anything is written: whoever adopts the job then has to keep its deadlines.
            self._record.change(began=now(), began_clock=time.monotonic())
        self._record.save(sync=True)
        try:
            why = self._take_over() if self._adopts else self._begin()
            code = None
            if not why:
                why, code = self._clear_up(self._until_end())
            self._write_end(why, code)
        finally:
            self._processes.close()
            self._record.close()

    # -- beginning

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # With handlers, not ignored: what is ignored here would be ignored in the job as well.
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _woken)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_end)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def _begin(self) -> str:
        """Starts the job; why not, if it does not start."""
        spec, record = self._spec, self._record
        if self._stop_asked():
            return self._stopped()
        try:
            since_ns = stamp(self._folder / CLOCK)
            self._open_output()
            self._process = start_job(spec, self._folder, self._env)
        except (OSError, ValueError) as error:
            return f"not started: {self._redactor.text(why_not_started(error))}"
        self._write_down_processes()
        job = record.job
        record.event("job_started", status="running", command=job.command, pid=job.pid, log=job.log)
        self._watch(since_ns)
        return ""

    def _write_down_processes(self) -> None:
        process = self._process
        self._record.change(
            state=RUNNING,
            pid=process.pid,
            start=process.start,
            session=process.session,
            session_start=process.session_start,
        )
        self._record.save(sync=True)

    def _take_over(self) -> str:
        """Goes on with a job that another supervisor has started."""
        job = self._record.job
        self._process = JobProcess.adopted(self._folder, job)
        if not job.pid and (self._process.pid or self._process.session):
            self._write_down_processes()
        self._late = self._process.ended()
        self._open_output()
        since_ns = 0
        with contextlib.suppress(OSError):
            since_ns = (self._folder / CLOCK).stat().st_mtime_ns
        self._telling.met.update(job.met)
        self._record.event("job_adopted", status="running", pid=self._process.pid)
        self._watch(since_ns)
        if self._late or not job.ready:
            # What stands there may have been heard by nobody.
            self._output.read_again(self._readiness.output)
        return ""

    def _open_output(self) -> None:
        spec = self._spec
        self._output = JobOutput(self._folder, spec, self._redactor, self._heard, self._telling)
        self._poll.register(self._output.descriptor, select.POLLIN)

    def _watch(self, since_ns: int) -> None:
        spec = self._spec
        self._pidfds = self._process.descriptors()
        for descriptor in self._pidfds:
            self._poll.register(descriptor, select.POLLIN)
        when = spec.ready_when
        check = None
        if when is not None and when.check is not None and not self._record.job.ready:
            from .readiness_check import trier

            check = trier(when.check, spec, self._env, self._processes, self._redactor)
        self._readiness = Readiness(
            when,
            cwd=Path(spec.cwd),
            began=self._record.job.began_clock,
            since_ns=since_ns,
            check=check,
            notify=self._wake,
        )
        if not self._process.ended():
            self._readiness.start()
            self._monitors.start()

    # -- while it runs

    def _until_end(self) -> str:
        """Looks after the job; why it was ended, or an empty string when it ended by itself."""
        while not self._process.ended():
            moment = time.monotonic()
            if moment >= self._next_tick:
                self._next_tick = moment + _TICK
                if not self._record.there():
                    self._restore()
                self._listen_to_events()
                if self._stop_asked() and not self._process.ended():
                    return self._stop(self._stopped())
            self._take_news(moment)
            if self._monitors.stop_requested.is_set():
                return self._stop(self._monitors.stop_reason)
            if why := self._overdue(moment):
                return why
            if moment >= self._next_look:
                # Early once, since a daemon leaves at the beginning.
                self._next_look = moment + (_LOOK_EVERY if self._next_look else _TICK)
                self._process.note_sessions()
            for descriptor, _ in self._poll.poll(max(0, math.ceil((self._due(moment) - moment) * 1000))):
                self._ready_to_read(descriptor)
        return ""

    def _restore(self) -> None:
        """Makes the job known again when somebody has removed its folder."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            job_lock.take(self._folder)
            write_spec(self._spec)
            self._output.reopen()
            self._record.save(sync=True)

    def _listen_to_events(self) -> None:
        self._telling.poll()
        if self._telling.offset != self._record.job.events_read:
            # At once: what was counted and is not known as read would be counted again by another supervisor.
            self._record.change(events_read=self._telling.offset)
            self._record.save()

    def _ready_to_read(self, descriptor: int) -> None:
        if descriptor == self._wake_read:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            # Whoever woke us may have written a request first.
            self._next_tick = 0.0
        elif descriptor == self._output.descriptor:
            self._output.pump()
        else:
            # It stays readable; polled on, it would keep us spinning until the other one ends as well.
            self._poll.unregister(descriptor)

    def _take_news(self, moment: float) -> None:
        self._record.watched(self._monitors.take())
        if not self._record.job.ready and self._readiness.look(moment):
            self._ready()
        self._record.save_if_due(moment)

    def _ready(self) -> None:
        job = self._record.job
        self._record.change(ready=True)
        seconds = round(time.monotonic() - job.began_clock, 3)
        self._record.event("job_ready", pid=job.pid, seconds=seconds, log=job.log)
        self._record.save()

    def _overdue(self, moment: float) -> str:
        spec, job = self._spec, self._record.job
        if not job.ready and moment >= job.began_clock + spec.startup:
            return self._stop(f"{NOT_READY} {duration(spec.startup)}")
        if moment >= job.began_clock + spec.max_runtime:
            why = self._stop(f"{NO_END} {duration(spec.max_runtime)}")
            return ended_words(why, gone=self._process.ended(), last_signal=self._process.last_signal)
        return ""

    def _due(self, moment: float) -> float:
        spec, job = self._spec, self._record.job
        due = [self._next_tick, self._next_look, job.began_clock + spec.max_runtime, self._record.due()]
        if not job.ready:
            due += [job.began_clock + spec.startup, self._readiness.due(moment)]
        if not self._pidfds:
            due.append(moment + _WITHOUT_DESCRIPTORS)
        return min(moment for moment in due if moment is not None)

    # -- ending

    def _stop_asked(self) -> bool:
        if not self._asked_by:
            with contextlib.suppress(OSError):
                said = (self._folder / STOP).read_text(encoding="utf-8", errors="replace")
                self._asked_by = self._redactor.text(" ".join(said.split())) or "somebody"
        return bool(self._asked_by)

    def _stopped(self) -> str:
        self._record.change(stopped_by=self._asked_by)
        self._record.event("job_stopped", by=self._asked_by)
        self._record.save()
        return f"stopped by {self._asked_by}"

    def _stop(self, why: str) -> str:
        """Ends the job; gives back why."""
        self._process.end(self._output.pump)
        return why

    def _clear_up(self, why: str) -> tuple[str, int | None]:
        """Ends what the job has left; why it failed, if it did, and its exit code."""
        self._readiness.stop()
        end_elsewhere(self._spec, self._processes, self._env, self._note, why, self._process.exit())
        self._last_output()
        left = self._process.sweep(self._output.pump)
        self._output.close()
        self._monitors.stop()
        self._record.watched(self._monitors.take())
        self._telling.finish()
        if left:
            self._record.event("left_behind", status="warned", count=left)
        code = self._process.exit()
        if not why and self._adopts and self._stop_asked():
            why = self._stopped()
        if not why:
            why = exit_words(code) if code is not None else UNKNOWN_END
        return why, code

    def _last_output(self) -> None:
        until = time.monotonic() + _LAST_OUTPUT
        while self._process.left() and time.monotonic() < until:
            self._output.pump()
            time.sleep(_PAUSE)
        self._output.pump()

    def _write_end(self, why: str, code: int | None) -> None:
        job = self._record.job
        state = FAILED if why else PASSED
        ended, seconds = now(), round(time.monotonic() - job.began_clock, 3)
        if self._late:
            ended, seconds = written_end(self._folder, job.began)
        ready, read = job.ready or state == PASSED, self._telling.offset
        self._record.change(ready=ready, events_read=read, ended=ended, seconds=seconds)
        self._record.end(state, code, why)

    # -- from other threads, and from signals

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _told_to_end(self, number: int, _: FrameType | None) -> None:
        self._asked_by = self._asked_by or f"{signal.Signals(number).name} to its supervisor"

    def _heard(self, text: str) -> None:
        self._monitors.output(text)
        if not self._record.job.ready:
            self._readiness.output(text)

    def _note(self, text: str) -> None:
        self._record.told("note", text=text)

    def _cost(self, usd: float) -> None:
        from ..budget import Budget

        assert self._spec.ledger is not None
        Budget(self._spec.ledger, None).add(self._spec.step, usd)


def _woken(number: int, frame: FrameType | None) -> None:
    """The signal has done its work when it interrupts a wait."""


def main(folder: Path, locale: str | None = None) -> None:
    """Supervises the job in this folder, in a session of its own.

    Args:
        locale: ``LC_CTYPE`` as it was given; in the environment Python may have put another one (PEP 538).
    """
    with contextlib.suppress(PermissionError):
        os.setsid()
    if job_lock.take(folder) is None:
        return
    known = jobs.read(folder)
    if known is not None and known.state in jobs.ENDED:
        return
    spec = read_spec(folder)
    sys.path += [path for path in spec.paths if path not in sys.path]
    environ = {name: value for name, value in os.environ.items() if name != "LC_CTYPE"}
    if locale is not None:
        environ["LC_CTYPE"] = locale
    Supervisor(folder, spec, environ).run()
