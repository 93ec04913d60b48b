"""One check: tried, fixed, and tried again.

Commands, and the probes that are processes, are ended when they are cancelled. A probe inside this
process cannot be, so it gets a daemon thread of its own, which is left behind when its time is over.
"""

from __future__ import annotations

import queue
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..plan.model import Check, Retry
from .expectations import judge_process, judge_text, no_end, one_line, unwanted_end
from .probing import probes
from .probing.probe_context import ProbeContext, ProbeFailed

if TYPE_CHECKING:
    from .runner import CheckRunner

OUTPUT_KEPT = 1 << 20
"""Characters at the end of a command's output in which patterns are looked for."""

TAIL_KEPT = 8192
"""Characters of a traceback that are kept."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How a check ended after all its tries, or one of them.

    Attributes:
        tail: the end of a command's output, or the traceback of a ``python`` probe.
        attempts: how often it was tried.
        seconds: of all tries, fixes and pauses.
    """

    passed: bool
    message: str = ""
    metric: tuple[str, float] | None = None
    tail: str = ""
    cancelled: bool = False
    attempts: int = 0
    seconds: float = 0.0


class Job:
    """One check, the signal to stop it, and where its probe's answer arrives."""

    def __init__(self, check: Check, log: Path | None) -> None:
        self.check = check
        self.log = log
        self.cancel = threading.Event()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def stop(self) -> None:
        self.cancel.set()
        self._answers.put(None)

    def listen(self) -> queue.SimpleQueue[Any]:
        """A queue for the next answer; one that was left behind may still answer to an older queue."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers = answers
        if self.cancel.is_set():
            answers.put(None)
        return answers


def start(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    # Daemon threads, so that what cannot be ended does not hold up the end of the interpreter.
    thread = threading.Thread(target=target, args=args, name=f"check {name}", daemon=True)
    thread.start()
    return thread


def carry_out(job: Job, runner: CheckRunner) -> Tried:
    """Try a check until it passes, its tries are used up, or it is cancelled.

    A fix runs after the first failure; it gives one more try to a check that has no retries. Whether
    the fix itself went well decides nothing.
    """
    check, began = job.check, time.monotonic()
    env = {**runner.env, **dict(check.env)}
    cwd = runner.cwd / check.cwd if check.cwd else runner.cwd
    tries = max(check.retry.attempts, 1 if check.fix is None else 2)
    fixed = ""
    number = 1
    while True:
        tried = (_try_command if check.kind == "command" else _try_probe)(job, runner, cwd, env)
        if tried.passed or tried.cancelled or number == tries:
            break
        if number == 1 and check.fix is not None:
            fixed = _fix(job, runner, cwd, env)
        if job.cancel.wait(_pause(check.retry, number)):
            tried = Tried(False, cancelled=True)
            break
        number += 1
    message = f"{tried.message} ({fixed})" if fixed and not tried.cancelled else tried.message
    seconds = time.monotonic() - began
    return replace(tried, message=one_line(message), attempts=number, seconds=seconds)


def _try_command(job: Job, runner: CheckRunner, cwd: Path, env: Mapping[str, str]) -> Tried:
    assert job.check.command is not None
    output = _Output()
    ended = runner.runs.run(
        job.check.command,
        cwd=cwd,
        env=env,
        timeout=job.check.timeout,
        log=job.log,
        on_output=output.add,
        cancel=job.cancel,
    )
    if ended.reason == "cancelled":
        return Tried(False, cancelled=True)
    judged = judge_process(job.check, ended, output.text())
    return Tried(judged.passed, judged.message, judged.metric, ended.tail)


def _try_probe(job: Job, runner: CheckRunner, cwd: Path, env: Mapping[str, str]) -> Tried:
    check = job.check
    deadline = time.monotonic() + check.timeout
    context = ProbeContext(cwd, env, runner.interpreter, deadline, runner.runs, job.cancel)
    if check.kind in probes.ENDS_WHEN_CANCELLED:
        answer = _ask(check, context)
        if job.cancel.is_set() and not isinstance(answer, str):
            answer = None
    else:
        answers = job.listen()
        start(f"{check.name} (probe)", lambda: answers.put(_ask(check, context)))
        try:
            answer = answers.get(timeout=check.timeout)
        except queue.Empty:
            answer = TimeoutError()
    if answer is None:
        return Tried(False, cancelled=True)
    if isinstance(answer, str):
        said = runner.redact(answer)
        judged = judge_text(check, said, said)
        return Tried(judged.passed, judged.message, judged.metric)
    if isinstance(answer, ProbeFailed):
        cause = answer.__cause__ if check.kind == "python" else None
        tail = "".join(traceback.format_exception(cause)) if cause else ""
        return Tried(False, runner.redact(str(answer)), None, runner.redact(tail)[-TAIL_KEPT:])
    if isinstance(answer, TimeoutError):
        return Tried(False, no_end(check.timeout))
    raise answer


def _ask(check: Check, context: ProbeContext) -> Any:
    """The probe's message, or the exception it ended with."""
    try:
        return probes.probe(check, context)
    except BaseException as error:
        return error


def _fix(job: Job, runner: CheckRunner, cwd: Path, env: Mapping[str, str]) -> str:
    """Run the fix; what became of it, for the check's message."""
    assert job.check.fix is not None
    timeout = job.check.timeout
    ended = runner.runs.run(job.check.fix, cwd=cwd, env=env, timeout=timeout, log=job.log, cancel=job.cancel)
    problem = unwanted_end(ended, timeout)
    return f"fix failed: {problem}" if problem else "after its fix"


def _pause(retry: Retry, number: int) -> float:
    """Seconds between the try with this number (from 1) and the next."""
    return retry.delay * retry.backoff ** (number - 1) * (1 + retry.jitter * random.random())


class _Output:
    """The end of a command's output, without holding more than ``OUTPUT_KEPT`` for long."""

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._size = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        while self._size - len(self._pieces[0]) >= OUTPUT_KEPT:
            self._size -= len(self._pieces.popleft())

    def text(self) -> str:
        return "".join(self._pieces)[-OUTPUT_KEPT:]
