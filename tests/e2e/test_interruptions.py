"""Ctrl-C, signals, kill -9, two runs at once, and mains that do not want to end: with real processes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pytest_tinker_steps.record import journal

from .conftest import Project


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def living(folder: Path) -> list[str]:
    """Command lines of processes that a step in this folder started and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if "TINKER_STEPS_SESSION" in process.environ() and process.cwd().startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def strays(folder: Path) -> list[str]:
    """Command lines of processes in this folder, whatever their environment, but for ourselves."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd().startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in found if "guardian.py" not in line]


def started(project: Project, *args: str, patience: float = 60.0) -> subprocess.Popen[str]:
    """A run whose main has begun: it writes ``running``."""
    run = project.start(*args)
    wait_for((project.path / "running").exists, patience)
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_its_processes_and_says_where_it_was(
    project: Project, number: signal.Signals
) -> None:
    project.commands("touch running; sleep 60", "true")
    run = started(project, "--steps", "all")
    time.sleep(0.2)
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert re.search(r"step_1  interrupted +\d+\.\ds  task_1_\w{8}", output)
    assert not re.search(r"interrupted +0\.0s", output)
    assert living(project.path) == []
    assert project.events("attempt_interrupted", "1")
    assert project.ticked == []
    project.commands("true", "true")
    assert project.run("--steps", "continue").ret == 0


def test_a_second_interrupt_does_not_wait_for_a_main_that_ignores_the_first(project: Project) -> None:
    project.commands("trap '' TERM INT; touch running; while :; do sleep 0.1; done")
    # A main that does not end is waited for so long that nobody takes it for the second interrupt.
    project.write(
        "conftest.py",
        "from pytest_tinker_steps.run.process import Processes\n"
        "Processes.run.__kwdefaults__['signals'] = ((15, 120.0), (9, 60.0))\n",
    )
    run = started(project, "--steps", "1")
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert living(project.path) == []


def test_after_kill_9_nothing_runs_on_and_the_lock_is_free_then(project: Project) -> None:
    project.commands("trap '' TERM; touch running; (setsid sleep 60 &) ; sleep 60")
    run = started(project, "--steps", "1")
    run.kill()
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    assert [r["event"] for r in project.journal][-1] == "attempt_started"
    project.commands("true")
    result = project.run("--steps", "continue")
    assert result.ret == 0
    assert project.ticked == ["1"]


def test_the_second_of_two_runs_says_who_holds_the_list(project: Project) -> None:
    project.commands("touch running; sleep 60")
    run = started(project, "--steps", "1")
    try:
        result = project.run("--steps", "1")
        assert result.ret == 4
        line = result.stderr.lines[0]
        assert re.fullmatch(
            rf"ERROR: SPEC.md: another run holds this list: pid {run.pid} since \S+Z "
            r"\(pytest --steps 1\); wait for it, or end it",
            line,
        )
        assert len(project.events("run_started")) == 1
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
    assert project.run("--steps", "1", "--collect-only").ret == 0


def test_the_lock_covers_the_mains_of_a_controller_that_was_killed(project: Project) -> None:
    # Nobody ends this one for a while: the guardian gives it three seconds after TERM.
    project.commands("trap '' TERM; touch running; until test -e go; do sleep 0.1; done")
    run = started(project, "--steps", "1")
    run.kill()
    run.communicate()
    project.define("step_1: {main: 'true'}\n")
    second = project.start("--steps", "1")
    time.sleep(1)
    assert living(project.path) == [] or second.poll() is None, (
        "the second run began beside the first one's main"
    )
    project.write("go", "")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert living(project.path) == []


MAINS = {
    "double fork": "touch running; (setsid sh -c 'sleep 60 & sleep 60' &) ; exit 0",
    "ignores TERM": "touch running; (trap '' TERM; sleep 60; sleep 60) & exit 0",
    "closes its output": "touch running; sleep 60 >/dev/null 2>&1 </dev/null & exit 0",
    "floods its output": "touch running; yes & sleep 0.5; exit 0",
    "no environment": "touch running; env -i setsid sleep 60 & sleep 1; exit 0",
}


@pytest.mark.parametrize("main", MAINS.values(), ids=MAINS.keys())
def test_what_a_main_leaves_running_is_ended_with_its_attempt_and_said(project: Project, main: str) -> None:
    project.commands(main)
    result = project.run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert strays(project.path) == []
    if "yes" not in main:  # that one ends by itself once nobody reads it
        result.stdout.fnmatch_lines(["*were left running by this attempt and have been ended"])
        assert project.events("left_behind", "1")


def test_a_main_that_closes_its_output_and_stays_ends_at_its_deadline(project: Project) -> None:
    project.steps("Work").define("step_1: {main: {command: 'exec >&- 2>&-; sleep 60', timeout: 1}}\n")
    began = time.monotonic()
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert time.monotonic() - began < 40
    result.stdout.fnmatch_lines(["main failed: no end after 1 s*"])


def test_processes_of_a_python_main_end_with_it(project: Project) -> None:
    project.write("work.py", "import subprocess\ndef main():\n    subprocess.Popen(['sleep', '60'])\n")
    project.steps("Work").define("step_1: {main: {python: 'work:main'}}\n")
    result = project.run("--steps", "1", "-W", "ignore::ResourceWarning")
    assert result.ret == 0, result.stdout.str()
    assert project.events("left_behind", "1")


@pytest.mark.slow
def test_fifty_kills_at_random_moments_of_a_ten_step_plan(pytester: pytest.Pytester) -> None:
    """At the end every step ran to a pass, every tick has a record, and only ticks differ."""
    project = Project(pytester)
    work = "echo begin >> log.$STEP_ID; sleep 0.15; echo x > out.$STEP_ID; echo end >> log.$STEP_ID"
    project.steps(*(f"Work {number}" for number in range(1, 11)))
    original = project.spec
    project.define(
        "".join(
            textwrap.dedent(
                f"""
                step_{number}:
                  pre_flight: [{{task: folder, command: "test -d ."}}]
                  main: "{work}"
                  post_validation: [{{task: made, command: "test -s out.$STEP_ID"}}]
                  outputs: [out.{number}]
                """
            )
            for number in range(1, 11)
        )
    )
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(50):
        run = project.start("--steps", "continue")
        time.sleep(chance.uniform(0.2, 1.6))
        run.kill()
        run.communicate()
        wait_for(lambda: living(project.path) == [])
        check_consistent(project, original)
        if len(project.ticked) == 10:
            # Begin again, so that every kill has something to hit.
            project.write("SPEC.md", original)
            (project.path / ".task_execution.log").unlink()
            for path in project.path.glob("out.*"):
                path.unlink()
    last = project.start("--steps", "continue")
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output
    check_consistent(project, original)
    assert len(project.ticked) == 10
    assert set(project.verdicts().values()) == {"passed"}
    assert living(project.path) == []


def check_consistent(project: Project, original: str) -> None:
    spec = project.spec
    assert re.sub(r" ✓ \[[^\]]+\] \[task_\w+\]", "", spec).replace("[x]", "[ ]") == original
    passed = {
        record["task_id"]
        for record in journal.read(project.path / ".task_execution.log")
        if record["event"] == "attempt_finished" and record["status"] == "passed"
    }
    for task_id in re.findall(r"\[(task_\w+)\]", spec):
        assert task_id in passed, f"{task_id} is ticked without a record"
