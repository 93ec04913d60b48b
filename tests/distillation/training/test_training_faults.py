from __future__ import annotations

import dataclasses
import errno
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from distillation import checkpoints, train, training_job, training_log, training_report, work_time
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json
from distillation.training_loop import awaited, loss_sum
from tests.distillation import training_fakes as fakes
from tests.distillation.conftest import Events
from tests.distillation.training_fakes import (
    CONFIG,
    FakeService,
    attempt,
    killed_attempt,
    outcome,
)

# ---------------------------------------------------------------- not a number


def test_a_loss_that_is_not_a_number_names_the_last_good_checkpoint(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str], said: Events
) -> None:
    service.diverges_at = lambda update, _: update == 6
    assert run(train.main, []) == 1
    error = capsys.readouterr().err
    assert (
        "step 7: the loss is nan; last good checkpoint: that of step 4, fake://0/weights-step-0004" in error
    )
    assert "--recover" in error
    assert (run_folder / training_log.LOSS).read_text().endswith("step 7 loss nan\n")
    last = [event["value"] for event in said() if event.get("metric") == "loss"][-1]
    assert math.isnan(last)
    assert [one.step for one in checkpoints.read(run_folder)] == [4]


def test_gradients_that_a_service_refuses_do_not_hide_the_loss_that_they_come_of(
    service: FakeService,
    run_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = fakes.State.update

    def finite_only(self: fakes.State, rate: float) -> None:
        if not math.isfinite(self.gradient):
            raise RuntimeError("the gradients are not finite")
        update(self, rate)

    monkeypatch.setattr(fakes.State, "update", finite_only)
    service.diverges_at = lambda update, _: update == 6
    assert run(train.main, []) == 1
    assert "step 7: the loss is nan; last good checkpoint: that of step 4" in capsys.readouterr().err


def test_without_recovery_the_same_steps_are_not_paid_for_again(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.diverges_at = lambda update, _: update == 6
    run(train.main, [])
    service.happened.clear()
    assert run(train.main, []) == 1
    assert service.happened == []
    assert "step 7: the loss is nan" in capsys.readouterr().err


def test_recover_lowers_the_rate_from_the_last_good_checkpoint_on(
    service: FakeService, run_folder: Path
) -> None:
    service.diverges_at = lambda update, rate: update == 6 and rate > 0.01
    assert run(train.main, []) == 1
    assert run(train.main, ["--recover"]) == 0
    assert run(train.main, []) == 0
    rates = [step.learning_rate for step in training_log.read_steps(run_folder)]
    falling = [0.05 * (1 - n / 12) for n in range(12)]
    assert rates == pytest.approx(falling[:4] + [rate / 10 for rate in falling[4:]])
    assert read_json(run_folder / training_report.REPORT)["lowered"] == [{"from_step": 5, "factor": 0.1}]


def test_a_second_divergence_lowers_the_rate_again(service: FakeService, run_folder: Path) -> None:
    service.diverges_at = lambda update, rate: update == 2 and rate > 0.001
    for _ in range(2):
        assert run(train.main, []) == 1
        assert run(train.main, ["--recover"]) == 0
    assert run(train.main, []) == 0
    assert training_log.read_steps(run_folder)[0].learning_rate == pytest.approx(0.0005)


def test_recover_after_anything_else_leaves_the_rate_alone(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert killed_attempt(70, service, run_folder)
    assert run(train.main, ["--recover"]) == 0
    assert "nothing has diverged" in capsys.readouterr().out
    assert checkpoints.recoveries(run_folder) == []


def test_weights_that_are_not_numbers_are_never_recorded_as_a_checkpoint(
    service: FakeService, run_folder: Path
) -> None:
    service.diverges_at = lambda update, _: update == 8
    assert run(train.main, []) == 1
    assert [one.step for one in checkpoints.read(run_folder)] == [4]
    assert read_json(run_folder / checkpoints.DIVERGENCE)["step"] == 8


# ---------------------------------------------------------------- bad input


def test_a_checkpoint_that_is_gone_is_one_line_with_the_way_back(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(service, run_folder, dataclasses.replace(CONFIG, steps=8))
    gone = checkpoints.read(run_folder)[-1].state.removeprefix("fake://")
    (service.root / gone).unlink()
    assert run(train.main, []) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"resume from fake://{gone}: LookupError: Checkpoint not found" in error
    assert "--resume-from STEP" in error
    assert run(train.main, ["--resume-from", "4"]) == 0
    assert [one.step for one in checkpoints.read(run_folder)] == [4, 8, 12]


def test_going_back_ends_as_if_nothing_had_happened(
    service: FakeService, run_folder: Path, uninterrupted: dict[str, Any]
) -> None:
    attempt(service, run_folder)
    for step in ("8", "0"):
        assert run(train.main, ["--resume-from", step]) == 0
        assert outcome(run_folder) == uninterrupted


def test_going_back_to_no_checkpoint_names_those_there_are(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(service, run_folder)
    assert run(train.main, ["--resume-from", "5"]) == 1
    assert "no such checkpoint; there are [0, 4, 8, 12]" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_training_goes_on_later(
    service: FakeService,
    run_folder: Path,
    uninterrupted: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, room = os.write, [20]

    def full(descriptor: int, data: bytes) -> int:
        room[0] -= 1
        if room[0] == 0:
            return write(descriptor, data[:10])
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        assert run(train.main, []) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "training_logs/" in error
    assert "No space left on device; make room" in error
    assert run(train.main, []) == 0
    assert outcome(run_folder) == uninterrupted


def test_a_spoilt_line_of_the_log_is_named_and_nothing_is_trained(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(service, run_folder, dataclasses.replace(CONFIG, steps=8))
    path = run_folder / training_log.METRICS
    lines = path.read_text().splitlines()
    lines[2] = '{"step": 3, "lo'
    path.write_text("\n".join(lines) + "\n")
    service.happened.clear()
    assert run(train.main, []) == 1
    assert f"{path}:3: not JSON" in capsys.readouterr().err
    assert service.happened == []


def test_a_log_that_ends_before_the_checkpoint_is_refused(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(service, run_folder, dataclasses.replace(CONFIG, steps=8))
    (run_folder / training_log.METRICS).write_text("")
    assert run(train.main, []) == 1
    assert "ends at step 0, and the last checkpoint is of step 8" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{", '{"step": 4}', "[]"])
def test_a_spoilt_ledger_names_its_line(run_folder: Path, line: str) -> None:
    path = run_folder / checkpoints.LEDGER
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(DistillationError, match=f"{path}:1: .*remove the line"):
        checkpoints.read(run_folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{\n", "not JSON"), ('{"question": "Why?"}\n', "has no question and answer"), ("", "is empty")],
)
def test_spoilt_training_data_are_named_by_line(folder: Path, text: str, problem: str) -> None:
    path = folder / "train.jsonl"
    path.write_text('{"question": "Who?", "answer": "I!"}\n' * bool(text) + text)
    with pytest.raises(DistillationError, match=problem) as caught:
        training_job.read_pairs(path)
    assert f"{path}:2:" in str(caught.value) or not text


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl"])
def test_a_spoilt_line_of_the_data_costs_no_checkpoint(
    run_folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train.main, []) == 0
    before = outcome(run_folder)
    path = run_folder / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], '{"id": "torn', *lines[2:]]) + "\n")
    capsys.readouterr()
    assert run(train.main, []) == 1
    assert f"{name}:2: not JSON" in capsys.readouterr().err
    assert outcome(run_folder) == before


def test_the_time_of_a_training_is_that_of_all_its_parts(
    service: FakeService, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_time, "EVERY", 0.0)
    assert killed_attempt(90, service, run_folder)
    before = work_time.worked(run_folder, work_time.TRAINING)
    assert before is not None
    report = attempt(service, run_folder)
    assert report["seconds_stretches"] == 2
    assert report["seconds"] > before.seconds - 0.01
    (noted,) = report["interruptions"]
    assert report["seconds_done"] - before.done == CONFIG.steps + 1 - noted["next_step"]
    assert before.done >= noted["next_step"] - 1, "steps that were done again took their time twice"


def test_a_service_that_does_not_answer_in_time_is_one_line() -> None:
    class Never:
        def result(self, timeout: float | None = None) -> None:
            time.sleep(timeout or 0)
            raise TimeoutError

    with pytest.raises(DistillationError, match=r"step 3: no answer within 0\.05 s; run the step again"):
        awaited(Never(), "step 3", 0.05)


def test_a_service_without_a_loss_is_told_apart_from_one_that_fails() -> None:
    with pytest.raises(DistillationError, match="reports no loss:sum, only clock"):
        loss_sum(type("Answer", (), {"metrics": {"clock": 1.0}})(), "step 1")
