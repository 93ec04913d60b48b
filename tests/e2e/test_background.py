"""Background steps: started, watched, waited for, settled by the session that finds them ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_tinker_steps.record import jobs
from pytest_tinker_steps.record.jobs import Job

from .conftest import Project
from .test_interruptions import living, wait_for


def newest(project: Project, step: str = "1") -> Job:
    found = [job for job in jobs.read_all(project.path / ".steps") if job.step == step]
    assert found, "there is no job"
    return found[-1]


def of_jobs(folder: Path) -> list[str]:
    """Command lines of processes of jobs and of their supervisors in this folder that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().keys() & {"TINKER_STEPS_JOB", "TINKER_STEPS_SUPERVISOR"}
            if marked and process.environ().get("PWD", str(folder)).startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.fixture(autouse=True)
def no_job_left(project: Project) -> Iterator[None]:
    """Whatever a test leaves is ended, so that no test disturbs the next."""
    yield
    for job in jobs.read_all(project.path / ".steps"):
        if job.pid and job.live:
            for number in (job.supervisor, job.pid):
                try:
                    os.kill(number, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue


def training(
    project: Project,
    command: str,
    *,
    more: str = "",
    after: str = "[1]",
    ready: str = "{line: ready}",
    meanwhile: str = "",
) -> Project:
    """A job, a step that follows its start unless told otherwise, and one that has the given needs."""
    project.steps("Train", "Meanwhile", "Evaluate")
    return project.define(
        f"step_1:\n  main:\n    mode: background\n    command: {command!r}\n    ready_when: {ready}\n"
        f"{more}"
        f"step_2:\n  main: touch meanwhile\n{meanwhile}"
        f"step_3:\n  main: cp model evaluated\n  needs: {after}\n"
    )


GOOD = "echo ready; sleep 1; echo weights > model"
WHEN_TOLD = "echo ready; until test -e go; do sleep 0.1; done; echo weights > model"
AFTER_STEP_2 = WHEN_TOLD.replace("-e go", "-e meanwhile")
LONG = "echo ready; sleep 60"


# -- one session


def test_a_session_goes_on_while_the_job_runs_and_waits_for_it_where_its_end_is_needed(
    project: Project,
) -> None:
    training(
        project,
        AFTER_STEP_2,
        more="  outputs: [model]\n  post_validation:\n    - {task: there, file: model}\n",
    )
    result = project.run("--steps", "all")
    assert result.ret == 0
    assert project.ticked == ["1", "2", "3"]
    text = result.stdout.str()
    started, meanwhile = text.index("Step 1 started in"), text.index("Step 2 complete in")
    validated, evaluated = text.index("✓ there"), text.index("Step 3 complete in")
    assert started < meanwhile < validated < evaluated
    statuses = [record["status"] for record in project.events("attempt_finished", "1")]
    assert statuses == ["started", "passed"]
    task_ids = {record["task_id"] for record in project.journal if record["step"] == "1"}
    assert len(task_ids) == 1, "one attempt, from its start to its tick"
    assert of_jobs(project.path) == []


def test_a_session_without_need_of_the_end_leaves_the_job_and_says_so(project: Project) -> None:
    training(project, LONG)
    result = project.run("--steps", "1-2")
    assert result.ret == 0
    assert project.ticked == ["2"]
    job = newest(project)
    assert psutil.pid_exists(job.pid)
    result.stdout.fnmatch_lines(
        [
            f"*step_1  started*{job.task_id}  {job.log}*",
            f"*its job is running (pid {job.pid}); watch it: pytest --steps-follow*",
        ]
    )
    assert "passed" in result.stdout.str().splitlines()[-1]
    assert "1 started" in result.stdout.str().splitlines()[-1]
    assert living(project.path) == [], "nothing of the session itself"
    assert project.run("--steps-stop", "1").ret == 0


def test_the_next_session_settles_a_job_that_has_ended_well(project: Project) -> None:
    training(project, WHEN_TOLD, more="  post_validation:\n    - {task: there, file: model}\n")
    assert project.run("--steps", "1").ret == 0
    assert project.ticked == []
    project.write("go", "")
    wait_for(lambda: newest(project).state == "passed")
    result = project.run("--steps", "2")
    assert result.ret == 0
    assert project.ticked == ["1", "2"]
    assert "✓ there" in result.stdout.str()


def test_post_validations_that_fail_leave_the_box_of_a_job_that_ended_well(project: Project) -> None:
    training(project, AFTER_STEP_2, more="  post_validation:\n    - {task: there, file: other}\n")
    result = project.run("--steps", "all")
    assert result.ret == 1
    assert project.ticked == ["2"]
    assert project.verdicts()["1"] == "failed"
    result.stdout.fnmatch_lines(["*step_3*blocked by step_1 (failed)*"])


def test_continue_waits_for_a_job_of_an_earlier_session_and_starts_no_second_one(project: Project) -> None:
    training(project, GOOD + "; echo once >> count")
    assert project.run("--steps", "1-2").ret == 0
    assert project.run("--steps", "continue").ret == 0
    assert project.ticked == ["1", "2", "3"]
    assert (project.path / "count").read_text() == "once\n"


def test_a_job_that_fails_while_the_session_waits_is_a_failure_of_the_session(project: Project) -> None:
    training(project, AFTER_STEP_2 + "; sleep 0.3; echo out of memory; exit 3")
    result = project.run("--steps", "all")
    assert result.ret == 1
    assert project.verdicts()["1"] == "failed"
    assert project.ticked == ["2"]
    result.stdout.fnmatch_lines(["*out of memory*"])
    assert "exit 3" in result.stdout.str()


def test_a_job_that_failed_between_two_sessions_is_told_and_tried_again_when_it_is_selected(
    project: Project,
) -> None:
    training(project, WHEN_TOLD + "; exit 3", meanwhile="  needs: []\n")
    assert project.run("--steps", "1").ret == 0
    project.write("go", "")
    wait_for(lambda: newest(project).state == "failed")
    result = project.run("--steps", "2")
    assert result.ret == 0, "it is no business of this session"
    result.stdout.fnmatch_lines(["*step_1's job failed: exit 3*"])
    assert project.verdicts()["1"] == "failed"
    assert project.run("--steps", "3").ret == 1
    training(project, GOOD)
    assert project.run("--steps", "continue").ret == 0
    assert project.ticked == ["1", "2", "3"]


# -- ready


def test_a_job_that_ends_well_before_it_is_ready_passes_at_once(project: Project) -> None:
    training(project, "echo weights > model", ready="{file: flag}")
    assert project.run("--steps", "1").ret == 0
    assert project.ticked == ["1"]


def test_a_job_that_dies_at_its_start_fails_the_step_with_its_last_words(project: Project) -> None:
    training(project, "echo no such dataset; exit 4")
    result = project.run("--steps", "all")
    assert result.ret == 1
    assert "no such dataset" in result.stdout.str()
    assert project.verdicts() == {"1": "failed"}
    result.stdout.fnmatch_lines(["*step_2*blocked by step_1 (failed)*"])


def test_a_job_that_does_not_become_ready_in_time_is_ended(project: Project) -> None:
    project.steps("Train").define(
        "step_1:\n  main:\n    mode: background\n    command: 'echo starting; sleep 60'\n"
        "    ready_when: {line: ready}\n    timeout: 1\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert "not ready after 1 s" in result.stdout.str()
    assert of_jobs(project.path) == []


def test_a_file_and_a_line_of_an_earlier_attempt_do_not_count(project: Project) -> None:
    project.write("checkpoint", "of yesterday")
    training(project, "sleep 0.6; echo now > checkpoint; sleep 60", ready="{file: checkpoint}")
    began = time.monotonic()
    assert project.run("--steps", "1").ret == 0
    assert time.monotonic() - began > 0.6
    assert project.run("--steps-stop", "1").ret == 0


# -- waiting at the end


def test_a_session_that_waits_settles_its_jobs_at_its_end(project: Project) -> None:
    training(project, GOOD)
    assert project.run("--steps", "1-2", "--steps-wait").ret == 0
    assert project.ticked == ["1", "2"]


def test_ci_waits_since_its_runner_kills_what_is_left(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    training(project, GOOD)
    assert project.run("--steps", "1").ret == 0
    assert project.ticked == ["1"]


def test_a_strict_session_that_does_not_wait_has_not_passed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    training(project, LONG)
    result = project.run("--steps", "1", "--no-steps-wait")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*counts as a failure*"])
    assert project.run("--steps-stop", "1").ret == 0


# -- side by side


def test_workers_start_a_job_wait_for_it_and_tick_it(project: Project) -> None:
    training(project, GOOD)
    result = project.run("--steps", "all", "-n", "2")
    assert result.ret == 0, result.stdout.str()
    assert project.ticked == ["1", "2", "3"]
    assert [r["status"] for r in project.events("attempt_finished", "1")] == ["started", "passed"]


# -- what dies


def test_killing_pytest_does_not_touch_the_job(project: Project) -> None:
    training(project, WHEN_TOLD, after="[1]")
    run = project.start("--steps", "all")
    wait_for(lambda: bool(project.events("attempt_finished", "1")))
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert psutil.pid_exists(newest(project).pid)
    assert project.ticked in (["2"], [])
    project.write("go", "")
    result = project.run("--steps", "continue")
    assert result.ret == 0, result.stdout.str()
    assert project.ticked == ["1", "2", "3"]


@pytest.mark.slow
def test_an_interrupt_of_the_wait_leaves_the_job(project: Project) -> None:
    training(project, WHEN_TOLD)
    run = project.start("--steps", "1", "--steps-wait")
    wait_for(lambda: bool(project.events("attempt_finished", "1")))
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert psutil.pid_exists(newest(project).pid)
    assert "started" in output
    assert not project.events("attempt_interrupted")
    project.write("go", "")
    wait_for(lambda: newest(project).state == "passed")
    assert project.run("--steps", "continue").ret == 0
    assert project.ticked == ["1", "2", "3"]


def test_an_interrupt_before_the_job_is_ready_ends_it(project: Project) -> None:
    training(project, "touch running; sleep 60")
    run = project.start("--steps", "1")
    wait_for((project.path / "running").exists)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    wait_for(lambda: of_jobs(project.path) == [])
    assert project.ticked == []


def test_a_job_whose_supervisor_was_killed_is_taken_over_by_the_next_session(project: Project) -> None:
    training(project, AFTER_STEP_2)
    assert project.run("--steps", "1").ret == 0
    job = newest(project)
    os.kill(job.supervisor, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(job.supervisor))
    result = project.run("--steps", "continue")
    assert result.ret == 0, result.stdout.str()
    assert "has a supervisor again" in result.stdout.str()
    assert project.ticked == ["1", "2", "3"]


def test_a_job_that_was_killed_never_passes(project: Project) -> None:
    training(project, LONG)
    assert project.run("--steps", "1").ret == 0
    job = newest(project)
    os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: not newest(project).live)
    result = project.run("--steps", "3")
    assert result.ret == 1
    assert project.ticked == []
    assert project.verdicts()["1"] == "failed"


# -- retries


def test_a_job_that_fails_is_started_again_within_its_retries(project: Project) -> None:
    command = AFTER_STEP_2.replace("; echo", "; test -e second || { touch second; exit 1; }; echo")
    training(project, command, more="  retries: 1\n")
    result = project.run("--steps", "all")
    assert result.ret == 0, result.stdout.str()
    assert project.ticked == ["1", "2", "3"]
    assert len(project.events("attempt_started", "1")) == 2
    assert re.search(r"\[RETRY\] exit failed: attempt 2 of 2", result.stdout.str())


def test_alerts_of_a_job_are_shown_while_other_steps_run(project: Project) -> None:
    project.steps("Train", "Meanwhile").define(
        "step_1:\n  main:\n    mode: background\n    command: 'echo ready; sleep 60'\n"
        "    ready_when: {line: ready}\n"
        "  background:\n    - {task: watch_loss, command: 'cat loss', interval: 0.1, alert_on: nan}\n"
        "step_2:\n  main: 'echo loss=nan > loss; "
        'until grep -q "event[^.a-z]*alert" .task_execution.log; do sleep 0.1; done; sleep 1.5\'\n'
    )
    project.write("loss", "loss=1.0\n")
    result = project.run("--steps", "1-2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*! watch_loss: loss=nan*"])
    assert project.events("alert", "1")
    assert project.run("--steps-stop", "1").ret == 0
