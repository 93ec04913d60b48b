"""The plan in small numbers, from the first step to the last, whole and killed three times."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import shipped
from tests.distillation.conftest import ROOT
from tests.distillation.scaled.copies import DEFINITIONS, SCALED, Copy, demand_packages
from tests.distillation.scaled.undisturbed import Undisturbed, shared_folder

EXAMPLES = 300
STEPS = 60
CHECKPOINT_EVERY = 12
KEPT = 2 * CHECKPOINT_EVERY
"""Steps that are safe when the power fails in step 13."""
PATIENCE = 900.0
"""Seconds that a session may take on a machine that is busy; on a quiet one it takes two minutes."""

VOICES = 4
BATCH = 50 * VOICES
"""Answers in a batch of the evaluation."""
TRIED = 5 * VOICES
"""Answers in its trial; in a batch they are not asked for again, but for another student's."""

TEACHER = "teacher_memory.jsonl"
EVALUATED = "evaluation_memory.jsonl"
LOSS = "training_logs/loss.txt"

EQUAL = (
    "teacher_data_5000.jsonl",
    "audited.jsonl",
    "train.jsonl",
    "val.jsonl",
    LOSS,
    "training_logs/validation.jsonl",
    "models/beethoven_distilled/adapter/adapter_model.safetensors",
    "models/beethoven_distilled/merged/model.safetensors",
)
"""Artefacts without a time or an address in them."""


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
    shipped = SHIPPED_STEPS[key]
    if isinstance(shipped, dict):  # what it costs elsewhere is not for a plan that runs nowhere else
        shipped = {name: value for name, value in shipped.items() if name != "cost"}
    assert without_numbers(SCALED_STEPS[key]) == without_numbers(shipped)


@pytest.mark.parametrize("key", [key for key in SHIPPED_STEPS if key.startswith("step_")])
def test_checks_that_tell_good_from_bad_keep_their_bounds(key: str) -> None:
    counted = {"answers", "questions", "fewest_of_a_kind", "audited", "train", "validation", "steps"}
    for phase in ("pre_flight", "post_validation"):
        for ours, theirs in zip(SCALED_STEPS[key][phase], SHIPPED_STEPS[key][phase], strict=True):
            if ours.get("metric", {}).get("name") not in counted | {"train_percent"}:
                assert ours.get("metric") == theirs.get("metric")


def test_the_scaled_list_has_the_same_steps_and_says_what_it_is() -> None:
    ours, theirs = (SCALED / "SPEC.md").read_text(encoding="utf-8"), shipped.the_list()
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """A run that nobody disturbs, from now on in the background: two cores are enough for two runs."""
    demand_packages()
    with Undisturbed(shared_folder(tmp_path_factory) / "scaled-plan", PATIENCE) as run:
        yield run


@pytest.mark.slow
def test_nothing_is_done_twice_when_steps_8_13_and_15_are_killed(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    plan = Copy.make(tmp_path / "plan", scaled=True)
    try:
        # The chunk of 50 is joined then, and the one of 100 is on its way. What asks for it is left alone,
        # and must not be in the way of the session that comes at once.
        session = plan.start("--steps", "all", "--steps-wait")
        plan.kill_when(session, lambda: len(plan.lines(TEACHER)) >= 80, only_pytest=True)
        answered = plan.lines(TEACHER)
        assert len(answered) < 150
        assert plan.ticked == list(range(1, 8))

        # Between the second checkpoint and the third.
        session = plan.start("--steps", "continue", "--steps-wait")
        plan.kill_when(session, lambda: len(plan.lines(LOSS)) >= KEPT + 4)
        trained = plan.lines(LOSS)
        assert KEPT < len(trained) < KEPT + CHECKPOINT_EVERY
        assert 13 not in plan.ticked

        # The first batch is there then, and the second one is on its way.
        session = plan.start("--steps", "continue", "--steps-wait")
        plan.kill_when(session, lambda: len(plan.lines(EVALUATED)) >= TRIED + BATCH + BATCH // 3)
        evaluated, in_flight = plan.lines(EVALUATED), plan.unanswered
        assert len(evaluated) < 2 * BATCH
        assert len(plan.lines("evaluation_answers.jsonl")) == BATCH // VOICES
        assert 13 in plan.ticked
        assert 15 not in plan.ticked

        plan.finish(plan.start("--steps", "continue", "--steps-wait"), PATIENCE)
        plan.demand_whole()
    finally:
        plan.kill()

    whole = undisturbed.wait()
    for name, kept in ((TEACHER, answered), (EVALUATED, evaluated)):
        assert plan.lines(name)[: len(kept)] == kept, "an answer that was paid for is gone"
        assert max(asked_of(plan, name).values()) == 1, "a question was answered twice"
    assert in_flight <= 100 + TRIED + BATCH, "more was in flight than the pieces that were under way"
    assert plan.unanswered - in_flight == whole.unanswered, "a question was asked again that was answered"

    (interruption,) = (json.loads(line) for line in plan.lines("training_logs/interruptions.jsonl"))
    assert (interruption["next_step"], interruption["steps_lost"]) == (KEPT + 1, len(trained) - KEPT)
    assert trained[:KEPT] == plan.lines(LOSS)[:KEPT], "a step before the checkpoint was trained again"
    demand_equal(plan, whole)


@pytest.mark.slow
def test_the_scaled_plan_runs_from_the_first_step_to_the_last(undisturbed: Undisturbed) -> None:
    whole = undisturbed.wait()
    whole.demand_whole()
    assert "[MAIN] all there: " in whole.log.read_text(), "step 2 had something to install"
    assert len(whole.lines("teacher_data_5000.jsonl")) == EXAMPLES
    assert [int(line.split()[1]) for line in whole.lines(LOSS)] == list(range(1, STEPS + 1))
    saved = [json.loads(line)["step"] for line in whole.lines("checkpoints/checkpoints.jsonl")]
    assert saved == list(range(CHECKPOINT_EVERY, STEPS + 1, CHECKPOINT_EVERY))


def asked_of(plan: Copy, memory: str) -> Counter[tuple[str, str, int]]:
    """How often each question was answered in the same way and with the same seed."""
    rows = [json.loads(line) for line in plan.lines(memory)]
    return Counter((row["way"], row["question"], row["seed"]) for row in rows)


def demand_equal(ours: Copy, theirs: Copy) -> None:
    """What two runs with the same seed have left is the same, to the bit."""
    for name in EQUAL:
        assert (ours.run_folder / name).read_bytes() == (theirs.run_folder / name).read_bytes(), name
    for name in ("evaluation_answers.jsonl", "evaluation_results.json"):
        assert apart_from_places_and_times(ours.read(name)) == apart_from_places_and_times(
            theirs.read(name)
        ), name


def apart_from_places_and_times(text: str) -> list[dict[str, Any]]:
    """JSON lines, or a single object, without where the student's weights are kept and what took how long."""
    try:
        rows = [json.loads(text)]
    except json.JSONDecodeError:
        rows = [json.loads(line) for line in text.splitlines()]
    other = re.compile("sampler|ways|seconds.*")
    return [{key: row[key] for key in row if not other.fullmatch(key)} for row in rows]
