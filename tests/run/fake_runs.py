"""A step's run over processes that are never started."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_tinker_steps.plan.model import Command
from pytest_tinker_steps.run.attempt import StepRun
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.process import Ended
from pytest_tinker_steps.run.redaction import Redactor
from pytest_tinker_steps.run.surroundings import Surroundings

from ..record.sessions import a_list, a_plan

TASK = f"task_1_{uuid.uuid4().hex[:8]}"
"""Of this test process alone: what carries it is swept, and another one's would be too."""
SECRET = "tml-0123456789abcdef"
WELL = Ended(0, "exit", 1.5, "", "")

Act = Callable[[Mapping[str, str]], Ended]


class FakeProcesses:
    """Starts nothing: each command has its end written beside it."""

    def __init__(self, **ends: Ended | Act) -> None:
        self.ends = ends
        self.started: list[Command] = []
        self.environs: list[Mapping[str, str]] = []
        self.timeouts: list[float] = []
        self.folders: list[Path] = []
        self.output: dict[str, list[str]] = {}
        self.token = "f00d"
        self.left = 0
        self.swept: list[str] = []
        self.bequests: list[str] = []

    @contextlib.contextmanager
    def bequeathed(self, script: Path) -> Iterator[None]:
        self.bequests.append(script.read_text())
        yield
        assert script.exists()

    def run(
        self,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        log: Path | None,
        on_output: Callable[[str], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Ended:
        assert cancel is None or not cancel.is_set()
        self.started.append(command)
        self.environs.append(env)
        self.timeouts.append(timeout)
        self.folders.append(cwd)
        word = command.split()[0] if isinstance(command, str) else command[-1]
        pieces = self.output.get(word, [])
        if log is not None and pieces:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(pieces))
        for piece in pieces:
            if on_output is not None:
                on_output(piece)
        end = self.ends.get(word, WELL)
        ended = end if isinstance(end, Ended) else end(env)
        if on_poll is not None:
            on_poll()
        return ended

    def sweep(self, task_id: str) -> int:
        self.swept.append(task_id)
        left, self.left = self.left, 0
        return left


def exits(code: int, tail: str = "", seconds: float = 0.5) -> Ended:
    return Ended(code, "exit", seconds, tail, f"exit code {code}")


TIMED_OUT = Ended(None, "timeout", 300.0, "", "did not end within 300 s")


class Made:
    """A StepRun over fakes, with its events.

    Args:
        yaml: of the step.
        file: what stands in the definitions before the step.
    """

    def __init__(
        self,
        folder: Path,
        yaml: str,
        processes: FakeProcesses | None = None,
        around: Mapping[str, Any] | None = None,
        file: str = "",
        **more: Any,
    ) -> None:
        body = "".join(f"  {line}\n" for line in yaml.strip().splitlines())
        (step,) = a_plan(a_list("Work"), f"{file}step_1:\n{body}").steps
        self.folder = folder
        self.processes = processes or FakeProcesses()
        self.around = Surroundings(
            folder,
            folder / ".steps",
            self.processes,  # type: ignore[arg-type]
            Redactor([SECRET]),
            **{
                "interpreter": "python",
                "environ": {"PATH": "/bin"},
                "run_id": uuid.uuid4().hex,
                **(around or {}),
            },
        )
        self.events: list[dict[str, Any]] = []
        self.run = StepRun(step, TASK, self.around, self.events.append, **more)

    def names(self) -> list[str]:
        """The events in short: their names, with what tells them apart."""
        return [
            " ".join(str(event[key]) for key in ("event", "phase", "name", "status") if event.get(key))
            for event in self.events
        ]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def whole(self) -> str:
        """The step as its body runs it; what it failed with, or an empty string."""
        self.run.begin()
        while True:
            try:
                self.run.pre_flight()
                self.run.test_first(self.never)
                self.run.main(self.never)
                self.run.post_validation()
            except PhaseFailed as failure:
                if not self.run.again(failure.cause, failure.message):
                    self.run.end()
                    return failure.message
            else:
                self.run.end()
                return ""

    @staticmethod
    def never(env: Mapping[str, str]) -> None:
        raise AssertionError(f"no function is called here: {env}")


Make = Callable[..., Made]
