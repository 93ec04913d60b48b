"""Checks side by side.

The thread that calls ``run_checks`` starts the others, takes their results from one queue, and is the
only one that calls ``on_result``. Each of the others belongs to one check. A check that runs alone
runs in the calling thread.
"""

from __future__ import annotations

import queue
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..plan.model import Check
from .runner import CheckRunner
from .trying import Job, Tried, carry_out, start

Status = Literal["passed", "failed", "warned", "cancelled", "not run"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check ended.

    Attributes:
        status: ``warned`` is a failure of a check that is not critical; ``not run`` (natural language
            without an agent to read it) neither passes nor fails.
        seconds: of all tries, fixes and pauses.
        message: one line; with a metric it begins with the metric's name.
        metric: name and value, if a number was found.
        tail: the end of a failed command's output, or the traceback of a ``python`` probe.
        attempts: how often it was tried; 0 if never.
    """

    name: str
    kind: str
    status: Status
    seconds: float = 0.0
    message: str = ""
    critical: bool = True
    metric: tuple[str, float] | None = None
    tail: str = ""
    attempts: int = 0


def to_record(result: CheckResult) -> dict[str, Any]:
    """A result as builtin values, for the journal and for reports."""
    return {
        "name": result.name,
        "kind": result.kind,
        "status": result.status,
        "seconds": round(result.seconds, 3),
        "message": result.message,
        "critical": result.critical,
        "metric": None if result.metric is None else list(result.metric),
        "tail": result.tail,
        "attempts": result.attempts,
    }


def run_checks(
    checks: Sequence[Check],
    *,
    runner: CheckRunner,
    parallel: int = 3,
    fail_fast: bool,
    on_result: Callable[[CheckResult], None],
) -> tuple[CheckResult, ...]:
    """Run the checks of one phase.

    At most ``parallel`` run at once and the rest queue; each deadline starts when its check starts.
    Checks that must run alone follow the others, in the order of their definition.

    Args:
        fail_fast: after a critical failure the running checks are ended, and they and the queued ones
            are ``cancelled``.
        on_result: called in the calling thread as each check ends.

    Returns:
        One result for each check, in the order of definition.

    Raises:
        BaseException: whatever interrupts the calling thread, once all checks are cancelled and their
            processes ended.
    """
    names = _log_names(checks, runner)
    jobs = [Job(check, log) for check, log in zip(checks, names, strict=True)]
    phase = _Phase(runner, fail_fast, on_result)
    for job in jobs:
        if job.check.kind == "prose":
            phase.end(job, _untried(job.check, "not run", "not run: no agent"))
    runnable = [job for job in jobs if job.check.kind != "prose"]
    if runner.log_dir is not None and any(job.log for job in runnable):
        runner.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = [job for job in runnable if job.check.parallel]
    if len(beside) > 1 and parallel > 1:
        phase.side_by_side(beside, parallel)
    else:
        phase.one_by_one(beside)
    phase.one_by_one([job for job in runnable if not job.check.parallel])
    return tuple(phase.results[job] for job in jobs)


class _Phase:
    """One call of ``run_checks``: what has ended, and which failure stopped the rest."""

    def __init__(
        self, runner: CheckRunner, fail_fast: bool, on_result: Callable[[CheckResult], None]
    ) -> None:
        self.results: dict[Job, CheckResult] = {}
        self._runner = runner
        self._fail_fast = fail_fast
        self._on_result = on_result
        self._stopped_by = ""

    def end(self, job: Job, result: CheckResult) -> None:
        self.results[job] = result
        self._on_result(result)

    def one_by_one(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self._stopped_by:
                self._never_started(job)
                continue
            result = _result(job.check, carry_out(job, self._runner), self._reason)
            self._stops(result)
            self.end(job, result)

    def side_by_side(self, jobs: Sequence[Job], parallel: int) -> None:
        waiting = deque(jobs)
        running: dict[Job, threading.Thread] = {}
        ended: queue.SimpleQueue[tuple[Job, Tried | BaseException]] = queue.SimpleQueue()
        try:
            while waiting or running:
                while waiting and self._stopped_by:
                    self._never_started(waiting.popleft())
                while waiting and len(running) < parallel:
                    job = waiting.popleft()
                    running[job] = start(job.check.name, _carry_out_for, job, self._runner, ended)
                if not running:
                    break
                job, outcome = ended.get()
                del running[job]
                if isinstance(outcome, BaseException):
                    raise outcome
                result = _result(job.check, outcome, self._reason)
                if self._stops(result):
                    for other in running:
                        other.stop()
                self.end(job, result)
        except BaseException:
            for job in jobs:  # also one that was being started
                job.stop()
            for thread in running.values():
                thread.join()
            raise

    def _stops(self, result: CheckResult) -> bool:
        if not self._fail_fast or result.status != "failed" or self._stopped_by:
            return False
        self._stopped_by = result.name
        return True

    @property
    def _reason(self) -> str:
        return f"cancelled: {self._stopped_by} failed"

    def _never_started(self, job: Job) -> None:
        self.end(job, _untried(job.check, "cancelled", self._reason))


def _carry_out_for(
    job: Job, runner: CheckRunner, ended: queue.SimpleQueue[tuple[Job, Tried | BaseException]]
) -> None:
    outcome: Tried | BaseException
    try:
        outcome = carry_out(job, runner)
    except BaseException as error:
        outcome = error  # raised again in the calling thread
    ended.put((job, outcome))


def _result(check: Check, tried: Tried, why_cancelled: str) -> CheckResult:
    status: Status = "failed" if check.critical else "warned"
    if tried.cancelled:
        status = "cancelled"
    elif tried.passed:
        status = "passed"
    return CheckResult(
        name=check.name,
        kind=check.kind,
        status=status,
        seconds=tried.seconds,
        message=why_cancelled if tried.cancelled else tried.message,
        critical=check.critical,
        metric=tried.metric,
        tail=tried.tail if status in ("failed", "warned") else "",
        attempts=tried.attempts,
    )


def _untried(check: Check, status: Status, message: str) -> CheckResult:
    return CheckResult(check.name, check.kind, status, message=message, critical=check.critical)


def _log_names(checks: Sequence[Check], runner: CheckRunner) -> list[Path | None]:
    """Where the output of each check goes; names that look alike in a file name are numbered."""
    taken: set[str] = set()
    paths: list[Path | None] = []
    for check in checks:
        if runner.log_dir is None or (check.kind != "command" and check.fix is None):
            paths.append(None)
            continue
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{runner.phase}-{check.name}")[:80].strip("-.")
        unique, number = slug, 2
        while unique.lower() in taken:
            unique, number = f"{slug}-{number}", number + 1
        taken.add(unique.lower())
        paths.append(runner.log_dir / f"{unique}.log")
    return paths
