"""Mains that a runner hands to something else, here to an engine that stands for a cluster's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import fake_engine

from .conftest import Project
from .test_interruptions import living, started, wait_for

SECRET = "tml-0123456789abcdef"
ENDLESS = "echo $$ > pid; touch running; exec env -i sleep 987"
"""Work that carries no mark of ours, so that nobody but its engine can end it."""


class Engine:
    """An engine that runs.

    Attributes:
        runners: what makes two runners of it: ``cluster``, which has a stop, and ``alone``, which has none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = [sys.executable, fake_engine.__file__, str(folder / "socket")]
        self.runners = json.dumps(
            {
                "runners": {
                    "cluster": {
                        "command": [*self.words, "submit", "{run}"],
                        "stop": [*self.words, "stop", "{run}"],
                    },
                    "stopless": [*self.words, "submit", "{run}"],
                    "alone": [*self.words, "alone"],
                }
            }
        )[1:-1]
        self._process = subprocess.Popen(
            [*self.words, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    @property
    def handed(self) -> list[list[str]]:
        path = self.folder / "handed"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def of(self, word: str) -> list[list[str]]:
        return [words[1:] for words in self.handed if words[0] == word]

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        made = Engine(Path(folder))
        yield made
        made.close()


def plan(project: Project, engine: Engine, **steps: object) -> None:
    """Definitions with the runners of the engine, and a step for each."""
    project.steps(*(f"Work {number}" for number in range(1, len(steps) + 1)))
    body = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in steps.items())
    project.define("{" + engine.runners + body + "}\n")


def alive(project: Project) -> bool:
    """Whether the work that wrote its process id still runs."""
    try:
        state = Path(f"/proc/{(project.path / 'pid').read_text().strip()}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(") ")[2][0] not in "ZX"


def notes(project: Project) -> list[str]:
    return [str(event["text"]) for event in project.events("note")]


def nothing_is_left_of_it(project: Project) -> None:
    wait_for(lambda: not alive(project))
    assert living(project.path) == []
    assert list(project.path.glob(".steps/**/*.sh")) == []


# -- what passes through


@pytest.mark.parametrize("runner", ["cluster", "alone"])
def test_all_that_a_main_is_given_and_says_passes_through(
    project: Project, engine: Engine, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "of the session")
    project.write(
        "sub/work.py",
        "import json, os, sys\n"
        "print(sys.argv[1:], os.getcwd(), os.environ.get('ONLY_HERE'))\n"
        "print(os.environ['QUOTED'], os.environ['LEVEL'], os.environ['STEP_ID'], os.environ['ATTEMPT'])\n"
        "assert os.environ['TASK_ID'] == os.environ['TINKER_STEPS_ATTEMPT']\n"
        "assert 'Read me' in open(os.environ['BRIEF_FILE']).read()\n"
        "with open(os.environ['TINKER_STEPS_EVENTS'], 'a') as file:\n"
        "    for said in ({'progress': [1, 2]}, {'metric': 'loss', 'value': 0.5}, {'note': 'halfway'},\n"
        "                 {'criterion': 'Loss fell'}):\n"
        "        print(json.dumps(said), file=file)\n",
    )
    value = 'it\'s "$HOME" and\n`two` lines'
    work = {
        "main": {
            "script": "work.py",
            "args": ["a b", "$HOME", "it's"],
            "cwd": "sub",
            "runner": runner,
            "env": {"QUOTED": value, "LEVEL": "main", "API_KEY": SECRET},
            "success_criteria": ["Loss fell"],
        },
        "env": {"LEVEL": "step"},
    }
    plan(project, engine, step_1=work)
    project.write("SPEC.md", "- [ ] **STEP 1**: Work\n\n  Read me.\n")
    result = project.run("--steps", "all")
    assert result.ret == 0, result.stdout.str()
    said = next(project.path.glob(".steps/logs/*/main.log")).read_text()
    assert f"['a b', '$HOME', \"it's\"] {project.path / 'sub'} None\n" in said
    assert f"{value} main 1 1\n" in said
    assert [event["value"] for event in project.events("metric")] == [0.5]
    assert notes(project) == ["halfway"]
    assert project.events("progress")
    assert project.events("criterion")
    assert project.ticked == ["1"]
    (words,) = engine.handed
    assert words[-2:-1] == ["/bin/sh"]
    assert SECRET not in str(words)
    assert list(project.path.glob(".steps/**/*.sh")) == []


def test_every_process_of_every_kind_of_main_is_handed_over_and_nothing_else(
    project: Project, engine: Engine
) -> None:
    pieces = {"timeout": 60, "quality": [{"task": "good", "command": 'test -s "$CHUNK_OUTPUT"'}]}
    plan(
        project,
        engine,
        step_1={
            "pre_flight": [{"task": "before", "command": "true"}],
            "main": {"command": "test x = x && echo shell", "test_first": "echo first", "runner": "alone"},
            "post_validation": [{"task": "after", "command": "true"}],
        },
        step_2={"main": {"command": ["sh", "-c", 'echo "$0"', "a  list"], "runner": "alone"}},
        step_3={
            "main": {
                **pieces,
                "mode": "chunked",
                "command": 'echo {chunk.start} "$CHUNK_SIZE" > {chunk.output}',
                "chunks": [1, 2],
                "output": "joined.txt",
                "runner": "cluster",
            }
        },
        step_4={
            "main": {
                "mode": "stream",
                "command": ["sh", "-c", "echo {batch.start} > {batch.output}"],
                "batch_size": 2,
                "total": 3,
                "output": "batches.txt",
                "runner": "cluster",
            }
        },
    )
    result = project.run("--steps", "all")
    assert result.ret == 0, result.stdout.str()
    assert (project.path / "joined.txt").read_text() == "0 1\n1 2\n"
    assert (project.path / "batches.txt").read_text() == "0\n2\n"
    runs = [words[0] for words in engine.of("submit")]
    assert len(runs) == len(set(runs)) == 4
    assert len(engine.of("alone")) == 3
    assert engine.of("stop") == []
    assert "a  list" in "".join(path.read_text() for path in project.path.glob(".steps/logs/*/main.log"))


@pytest.mark.parametrize("runner", ["cluster", "alone"])
def test_the_exit_status_and_the_last_words_are_those_of_the_main(
    project: Project, engine: Engine, runner: str
) -> None:
    plan(project, engine, step_1={"main": {"command": "echo out of memory; exit 9", "runner": runner}})
    result = project.run("--steps", "all")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*main failed: exit 9: out of memory*"])
    assert engine.of("stop") == [], "it has come to its end by itself"


def test_a_prefix_that_is_not_there_is_told(project: Project, engine: Engine) -> None:
    project.steps("Work").define("{runners: {x: [no-such-engine]}, step_1: {main: {command: x, runner: x}}}")
    result = project.run("--steps", "all")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*main failed: No such file or directory: 'no-such-engine'*"])
    nothing_is_left_of_it(project)


# -- the end


def test_a_deadline_ends_the_work_elsewhere(project: Project, engine: Engine) -> None:
    plan(project, engine, step_1={"main": {"command": ENDLESS, "timeout": 3, "runner": "cluster"}})
    result = project.run("--steps", "all")
    result.stdout.fnmatch_lines(["*no end after 3 s*"])
    ((run, *_),) = engine.of("submit")
    assert engine.of("stop") == [[run]]
    (note,) = notes(project)
    assert note == f"runner cluster: {' '.join([*engine.words, 'stop', run])}"
    nothing_is_left_of_it(project)


@pytest.mark.parametrize("args", [(), ("-n", "1")], ids=" ".join)
def test_ctrl_c_ends_the_work_elsewhere(project: Project, engine: Engine, args: tuple[str, ...]) -> None:
    plan(project, engine, step_1={"main": {"command": ENDLESS, "runner": "cluster"}})
    run = started(project, "--steps", "all", *args)
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2, output
    assert len(engine.of("stop")) == 1
    nothing_is_left_of_it(project)


def test_a_monitor_ends_the_work_elsewhere(project: Project, engine: Engine) -> None:
    plan(
        project,
        engine,
        step_1={
            "main": {"command": ENDLESS, "runner": "cluster"},
            "background": [{"alert": "cat running && echo bad", "interval": 0.2, "on_alert": "stop"}],
        },
    )
    result = project.run("--steps", "all")
    result.stdout.fnmatch_lines(["*main failed: stopped by *"])
    assert len(engine.of("stop")) == 1
    nothing_is_left_of_it(project)


@pytest.mark.slow
def test_a_piece_that_is_ended_is_ended_elsewhere_too_and_tried_again_under_another_name(
    project: Project, engine: Engine
) -> None:
    main = {
        "mode": "chunked",
        "command": f'test -e pid && echo again > "$CHUNK_OUTPUT" && exit; {ENDLESS}',
        "chunks": [1],
        "output": "out.txt",
        "timeout": 5,
        "retries": 1,
        "runner": "cluster",
    }
    plan(project, engine, step_1={"main": main})
    assert project.run("--steps", "all").ret == 0
    first, second = (words[0] for words in engine.of("submit"))
    assert first != second
    assert engine.of("stop") == [[first]]
    nothing_is_left_of_it(project)


@pytest.mark.slow
def test_a_stop_that_fails_is_told_and_changes_nothing(project: Project, engine: Engine) -> None:
    plan(project, engine, step_1={"main": {"command": "sleep 987", "timeout": 3, "runner": "cluster"}})
    text = (project.path / ".claude/tasks/step_definitions.yaml").read_text()
    project.define(text.replace('"stop", "{run}"', '"stop", "not-{run}"'))
    result = project.run("--steps", "all")
    result.stdout.fnmatch_lines(["*no end after 3 s*"])
    (note,) = notes(project)
    assert ": exit 4: there is no not-task-1-" in note
    nothing_is_left_of_it(project)


def test_on_the_same_machine_work_is_ended_with_its_attempt_also_without_a_stop(
    project: Project, engine: Engine
) -> None:
    work = "echo $$ > pid; sleep 987"
    plan(project, engine, step_1={"main": {"command": work, "timeout": 3, "runner": "stopless"}})
    project.run("--steps", "all")
    assert project.events("left_behind")
    nothing_is_left_of_it(project)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "with a worker"])
def test_work_ends_wherever_it_is_when_pytest_is_killed(
    project: Project, engine: Engine, workers: tuple[str, ...]
) -> None:
    plan(project, engine, step_1={"main": {"command": ENDLESS, "runner": "cluster", "env": {"A": "it's"}}})
    run = started(project, "--steps", "all", *workers)
    run.kill()
    run.communicate()
    wait_for(lambda: not alive(project))
    wait_for(lambda: bool(engine.of("stop")))
    assert engine.of("stop") == [[words[0]] for words in engine.of("submit")]
    wait_for(lambda: list(project.path.glob(".steps/**/*.sh")) == [])
    wait_for(lambda: living(project.path) == [])


def test_on_the_same_machine_work_ends_when_pytest_is_killed(project: Project, engine: Engine) -> None:
    work = "echo $$ > pid; touch running; sleep 987"
    plan(project, engine, step_1={"main": {"command": work, "runner": "stopless"}})
    run = started(project, "--steps", "all")
    run.kill()
    run.communicate()
    wait_for(lambda: not alive(project))
    wait_for(lambda: list(project.path.glob(".steps/**/*.sh")) == [])


# -- background jobs


def a_job(**more: object) -> dict[str, object]:
    return {
        "main": {
            "mode": "background",
            "command": 'echo "the job: $LEVEL"; '
            f'echo \'{{"note": "alive"}}\' >> "$TINKER_STEPS_EVENTS"; {ENDLESS}',
            "env": {"LEVEL": "main"},
            "ready_when": {"line": "the job: main"},
            "runner": "cluster",
            **more,
        }
    }


def test_a_job_is_handed_over_and_stopped_elsewhere(project: Project, engine: Engine) -> None:
    plan(project, engine, step_1=a_job())
    run = project.start("--steps", "all")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert "Step 1 started" in output
    wait_for(lambda: alive(project))
    wait_for(lambda: "alive" in notes(project))
    assert engine.of("stop") == []
    stop = project.start("--steps-stop", "1")
    output, _ = stop.communicate(timeout=120)
    assert stop.returncode == 0, output
    assert len(engine.of("stop")) == 1
    assert any(note.startswith("runner cluster: ") for note in notes(project))
    nothing_is_left_of_it(project)


@pytest.mark.slow
def test_the_deadline_of_a_job_ends_it_elsewhere(project: Project, engine: Engine) -> None:
    plan(project, engine, step_1=a_job(max_runtime=4))
    run = project.start("--steps", "all", "--steps-wait")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert "no end after 4 s" in output
    assert len(engine.of("stop")) == 1
    nothing_is_left_of_it(project)


@pytest.mark.slow
def test_a_job_without_its_supervisor_is_stopped_elsewhere(project: Project, engine: Engine) -> None:
    plan(project, engine, step_1=a_job())
    run = project.start("--steps", "all")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    known = json.loads(next(project.path.glob(".steps/jobs/*/job.json")).read_text())
    os.kill(known["supervisor"], signal.SIGKILL)
    stop = project.start("--steps-stop", "1")
    output, _ = stop.communicate(timeout=120)
    assert stop.returncode == 0, output
    assert len(engine.of("stop")) == 1
    nothing_is_left_of_it(project)


def test_a_job_that_ends_by_itself_is_not_stopped(project: Project, engine: Engine) -> None:
    main = {"mode": "background", "command": "echo done > out.txt", "runner": "cluster"}
    plan(project, engine, step_1={"main": main, "outputs": ["out.txt"]})
    run = project.start("--steps", "all", "--steps-wait")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert project.ticked == ["1"]
    assert engine.of("stop") == []
    nothing_is_left_of_it(project)


# -- after the death of a worker


@pytest.mark.slow
@pytest.mark.parametrize("by", ["guardian", "next"])
def test_the_next_attempt_begins_when_what_ends_the_dead_one_elsewhere_is_over(
    project: Project, by: str
) -> None:
    project.steps("Work").define(
        """
runners: {slow: {command: [env], stop: [sh, stop.sh, "{run}"]}}
step_1:
  retries: 1
  main: {runner: slow, command: 'test -e pid || exec sh first.sh; touch second; test -e stopped'}
"""
    )
    project.write("first.sh", ENDLESS + "\n")
    # It waits for what must not happen, so it takes its time.
    waits = "for i in 1 2 3 4 5 6 7 8 9 10; do test -e second || sleep 0.15; done\n"
    project.write("stop.sh", f"echo $1 >>stops; kill -9 $(cat pid)\n{waits}touch stopped\n")
    run = started(project, "--steps", "all", "-n", "1")
    (worker,) = [
        process
        for process in psutil.Process(run.pid).children()
        if "stdin.readline" in " ".join(process.cmdline())
    ]
    if by == "next":
        (guardian,) = [
            process for process in worker.children() if "guardian.py" in " ".join(process.cmdline())
        ]
        guardian.kill()
    worker.kill()
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    (_,) = (project.path / "stops").read_text().split()
    assert notes(project) == ([] if by == "guardian" else ["runner slow: sh stop.sh {run}"])
    nothing_is_left_of_it(project)
