"""One step, run: its attempts and, in each, its phases.

Nothing here decides a verdict or writes the journal: every fact is emitted as an event, in the order
in which it became known, and a phase that does not hold raises ``PhaseFailed``.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..plan.model import Check, Definition, RetryCause, Step
from ..record.journal import now, redacted
from . import artefacts, checks
from .failure import PhaseFailed, checks_failed, process_failed
from .mains import command
from .mains.python import call, load
from .process import ATTEMPT, EVENTS
from .runner import CheckRunner
from .surroundings import Exchange, Surroundings, layered
from .telling import Telling

if TYPE_CHECKING:
    from .checks import CheckResult

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A step that this one needs, and the outputs that it declares."""

    step: str
    outputs: tuple[str, ...]


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
        open_since_ns: start of the first attempt since the last pass, 0 if this is the first.
        identity: recorded with every attempt.
        live: whether somebody watches the main's output as it comes.

    Attributes:
        telling: what the current attempt has said of itself.
    """

    telling: Telling
    _exchange: Exchange

    def __init__(
        self,
        step: Step,
        task_id: str,
        around: Surroundings,
        emit: Emit,
        *,
        upstream: Iterable[Upstream] = (),
        open_since_ns: int = 0,
        identity: tuple[str, ...] = (),
        live: bool = False,
    ) -> None:
        assert step.definition is not None
        self.step = step
        self.definition: Definition = step.definition
        self.main_definition = step.definition.main
        self.task_id = task_id
        self.attempt = 0
        self._around = around
        self._emit = emit
        self._upstream = tuple(upstream)
        self._open_since_ns = open_since_ns
        self._identity = identity
        self._live = live
        self._began = 0.0
        self._swept = True

    @property
    def logs(self) -> Path:
        """Where the output of this attempt is kept; there when something was printed."""
        return self._around.logs(self.task_id)

    @property
    def cwd(self) -> Path:
        return self._around.cwd(self.definition.cwd, self.main_definition.cwd)

    def emit(self, event: str, **more: Any) -> None:
        # Redacted here, since events are shown as well as recorded.
        safe = redacted(more, self._around.redactor.text)
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
        self._exchange = self._around.exchange(self.task_id, self.step.box.brief)
        # Only outputs are compared with it.
        started_ns = self._around.clock_ns() if self.definition.outputs else 0
        self._open_since_ns = self._open_since_ns or started_ns
        self.telling = Telling(self._exchange.events, self.emit)
        more: dict[str, Any] = {"previous": previous} if previous else {}
        self.emit(
            event,
            status="running",
            attempt=self.attempt,
            started_ns=started_ns,
            identity=list(self._identity),
            **more,
        )

    def again(self, cause: RetryCause | None, message: str) -> bool:
        """Begin another attempt if the step's retries allow it, after the delay; False if they do not."""
        retry = self.main_definition.retry
        if cause is None or cause not in retry.when or self.attempt >= retry.attempts:
            return False
        delay = retry.delay * retry.backoff ** (self.attempt - 1)
        delay += delay * retry.jitter * random.random()
        self.end()
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
        time.sleep(delay)
        previous, self.task_id = self.task_id, following
        self.begin(previous)
        return True

    def end(self) -> None:
        """End what the current attempt left running. Safe to call at any time, more than once."""
        if self._swept:
            return
        self._swept = True
        left = self._around.processes.sweep(self.task_id)
        if left:
            self.emit("left_behind", status="warned", count=left)

    # -- phases

    def pre_flight(self) -> None:
        """Declared inputs, outputs of the steps before, and the pre-flight checks; fail-fast."""
        wanted = [(f"input {path}", path) for path in self.definition.inputs]
        wanted += [
            (f"output of step_{up.step}: {path}", path) for up in self._upstream for path in up.outputs
        ]
        direct = [(name, artefacts.missing(path, self._around.folder)) for name, path in wanted]
        script = self.main_definition.script
        if script:
            direct.append((f"script {script}", artefacts.missing(script, self.cwd)))
        self._check_phase("pre_flight", self.definition.pre_flight, direct, "pre")

    def test_first(self, call_python: Callable[[Mapping[str, str]], None] | None = None) -> None:
        """The run on minimal data, when the definitions declare one."""
        test = self.main_definition.test_first
        if not test:
            return
        env = layered(self.environ(), test.env)
        if test.command is not None:
            what: Any = test.command
        elif self.main_definition.kind == "python":
            assert call_python is not None
            with self._phase("test_first"):
                call_python(env)
            return
        else:
            what = command.command_of(self.main_definition, self._around.interpreter, test.args)
        self._process_phase("test_first", what, env, test.timeout, "test-first.log", "test")

    def main(self, call_python: Callable[[Mapping[str, str]], None]) -> None:
        """The work itself.

        Args:
            call_python: calls the main's function with this environment; used for that kind only.
        """
        env = self.environ()
        if self.main_definition.kind == "python":
            with self._phase("main"):
                call_python(env)
            return
        what = command.command_of(self.main_definition, self._around.interpreter)
        self._process_phase("main", what, env, self.main_definition.timeout, "main.log", "exit")

    def function(self) -> Callable[..., Any]:
        """The function of a Python main.

        Raises:
            PhaseFailed: it cannot be imported.
        """
        assert self.main_definition.python is not None
        try:
            return load(self.main_definition.python, self._around.folder)
        except ImportError as error:
            message = f"main failed: {self.main_definition.python} cannot be imported: {error}"
            raise PhaseFailed(None, message) from None

    def call(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], env: Mapping[str, str]
    ) -> None:
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
        self._check_phase("post_validation", criteria + self.definition.post_validation, direct, "post")
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

    @contextlib.contextmanager
    def _phase(self, phase: str) -> Iterator[None]:
        """Record a phase that runs in this process; its own exception goes on as it is."""
        self.emit("phase_started", phase=phase, what=self.main_definition.python)
        began = time.monotonic()
        status = "failed"
        try:
            yield
            status = "passed"
        finally:
            self.telling.poll()
            self.emit("phase", phase=phase, status=status, seconds=time.monotonic() - began)

    def _process_phase(
        self, phase: str, what: Any, env: Mapping[str, str], timeout: float, log: str, cause: RetryCause
    ) -> None:
        texts = tuple(item.text for item in self.main_definition.criteria if item.check is None)
        watch = command.TextWatch(texts) if texts and phase == "main" else None

        def output(piece: str) -> None:
            if watch:
                watch.feed(piece)
            if self._live:
                self.emit("output", text=piece)

        self.emit("phase_started", phase=phase, what=command.shown(what))
        path = self.logs / log
        try:
            ended = command.run(
                what,
                self._around.processes,
                cwd=self.cwd,
                env=env,
                timeout=timeout,
                log=path,
                on_output=output if watch or self._live else None,
                on_poll=self.telling.poll,
            )
        except FileNotFoundError as error:
            raise PhaseFailed(None, f"{phase.replace('_', '-')} could not start: {error}") from None
        self.telling.finish()
        for text in sorted(watch.found) if watch else ():
            self.telling.criterion(text)
        passed = ended.reason == "exit" and ended.exit == 0
        self.emit(
            "phase",
            phase=phase,
            status="passed" if passed else "failed",
            seconds=ended.seconds,
            message="" if passed else ended.error,
            exit=ended.exit,
            log=self._around.shown(path),
        )
        if not passed:
            why: RetryCause = "timeout" if ended.reason == "timeout" and phase == "main" else cause
            shown = self._around.shown(path) if path.exists() else ""
            raise process_failed(phase, why, command.shown(what), ended, shown)

    def _check_phase(
        self, phase: str, todo: tuple[Check, ...], direct: list[tuple[str, str]], cause: RetryCause
    ) -> None:
        began = time.monotonic()
        if not todo and not direct:
            return
        self.emit("phase_started", phase=phase, count=len(todo) + len(direct))
        for name, why in direct:
            verdict = "failed" if why else "passed"
            self._checked(phase, {"name": name, "status": verdict, "seconds": 0.0, "message": why})
        failed = [f"{name}: {why}" for name, why in direct if why]
        results: tuple[CheckResult, ...] = ()
        if todo and not (failed and cause == "pre"):
            results = self._run_checks(phase, todo, cause)
            bad = [result for result in results if result.status == "failed"]
            failed += [": ".join(filter(None, (result.name, result.message))) for result in bad]
        self.telling.poll()
        status = "failed" if failed else "passed"
        self.emit("phase", phase=phase, status=status, seconds=time.monotonic() - began)
        if failed:
            raise checks_failed(phase, cause, failed, results)

    def _checked(self, phase: str, record: Mapping[str, Any]) -> None:
        self.emit("check", phase=phase, **record)

    def _run_checks(
        self,
        phase: str,
        todo: tuple[Check, ...],
        cause: RetryCause,
    ) -> tuple[CheckResult, ...]:
        around = self._around
        runner = CheckRunner(
            cwd=around.cwd(self.definition.cwd),
            env=self.environ(),
            interpreter=around.interpreter,
            runs=around.processes,
            log_dir=self.logs,
            phase=phase,
            redact=around.redactor.text,
        )
        return checks.run_checks(
            todo,
            runner=runner,
            parallel=around.checks_parallel,
            fail_fast=cause == "pre",
            on_result=lambda result: self._checked(phase, checks.to_record(result)),
        )
