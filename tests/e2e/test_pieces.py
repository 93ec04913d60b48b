"""Chunked and streamed mains: pieces recorded one by one, joined in order, never counted twice or half."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .conftest import Project
from .test_interruptions import living, wait_for

WORKER = """\
import os, sys, time, pathlib
start, size, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pathlib.Path("calls").open("a").write(f"{start}\\n")
with open(output, "w") as file:
    for number in range(start, start + size):
        file.write(f"{number}\\n")
        file.flush()
        if os.path.exists("hangs") and number == int(pathlib.Path("hangs").read_text()):
            time.sleep(600)
"""


def generating(project: Project, main: str = "", more: str = "") -> Project:
    project.steps("Generate")
    project.write("work.py", WORKER)
    return project.define(
        "step_1:\n  main:\n    mode: chunked\n    script: work.py\n"
        '    args: ["{chunk.start}", "{chunk.size}", "{chunk.output}"]\n'
        f"{main or '    chunks: [{size: 10}, {size: 20}, {size: 30}]'}\n"
        f"    checkpoint_every: 10\n  outputs: [data.txt]\n{more}"
    )


def numbers(project: Project, name: str = "data.txt") -> list[int]:
    return [int(line) for line in (project.path / name).read_text().splitlines()]


def calls(project: Project) -> list[int]:
    return numbers(project, "calls")


def test_pieces_are_cut_recorded_and_joined_in_order(project: Project) -> None:
    result = generating(project).run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert numbers(project) == list(range(60))
    assert calls(project) == [0, 10, 20, 30, 40, 50]
    assert [record["status"] for record in project.events("piece")] == ["passed"] * 6
    assert project.ticked == ["1"]
    assert not list((project.path / ".steps").glob("pieces/*")), "a ticked step keeps no pieces"


def test_a_total_is_cut_into_chunks_of_a_size(project: Project) -> None:
    assert generating(project, "    total: 25\n    chunk_size: 10").run("--steps", "1").ret == 0
    assert numbers(project) == list(range(25))
    assert calls(project) == [0, 10, 20]


def test_a_run_that_was_killed_goes_on_at_the_first_piece_that_is_not_recorded(project: Project) -> None:
    generating(project)
    project.write("hangs", "25")
    run = project.start("--steps", "1")
    wait_for(lambda: len(project.events("piece")) == 2 and len(calls(project)) == 3)
    time.sleep(0.2)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    before = len(calls(project))
    (project.path / "hangs").unlink()
    result = project.run("--steps", "continue")
    assert result.ret == 0, result.stdout.str()
    assert numbers(project) == list(range(60))
    assert calls(project)[before] == 20, "and not from the beginning, nor after the half-written one"
    assert "2 of 6" in result.stdout.str()


def test_an_interrupted_piece_is_run_again_too(project: Project) -> None:
    generating(project)
    project.write("hangs", "15")
    run = project.start("--steps", "1")
    wait_for(lambda: len(project.events("piece")) == 1)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert not (project.path / "data.txt").exists()
    (project.path / "hangs").unlink()
    assert project.run("--steps", "continue").ret == 0
    assert numbers(project) == list(range(60))


def test_a_step_that_is_run_again_begins_anew(project: Project) -> None:
    generating(project)
    assert project.run("--steps", "1").ret == 0
    assert project.run("--steps", "1", "--steps-rerun").ret == 0
    assert len(calls(project)) == 12


def test_bad_quality_is_fixed_and_the_piece_tried_again(project: Project) -> None:
    generating(
        project,
        "    chunks: [10, 10]\n"
        "    retries: 1\n"
        "    quality:\n"
        "      - {task: clean, command: 'test -e fixed || test \"$CHUNK_START\" != 10'}\n"
        "    fix: touch fixed",
    )
    result = project.run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert calls(project) == [0, 10, 10]
    assert numbers(project) == list(range(20))
    assert [record["status"] for record in project.events("piece")] == ["passed", "failed", "passed"]


def test_a_piece_that_stays_bad_fails_the_step_and_keeps_the_good_ones(project: Project) -> None:
    generating(
        project,
        "    chunks: [10, 10]\n    retries: 1\n    quality:\n"
        "      - {task: clean, command: 'test -e good || test \"$CHUNK_START\" != 10'}",
    )
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert "clean" in result.stdout.str()
    assert calls(project) == [0, 10, 10], "no third try: the attempt is not repeated from above"
    project.write("good", "")
    assert project.run("--steps", "continue").ret == 0
    assert calls(project) == [0, 10, 10, 10]


@pytest.mark.slow
def test_a_worker_that_dies_in_a_piece_costs_that_piece(project: Project) -> None:
    pytest.importorskip("xdist")
    generating(project)
    project.write("hangs", "25")
    run = project.start("--steps", "1", "-n", "1")
    wait_for(lambda: (project.path / "calls").exists() and len(calls(project)) == 3)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    (project.path / "hangs").unlink()
    assert project.run("--steps", "continue").ret == 0
    assert numbers(project) == list(range(60))
    assert calls(project).count(0) == 1


# -- streams


def evaluating(project: Project, main: str) -> Project:
    project.steps("Evaluate")
    project.write("work.py", WORKER)
    return project.define(
        "step_1:\n  main:\n    mode: stream\n"
        '    command: [python, work.py, "{batch.start}", "{batch.size}", "{batch.output}"]\n'
        f"    batch_size: 10\n    output: results.txt\n{main}"
    )


def test_a_stream_ends_when_its_samples_are_enough(project: Project) -> None:
    evaluating(project, "    stop_when: {task: enough, command: 'test $(wc -l < $BATCH_RESULTS) -ge 25'}\n")
    result = project.run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert numbers(project, "results.txt") == list(range(30))
    assert len(project.events("piece")) == 3


def test_a_stream_ends_with_its_input(project: Project) -> None:
    assert evaluating(project, "    total: 25\n").run("--steps", "1").ret == 0
    assert numbers(project, "results.txt") == list(range(25))


def test_results_of_a_stream_survive_a_kill(project: Project) -> None:
    evaluating(project, "    total: 60\n")
    project.write("hangs", "25")
    run = project.start("--steps", "1")
    wait_for(lambda: len(project.events("piece")) == 2)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    wait_for(lambda: living(project.path) == [])
    (project.path / "hangs").unlink()
    assert project.run("--steps", "continue").ret == 0
    assert numbers(project, "results.txt") == list(range(60))
    assert calls(project).count(0) == calls(project).count(10) == 1
