"""What the death of a worker counts for, and what a hasty Ctrl-C leaves."""

from __future__ import annotations

import os
import re
import signal

import pytest

from .conftest import Project
from .test_interruptions import living, started, wait_for

DIES = "kill -9 $PPID; sleep 61"


def test_where_failures_are_warnings_the_death_of_a_worker_is_one(project: Project) -> None:
    project.steps("a", "b").define(
        f"step_1: {{needs: [], on_failure: warn, main: '{DIES}'}}\n"
        "step_2: {main: 'true', needs: ['1@ended']}\n"
    )
    run = project.start("--steps", "all", "-n", "2")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert re.search(r"! step_1  warned .*\n +worker gw\d died\n", output)
    assert project.verdicts() == {"1": "warned", "2": "passed"}
    assert project.ticked == ["2"]


def test_a_worker_that_dies_while_it_verifies_takes_no_tick_back(project: Project) -> None:
    project.steps("a").define(
        "step_1: {main: 'true', post_validation: [{task: look, command: sh look.sh}]}\n"
    )
    project.write("look.sh", "true\n")
    assert project.run("--steps", "all").ret == 0
    project.write("look.sh", "kill -9 $(ps -o ppid= -p $PPID); sleep 61\n")
    run = project.start("--steps-verify", "--steps-untick", "-n", "1")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert project.ticked == ["1"]
    assert "un-ticked" not in output
    assert [r["message"] for r in project.events("attempt_interrupted")] == ["worker gw0 died"]


def test_after_the_first_failure_nothing_is_begun_with_x_when_that_is_a_death(project: Project) -> None:
    project.steps("a", "b", "c").define(
        f"step_1: {{needs: [], main: 'until test -e running; do sleep 0.05; done; {DIES}'}}\n"
        "step_2: {needs: [], main: 'touch running; until grep -q died .task*; do sleep 0.05; done'}\n"
        "step_3: {needs: [2], main: 'true'}\n"
    )
    run = project.start("--steps", "all", "-n", "2", "-x")
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0, output
    assert not project.events("attempt_started", "3")
    assert project.verdicts()["1"] == "failed"


def test_a_list_that_is_gone_when_a_worker_is_replaced_changes_no_exit_code(project: Project) -> None:
    project.steps("a", "b").define(
        f"step_1: {{needs: [], retries: 1, main: 'test -e again || (touch again; rm SPEC.md; {DIES})'}}\n"
        "step_2: {needs: [], main: 'until grep -q retry .task_execution.log; do sleep 0.05; done'}\n"
    )
    run = project.start("--steps", "all", "-n", "2")
    output, _ = run.communicate(timeout=60)
    assert project.verdicts() == {"1": "passed", "2": "passed"}, output
    assert run.returncode in (0, 1), "no exit code that says that there was nothing to run"


@pytest.mark.slow
@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interruption_while_workers_end_leaves_no_session_open(
    project: Project, again: signal.Signals
) -> None:
    project.steps("a").define("step_1: {main: sh deaf.sh}\n")
    project.write("deaf.sh", "trap 'touch told' TERM; touch running; while :; do sleep 0.1; done\n")
    run = started(project, "--steps", "all", "-n", "2")
    os.kill(run.pid, signal.SIGINT)
    wait_for((project.path / "told").exists)  # it is given some seconds to end
    os.kill(run.pid, again)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert "Traceback" not in output
    assert "✗ step_1  interrupted" in output
    assert len(project.events("attempt_interrupted", "1")) == 1
    assert len(project.events("run_finished")) == 1
    wait_for(lambda: living(project.path) == [])
