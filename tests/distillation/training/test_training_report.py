from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from distillation import checkpoints, train, training_job, training_log, training_report, training_trial
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json, write_rows
from distillation.training_loop import Schedule
from tests.distillation.conftest import ROOT, Events
from tests.distillation.training_fakes import CONFIG, FakeService, attempt

# ---------------------------------------------------------------- the trial


def test_the_trial_saves_after_two_steps_and_resumes_with_the_third(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train.main, ["--dry-run"]) == 0
    trial = read_json(run_folder / training_trial.TRIAL)
    assert [step["step"] for step in trial["steps"]] == [1, 2, 3]
    assert trial["steps"][2]["loss"] == trial["uninterrupted_loss"]
    capsys.readouterr()
    assert run(train.main, ["--check-trial"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "steps: 2",
        "finite: 1",
        "resumed with step: 3",
        "resume difference: 0.000000",
    ]
    assert not (run_folder / checkpoints.LEDGER).exists()


def test_a_resume_that_forgets_something_fails_the_trial(
    service: FakeService,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        service,
        "create_training_client_from_state_with_optimizer",
        lambda _: service.create_lora_training_client("", 1, 1),
    )
    assert run(train.main, ["--dry-run"]) == 1
    assert "after the resume the third loss differs by" in capsys.readouterr().err


def test_a_trial_whose_loss_is_not_a_number_fails(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.diverges_at = lambda *_: True
    assert run(train.main, ["--dry-run"]) == 1
    assert "are not all numbers" in capsys.readouterr().err


def test_a_trial_of_the_other_engine_does_not_count(run_folder: Path, service: FakeService) -> None:
    run(train.main, ["--dry-run"])
    path = run_folder / training_trial.TRIAL
    write_json(path, read_json(path) | {"engine": "tinker"})
    with pytest.raises(DistillationError, match="of engine tinker; run step 12 again"):
        training_trial.check()


# ---------------------------------------------------------------- report and check


def test_the_check_counts_the_logs_again(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str], said: Events
) -> None:
    assert run(train.main, []) == 0
    capsys.readouterr()
    assert run(train.main, ["--check"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    losses = training_log.read_losses(run_folder)
    ratio = (sum(losses[-3:]) / 3) / (sum(losses[:2]) / 2)
    assert float(lines["loss ratio"]) == pytest.approx(ratio, abs=1e-3)
    assert (lines["steps"], lines["checkpoints"], lines["finite"]) == ("12", "3", "1")
    assert lines["checkpoint steps"] == "4 8 12"
    assert set(lines) >= {f"validation loss {step}" for step in (0, 4, 8, 12)}
    events = said()
    assert [event["progress"] for event in events if "progress" in event][-1] == [12, 12]
    spent = sum(event["value"] for event in events if event.get("metric") == "cost_usd")
    assert spent == pytest.approx(read_json(run_folder / training_report.REPORT)["cost_usd"])


def test_the_status_can_be_asked_at_any_moment(
    service: FakeService, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train.main, ["--status"]) == 0
    assert capsys.readouterr().out == "checkpoints: 0\n"
    service.diverges_at = lambda update, _: update == 6
    run(train.main, [])
    capsys.readouterr()
    assert run(train.main, ["--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["step 7 loss nan", "checkpoints: 1"]
    assert lines[2].startswith("checkpoint 4: validation loss 0.")


def spoil_loss(folder: Path) -> None:
    path = folder / training_log.LOSS
    path.write_text(path.read_text().replace("step 5 loss ", "step 5 loss 9"))


def drop_step(folder: Path) -> None:
    for name in (training_log.LOSS, training_log.METRICS):
        path = folder / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def drop_checkpoint(folder: Path) -> None:
    checkpoints.set_aside(folder, 8)


def change_data(folder: Path) -> None:
    (folder / "val.jsonl").write_text("{}\n")


def change_report(folder: Path) -> None:
    path = folder / training_report.REPORT
    write_json(path, read_json(path) | {"steps": 1000})


def change_validation(folder: Path) -> None:
    rows = [dataclasses.asdict(one) for one in training_log.read_validations(folder)]
    rows[2]["loss"] = 0.0
    write_rows(folder / training_log.VALIDATION, rows)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_loss, "does not say what training_logs/metrics.jsonl says"),
        (drop_step, "11 of 12 steps"),
        (drop_checkpoint, r"checkpoints of steps \[4, 8\], expected \[4, 8, 12\]"),
        (change_data, "of other data or another model than now"),
        (change_report, "says 1000 for steps, counted 12"),
        (change_validation, "the validation loss of step 8 is not the logged one"),
    ],
)
def test_the_check_sees_what_does_not_fit(
    service: FakeService, run_folder: Path, spoil: Any, problem: str
) -> None:
    attempt(service, run_folder)
    training_report.check(run_folder, CONFIG)
    spoil(run_folder)
    with pytest.raises(DistillationError, match=problem):
        training_report.check(run_folder, CONFIG)


def test_a_loss_that_did_not_fall_enough_fails_the_check(service: FakeService, run_folder: Path) -> None:
    strict = dataclasses.replace(CONFIG, loss_ratio_max=0.01)
    attempt(service, run_folder, strict)
    with pytest.raises(DistillationError, match=r"fell to .*% of its beginning, not to 1%"):
        training_report.check(run_folder, strict)


def test_a_student_that_only_learned_by_heart_fails_the_check(service: FakeService, run_folder: Path) -> None:
    attempt(service, run_folder)
    rows = [dataclasses.asdict(one) for one in training_log.read_validations(run_folder)]
    rows[0]["loss"] = 0.001
    write_rows(run_folder / training_log.VALIDATION, rows)
    with pytest.raises(DistillationError, match="no validation loss is below the untrained student's"):
        training_report.check(run_folder, CONFIG)


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(run_folder: Path) -> None:
    with pytest.raises(DistillationError, match="records no checkpoint; run step 13"):
        checkpoints.best(run_folder)
    for step, loss in ((4, 0.5), (8, 0.2), (12, 0.3)):
        checkpoints.record(run_folder, checkpoints.Checkpoint(step, step + 1, "s", "w", loss, "f", "now"))
    assert checkpoints.best(run_folder).step == 8


def test_a_schedule_is_made_of_the_configuration(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "data_generation_config.yaml", run_folder.parents[1])
    schedule = training_job.schedule_of(CONFIG, run_folder, "somewhere/model")
    assert isinstance(schedule, Schedule)
    assert (schedule.steps, schedule.in_flight, schedule.shape) == (12, 3, "linear")
    assert schedule.price.cost(train=1e6) == 0.0
