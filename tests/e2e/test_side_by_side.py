"""The same plan under xdist: verdicts, ticks and journal as without it."""

from __future__ import annotations

import os
import re
import signal
import time

import psutil
import pytest

from .conftest import Project
from .test_interruptions import living, started, wait_for

PLAN = """
step_1: {needs: [], main: sleep 0.2}
step_2: {needs: [], main: "sleep 0.1; exit 3"}
step_3: {needs: [1], main: "true", post_validation: [{task: one, command: "true"}]}
step_4: {needs: [2], main: touch never}
step_5: {needs: [1, 3], main: "true"}
"""


def shape(project: Project) -> dict[str, list[tuple[str, str]]]:
    """What the journal says of each step, without ids and times."""
    story: dict[str, list[tuple[str, str]]] = {}
    for record in project.journal:
        if record["step"]:
            story.setdefault(record["step"], []).append((record["event"], record["status"]))
    return story


@pytest.mark.parametrize("args", [("-p", "no:xdist"), ("-n", "0"), ("-n", "1"), ("-n", "3")], ids=" ".join)
def test_verdicts_ticks_and_journal_are_the_same_in_every_mode(
    project: Project, args: tuple[str, ...]
) -> None:
    project.steps("a", "b", "c", "d", "e").define(PLAN)
    project.write("test_own.py", "def test_step_1(): pass\n\ndef test_other(): pass\n")
    run = project.start("--steps", "all", "SPEC.md", "test_own.py", "-rs", *args)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert "1 failed, 5 passed, 1 skipped" in output
    assert "blocked by step_2 (failed)" in output
    assert project.ticked == ["1", "3", "5"]
    assert not (project.path / "never").exists()
    attempt = [
        ("attempt_started", "running"),
        ("phase", "passed"),
        ("attempt_finished", "passed"),
        ("ticked", "passed"),
    ]
    failed = [("attempt_started", "running"), ("phase", "failed"), ("attempt_finished", "failed")]
    checked = [*attempt[:2], ("check", "passed"), ("phase", "passed"), *attempt[2:]]
    assert shape(project) == {
        "1": attempt,
        "2": failed,
        "3": checked,
        "4": [("blocked", "blocked")],
        "5": attempt,
    }
    blocks = re.findall(r"^\[STEP (\d)", output, re.MULTILINE)
    assert sorted(blocks) == ["1", "2", "3", "5"]


def test_independent_steps_run_at_the_same_time(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], main: 'touch one; timeout 45 sh -c \"until test -e two; do sleep 0.1; done\"'}\n"
        "step_2: {needs: [], main: 'touch two; timeout 45 sh -c \"until test -e one; do sleep 0.1; done\"'}\n"
    )
    run = project.start("--steps", "all", "-n", "2")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2"]


def test_a_worker_that_is_killed_fails_its_attempt_and_the_rest_goes_on(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {needs: [], main: 'touch running; sleep 60'}\n"
        "step_2: {needs: [1], main: 'true'}\n"
        "step_3: {needs: [], main: 'sleep 1'}\n"
    )
    run = started(project, "--steps", "all", "-n", "2")
    main = next(p for p in psutil.process_iter() if _runs(p, "sleep 60", project))
    next(p for p in main.parents() if "stdin.readline" in " ".join(p.cmdline())).kill()
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert project.verdicts() == {"1": "failed", "3": "passed"}
    assert project.ticked == ["3"]
    assert "blocked by step_1 (failed)" in output
    wait_for(lambda: living(project.path) == [])


def _runs(process: psutil.Process, words: str, project: Project) -> bool:
    try:
        return words in " ".join(process.cmdline()) and process.cwd() == str(project.path)
    except psutil.Error:
        return False


def test_ctrl_c_under_xdist_ends_every_main(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], main: 'touch running; sleep 60'}\nstep_2: {needs: [], main: sleep 60}\n"
    )
    run = started(project, "--steps", "all", "-n", "2")
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    wait_for(lambda: living(project.path) == [])
    assert project.ticked == []
    assert project.run("--steps", "all", "--steps-plan").ret == 0


@pytest.mark.slow
def test_kill_9_of_the_controller_ends_the_mains_of_its_workers_and_frees_the_list(project: Project) -> None:
    project.steps("a").define("step_1: {main: 'touch running; sleep 60'}\n")
    run = started(project, "--steps", "all", "-n", "1")
    time.sleep(0.2)
    run.kill()
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    project.define("step_1: {main: 'true'}\n")
    again = project.start("--steps", "all")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output


def test_x_stops_with_the_exit_code_of_a_failure(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {needs: [], main: 'false'}\nstep_2: {main: 'true'}\nstep_3: {main: 'true'}\n"
    )
    run = project.start("--steps", "all", "-n", "1", "-x")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert project.ticked == []


@pytest.mark.parametrize("args", [("-n", "0"), ("-p", "no:xdist"), ("-n", "2")], ids=" ".join)
def test_what_a_step_needs_may_stand_below_it(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abcd").define(
        "step_1: {layer: L1, main: test -e made}\nstep_2: {layer: L0, main: touch made}\n"
        "step_3: {needs: [4], main: test -e too}\nstep_4: {needs: [], main: touch too}\n"
    )
    run = project.start("--steps", "all", *args)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2", "3", "4"]


@pytest.mark.parametrize("args", [("-n", "0"), ("-n", "1")], ids=" ".join)
def test_a_step_whose_body_was_not_run_is_not_ticked(project: Project, args: tuple[str, ...]) -> None:
    project.steps("a").define("step_1: {main: touch ran}\n")
    project.write("conftest.py", "def pytest_pyfunc_call(pyfuncitem):\n    return True\n")
    run = project.start("--steps", "all", *args)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert "its body was not run" in output
    assert project.ticked == []
    assert not (project.path / "ran").exists()
