"""A small project with a plan, built for one test and run by a real pytest."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytest_tinker_steps

# pytester forgets modules that an inner run imported first. A package half forgotten has two copies of
# its classes, so everything is imported before.
for _module in pkgutil.walk_packages(pytest_tinker_steps.__path__, "pytest_tinker_steps."):
    if not _module.name.endswith("guardian"):
        importlib.import_module(_module.name)

DEFINITIONS = ".claude/tasks/step_definitions.yaml"


class Project:
    """A folder with a task list, definitions, and the means to run pytest in it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def steps(self, *titles: str, ticked: tuple[int, ...] = ()) -> Project:
        """Write ``SPEC.md`` with one step for each title, numbered from 1."""
        lines = ["# A plan", ""]
        for number, title in enumerate(titles, start=1):
            lines.append(f"- [{'x' if number in ticked else ' '}] **STEP {number}**: {title}")
        self.write("SPEC.md", "\n".join(lines) + "\n")
        return self

    def define(self, text: str) -> Project:
        self.write(DEFINITIONS, text)
        return self

    def commands(self, *commands: str) -> Project:
        """A step for each command, with nothing but that command."""
        self.steps(*(f"Work {number}" for number in range(1, len(commands) + 1)))
        blocks = [
            f"step_{number}:\n  main:\n    command: {json.dumps(command)}\n"
            for number, command in enumerate(commands, start=1)
        ]
        return self.define("".join(blocks))

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return path

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest in this process."""
        # Hypothesis would be imported again by every inner run.
        return self.pytester.runpytest_inprocess("-p", "no:hypothesispytest", *args)

    def start(self, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        """Start pytest as a process of its own, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *args],
            cwd=self.path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **kwargs,
        )

    @property
    def spec(self) -> str:
        return (self.path / "SPEC.md").read_text(encoding="utf-8")

    @property
    def ticked(self) -> list[str]:
        return re.findall(r"- \[x\] \*\*STEP ([\w.]+)\*\*", self.spec)

    @property
    def journal(self) -> list[dict[str, Any]]:
        path = self.path / ".task_execution.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, event: str, step: str | None = None) -> list[dict[str, Any]]:
        return [r for r in self.journal if r["event"] == event and step in (None, r["step"])]

    def verdicts(self) -> dict[str, str]:
        """Last verdict of each step, as the journal has it."""
        return {record["step"]: record["status"] for record in self.events("attempt_finished")}


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return Project(pytester)
