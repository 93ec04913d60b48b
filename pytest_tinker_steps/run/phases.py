"""The phases of an attempt: each is recorded from its start to its end, and raises when it does not hold."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..plan.model import Check, Command, Definition, RetryCause, Runner
from .ended import why_not_started
from .failure import PhaseFailed, checks_failed, process_failed
from .mains import command
from .surroundings import Surroundings
from .telling import Telling

if TYPE_CHECKING:
    from .checks import CheckResult
    from .handover import Handover
    from .listening import Listener
    from .process import Ended


MAIN_LOG, TEST_LOG = "main.log", "test-first.log"
"""Names of the files that keep the output of the phases that are one process."""


class Emit(Protocol):
    """Takes the name of an event and its values."""

    def __call__(self, event: str, **more: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Setting:
    """What the phases of one attempt share.

    Attributes:
        logs: folder of the attempt's logs.
        env: of all its processes.
        cwd: of its main.
    """

    definition: Definition
    around: Surroundings
    emit: Emit
    telling: Telling
    logs: Path
    env: Mapping[str, str]
    cwd: Path


@contextlib.contextmanager
def own_phase(at: Setting, phase: str, what: str | None) -> Iterator[None]:
    """Record a phase that is more than one process, or none; its own exception goes on as it is.

    Args:
        what: it carries out, as people would write it.
    """
    at.emit("phase_started", phase=phase, what=what)
    began = time.monotonic()
    status, message = "failed", ""
    try:
        yield
        status = "passed"
    except PhaseFailed as failure:
        message = failure.message.partition("\n")[0].removeprefix(f"{phase} failed: ")
        raise
    finally:
        at.telling.finish()
        at.emit("phase", phase=phase, status=status, seconds=time.monotonic() - began, message=message)


def process_phase(
    at: Setting,
    phase: str,
    what: Command,
    *,
    env: Mapping[str, str],
    timeout: float,
    log: str,
    cause: RetryCause,
    runner: Runner | None = None,
    listener: Listener | None = None,
    live: bool = False,
) -> None:
    """Carry out a phase that is one process.

    Args:
        cause: what a failure is called.
        runner: that it is handed to.
        listener: to its output; it is entered and left here.
        live: whether somebody watches the output of a process that has no listener.

    Raises:
        PhaseFailed: it did not end well.
    """
    at.emit("phase_started", phase=phase, what=command.shown(what, runner))
    more: dict[str, Any] = {"env": env, "timeout": timeout, "log": log, "runner": runner}

    def output(piece: str) -> None:
        at.emit("output", text=piece)

    if listener is None:
        ended = run_process(at, phase, what, on_output=output if live else None, **more)
        at.telling.finish()
    else:
        with listener:
            ended = listen(at, phase, what, listener=listener, **more)
    stopped = listener.stopped if listener else ""
    passed = ended.reason == "exit" and ended.exit == 0 and not stopped
    path = at.logs / log
    at.emit(
        "phase",
        phase=phase,
        status="passed" if passed else "failed",
        seconds=ended.seconds,
        message=stopped or ended.error,
        exit=ended.exit,
        log=at.around.shown(path),
    )
    if passed:
        return
    if listener is not None:
        listener.must_go_on()
    why: RetryCause = "timeout" if ended.reason == "timeout" and phase == "main" else cause
    shown = at.around.shown(path) if path.exists() else ""
    raise process_failed(phase, why, command.shown(what, runner), ended, shown)


def listen(
    at: Setting,
    phase: str,
    what: Command,
    *,
    env: Mapping[str, str],
    timeout: float,
    log: str,
    listener: Listener,
    runner: Runner | None = None,
) -> Ended:
    """Run a process with a listener that has been entered, which may end it."""
    try:
        return run_process(
            at,
            phase,
            what,
            env=env,
            timeout=timeout,
            log=log,
            runner=runner,
            on_output=listener.output,
            on_poll=listener.poll,
            cancel=listener.cancel,
        )
    finally:
        listener.ended()


def run_process(
    at: Setting,
    phase: str,
    what: Command,
    *,
    env: Mapping[str, str],
    timeout: float,
    log: str,
    runner: Runner | None = None,
    **more: Any,
) -> Ended:
    """Run a process of an attempt to its end, in the folder of its main.

    Args:
        log: name of the file in which its output is kept.
        runner: that it is handed to.
        more: further arguments of ``Processes.run``.

    Raises:
        PhaseFailed: its folder does not exist, or it cannot be handed over.
    """
    more.setdefault("on_poll", at.telling.poll)
    more.update(env=env, timeout=timeout, log=at.logs / log)
    processes = at.around.processes
    try:
        if runner is None:
            return command.run(what, processes, cwd=at.cwd, **more)
        from . import handover

        return handover.run(
            handover_of(at, runner), what, processes, tell=lambda text: at.emit("note", text=text), **more
        )
    except OSError as error:
        why = why_not_started(error)
        raise PhaseFailed(None, f"{phase.replace('_', '-')} could not start: {why}") from None


def handover_of(at: Setting, runner: Runner) -> Handover:
    """What a runner is to start for this attempt."""
    from . import handover

    definition = at.definition
    test = definition.main.test_first
    given = (definition.env, definition.main.env, test.env if test else ())
    return handover.prepare(
        runner,
        step=at.env["STEP_ID"],
        task_id=at.env["TASK_ID"],
        folder=at.around.exchanged,
        cwd=at.cwd,
        names=[name for pairs in given for name, _ in pairs],
        interpreter=at.around.interpreter,
    )


def check_phase(
    at: Setting, phase: str, todo: Sequence[Check], direct: Sequence[tuple[str, str]], cause: RetryCause
) -> None:
    """Carry out a phase of checks; before the main, the first failure ends it.

    Args:
        direct: what was looked at already: names, and why they do not hold (empty when they do).

    Raises:
        PhaseFailed: a critical check failed.
    """
    if not todo and not direct:
        return
    began = time.monotonic()
    at.emit("phase_started", phase=phase, count=len(todo) + len(direct))
    for name, why in direct:
        verdict = "failed" if why else "passed"
        at.emit("check", phase=phase, name=name, status=verdict, seconds=0.0, message=why)
    failed = [f"{name}: {why}" for name, why in direct if why]
    results: tuple[CheckResult, ...] = ()
    if todo and not (failed and cause == "pre"):
        results = run_checks(at, phase, todo, env=at.env, fail_fast=cause == "pre")
        failed += failures(results)
    at.telling.poll()
    status = "failed" if failed else "passed"
    at.emit("phase", phase=phase, status=status, seconds=time.monotonic() - began)
    if failed:
        raise checks_failed(phase, cause, failed, results)


def run_checks(
    at: Setting, phase: str, todo: Sequence[Check], *, env: Mapping[str, str], fail_fast: bool
) -> tuple[CheckResult, ...]:
    """Run checks side by side, an event for each."""
    from . import checks  # only steps with checks pay for it
    from .runner import CheckRunner

    around = at.around
    runner = CheckRunner(
        cwd=around.cwd(at.definition.cwd),
        env=env,
        interpreter=around.interpreter,
        runs=around.processes,
        log_dir=at.logs,
        phase=phase,
        redact=around.redactor.text,
    )

    def told(result: CheckResult) -> None:
        at.emit("check", phase=phase, **checks.to_record(result))

    return checks.run_checks(
        todo, runner=runner, parallel=around.checks_parallel, fail_fast=fail_fast, on_result=told
    )


def failures(results: Sequence[CheckResult]) -> list[str]:
    """One line for each check that failed and is critical."""
    bad = [result for result in results if result.status == "failed"]
    return [": ".join(filter(None, (result.name, result.message))) for result in bad]
