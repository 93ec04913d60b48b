from __future__ import annotations

import dataclasses
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillation import checkpoints, training_log
from distillation.training_loop import batch
from tests.distillation import on_engine
from tests.distillation import training_fakes as fakes
from tests.distillation.conftest import ROOT
from tests.distillation.training_fakes import (
    CONFIG,
    FakeService,
    attempt,
    killed_attempt,
    laid_out,
    outcome,
)

# ---------------------------------------------------------------- batches and rates


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**31), st.integers(1, 60))
def test_a_batch_is_a_function_of_seed_and_step_and_epochs_miss_nothing(
    examples: int, size: int, seed: int, steps: int
) -> None:
    rows = [row for step in range(1, steps + 1) for row in batch(seed, step, examples, size)]
    assert batch(seed, steps, examples, size) == rows[-size:]
    for begin in range(0, len(rows) - examples + 1, examples):
        assert sorted(rows[begin : begin + examples]) == list(range(examples))


def test_another_seed_has_another_order() -> None:
    assert batch(1, 1, 100, 20) != batch(2, 1, 100, 20)


def test_the_rate_falls_linearly_and_is_lowered_from_the_step_of_a_recovery_on(folder: Path) -> None:
    schedule = fakes.job(laid_out(folder / "run")).schedule
    assert [round(schedule.rate(step), 6) for step in (1, 7, 12)] == [0.05, 0.025, round(0.05 / 12, 6)]
    lowered = dataclasses.replace(schedule, shape="constant", lowered=(checkpoints.Recovery(5, 0.1),))
    assert [round(lowered.rate(step), 6) for step in (4, 5, 12)] == [0.05, 0.005, 0.005]


# ---------------------------------------------------------------- pipelining


def test_three_steps_are_in_flight_and_none_when_a_checkpoint_is_saved(
    service: FakeService, run_folder: Path
) -> None:
    attempt(service, run_folder)
    flying = most = 0
    for event in service.happened:
        if event == "submit gradients":
            flying += 1
            most = max(most, flying)
        elif event == "await update":
            flying -= 1
        elif event.startswith(("submit save", "submit forward")):
            assert flying == 0, event
    assert most == CONFIG.in_flight


def test_a_step_is_submitted_whole_and_steps_are_awaited_in_order(
    service: FakeService, run_folder: Path
) -> None:
    attempt(service, run_folder)
    training = [one for one in service.happened if one.endswith(("gradients", "update"))]
    submitted = [one for one in training if one.startswith("submit")]
    assert submitted == ["submit gradients", "submit update"] * CONFIG.steps
    awaited_ = [one for one in training if one.startswith("await")]
    assert awaited_ == ["await gradients", "await update"] * CONFIG.steps


def test_a_checkpoint_is_recorded_only_after_both_of_its_parts_are_saved(
    service: FakeService, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = checkpoints.record

    def recording(folder: Path, one: checkpoints.Checkpoint) -> None:
        service.happened.append(f"record {one.step}")
        record(folder, one)

    monkeypatch.setattr(checkpoints, "record", recording)
    attempt(service, run_folder)
    for step in (4, 8, 12):
        place = service.happened.index(f"record {step}")
        assert service.happened[:place].count(f"await save step-{step:04d}") == 2


# ---------------------------------------------------------------- resume


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.integers(1, 260), max_size=5))
def test_a_training_killed_anywhere_ends_as_if_it_had_not_been(
    folder: Path, uninterrupted: dict[str, Any], kills: list[int]
) -> None:
    place = folder / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    where = laid_out(place / "run")
    service = FakeService(place / "service")
    for ticks in kills:
        killed_attempt(ticks, service, where)
    attempt(service, where)
    assert outcome(where) == uninterrupted
    assert training_log.read_losses(where) == [step.loss for step in _rounded(where)]


def _rounded(folder: Path) -> list[training_log.Step]:
    return [dataclasses.replace(one, loss=round(one.loss, 4)) for one in training_log.read_steps(folder)]


def test_a_training_process_killed_by_the_system_goes_on(folder: Path, uninterrupted: dict[str, Any]) -> None:
    place = laid_out(folder / "run")
    command = [sys.executable, "-m", "tests.distillation.training_fakes", str(place)]
    chance = random.Random(5)
    killed = 0
    for _ in range(4):
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
        )
        _wait_for_steps(place, process, at_least=1 + chance.randrange(8))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed
    attempt(FakeService(place / "service"), place)
    assert outcome(place) == uninterrupted


def _wait_for_steps(place: Path, process: subprocess.Popen[bytes], at_least: int) -> None:
    loss = place / training_log.LOSS
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 60:
        # The logs of the attempt before are cut at the beginning of this one.
        if loss.exists() and len(loss.read_bytes().splitlines()) >= at_least:
            return
        time.sleep(0.002)


def test_an_interruption_is_noted_with_what_was_trained_twice(service: FakeService, run_folder: Path) -> None:
    assert killed_attempt(70, service, run_folder)
    there = len(training_log.read_losses(run_folder))
    report = attempt(service, run_folder)
    (noted,) = report["interruptions"]
    assert noted["next_step"] == 5
    assert noted["steps_lost"] == there - 4 > 0
    assert report["tokens_lost"] == noted["tokens_lost"] > 0
    twice = noted["tokens_lost"] * fakes.PRICE.train / 1e6
    once = report["tokens"] * fakes.PRICE.train / 1e6
    validated = report["validation_tokens"] * fakes.PRICE.prefill / 1e6
    assert report["cost_usd"] == pytest.approx(once + twice + validated)


def test_a_finished_training_is_not_trained_again(service: FakeService, run_folder: Path) -> None:
    attempt(service, run_folder)
    service.happened.clear()
    report = attempt(service, run_folder)
    assert service.happened == []
    assert report["interruptions"] == []


def test_other_data_begin_a_new_training_and_the_old_checkpoints_are_set_aside(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(service, run_folder)
    before = outcome(run_folder)
    with (run_folder / "train.jsonl").open("a") as stream:
        stream.write('{"id": "new", "question": "New?", "answer": "Yes!"}\n')
    report = attempt(service, run_folder)
    assert "begins anew" in capsys.readouterr().out
    assert outcome(run_folder) == before  # the fake's numbers do not depend on the texts
    assert len((run_folder / checkpoints.SET_ASIDE).read_text().splitlines()) == 3
    assert report["interruptions"][0]["steps_lost"] == CONFIG.steps


@pytest.mark.parametrize("changes", [{"learning_rate": 0.02}, {"steps": 8}])
def test_a_finished_training_with_other_settings_is_done_anew(
    service: FakeService, run_folder: Path, changes: dict[str, Any]
) -> None:
    attempt(service, run_folder)
    other = dataclasses.replace(CONFIG, **changes)
    report = attempt(service, run_folder, other)
    assert report["settings"]["learning_rate"] == other.learning_rate
    assert report["steps"] == other.steps
    assert report["interruptions"][0]["steps_lost"] == CONFIG.steps


def test_more_steps_go_on_from_the_last_checkpoint(service: FakeService, run_folder: Path) -> None:
    attempt(service, run_folder, dataclasses.replace(CONFIG, steps=8))
    service.happened.clear()
    attempt(service, run_folder)
    assert service.happened.count("submit gradients") == 4
    assert [one.step for one in checkpoints.read(run_folder)] == [4, 8, 12]


# ---------------------------------------------------------------- on the local engine


@pytest.mark.slow
def test_a_training_on_the_engine_that_is_killed_is_the_one_that_was_not(folder: Path) -> None:
    whole, killed = folder / "whole", folder / "killed"
    for place in (whole, killed):
        on_engine.lay_out(place)
    on_engine.command(whole, "train")
    where = killed / "runs" / "local"
    for step in (3, 6):
        process = reaches(step, on_engine.start(killed, "train"))
        process.kill()
        process.communicate()
    process = reaches(10, on_engine.start(killed, "train"))
    (engine,) = psutil.Process(process.pid).children()
    engine.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said == "error: the local engine has ended with exit code -9; run the step again\n"
    on_engine.command(killed, "train")
    assert outcome(where) == outcome(whole / "runs" / "local")
    assert [one["next_step"] for one in training_log.read_interruptions(where)] == [1, 5, 9]
    assert "steps: 12" in on_engine.command(killed, "train", "--check")


def reaches(step: int, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            return process
    raise AssertionError(process.communicate()[1])
