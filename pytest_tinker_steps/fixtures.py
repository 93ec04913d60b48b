"""The fixtures that make up a step, and its body.

Registered only in sessions that have steps, so that no ordinary test sees these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .active import ACTIVE, Active
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


@dataclass(slots=True)
class Running:
    """A step while it runs, for the fixtures below.

    Only the first of them asks pytest for ``request``: it is made anew for each fixture that does.
    """

    run: StepRun
    active: Active
    request: pytest.FixtureRequest


@pytest.fixture
def step_run(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The run of the step that is asked for; ends what it leaves behind."""
    active = request.config.stash[ACTIVE]
    step = request.node.step
    if request.node.skipped:
        pytest.skip(request.node.skipped)  # reached only where pytest's own skipping is switched off
    refusal = active.frozen.refusals.get(step.id)
    if refusal:
        pytest.fail(refusal, pytrace=False)
    run = active.step_run(step, request.node)
    yield Running(run, active, request)
    try:
        run.end()
    except JournalError as error:
        active.stop(str(error))


@pytest.fixture
def step(step_run: Running) -> StepHandle:
    """The step, as its own code sees it."""
    return StepHandle(step_run.run, step_run.active.frozen.folder)


@pytest.fixture
def pre_flight(step_run: Running) -> None:
    """Run the pre-flight checks; a failure is an error at setup, and the main never starts."""
    run, active = step_run.run, step_run.active
    if active.frozen.dry:
        return
    with reported(active):
        if active.frozen.mode == "verify":
            run.begin(event="verify_started")
            return
        if step_run.request.node.step.ends:
            return  # of an attempt that began long ago
        run.begin()
        while True:
            try:
                run.pre_flight()
                return
            except PhaseFailed as failure:
                if not run.again(failure.cause, failure.message):
                    raise


@pytest.fixture
def post_validation(step_run: Running) -> Callable[[], None]:
    """The post-validations, to be called after the main; it runs all of them and then fails once."""
    fresh = step_run.active.frozen.mode == "run"
    return lambda: step_run.run.post_validation(fresh=fresh)


def step_body(
    pre_flight: None,  # noqa: ARG001 - asked for so that it has run before
    step_run: Running,
    post_validation: Callable[[], None],
) -> None:
    """The body of every step: the run on minimal data, the main, then the post-validations.

    A background main ends it when its job is ready. The rest, from the end of the job, is the body of a
    second item, the job's end.
    """
    __tracebackhide__ = True
    run, active, request = step_run.run, step_run.active, step_run.request
    with reported(active):
        if active.frozen.mode == "verify":
            post_validation()
            return

        def call(environ: Mapping[str, str]) -> None:
            function = run.function()
            arguments = {name: request.getfixturevalue(name) for name in parameters(function)}
            run.call(function, arguments, environ)

        is_end = bool(request.node.step.ends)
        to_be_run = not is_end
        while True:
            try:
                if to_be_run:
                    run.test_first(call)
                    run.main(call)
                    active.cancel_timeout(request.node)
                    if run.started is not None:
                        active.tell_job(request.node, run.started)
                        if not is_end:
                            return
                if is_end:
                    _wait_for_job(step_run)
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


def _wait_for_job(running: Running) -> None:
    """Wait for the end of a step's job.

    Raises:
        PhaseFailed: it did not end well.
    """
    run, active, node = running.run, running.active, running.request.node
    job = run.started or active.job_of(run.step.id)
    if job is None:
        raise PhaseFailed(None, f"the job of step_{run.step.id} is gone: its folder was removed")
    if run.started is None:
        run.resume(job)
        run.emit("job_resumed", status=job.state, shown=True, pid=job.pid)
    run.started = None
    ended = run.wait_for_end(job)
    active.tell_job(node, ended)
    active.cancel_timeout(node)
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
