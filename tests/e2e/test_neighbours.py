"""Other plugins in the same session: order, verdicts and the number of attempts hold.

The tests that need them installed are run by CI in an environment of their own; they do not skip.
"""

from __future__ import annotations

from importlib import metadata

import pytest

from .conftest import Project

NEIGHBOURS = ["pytest-randomly", "pytest-rerunfailures", "pytest-asyncio", "pytest-cov", "pytest-sugar"]


def chain(project: Project) -> Project:
    """Six steps that only pass in their order; the fifth fails at its first attempt."""
    project.steps(*(f"Work {number}" for number in range(1, 7)))
    return project.define(
        "".join(
            f"step_{number}: {{main: 'echo {number} >> order; test {number} != 5 -o -e go'}}\n"
            for number in range(1, 7)
        )
    )


def run(project: Project, *args: str) -> tuple[int, str]:
    process = project.start(*args)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_without_a_terminal_reporter(project: Project) -> None:
    chain(project)
    status, output = run(project, "--steps", "1-4", "-p", "no:terminal")
    assert status == 0, output
    assert project.ticked == ["1", "2", "3", "4"]


@pytest.mark.parametrize("plugin", ["xdist", "timeout", "cacheprovider", "junitxml", "logging", "skipping"])
def test_without_a_plugin_that_is_usually_there(project: Project, plugin: str) -> None:
    chain(project)
    status, output = run(project, "--steps", "all", "-p", f"no:{plugin}")
    assert status == 1, output
    assert project.ticked == ["1", "2", "3", "4"]
    run(project, "--steps", "all", "-p", f"no:{plugin}")
    assert (project.path / "order").read_text().split() == ["1", "2", "3", "4", "5", "5"]


def test_without_this_plugin_its_options_are_unknown_and_nothing_else(project: Project) -> None:
    project.write("test_own.py", "def test_own(): pass\n")
    status, output = run(project, "-p", "no:tinker_steps")
    assert status == 0, output


@pytest.mark.neighbours
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_the_neighbour_is_installed(name: str) -> None:
    assert metadata.version(name)


@pytest.mark.neighbours
@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--reruns", "3"),
        ("-p", "randomly", "-p", "no:sugar"),
        ("-n", "2", "--reruns", "3"),
        ("--cov", "--cov-report="),
        ("-o", "asyncio_mode=auto"),
        ("-o", "timeout=1"),
        ("--ff", "-v"),
        ("-q",),
    ],
    ids=" ".join,
)
def test_order_verdicts_and_attempts_hold(project: Project, args: tuple[str, ...]) -> None:
    chain(project)
    status, output = run(project, "--steps", "all", *args)
    assert status == 1, output
    assert (project.path / "order").read_text().split() == ["1", "2", "3", "4", "5"], output
    assert project.ticked == ["1", "2", "3", "4"]
    assert len(project.events("attempt_started", "5")) == 1
    assert project.events("blocked", "6")
    project.write("go", "")
    status, output = run(project, "--steps", "continue", *args)
    assert status == 0, output
    assert project.ticked == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.neighbours
def test_a_slow_step_outlives_a_timeout_setting_of_the_users(project: Project) -> None:
    project.commands("sleep 2")
    status, output = run(project, "--steps", "1", "-o", "timeout=1")
    assert status == 0, output


@pytest.mark.neighbours
def test_an_async_main_runs_beside_pytest_asyncio(project: Project) -> None:
    project.write(
        "work.py",
        "import asyncio\nasync def main(step):\n    await asyncio.sleep(0)\n    step.note('slept')\n",
    )
    project.steps("Work").define("step_1: {main: {python: 'work:main'}}\n")
    status, output = run(project, "--steps", "1", "-o", "asyncio_mode=auto")
    assert status == 0, output
    assert "(slept)" in project.spec
