"""A second session on the same definitions does not read them again; on others it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tinker_steps.record.definition_cache import FOLDER

from .conftest import DEFINITIONS, Project

PROGRAM = """\
import sys, pytest
status = pytest.main(sys.argv[1:])
print("READ" if "pydantic" in sys.modules and "yaml" in sys.modules else "KNOWN")
assert ("pydantic" in sys.modules) == ("yaml" in sys.modules)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("xdg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path / FOLDER


def session(project: Project, *args: str) -> str:
    """Run a session in a fresh process; whether it read the definitions, or knew them."""
    # Only our plugin: others may import for their own purposes what we are not to import.
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "-p", "pytest_tinker_steps.plugin", "-p", "no:cacheprovider", *args],
        cwd=project.path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()[-1]


def test_the_second_session_knows_the_definitions(project: Project) -> None:
    project.commands("echo 1 >>runs", "echo 2 >>runs")
    assert session(project, "--steps", "1") == "READ"
    assert session(project, "--steps", "2") == "KNOWN"
    assert project.ticked == ["1", "2"]
    assert (project.path / "runs").read_text() == "1\n2\n"


def test_definitions_that_changed_by_one_byte_are_read(project: Project) -> None:
    project.commands("echo 1 >>runs")
    project.run("--steps", "all")
    path = project.path / DEFINITIONS
    state = path.stat()
    path.write_bytes(path.read_bytes().replace(b"echo 1", b"echo 2"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert session(project, "--steps", "all", "--steps-rerun") == "READ"
    assert (project.path / "runs").read_text() == "1\n2\n"


@pytest.mark.parametrize("option", ["--steps-plan", "--collect-only", "--setup-plan", "--setup-only"])
def test_a_session_that_runs_nothing_leaves_nothing(project: Project, cache: Path, option: str) -> None:
    project.commands("true")
    assert project.run("--steps", "all", option).ret == 0
    assert not cache.exists()


def test_a_session_that_runs_nothing_knows_what_another_has_read(project: Project) -> None:
    project.commands("true")
    project.run("--steps", "all")
    assert session(project, "--steps", "all", "--steps-plan") == "KNOWN"


def test_a_mistake_is_told_every_time(project: Project, cache: Path) -> None:
    project.commands("true").define("step_1:\n  main:\n    comand: true\n")
    for _ in range(2):
        result = project.run("--steps", "all")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*step_definitions.yaml:3: *'comand'*"])
    assert not cache.exists()


def test_warnings_are_told_by_the_second_session_too(project: Project) -> None:
    project.commands("true").define(
        "step_1:\n  main: 'true'\n  post_validation:\n    - {name: n, command: 'cat SPEC.md | head'}\n"
    )
    first, second = (project.run("--steps", "all", "--steps-rerun") for _ in range(2))
    for result in (first, second):
        result.stdout.fnmatch_lines(["*step_definitions.yaml:4: check 'n' ends in 'head'*"])


def test_a_forged_entry_does_not_overrule_the_file(project: Project, cache: Path) -> None:
    project.commands("echo true >>runs")
    project.run("--steps", "all")
    (entry,) = cache.iterdir()
    entry.write_bytes(entry.read_bytes().replace(b"echo true", b"echo fake"))
    assert session(project, "--steps", "all", "--steps-rerun") == "READ"
    assert (project.path / "runs").read_text() == "true\ntrue\n"


def test_nothing_of_it_lies_in_the_repository(project: Project) -> None:
    project.commands("true")
    project.run("--steps", "all")
    made = {path.name for path in project.path.iterdir()} - {"SPEC.md", ".claude", ".pytest_cache"}
    assert made == {".task_execution.log", ".steps"}


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_a_home_that_cannot_be_written_is_no_hindrance(
    project: Project, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)
    project.commands("true", "true")
    for step in ("1", "2"):
        assert project.run("--steps", step).ret == 0
    assert project.ticked == ["1", "2"]
