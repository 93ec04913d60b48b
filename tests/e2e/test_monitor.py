"""``--steps-monitor``, ``--steps-follow`` and ``--steps-stop``: what they say of real processes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.record import jobs, journal, lock
from pytest_tinker_steps.record.jobs import Alert, Job
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.background.job_spec import LOCK

from .conftest import Project

TASK = "task_13_1a2b3c4d"

HOLDER = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
time.sleep(60)
"""
"""Takes a lock, says so by a file, and keeps it."""


class Jobs:
    """Background jobs of a project: processes that sleep, and what a supervisor would write."""

    def __init__(self, project: Project) -> None:
        self.state = project.path / ".steps"
        self._path = project.path
        self._children: list[subprocess.Popen[bytes]] = []

    def process(self, *command: str | Path, **environ: str) -> int:
        """A process in a session of its own."""
        child = subprocess.Popen(
            command, start_new_session=True, cwd=self._path, env={**os.environ, **environ}
        )
        self._children.append(child)
        return child.pid

    def supervisor(self, folder: Path) -> int:
        """A process that holds a job's lock, as its supervisor does."""
        folder.mkdir(parents=True)
        pid = self.process(sys.executable, "-I", "-S", "-c", HOLDER, folder / LOCK, folder / "held")
        wait_for((folder / "held").exists)
        return pid

    def kill(self, pid: int) -> None:
        child = next(child for child in self._children if child.pid == pid)
        child.kill()
        child.wait()

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()

    def alive(self, step: str = "13", **more: Any) -> Job:
        """A job that runs, and has a supervisor."""
        task_id = f"task_{step}_1a2b3c4d"
        pid = self.process("sleep", "60", TINKER_STEPS_JOB=task_id)
        supervisor = self.supervisor(jobs.folder_of(self.state, task_id))
        return self.write(
            Job(
                step,
                task_id,
                run_id="run_1",
                command="python train.py",
                pid=pid,
                start=proctree.started(pid) or 0.0,
                supervisor=supervisor,
                supervisor_start=proctree.started(supervisor) or 0.0,
                boot=proctree.boot(),
                began=journal.now(),
                began_clock=time.monotonic(),
                state=jobs.RUNNING,
                ready=True,
                log=f".steps/jobs/{task_id}/main.log",
                **more,
            )
        )

    def write(self, job: Job) -> Job:
        jobs.write(jobs.folder_of(self.state, job.task_id), job)
        return job

    def ends(self, job: Job, state: str = jobs.PASSED, reason: str = "") -> Job:
        """What its supervisor writes last, before it ends too."""
        ended = self.write(replace(job, state=state, reason=reason, ended=journal.now(), seconds=7.0))
        self.kill(job.pid)
        self.kill(job.supervisor)
        return ended


@pytest.fixture
def background(project: Project) -> Iterator[Jobs]:
    made = Jobs(project)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _a_list_of_fourteen_steps(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    project.steps(*(f"Work {number}" for number in range(1, 15)))


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def shown(project: Project, *args: str) -> list[str]:
    """The lines of ``--steps-monitor``, with times replaced."""
    result = project.run("--steps-monitor", *args)
    assert result.ret == 0
    assert not result.stderr.lines
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}Z", "TIME", result.stdout.str())
    return [" ".join(line.split()) for line in re.sub(r"\b\d+\.\ds", "n s", text).splitlines()]


def usage_error(result: pytest.RunResult) -> list[str]:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stdout.str().strip() == ""
    return [line.removeprefix("ERROR: ") for line in result.stderr.lines if line]


# -- looking


@pytest.mark.parametrize("command", ["--steps-monitor", "--steps-follow", "--steps-stop=13"])
def test_what_the_encoding_of_the_output_lacks_is_escaped(
    project: Project, background: Jobs, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    background.ends(background.alive("12"), jobs.FAILED, "no café")
    if command == "--steps-stop=13":
        background.alive()
    ended = project.start(command)
    output, _ = ended.communicate(timeout=60)
    assert ended.returncode == 0, output
    assert ("\\u2713 step_13" if "stop" in command else "\\u2717") in output


def test_a_list_without_jobs(project: Project) -> None:
    assert shown(project) == ["SPEC.md: no jobs"]
    assert not (project.path / ".steps").exists()


def test_a_job_that_runs(project: Project, background: Jobs) -> None:
    job = background.alive(
        progress=(500.0, 5000.0, 12.3),
        samples={"monitor_loss": "step 100 loss 0.81"},
        alerts=(Alert(journal.now(), "monitor_loss", "loss=nan"),),
        alert_count=1,
    )
    assert shown(project) == [
        "SPEC.md: 1 job alive",
        "",
        "step state since for pid progress",
        f"step_13 running TIME n s {job.pid} 500/5000 [10%] 12.3/s eta 6:06",
        "monitor_loss step 100 loss 0.81",
        "! 1 alert:",
        "! TIME monitor_loss: loss=nan",
        f"log .steps/jobs/{TASK}/main.log",
        "",
        "to watch: pytest --steps-follow",
        "to end: pytest --steps-stop 13",
    ]


def test_a_job_whose_supervisor_was_killed_is_running_without_it(project: Project, background: Jobs) -> None:
    background.kill(background.alive().supervisor)
    lines = shown(project)
    assert any(line.startswith("step_13 running, without its supervisor TIME") for line in lines)
    assert lines[-1] == "next: pytest --steps continue (supervises the job of step 13 again)"


def test_a_job_that_was_killed_with_its_supervisor_is_lost(project: Project, background: Jobs) -> None:
    job = background.alive()
    background.kill(job.supervisor)
    background.kill(job.pid)
    lines = shown(project)
    assert lines[0] == "SPEC.md: no job alive, 1 lost"
    assert any(line.startswith("step_13 lost TIME") for line in lines)


def test_a_process_that_got_the_number_of_a_job_is_not_the_job(project: Project, background: Jobs) -> None:
    job = background.alive()
    background.kill(job.supervisor)
    background.kill(job.pid)
    other = background.process("sleep", "60")
    background.write(replace(job, pid=other))
    assert shown(project)[0] == "SPEC.md: no job alive, 1 lost"


def test_a_job_that_ended_well_waits_for_its_validations_until_the_journal_has_a_verdict(
    project: Project, background: Jobs
) -> None:
    background.ends(background.alive())
    log = journal.Journal(project.path / ".task_execution.log", "run_1")
    log.append("attempt_started", step="13", task_id=TASK, status="running")
    log.append("attempt_finished", step="13", task_id=TASK, status="started")
    lines = shown(project)
    assert lines[0] == "SPEC.md: no job alive, 1 ended well and not validated yet"
    assert lines[-1] == "next: pytest --steps continue (validates step 13, then ticks)"
    log.append("attempt_finished", step="13", task_id=TASK, status="passed")
    log.close()
    assert shown(project) == [
        "SPEC.md: no job alive",
        "",
        "ended:",
        "✓ step_13 passed TIME its job ended well after n s",
    ]


@pytest.mark.parametrize("option", [["--steps-monitor"], ["--steps-stop", "2"]], ids=lambda args: args[0])
def test_broken_definitions_and_a_session_that_runs_are_no_obstacle(
    project: Project, background: Jobs, option: list[str]
) -> None:
    project.define("step_1: [this is\n  no: definition")
    background.alive()
    held = lock.acquire(background.state, "SPEC.md", "pytest --steps all")
    try:
        result = project.run(*option)
    finally:
        held.release()
    assert result.ret == 0
    assert not result.stderr.lines


def test_jobs_of_a_list_that_was_moved_away_are_still_shown_and_ended(
    project: Project, background: Jobs
) -> None:
    job = background.alive()
    background.kill(job.supervisor)
    (project.path / "SPEC.md").unlink()
    assert shown(project)[0] == "SPEC.md: 1 job alive"
    assert project.run("--steps-stop", "13").ret == 0
    assert not proctree.alive(job.pid, job.start)


def test_a_list_that_the_command_line_names(project: Project, background: Jobs) -> None:
    background.alive()
    project.write("plans/release.md", "- [ ] 1. Work\n")
    assert shown(project, "plans/release.md") == ["plans/release.md: no jobs"]
    (error,) = usage_error(project.run("--steps-monitor", "none/such.md"))
    assert error.startswith(f"{project.path}/none/such.md: there is no such task list; name it")
    (error,) = usage_error(project.run("--steps-follow", "plans/release.md", "SPEC.md"))
    assert error.endswith("one task list, please")


# -- following


@contextlib.contextmanager
def following(project: Project) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """``--steps-follow`` whose output is no terminal, and what reads it up to a line with some words."""
    run = project.start("--steps-follow")
    assert run.stdout is not None
    output = run.stdout

    def read_until(words: str) -> str:
        text = line = output.readline()
        while words not in line:
            line = output.readline()
            assert line, text
            text += line
        return text

    try:
        yield run, read_until
    finally:
        run.kill()
        run.wait()
        output.close()


def test_following_says_what_changed_and_ends_with_the_last_job(project: Project, background: Jobs) -> None:
    job = background.alive()
    with following(project) as (run, read_until):
        first = read_until("to end:").splitlines()
        assert re.fullmatch(r"-- \d{4}-\d\d-\d\dT[\d:.]+Z", first[0])
        assert first[1] == "SPEC.md: 1 job alive"
        time.sleep(1.5)  # nothing happens, so nothing is said
        background.write(replace(job, samples={"monitor_loss": "step 100 loss 0.81"}))
        assert read_until("step 100").count("-- 20") == 1
        background.ends(job)
        rest = read_until("next:")
        assert run.wait(60) == 0
    assert rest.count("-- 20") == 1
    assert "validates step 13, then ticks" in rest
    assert "to watch" not in rest


def test_following_a_job_that_fails_ends_with_1(project: Project, background: Jobs) -> None:
    background.ends(background.alive("12"), jobs.FAILED, "exit 1")  # before, so it does not count
    assert project.run("--steps-follow").ret == 0
    job = background.alive()
    with following(project) as (run, read_until):
        read_until("step_13")
        background.ends(job, jobs.FAILED, "exit 3: out of memory")
        read_until("✗ exit 3: out of memory")
        assert run.wait(60) == 1


def test_ctrl_c_ends_the_following_and_no_job(project: Project, background: Jobs) -> None:
    job = background.alive()
    with following(project) as (run, read_until):
        read_until("to end:")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 2
        assert run.stdout is not None
        assert run.stdout.read().strip() == ""
    assert proctree.alive(job.pid, job.start)


@contextlib.contextmanager
def on_a_terminal(project: Project) -> Iterator[Callable[[str], str]]:
    """``--steps-follow`` on a terminal, and what reads on until some words come, and gives all so far."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--steps-follow"],
        cwd=project.path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    data = b""

    def read_until(words: str) -> str:
        nonlocal data
        while words.encode() not in data:
            data += os.read(ours, 65536)
        return data.decode()

    try:
        yield read_until
        assert run.wait(60) == 0
    finally:
        run.kill()
        run.wait()
        os.close(ours)


AGAIN = re.compile(r"\x1b\[(\d+)F\x1b\[J")
"""Up by so many lines, and everything below is wiped."""


def test_on_a_terminal_the_table_is_painted_over_the_one_before(project: Project, background: Jobs) -> None:
    job = background.alive()
    with on_a_terminal(project) as read_until:
        read_until("--steps-stop 13\r\n")
        background.ends(job)
        text = read_until("validates step 13, then ticks)\r\n")
    first, *rest = AGAIN.split(text.removeprefix("\x1b[J"))
    ups, frames = rest[::2], [first, *rest[1::2]]
    assert len(frames) > 1
    assert all(frame.startswith("SPEC.md: ") for frame in frames)
    # Every frame begins where the one before began.
    assert [int(up) for up in ups] == [frame.count("\n") for frame in frames[:-1]]


def test_a_terminal_of_another_encoding_gets_the_table_too(
    project: Project, background: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    background.ends(background.alive("12"), jobs.FAILED, "no luck")
    job = background.alive()
    with on_a_terminal(project) as read_until:
        assert "\\u2717" in read_until("--steps-stop 13\r\n")
        background.ends(job)


def test_a_table_that_is_longer_than_the_terminal_is_cut_until_the_last_one(
    project: Project, background: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "8")
    made = [background.alive(step) for step in ("10", "11", "12", "13")]
    with on_a_terminal(project) as read_until:
        text = read_until("--steps-monitor shows it\r\n")
        assert text.count("\n") < 8
        for job in made:
            background.ends(job)
        text = read_until("validates steps 10,11,12,13, then ticks)\r\n")
    last = AGAIN.split(text)[-1]
    assert all(f"step_{step} " in last for step in ("10", "11", "12", "13"))


# -- ending


def test_a_job_is_ended_and_it_is_recorded_who_did_it(project: Project, background: Jobs) -> None:
    job, other = background.alive(), background.alive("14")
    background.kill(job.supervisor)
    result = project.run("--steps-stop", "13")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f"step_13: ending its job (pid {job.pid}) ...",
            f"✓ step_13: its job failed after *; log .steps/jobs/{TASK}/main.log",
        ]
    )
    assert not proctree.alive(job.pid, job.start)
    assert proctree.alive(other.pid, other.start)
    ended = jobs.read(jobs.folder_of(background.state, TASK))
    assert ended is not None
    assert ended.state == jobs.FAILED
    assert re.fullmatch(rf"\S+@\S+ pid {os.getpid()}: pytest .*--steps-stop 13", ended.stopped_by)


def test_all_jobs_are_ended(project: Project, background: Jobs) -> None:
    made = [background.alive(step) for step in ("12", "13")]
    for job in made:
        background.kill(job.supervisor)
    assert project.run("--steps-stop", "all").ret == 0
    assert not any(proctree.alive(job.pid, job.start) for job in made)
    result = project.run("--steps-stop", "all")
    assert result.ret == 0
    assert result.stdout.lines == ["SPEC.md: no job is alive"]


def test_steps_without_a_job_that_lives_are_named(project: Project, background: Jobs) -> None:
    background.ends(background.alive())
    result = project.run("--steps-stop", "12-14")
    assert result.ret == 0
    assert result.stdout.lines == ["- without a job that is alive: step_12, step_13, step_14"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("15", "--steps-stop 15: there is no step 15; SPEC.md has *"),
        ("continue", "--steps-stop continue: name the steps, for example 13 or 1-5, or all of them"),
        ("next:2", "--steps-stop next:2: name the steps, for example 13 or 1-5, or all of them"),
        ("", "--steps-stop '': nothing is selected; *"),
    ],
)
def test_a_selection_that_names_no_step_is_one_line(
    project: Project, background: Jobs, selection: str, message: str
) -> None:
    job = background.alive()
    (error,) = usage_error(project.run("--steps-stop", selection))
    pytest.LineMatcher([error]).fnmatch_lines([message])
    assert proctree.alive(job.pid, job.start)


# -- the other options


@pytest.mark.parametrize("text", ["much", "0", "-5", "nan", "inf", "50$", ""])
def test_a_budget_that_is_none_is_one_line(project: Project, text: str) -> None:
    result = project.run("--steps", "1", f"--steps-budget={text}")
    assert usage_error(result) == [f"--steps-budget {text}: give US dollars above 0, for example 50 or 2.50"]


def test_waiting_is_neither_on_nor_off_unless_said(project: Project) -> None:
    for args, value in (([], None), (["--steps-wait"], True), (["--no-steps-wait"], False)):
        config = project.pytester.parseconfig("-p", "no:hypothesispytest", *args)
        assert config.option.steps_wait is value
