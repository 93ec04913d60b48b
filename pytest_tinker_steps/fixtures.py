"""The fixtures that make up a step, and its body.

Registered only in sessions that have steps, so that no ordinary test sees these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from .active import ACTIVE, Active, Running
from .record.journal import JournalError
from .run.attempt import StepRun
from .run.failure import PhaseFailed
from .run.mains.python import parameters

if TYPE_CHECKING:
    from pathlib import Path


class StepHandle:
    """What a Python main, or a fixture of the user's, sees of its step.

    Attributes:
        id, title, brief: as in the task list.
        folder: of the task list.
        logs: folder of this attempt's logs.
        task_id: of this attempt.
    """

    def __init__(self, run: StepRun, folder: Path) -> None:
        self._run = run
        self.id = run.step.id
        self.title = run.step.title
        self.brief = run.step.box.brief
        self.folder = folder

    @property
    def task_id(self) -> str:
        return self._run.task_id

    @property
    def logs(self) -> Path:
        self._run.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._run.logs

    def progress(self, done: float, total: float) -> None:
        """Report how far the work is, in any unit."""
        self._run.telling.progress(done, total)

    def metric(self, name: str, value: float) -> None:
        """Report a number; ``cost_usd`` adds up, others replace the value before."""
        self._run.telling.metric(name, value)

    def note(self, text: str) -> None:
        """Say what was established; stands in the tick."""
        self._run.telling.note(text)

    def criterion(self, text: str) -> None:
        """Report a plain-text success criterion as met."""
        self._run.telling.criterion(text)


class StepFixtures:
    """The fixtures; an object, so that none of them asks pytest for ``request``, which takes its time."""

    def __init__(self, active: Active) -> None:
        self._active = active

    @property
    def _running(self) -> Running:
        running = self._active.running
        if running is None:
            pytest.fail("this fixture is for steps, and no step runs", pytrace=False)
        return running

    @pytest.fixture
    def step(self) -> StepHandle:
        """The step, as its own code sees it."""
        return StepHandle(self._running.run, self._active.frozen.folder)

    @pytest.fixture
    def pre_flight(self) -> Running:
        """Run the pre-flight checks; a failure is an error at setup, and the main never starts."""
        running, active = self._running, self._active
        run = running.run
        if active.frozen.dry:
            return running
        with reported(active):
            if active.frozen.mode == "verify":
                run.begin(event="verify_started")
                return running
            if running.step.ends:
                return running  # of an attempt that began long ago
            run.begin_first()
            while True:
                try:
                    run.pre_flight()
                    return running
                except PhaseFailed as failure:
                    if not run.again(failure.cause, failure.message):
                        raise

    @pytest.fixture
    def post_validation(self) -> Callable[[], None]:
        """The post-validations, to be called after the main; it runs all of them and then fails once."""
        run, fresh = self._running.run, self._active.frozen.mode == "run"
        return lambda: run.post_validation(fresh=fresh)


def step_body(pre_flight: Running, post_validation: Callable[[], None]) -> None:
    """The body of every step: the run on minimal data, the main, then the post-validations.

    A background main ends it when its job is ready. The rest, from the end of the job, is the body of a
    second item, the job's end.
    """
    __tracebackhide__ = True
    active = pre_flight.item.config.stash[ACTIVE]
    with reported(active):
        if active.frozen.mode == "verify":
            post_validation()
        else:
            _do(pre_flight, active, post_validation)
    pre_flight.done = True


def _do(running: Running, active: Active, post_validation: Callable[[], None]) -> None:
    __tracebackhide__ = True
    run, item = running.run, running.item

    def call(environ: Mapping[str, str]) -> None:
        function = run.function()
        arguments = {name: item._request.getfixturevalue(name) for name in parameters(function)}
        run.call(function, arguments, environ)

    is_end = bool(running.step.ends)
    to_be_run = not is_end
    while True:
        try:
            if to_be_run:
                run.test_first(call)
                run.main(call)
                active.cancel_timeout(item, run.step)
                if run.started is not None:
                    active.tell_job(item, run.started)
                    if not is_end:
                        return
            if is_end:
                _wait_for_job(running, active)
            post_validation()
            return
        except PhaseFailed as failure:
            if not run.again(failure.cause, failure.message):
                raise
        except (Exception, pytest.fail.Exception) as error:
            timed_out = isinstance(error, pytest.fail.Exception) and "Timeout" in str(error)
            if isinstance(error, JournalError) or not run.again(
                "timeout" if timed_out else "exit", f"main failed: {error}"
            ):
                raise
        to_be_run = True


def _wait_for_job(running: Running, active: Active) -> None:
    """Wait for the end of a step's job.

    Raises:
        PhaseFailed: it did not end well.
    """
    run = running.run
    job = run.started or active.job_of(run.step.id)
    if job is None:
        raise PhaseFailed(None, f"the job of step_{run.step.id} is gone: its folder was removed")
    if run.started is None:
        run.resume(job)
        run.emit("job_resumed", status=job.state, shown=True, pid=job.pid)
    run.started = None
    ended = run.wait_for_end(job)
    active.tell_job(running.item, ended)
    active.cancel_timeout(running.item, run.step)
    run.judge(ended)


class reported:  # noqa: N801 - reads as a sentence where it is used
    """Turn what the lower floors raise into pytest's own failures, without a traceback of ours."""

    def __init__(self, active: Active) -> None:
        self._active = active

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        __tracebackhide__ = True
        if isinstance(error, PhaseFailed):
            raise pytest.fail.Exception(error.message, pytrace=False) from None
        if isinstance(error, JournalError):
            self._active.stop(str(error))
            message = f"{error}; nothing is ticked that is not recorded"
            raise pytest.fail.Exception(message, pytrace=False) from None
