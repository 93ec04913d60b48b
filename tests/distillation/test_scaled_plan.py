"""The plan in small numbers, from the first step to the last, whole and with its power cut twice."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distillation.conftest import ROOT
from tests.distillation.scaled.copies import DEFINITIONS, SCALED, Copy, demand_packages

EXAMPLES = 300
STEPS = 60
CHECKPOINT_EVERY = 12
KEPT = 2 * CHECKPOINT_EVERY
"""Steps that are safe when the power fails in step 13."""
PATIENCE = 900.0
"""Seconds that a session may take on a machine that is busy; on a quiet one it takes two minutes."""

LOSS_TOLERANCE = 0.002
"""How far losses of two runs may be apart: sums of floats in another order."""

SIMILARITY_TOLERANCE = 0.01
"""How far similarities may be apart then: a few answers out of a hundred with another word."""


# -- the same plan


def without_numbers(value: Any) -> Any:
    """A definition with every number in it made the same."""
    if isinstance(value, dict):
        return {key: without_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_numbers(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    return re.sub(r"\d[\d.,]*(?<![.,])", "0", str(value))


def definitions(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


SHIPPED_STEPS = definitions(ROOT / DEFINITIONS)
SCALED_STEPS = definitions(SCALED / DEFINITIONS.name)


def test_the_scaled_definitions_have_the_same_keys() -> None:
    assert list(SCALED_STEPS) == list(SHIPPED_STEPS)


@pytest.mark.parametrize("key", SHIPPED_STEPS)
def test_a_scaled_step_is_the_one_that_ships_but_for_numbers(key: str) -> None:
    assert without_numbers(SCALED_STEPS[key]) == without_numbers(SHIPPED_STEPS[key])


@pytest.mark.parametrize("key", [key for key in SHIPPED_STEPS if key.startswith("step_")])
def test_checks_that_tell_good_from_bad_keep_their_bounds(key: str) -> None:
    counted = {"answers", "questions", "fewest_of_a_kind", "audited", "train", "validation", "steps"}
    for phase in ("pre_flight", "post_validation"):
        for ours, theirs in zip(SCALED_STEPS[key][phase], SHIPPED_STEPS[key][phase], strict=True):
            if ours.get("metric", {}).get("name") not in counted | {"train_percent"}:
                assert ours.get("metric") == theirs.get("metric")


def test_the_scaled_list_has_the_same_steps_and_says_what_it_is() -> None:
    ours, theirs = ((folder / "SPEC.md").read_text() for folder in (SCALED, ROOT))
    assert ours.startswith("# Scaled plan for tests: ")
    pattern = re.compile(r"^- \[ \] \*\*STEP (\d+)\*\*: (.*)$", re.MULTILINE)
    assert [(number, without_numbers(title)) for number, title in pattern.findall(ours)] == [
        (number, without_numbers(title)) for number, title in pattern.findall(theirs)
    ]


@pytest.mark.parametrize("name", ["training_config.yaml", "data_generation_config.yaml"])
def test_the_scaled_configuration_has_the_same_options_and_never_pays(name: str) -> None:
    ours, theirs = (definitions(folder / name) for folder in (SCALED, ROOT))
    assert {section: list(options) for section, options in ours.items()} == {
        section: list(options) for section, options in theirs.items()
    }
    assert {options["budget_usd"] for options in ours.values()} == {0}


# -- runs


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run with pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A run that nobody disturbed; made once, whichever worker comes first."""
    demand_packages()
    folder = shared_folder(tmp_path_factory) / "scaled-plan"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            plan = Copy.make(folder, scaled=True)
            session = plan.start("--steps", "all", "--steps-wait")
            try:
                session.wait(timeout=PATIENCE)
            except BaseException:
                plan.kill()
                raise
            (folder / "exit").write_text(str(session.returncode))
    return Copy(folder)


@pytest.mark.slow
def test_the_scaled_plan_runs_from_the_first_step_to_the_last(reference: Copy) -> None:
    assert (reference.folder / "exit").read_text() == "0", reference.tail()
    reference.demand_whole()
    assert "[MAIN] all there: " in reference.log.read_text(), "step 2 had something to install"
    assert len(reference.lines("teacher_data_5000.jsonl")) == EXAMPLES
    assert steps_of(reference) == list(range(1, STEPS + 1))
    saved = [json.loads(line)["step"] for line in reference.lines("checkpoints/checkpoints.jsonl")]
    assert saved == list(range(CHECKPOINT_EVERY, STEPS + 1, CHECKPOINT_EVERY))


@pytest.mark.slow
def test_nothing_is_done_twice_when_the_power_fails_in_steps_8_and_13(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    demand_packages()
    plan = Copy.make(tmp_path / "plan", scaled=True)
    try:
        # The chunk of 50 is joined then, and the one of 100 is on its way.
        session = plan.start("--steps", "all", "--steps-wait")
        plan.kill_when(session, lambda: len(plan.lines("teacher_memory.jsonl")) >= 80)
        answered = plan.lines("teacher_memory.jsonl")
        assert len(answered) < 150
        assert plan.ticked == list(range(1, 8))

        # Between the second checkpoint and the third.
        session = plan.start("--steps", "continue", "--steps-wait")
        plan.kill_when(session, lambda: len(plan.lines("training_logs/loss.txt")) >= KEPT + 4)
        trained = plan.lines("training_logs/loss.txt")
        assert len(trained) < KEPT + CHECKPOINT_EVERY
        assert 13 not in plan.ticked

        plan.finish(plan.start("--steps", "continue", "--steps-wait"), PATIENCE)
        plan.demand_whole()
    finally:
        plan.kill()

    remembered = plan.lines("teacher_memory.jsonl")
    assert remembered[: len(answered)] == answered, "an answer that was paid for is gone"
    undisturbed: Copy = request.getfixturevalue("reference")
    assert questions_of(plan) == questions_of(undisturbed)
    assert max(questions_of(plan).values()) == 1, "a question was asked twice"
    for name in ("teacher_data_5000.jsonl", "train.jsonl", "val.jsonl"):
        assert plan.lines(name) == undisturbed.lines(name), name

    interruptions = [json.loads(line) for line in plan.lines("training_logs/interruptions.jsonl")]
    assert len(interruptions) == 1
    assert steps_of(plan) == steps_of(undisturbed) == list(range(1, STEPS + 1))
    assert losses_of(plan) == pytest.approx(losses_of(undisturbed), abs=LOSS_TOLERANCE)
    assert trained[:KEPT] == plan.lines("training_logs/loss.txt")[:KEPT], (
        "a step before the checkpoint is gone"
    )
    ours, theirs = (json.loads(one.read("evaluation_results.json")) for one in (plan, undisturbed))
    assert ours["checkpoint"] == theirs["checkpoint"]
    assert ours["similarity"] == pytest.approx(theirs["similarity"], abs=SIMILARITY_TOLERANCE)


def questions_of(plan: Copy) -> Counter[tuple[str, int]]:
    """How often each question was asked with each seed."""
    rows = [json.loads(line) for line in plan.lines("teacher_memory.jsonl")]
    return Counter((row["question"], row["seed"]) for row in rows)


def steps_of(plan: Copy) -> list[int]:
    return [int(line.split()[1]) for line in plan.lines("training_logs/loss.txt")]


def losses_of(plan: Copy) -> list[float]:
    return [float(line.split()[3]) for line in plan.lines("training_logs/loss.txt")]
