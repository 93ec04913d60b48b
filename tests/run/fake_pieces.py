"""Ways to run pieces: over nothing, over nothing and killed at any moment, and over real processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pytest_tinker_steps.plan.model import Check, Command, Runner, Where
from pytest_tinker_steps.run.checks import CheckResult, run_checks
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.process import Ended, Processes
from pytest_tinker_steps.run.runner import CheckRunner

WELL = Ended(0, "exit", 0.1, "", "")
A_CHECK = Check(name="good", kind="command", where=Where("steps.yaml", 1), command="true")

Act = Callable[[Mapping[str, str]], Ended] | Ended


def lines_of(start: int, size: int) -> bytes:
    return b"".join(b"example %d\n" % number for number in range(start, start + size))


def output_of(env: Mapping[str, str]) -> Path:
    return Path(env.get("CHUNK_OUTPUT") or env["BATCH_OUTPUT"])


def writes(env: Mapping[str, str]) -> Ended:
    """A process that does its piece well."""
    kind = "CHUNK" if "CHUNK_SIZE" in env else "BATCH"
    output_of(env).write_bytes(lines_of(int(env[f"{kind}_START"]), int(env[f"{kind}_SIZE"])))
    return WELL


def exits(code: int, tail: str = "") -> Ended:
    return Ended(code, "exit", 0.1, tail, f"exit {code}")


class FakePieceRuns:
    """Starts nothing.

    Args:
        acts: what the processes do, in order; the last one goes on for ever.
        checks: what the checks say, in order; after that they pass.

    Attributes:
        nothing_after: number of processes after which nothing more may begin.
    """

    def __init__(self, *acts: Act, checks: Sequence[list[str]] = ()) -> None:
        self.acts: list[Act] = list(acts) or [writes]
        self.nothing_after: int | None = None
        self.checks = list(checks)
        self.commands: list[Command] = []
        self.runners: list[Runner | None] = []
        self.environs: list[dict[str, str]] = []
        self.logs: list[str] = []
        self.checked: list[tuple[str, dict[str, str]]] = []
        self.begun: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.story: list[str] = []

    def process(
        self, command: Command, env: Mapping[str, str], log: str, runner: Runner | None = None
    ) -> Ended:
        self.story.append(f"process {log}")
        self.commands.append(command)
        self.runners.append(runner)
        self.environs.append(dict(env))
        self.logs.append(log)
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        return act if isinstance(act, Ended) else act(env)

    def check(self, phase: str, checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
        self.story.append(f"{phase} ({len(checks)})")
        self.checked.append((phase, dict(env)))
        return self.checks.pop(0) if self.checks else []

    def emit(self, event: str, **more: Any) -> None:
        self.story.append(f"{event} {more['status']}" if "status" in more else event)
        self.events.append({"event": event, **more})

    def may_begin(self, what: str) -> None:
        self.story.append(f"may begin {what}")
        if self.nothing_after is not None and len(self.commands) >= self.nothing_after:
            raise PhaseFailed(None, "the budget is spent")
        self.begun.append(what)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in one.items() if k != "event"} for one in self.events if one["event"] == event
        ]

    def notes(self) -> list[str]:
        return [str(one["text"]) for one in self.of("note")]


class Killed(BaseException):
    """Stands for SIGKILL: nothing that happens after it counts."""


class Killer(FakePieceRuns):
    """Ends the session at its n-th moment: at a call, at a sync, at a rename, within a written file."""

    def __init__(self, moments: int | None, *, passes_after: int | None = None) -> None:
        super().__init__()
        self.moments = moments
        self.passes_after = passes_after

    def moment(self) -> None:
        if self.moments is not None:
            self.moments -= 1
            if self.moments < 0:
                raise Killed

    def process(
        self, command: Command, env: Mapping[str, str], log: str, runner: Runner | None = None
    ) -> Ended:
        self.moment()
        path = output_of(env)
        self.acts = [writes]
        ended = super().process(command, env, log, runner)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        self.moment()
        path.write_bytes(whole)
        self.moment()
        return ended

    def check(self, phase: str, checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
        self.moment()
        failed = super().check(phase, checks, env)
        if phase == "stop_when":
            lines = Path(env["BATCH_RESULTS"]).read_bytes().splitlines()
            assert lines == lines_of(0, len(lines)).splitlines()
            failed = [] if len(lines) >= (self.passes_after or 0) else ["not enough"]
        self.moment()
        return failed

    def emit(self, event: str, **more: Any) -> None:
        self.moment()
        super().emit(event, **more)

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        replace = os.replace

        def sync(descriptor: int) -> None:
            self.moment()

        def rename(*names: Any, **more: Any) -> None:
            self.moment()
            replace(*names, **more)
            self.moment()

        with mock.patch.object(os, "fsync", sync), mock.patch.object(os, "replace", rename):
            yield


class RealPieceRuns(FakePieceRuns):
    """Runs processes and checks in a folder, as a step's run does."""

    def __init__(self, processes: Processes, cwd: Path, timeout: float = 20.0) -> None:
        super().__init__()
        self.processes = processes
        self.cwd = cwd
        self.timeout = timeout
        self.results: list[CheckResult] = []

    def process(
        self, command: Command, env: Mapping[str, str], log: str, runner: Runner | None = None
    ) -> Ended:
        assert runner is None
        path = self.cwd / "logs" / log
        return self.processes.run(command, cwd=self.cwd, env=env, timeout=self.timeout, log=path)

    def check(self, phase: str, checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
        runner = CheckRunner(cwd=self.cwd, env=env, interpreter="python", runs=self.processes, phase=phase)
        results = run_checks(checks, runner=runner, fail_fast=False, on_result=self.results.append)
        return [f"{result.name}: {result.message}" for result in results if result.status == "failed"]
