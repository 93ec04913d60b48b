"""A loss that really is not a number: the engine's, by the SDK, under the commands of step 13."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from distillation import checkpoints, training_log
from distillation.jsonl import read_json
from tests.distillation import on_engine
from tests.distillation.engine.tiny import make_brittle_model
from tests.distillation.generating import change

CONFIG = "training_config.yaml"
HIGH, LOW = 0.02, 0.002
"""Learning rates: the model breaks at the one, and learns at the tenth of it."""


def settle(folder: Path, **options: object) -> None:
    for name, value in options.items():
        change(folder / CONFIG, name, value)
    on_engine.command(folder, "config")


@pytest.mark.slow
def test_a_training_that_diverges_stops_and_recovers_from_its_last_good_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / "plan"
    on_engine.demand_packages()
    monkeypatch.setenv("DISTILLATION_LOCAL_MODEL", str(make_brittle_model(folder / "model")))
    on_engine.lay_out(place)
    run_folder = place / "runs" / "local"
    settle(place, learning_rate=LOW, schedule="constant", steps=4, loss_first=1, loss_last=1)
    on_engine.command(place, "train")
    (good,) = checkpoints.read(run_folder)
    settle(place, learning_rate=HIGH, steps=12)

    # At the high rate it breaks, and says where the way back begins.
    training = on_engine.start(place, "train")
    out, err = training.communicate(timeout=300)
    assert training.returncode == 1, out
    steps = training_log.read_steps(run_folder)
    losses, broken = training_log.read_losses(run_folder), steps[-1]
    assert 5 < broken.step < 8
    assert math.isnan(broken.loss)
    assert math.isnan(losses[-1])
    assert err.count("\n") == 1
    assert f"step {broken.step}: the loss is nan; last good checkpoint: that of step 4, {good.state};" in err
    assert "python -m distillation.train --recover" in err

    # Without the recovery nothing more is trained.
    again = on_engine.start(place, "train")
    assert (again.communicate(timeout=300)[1], again.returncode) == (err, 1)
    assert training_log.read_losses(run_folder)[:-1] == losses[:-1]

    assert "learning rate times 0.1 from step 5 on" in on_engine.command(place, "train", "--recover")
    on_engine.command(place, "train")
    recovered = training_log.read_steps(run_folder)
    assert [one.step for one in recovered] == list(range(1, 13))
    assert [one.learning_rate for one in recovered] == pytest.approx([LOW] * 12)
    assert recovered[:4] == steps[:4]
    assert recovered[4].loss == steps[4].loss, "it did not go on with the weights of the checkpoint"
    assert recovered[-1].loss < recovered[4].loss < recovered[0].loss
    assert [one.step for one in checkpoints.read(run_folder)] == [4, 8, 12]
    (interruption,) = training_log.read_interruptions(run_folder)[-1:]
    assert (interruption["next_step"], interruption["steps_lost"]) == (5, broken.step - 4)
    assert read_json(run_folder / "training_report.json")["lowered"] == [{"from_step": 5, "factor": 0.1}]
