"""The time of a step is that of all its stretches, whatever became of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distillation import generation, generation_config, work_time
from distillation.command import run
from distillation.jsonl import read_json
from distillation.sampling import Said
from distillation.teacher import main as teach
from distillation.work_time import GENERATION, Clock, in_report, worked
from tests.distillation.conftest import ROOT
from tests.distillation.generating import BEETHOVEN, Answering, fake_teacher, in_character, lay_out_plan

LEDGER = Path("work_times/generation.jsonl")

ENDLESS = """
import sys, time
from pathlib import Path
from distillation import work_time
work_time.EVERY = 0.02
with work_time.Clock(Path(sys.argv[1]), work_time.GENERATION) as clock:
    while True:
        time.sleep(0.01)
        clock.lap(1)
"""


def lines(folder: Path) -> list[str]:
    path = folder / LEDGER
    return path.read_text().splitlines() if path.exists() else []


def test_stretches_add_up(folder: Path) -> None:
    began = time.monotonic()
    for done in (3, 4):
        with Clock(folder, GENERATION) as clock:
            time.sleep(0.03)
            clock.lap(done)
    most = time.monotonic() - began
    found = worked(folder, GENERATION)
    assert found is not None
    assert 0.06 <= found.seconds <= most + 0.002
    assert (found.done, found.stretches) == (7, 2)
    assert len(lines(folder)) == 2, "a line for every answer would be a line too many"


def test_what_is_not_known_is_not_reported(folder: Path) -> None:
    assert worked(folder, GENERATION) is None
    assert in_report(folder, GENERATION) == {}


def test_whatever_depends_on_the_run_is_named_by_its_seconds(folder: Path) -> None:
    # By these names two runs of the same plan are compared without their times.
    with Clock(folder, GENERATION) as clock:
        clock.lap(1)
    assert all(name.startswith("seconds") for name in in_report(folder, GENERATION))


def test_work_that_failed_took_its_time_too(folder: Path) -> None:
    def work() -> None:
        with Clock(folder, GENERATION) as clock:
            clock.lap(2)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    found = worked(folder, GENERATION)
    assert found is not None
    assert found.done == 2


def test_a_killed_process_leaves_the_time_it_had_noted_and_the_next_one_adds_to_it(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        deadline = time.monotonic() + 60
        while len(lines(folder)) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = worked(folder, GENERATION)
    assert before is not None
    assert before.seconds >= 5 * 0.02
    assert before.stretches == 1
    with Clock(folder, GENERATION) as clock:
        clock.lap(10)
    after = worked(folder, GENERATION)
    assert after is not None
    assert (after.done, after.stretches) == (before.done + 10, 2)
    assert after.seconds >= before.seconds


def test_a_torn_line_is_named_and_spoils_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Clock(folder, GENERATION) as clock:
        clock.lap(1)
    with (folder / LEDGER).open("a") as file:
        file.write('{"began": tr')
    with Clock(folder, GENERATION) as clock:
        clock.lap(2)
    found = worked(folder, GENERATION)
    assert found is not None
    assert (found.done, found.stretches) == (3, 2)
    assert f"{folder / LEDGER}:2: not JSON" in capsys.readouterr().out
    assert lines(folder)[1] == '{"began": tr', "kept as it is"


def test_the_report_of_the_generation_has_the_time_of_all_chunks_also_of_one_that_broke_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out_plan(examples=6)
    monkeypatch.setattr(work_time, "EVERY", 0.0)
    broken: list[str] = []

    def slowly(question: str, seed: int) -> Said | BaseException:
        time.sleep(0.01)
        if len(broken) == 4:
            broken.append(question)
            return RuntimeError("the line is cut")
        broken.append(question)
        return Said(in_character(question, seed), 30, "stop")

    answering: Answering = slowly
    fake_teacher(monkeypatch, answering)
    chunks = [("0", "3", 0), ("3", "3", 1), ("3", "3", 0)]
    for start, size, code in chunks:
        assert run(teach, ["--start", start, "--size", size, "--output", f"{start}.jsonl"]) == code
    joined = Path("joined.jsonl")
    joined.write_text(Path("0.jsonl").read_text() + Path("3.jsonl").read_text())
    generation.report(BEETHOVEN, generation_config.load(), joined)
    report = read_json(Path("runs/local") / generation.REPORT)
    noted = [json.loads(line) for line in lines(Path("runs/local"))]
    assert report["seconds"] == pytest.approx(sum(one["seconds"] for one in noted), abs=0.01)
    assert report["seconds"] >= 7 * 0.01, "seven were asked"
    assert (report["seconds_done"], report["seconds_stretches"]) == (6, 3)
