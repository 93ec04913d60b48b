from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import config, generation_config, options, settings
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json
from distillation.options import Number, Text
from tests.distillation.conftest import ROOT, Events
from tests.distillation.generating import change, lay_out_plan

TRAINING = Path("training_config.yaml")


@pytest.fixture(autouse=True)
def fake_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillation.client.base_model", lambda configured: configured or "fake/base")


def used() -> dict[str, object]:
    values: dict[str, object] = read_json(settings.run_folder() / config.USED)["values"]
    return values


# What ships


def test_the_shipped_numbers_are_those_that_the_plan_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (None, "tml-not-a-real-key"):
        if key:
            monkeypatch.setenv("TINKER_API_KEY", key)
        training = config.load(ROOT / TRAINING)
        assert training.steps == 1000
        assert training.checkpoint_every == 200
        assert training.loss_ratio_max == 0.4
        assert (training.loss_first, training.loss_last) == (10, 50)
        assert training.similarity_min == 0.85
        teaching = generation_config.load(ROOT / generation_config.CONFIG)
        assert (teaching.examples, teaching.trial, teaching.in_character_min) == (5000, 10, 0.95)
    assert (training.learning_rate, training.rank, training.checkpoint_days) == (1e-4, 32, 365)


@pytest.mark.parametrize(
    ("kinds", "made"),
    [
        (config.KINDS, config.TrainingConfig),
        (generation_config.KINDS, generation_config.GenerationConfig),
    ],
)
def test_every_option_has_its_range(kinds: options.Kinds, made: type) -> None:
    assert list(kinds) == [field.name for field in fields(made)]


# Mistakes in the file


def line_of(option: str) -> int:
    lines = TRAINING.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(f"  {option}:"))


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("rank", "0", "'rank' must be a whole number from 1 to 256, not 0"),
        ("rank", "16.5", "'rank' must be a whole number from 1 to 256, not '16.5'"),
        ("learning_rate", "1", "'learning_rate' must be a number from 1e-07 to 0.1, not 1"),
        ("learning_rate", "nan", "'learning_rate' must be a number from 1e-07 to 0.1, not nan"),
        ("learning_rate", "fast", "'learning_rate' must be a number from 1e-07 to 0.1, not 'fast'"),
        ("learning_rate", "", "'learning_rate' must be a number from 1e-07 to 0.1, not ''"),
        ("schedule", "cosine", "'schedule' must be linear or constant, not 'cosine'"),
        ("schedule", "[linear]", "'schedule' must be a single value, not a sequence"),
        ("checkpoint_every", "300", "'checkpoint_every' must divide the 1000 steps"),
        ("loss_last", "995", "'loss_last' leaves no room in 1000 steps"),
        ("similarity_max", "0.5", "'similarity_max' must not lie below the 0.85 of 'similarity_min'"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    option: str, value: str, complaint: str, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    change(TRAINING, option, value)
    assert run(config.main, []) == 1
    assert f"error: training_config.yaml:{line_of(option)}: {complaint}; correct" in capsys.readouterr().err
    assert said() == []
    assert not (settings.run_folder() / config.USED).exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ":1: is empty"),
        ("- local", ":1: must be a mapping of sections, not a sequence"),
        ("locl: {}", ":1: unknown section 'locl'; did you mean 'local'?"),
        ("local:\n  rank: 1\n  rnak: 2", ":3: unknown option 'rnak'; did you mean 'rank'?"),
        ("local:\n  rank: 1\n  rank: 2", ":3: 'rank' stands on line 2 already; keep one"),
        ("local: 3", ":1: must be a mapping of options, not a scalar"),
        ("a: b: c", ":1: not YAML (mapping values are not allowed here)"),
        ("local: {rank: 1}", ":1: section 'local' lacks base_model, learning_rate"),
        ("\x07", ":1: not YAML"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(text: str, complaint: str) -> None:
    TRAINING.write_text(text)
    with pytest.raises(DistillationError) as caught:
        config.load()
    assert str(caught.value).startswith(f"training_config.yaml{complaint}")


def test_a_missing_section_is_named() -> None:
    lay_out_plan()
    TRAINING.write_text(TRAINING.read_text().partition("tinker:")[0])
    with pytest.raises(DistillationError, match="no section 'tinker'; add it"):
        config.load()


def test_the_section_of_the_other_engine_is_judged_too() -> None:
    lay_out_plan()
    before, name, after = TRAINING.read_text().partition("tinker:")
    TRAINING.write_text(before + name + after.replace("rank: 32", "rank: 9999"))
    with pytest.raises(DistillationError, match="'rank' must be a whole number from 1 to 256, not 9999"):
        config.load()


def test_without_the_file_it_says_so() -> None:
    with pytest.raises(DistillationError, match=r"^training_config\.yaml: No such file or directory"):
        config.load()


def test_a_file_that_is_no_text_is_refused() -> None:
    TRAINING.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DistillationError, match="not UTF-8"):
        config.load()


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(DistillationError):
        options.read_sections(path, config.KINDS)


@given(value=st.floats(1e-7, 0.1))
def test_every_number_in_range_is_taken_as_it_is(value: float) -> None:
    assert Number(1e-7, 0.1).parse(repr(value)) == value


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_an_optional_text_may_be_null_and_another_may_not(text: str) -> None:
    assert Text(optional=True).parse(text) is None
    assert Text().parse("no") == "no"
    with pytest.raises(ValueError, match="must not be empty"):
        Text().parse("")


# What step 11 writes


def test_every_value_is_written_with_its_origin(said: Events, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    record = read_json(settings.run_folder() / config.USED)
    assert record["engine"] == "local"
    assert record["base_model"] == "fake/base"
    assert record["values"]["learning_rate"] == 2e-3
    assert record["origin"]["learning_rate"] == f"training_config.yaml:{line_of('learning_rate')}"
    assert config.current() == config.load()
    assert {"criterion": "Training configured"} in said()
    assert run(config.main, ["--check"]) == 0
    printed = capsys.readouterr().out
    assert (
        "overridden: 0\nlearning rate: 0.002\nsteps: 1000\ncheckpoints: 5\nestimated usd: 0.0000\n" in printed
    )


def test_a_value_set_for_this_run_leaves_the_committed_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    before = TRAINING.read_bytes()
    assert run(config.main, ["--set", "learning_rate=1e-5", "--set", "in_flight=2"]) == 0
    assert TRAINING.read_bytes() == before
    assert (config.current().learning_rate, config.current().in_flight) == (1e-5, 2)
    origin = read_json(settings.run_folder() / config.USED)["origin"]
    assert origin["learning_rate"] == "runs/local/training_overrides.json, over 0.002 in training_config.yaml"
    assert run(config.main, ["--check"]) == 0
    assert "overridden: 2\nlearning rate: 1e-05\n" in capsys.readouterr().out


def test_a_multiple_is_of_the_value_in_use() -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    for expected in (2e-4, 2e-5):
        assert run(config.main, ["--set", "learning_rate=*0.1"]) == 0
        assert config.current().learning_rate == pytest.approx(expected)


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("learning_rate", "must be name=value, such as learning_rate=1e-5"),
        ("learning_rate=7", "'learning_rate' must be a number from 1e-07 to 0.1, not 7"),
        ("learning_rate=*x", "'x' is no factor, such as *0.1"),
        ("learning_rate=*1000", "'learning_rate' must be a number from 1e-07 to 0.1, not 2.0"),
        ("learning_rate=*nan", "'learning_rate' must be a number from 1e-07 to 0.1, not nan"),
        ("rank=*0.5", "'rank' is no number with a fraction"),
        ("rnak=1", "unknown option 'rnak'; did you mean 'rank'?"),
    ],
)
def test_a_wrong_assignment_changes_nothing(
    assignment: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    assert run(config.main, ["--set", assignment]) == 1
    assert complaint in capsys.readouterr().err
    assert not (settings.run_folder() / config.OVERRIDES).exists()
    assert config.current() == config.load()


def test_overrides_that_do_not_go_together_change_nothing() -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    assert run(config.main, ["--set", "steps=900"]) == 1
    assert used()["steps"] == 1000


def test_step_11_begins_without_the_overrides_of_before_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lay_out_plan()
    assert run(config.main, ["--set", "learning_rate=1e-5"]) == 0
    assert run(config.main, []) == 0
    assert "no longer set: learning_rate=1e-05\n" in capsys.readouterr().out
    assert used()["learning_rate"] == 2e-3


def test_a_file_changed_after_step_11_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    change(TRAINING, "batch_size", 8)
    assert run(config.main, ["--check"]) == 1
    assert "says batch_size 16, and training_config.yaml with its overrides says 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda record: record.update(engine="tinker"), "written for engine tinker"),
        (lambda record: record["values"].pop("rank"), "does not hold all values"),
        (lambda record: record["values"].update(rank="16"), "'rank' is of the wrong type"),
        (lambda record: record["values"].update(rank=0), "'rank' must be a whole number"),
    ],
)
def test_a_spoilt_record_is_refused(spoil: object, complaint: str) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    path = settings.run_folder() / config.USED
    record = read_json(path)
    assert callable(spoil)
    spoil(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DistillationError, match=complaint):
        config.current()


def test_without_step_11_it_says_so() -> None:
    with pytest.raises(DistillationError, match=r"training_config\.json: No such file"):
        config.current()


def test_the_hosted_engine_needs_a_model_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_plan()
    change(TRAINING, "base_model", "null")
    monkeypatch.setenv("TINKER_API_KEY", "tml-not-a-real-key")
    with pytest.raises(DistillationError, match="'base_model' must name a model of the hosted service"):
        config.load()
