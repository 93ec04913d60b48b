"""One step, run: its attempts and, in each, its phases.

Nothing here decides a verdict or writes the journal: every fact is emitted as an event, in the order
in which it became known, and a phase that does not hold raises ``PhaseFailed``.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..plan.model import Command, Definition, RetryCause, Step
from ..record.journal import now, redacted
from . import artefacts, recovery
from .failure import PhaseFailed
from .mains import command
from .mains.python import call
from .phases import TEST_LOG, Setting, check_phase, own_phase, process_phase
from .process import ATTEMPT, EVENTS
from .surroundings import Exchange, Surroundings, layered
from .telling import COST, Telling
from .working import Work, function_of

if TYPE_CHECKING:
    from ..record.deaths import Death
    from ..record.jobs import Job

Emit = Callable[[dict[str, Any]], None]


def new_task_id(step: str) -> str:
    return f"task_{step}_{uuid.uuid4().hex[:8]}"


class StepRun:
    """The run of one step in one session: state of its current attempt.

    Args:
        step: with a definition.
        task_id: of the first attempt.
        around: what all steps share.
        emit: takes events; ``step``, ``task_id`` and ``timestamp`` are filled in here.
        upstream: steps whose outputs must exist before this one starts.
        open_since_ns: start of the first attempt since the last pass, in an earlier session; 0 for none.
        identity: recorded with every attempt.
        live: whether somebody watches the main's output as it comes.
        anew: whether pieces that earlier sessions have recorded do not count.
        spent_before: US dollars that attempts since the last pass have cost in earlier runs.
        death: of the worker that was at the last attempt, if it died in it.

    Attributes:
        telling: what the current attempt has said of itself.
        started: the job that the main has become, once it is ready and while it lives.
    """

    telling: Telling
    _exchange: Exchange
    _at: Setting

    def __init__(
        self,
        step: Step,
        task_id: str,
        around: Surroundings,
        emit: Emit,
        *,
        upstream: Iterable[artefacts.Upstream] = (),
        open_since_ns: int = 0,
        identity: tuple[str, ...] = (),
        live: bool = False,
        anew: bool = False,
        spent_before: float = 0.0,
        death: Death | None = None,
    ) -> None:
        assert step.definition is not None
        self.step = step
        self.definition: Definition = step.definition
        self.main_definition = step.definition.main
        self.task_id = task_id
        self.attempt = death.attempts if death else 0
        self.started: Job | None = None
        self._around = around
        self._emit = emit
        self._upstream = tuple(upstream)
        self._open_since_ns = open_since_ns or (death.open_since_ns if death else 0)
        self._anew = anew or not open_since_ns
        self._identity = identity
        self._live = live
        self._spent_before = spent_before
        self._death = death
        self._began = 0.0
        self._swept = True
        self._work: Work | None = None

    @property
    def logs(self) -> Path:
        """Where the output of this attempt is kept; there when something was printed."""
        return self._around.logs(self.task_id)

    @property
    def cwd(self) -> Path:
        return self._around.cwd(self.definition.cwd, self.main_definition.cwd)

    def emit(self, event: str, **more: Any) -> None:
        # Redacted here, since events are shown as well as recorded.
        redactor = self._around.redactor
        safe = redacted(more, redactor.text) if redactor.hides else more
        who = {"step": self.step.id, "task_id": self.task_id}
        self._emit({"event": event, "status": "", "timestamp": now(), **who, **safe})

    # -- attempts

    def begin(self, previous: str = "", event: str = "attempt_started") -> None:
        """Start an attempt: what it exchanges with its processes, its first record.

        Args:
            previous: task id of the attempt before, when this is another try.
            event: of the record; a verification is not an attempt.
        """
        self.attempt += 1
        self._began = time.monotonic()
        self._swept = False
        self._set_up()
        # Outputs are compared with it, and long work asks whether it was begun before.
        dated = self.definition.outputs or self.main_definition.mode != "foreground"
        started_ns = self._around.clock_ns() if dated else 0
        self._open_since_ns = self._open_since_ns or started_ns
        more: dict[str, Any] = {"previous": previous} if previous else {}
        self.emit(
            event,
            status="running",
            attempt=self.attempt,
            started_ns=started_ns,
            identity=list(self._identity),
            **more,
        )

    def resume(self, job: Job) -> None:
        """Go on with the attempt that started a job, in this session or an earlier one.

        Its record stands in the journal already, and so does what the job has said.
        """
        self._began = self._began or time.monotonic()
        self.task_id = job.task_id
        self.attempt = job.attempt
        self._set_up(job.events_read)
        self.telling.resume(job)

    def begin_first(self) -> None:
        """Start the first attempt of this run, which may follow one whose worker died: mend, and wait."""
        death = self._death
        if death is None:
            self.begin()
            return
        recovery.end_dead(self._around, death.task_id, self.main_definition.runner, self.emit)
        if self.main_definition.mode == "background":
            from .mains import step_job

            step_job.end(self._around.state, death.task_id, death.message)
        if self.main_definition.recover is not None and not death.mended:
            following, self.task_id = self.task_id, death.task_id
            self._set_up()
            self.telling.skip()  # what the attempt has said was taken when it was said
            message = recovery.failure_before(self._around, death)
            self._recover(self.main_definition.recover, death.cause or "exit", message)
            self.task_id = following
        time.sleep(death.delay)
        self.begin(death.task_id)

    def _recover(self, what: Command, cause: RetryCause, message: str) -> None:
        self._swept = False
        recovery.recover(self._at, what, cause, message)
        self.end()

    def again(self, cause: RetryCause | None, message: str) -> bool:
        """Begin another attempt if the step's retries and budgets allow it, after the delay.

        Args:
            message: the whole failure, for people.

        Returns:
            False if they do not; the failure stands then.
        """
        retry = self.main_definition.retry
        if cause is None or cause not in retry.when or self.attempt >= retry.attempts:
            return False
        try:
            self._may_begin(f"attempt {self.attempt + 1}")
        except PhaseFailed:
            return False
        self.end()
        delay = recovery.pause(retry, self.attempt)
        following = new_task_id(self.step.id)
        first, _, _ = message.partition("\n")
        self.emit(
            "retry",
            cause=cause,
            attempt=self.attempt + 1,
            attempts=retry.attempts,
            delay=delay,
            next_task_id=following,
        )
        seconds = time.monotonic() - self._began
        self.emit("attempt_finished", status="failed", seconds=seconds, message=first, final=False)
        # The attempt has ended by then, whatever becomes of this process.
        if self.main_definition.recover is not None:
            self._recover(self.main_definition.recover, cause, message)
        time.sleep(delay)
        previous, self.task_id = self.task_id, following
        self.begin(previous)
        return True

    def end(self) -> None:
        """End what the current attempt left running, but not its job.

        Safe to call at any time, more than once.
        """
        if self._swept:
            return
        self._swept = True
        left = self._around.processes.sweep(self.task_id)
        if left:
            self.emit("left_behind", status="warned", count=left)

    # -- budgets

    def over_budget(self) -> str:
        """Why nothing more of the step may begin, or an empty string."""
        budget = self._around.budget
        if budget is None:
            return ""
        return budget.reached(self.step.id, self.definition.budget_usd, self._spent_before)

    def _may_begin(self, what: str) -> None:
        why = self.over_budget()
        if why:
            message = f"{why}; {what} was not begun"
            self.emit("budget", status="failed", message=message)
            raise PhaseFailed(None, f"budget: {message}")

    def _heard(self, name: str, value: float) -> None:
        """A number that the work has reported."""
        if name == COST and self._around.budget is not None:
            self._around.budget.add(self.step.id, value)
        if self._work is not None:
            self._work.heard(name, value)

    # -- phases

    def pre_flight(self) -> None:
        """Declared inputs, outputs of the steps before, and the pre-flight checks; fail-fast."""
        direct = artefacts.wanted(self.definition.inputs, self._upstream, self._around.folder)
        script = self.main_definition.script
        if script:
            direct.append((f"script {script}", artefacts.missing(script, self.cwd)))
        check_phase(self._at, "pre_flight", self.definition.pre_flight, direct, "pre")

    def test_first(self, call_python: Callable[[Mapping[str, str]], None] | None = None) -> None:
        """The run on minimal data, when the definitions declare one."""
        test = self.main_definition.test_first
        if not test:
            return
        env = layered(self._at.env, test.env)
        if test.command is not None:
            what = test.command
        elif self.main_definition.kind == "python":
            assert call_python is not None
            with own_phase(self._at, "test_first", self.main_definition.python):
                call_python(env)
            return
        else:
            what = command.command_of(self.main_definition, self._around.interpreter, test.args)
        process_phase(
            self._at,
            "test_first",
            what,
            env=env,
            timeout=test.timeout,
            log=TEST_LOG,
            cause="test",
            runner=self.main_definition.runner,
            live=self._live,
        )

    def main(self, call_python: Callable[[Mapping[str, str]], None]) -> None:
        """The work itself; of a background main only its start, until its job is ready.

        Args:
            call_python: calls the main's function with this environment; used for that kind only.
        """
        self.started = None
        self._work = Work(
            self._at,
            step_id=self.step.id,
            identity=self._identity,
            live=self._live,
            anew=self._anew,
            may_begin=self._may_begin,
        )
        try:
            job = self._work.carry_out(call_python)
        finally:
            self._work = None
        if job is not None:
            self.resume(job)
            self.started = job if job.live else None
            if not job.live:
                from ..record.plain import to_plain

                self.emit("job", status=job.state, job=to_plain(job))

    def wait_for_end(self, job: Job) -> Job:
        """Wait for the end of the main's job, after `resume` or a `main` that has started it.

        Raises:
            PhaseFailed: nobody can say any more what becomes of it.
        """
        from .mains import step_job

        self.started = None
        ended = step_job.wait_for_end(self._at, job)
        self.resume(ended)
        return ended

    def judge(self, ended: Job) -> None:
        """What the end of the main's job means.

        Raises:
            PhaseFailed: it has not ended well.
        """
        from .mains import step_job

        step_job.judge(self._at, ended)

    def function(self) -> Callable[..., Any]:
        """The function of a Python main.

        Raises:
            PhaseFailed: it cannot be imported.
        """
        return function_of(self._at)

    def call(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], env: Mapping[str, str]
    ) -> None:
        """Call the function of a Python main; while it is the main that runs, a monitor may end it."""
        with self._work.interruptible() if self._work else contextlib.nullcontext():
            call(function, arguments, env, self.cwd)

    def post_validation(self, *, fresh: bool = True) -> None:
        """Declared outputs, success criteria with checks, and the post-validations; all of them always run.

        Args:
            fresh: whether outputs must have been written by this step's unfinished attempts.
        """
        since = self._open_since_ns if fresh else 0
        direct = [
            (f"output {path}", artefacts.not_written(path, self._around.folder, since))
            for path in self.definition.outputs
        ]
        criteria = tuple(item.check for item in self.main_definition.criteria if item.check)
        todo = criteria + self.definition.post_validation
        check_phase(self._at, "post_validation", todo, direct, "post")
        unverified = self.unverified() if fresh else ()
        if unverified:
            self.emit("unverified", status="unverified", criteria=list(unverified))

    def unverified(self) -> tuple[str, ...]:
        """Plain-text success criteria that nothing has reported."""
        return tuple(
            item.text
            for item in self.main_definition.criteria
            if item.check is None and item.text not in self.telling.met
        )

    def environ(self) -> dict[str, str]:
        """The environment of this step's processes."""
        own = (
            ("STEP_ID", self.step.id),
            ("TASK_ID", self.task_id),
            ("ATTEMPT", str(self.attempt)),
            ("BRIEF_FILE", str(self._exchange.brief)),
            (EVENTS, str(self._exchange.events)),
            (ATTEMPT, self.task_id),
        )
        return layered(self._around.environ, self.definition.env, self.main_definition.env, own)

    # -- inside

    def _set_up(self, events_read: int = 0) -> None:
        self._exchange = self._around.exchange(self.task_id, self.step.box.brief)
        self.telling = Telling(self._exchange.events, self.emit, self._heard, events_read)
        self._at = Setting(
            self.definition, self._around, self.emit, self.telling, self.logs, self.environ(), self.cwd
        )
