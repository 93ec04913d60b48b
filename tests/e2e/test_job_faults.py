"""Everything that has to do with a job dies, at random moments: no lie, nothing lost, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from pytest_tinker_steps.record import jobs as states
from pytest_tinker_steps.run.background import jobs

from .conftest import Project
from .test_interruptions import living, wait_for

WORK = "echo ready; for n in 1 2 3 4 5 6; do echo $n/6; sleep 0.1; done; echo weights >> model; exit {code}"


def a_plan(project: Project, code: int) -> Project:
    project.steps("Prepare", "Train", "Meanwhile", "Evaluate")
    return project.define(
        "step_1: {main: 'true'}\n"
        "step_2:\n  main:\n    mode: background\n"
        f"    command: {WORK.format(code=code)!r}\n"
        "    ready_when: {line: ready}\n    progress: '(\\d+)/(\\d+)'\n"
        "  background:\n    - {task: model, command: 'cat model', interval: 0.1, alert_on: error}\n"
        "  post_validation:\n    - {task: weights, file: {path: model, min_bytes: 1}}\n"
        "step_3: {main: 'sleep 0.2'}\n"
        "step_4: {main: 'true', needs: [2, 3]}\n"
    )


def marked(folder: Path) -> dict[int, str]:
    """Processes of jobs whose folder is here, by the id of their attempt."""
    found = {}
    for process in psutil.process_iter():
        try:
            task_id = process.environ().get("TINKER_STEPS_JOB")
            if task_id and process.cwd().startswith(str(folder)):
                found[process.pid] = task_id
        except psutil.Error:
            continue
    return found


def check_honest(project: Project) -> None:
    """What is alive is a known job; what is ticked has ended well and was validated."""
    state = project.path / ".steps"
    known = {job.task_id: job for job in jobs.look_all(state)}
    for pid, task_id in marked(project.path).items():
        job = known.get(task_id)
        # Between the look and now it may have ended.
        assert (job is not None and job.live) or not psutil.pid_exists(pid), f"{pid} is of no known job"
    monitor = project.run("--steps-monitor").stdout.str()
    for job in jobs.look_all(state):
        if job.state == states.LOST:
            assert job.task_id not in project.spec
        if job.state == states.RUNNING:
            assert f"step_{job.step}" in monitor
    for record in project.events("ticked", "2"):
        task_id = record["task_id"]
        assert known[task_id].state == states.PASSED
        checks = [r for r in project.events("check", "2") if r["task_id"] == task_id]
        assert any(r["name"] == "weights" and r["status"] == "passed" for r in checks)


def finish(project: Project) -> int:
    """Sessions until there is nothing more to do, as a user would who types ``continue``."""
    for _ in range(5):
        wait_for(lambda: living(project.path) == [])
        result = project.run("--steps", "continue")
        check_honest(project)
        if result.ret == 0:
            break
    return int(result.ret)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_pytest_is_killed_at_any_moment(project: Project, seed: int) -> None:
    a_plan(project, 0)
    run = project.start("--steps", "all", *(["-n", "2"] if seed % 2 else []))
    time.sleep(random.Random(seed).uniform(0.3, 2.5))
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    check_honest(project)
    assert finish(project) == 0
    assert project.ticked == ["1", "2", "3", "4"]
    assert (project.path / "model").read_text() == "weights\n", "the work of the job was done once"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("whom", ["supervisor", "job", "both"])
def test_a_supervisor_or_a_job_is_killed_at_any_moment(project: Project, whom: str, seed: int) -> None:
    a_plan(project, 0)
    run = project.start("--steps", "all")
    wait_for(lambda: bool(project.events("job_started", "2")))
    time.sleep(random.Random(seed).uniform(0, 0.8))
    job = states.read_all(project.path / ".steps")[-1]
    victims = {"supervisor": [job.supervisor], "job": [job.pid], "both": [job.supervisor, job.pid]}[whom]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    output, _ = run.communicate(timeout=120)
    assert run.returncode in (0, 1), output
    check_honest(project)
    if whom == "supervisor":
        assert run.returncode == 0, output
    assert finish(project) == 0
    assert project.ticked == ["1", "2", "3", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_job_that_fails_is_never_ticked_whoever_is_killed_meanwhile(project: Project, seed: int) -> None:
    a_plan(project, 3)
    run = project.start("--steps", "all")
    time.sleep(random.Random(seed).uniform(0.5, 2.0))
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    assert project.run("--steps", "continue").ret == 1
    check_honest(project)
    assert "2" not in project.ticked
    assert "4" not in project.ticked
