from __future__ import annotations

import json
from typing import Any

import pytest

from distillation import config, estimate, generation, generation_config, prices, settings, student
from distillation.client import HOSTED_MODEL
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json
from tests.distillation.conftest import Events
from tests.distillation.generating import change, lay_out_plan, put, records
from tests.distillation.test_config import TRAINING

HOSTED = "tml-not-a-real-key"


@pytest.fixture(autouse=True)
def fake_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distillation.client.base_model", lambda configured: configured or "fake/base")


# The table


def test_the_shipped_table_has_the_model_of_the_plan_and_its_day() -> None:
    price = prices.hosted_price()
    assert price.model == HOSTED_MODEL
    assert (price.prefill, price.sample, price.train) == (0.195, 0.6, 0.44)
    assert price.cached_prefill == pytest.approx(0.039)
    assert price.date == "2026-10-07"


def test_a_cost_is_tokens_times_price_and_cached_tokens_are_cheaper() -> None:
    price = prices.hosted_price()
    assert price.cost(prefill=1_000_000) == pytest.approx(0.195)
    assert price.cost(prefill=1_000_000, cached=1_000_000) == pytest.approx(0.039)
    assert price.cost(sample=500_000, train=2_000_000) == pytest.approx(0.3 + 0.88)


def test_the_local_engine_is_free_and_the_hosted_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prices.price_of("any/model").cost(prefill=10**9, sample=10**9, train=10**9) == 0
    monkeypatch.setenv("TINKER_API_KEY", HOSTED)
    assert prices.price_of(HOSTED_MODEL) == prices.hosted_price()
    with pytest.raises(DistillationError, match=r"has no price for any/model, only for .*; write one into"):
        prices.price_of("any/model")


def test_a_file_in_the_current_folder_lies_over_the_shipped_table(capsys: pytest.CaptureFixture[str]) -> None:
    table: dict[str, Any] = read_json(prices.SHIPPED)
    entry = {"prefill": 1, "sample": 2, "train": 3, "date": "2027-01-02", "source": "an invoice"}
    write_json(prices.OVERRIDE, {**table, "models": {"my/model": entry, HOSTED_MODEL: entry}})
    assert prices.hosted_price("my/model").sample == 2
    assert prices.hosted_price().source == "an invoice"
    assert "Qwen/Qwen3-4B-Instruct-2507" in prices.load_table()
    assert run(prices.main, ["--check"]) == 0
    assert capsys.readouterr().out == "models: 3\noverridden: 1\n"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prefill": -1}, "model 'm': 'prefill' must be a number from 0 to 10000, not -1"),
        ({"train": "1"}, "model 'm': 'train' must be a number from 0 to 10000, not '1'"),
        ({"sample": True}, "model 'm': 'sample' must be a number"),
        ({"date": "last week"}, "model 'm': 'date' must be a day such as 2026-10-07, not 'last week'"),
        ({"date": 2026}, "model 'm': 'date' must be a day"),
    ],
)
def test_a_mistake_in_a_table_is_named(changes: dict[str, Any], complaint: str) -> None:
    entry = {"prefill": 1, "sample": 2, "train": 3, "date": "2027-01-02"} | changes
    write_json(prices.OVERRIDE, {"cached_prefill_share": 0.2, "models": {"m": entry}})
    with pytest.raises(DistillationError, match=rf"^prices\.json: {complaint}"):
        prices.load_table()


@pytest.mark.parametrize(
    "table", [{}, {"cached_prefill_share": 0.2}, {"cached_prefill_share": 2, "models": 1}]
)
def test_a_table_of_another_form_is_refused(table: dict[str, Any]) -> None:
    write_json(prices.OVERRIDE, table)
    with pytest.raises(DistillationError, match=r"^prices\.json: "):
        prices.load_table()


# The estimate


def test_before_anything_was_measured_the_estimate_is_assumed_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", HOSTED)
    lay_out_plan()
    cost = estimate.estimate()
    assert "answer 512 tokens, the most that is allowed: assumed until step 6" in cost["assumptions"]
    assert any(text.startswith(f"prices of {HOSTED_MODEL} of 2026-10-07") for text in cost["assumptions"])
    assert [line["step"] for line in cost["steps"]] == [6, 8, 12, 13, 14, 15, 17]
    assert cost["usd"] == pytest.approx(sum(line["usd"] for line in cost["steps"]), abs=1e-5)
    assert cost["usd_with_cache"] < cost["usd"] == cost["hosted_usd"]


def test_measured_tokens_take_the_place_of_assumed_ones() -> None:
    lay_out_plan()
    put(generation.TRIAL, records(10))
    write_json(settings.run_folder() / student.REPORT, {"student_prompt_tokens": 21.0})
    sizes = estimate.measure_sizes(generation_config.load(), settings.run_folder())
    assert (sizes.teacher_prompt, sizes.student_prompt, sizes.answer) == (701, 21, 30)
    put(generation.DATA, [one | {"prompt_tokens": 500} for one in records(20)])
    sizes = estimate.measure_sizes(generation_config.load(), settings.run_folder())
    assert sizes.teacher_prompt == 500
    assert "measured in teacher_data_5000.jsonl" in sizes.assumptions[0]


def test_tokens_are_those_of_the_work() -> None:
    lay_out_plan()
    sizes = estimate.Sizes(700, 20, 30, ())
    by_step = {line.step: line for line in estimate.lines(sizes, config.load(), generation_config.load())}
    assert (by_step[8].prefill, by_step[8].sample) == (4990 * 700, 4990 * 30)
    assert by_step[8].cached == 4989 * 680
    assert by_step[13].train == 1000 * 16 * 50
    assert by_step[13].prefill == 6 * 100 * 50
    assert by_step[15].prefill == 400 * (2 * 700 + 2 * 20)
    assert by_step[15].sample == 400 * 4 * 30


def test_the_estimate_is_written_calculated_again_and_within_the_budget(
    monkeypatch: pytest.MonkeyPatch, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", HOSTED)
    lay_out_plan()
    assert run(config.main, []) == 0
    cost = read_json(settings.run_folder() / estimate.REPORT)
    assert {"metric": "estimated_usd", "value": cost["usd"]} in said()
    assert run(estimate.main, ["--check"]) == 0
    assert f"estimated usd: {cost['usd']:.4f}\n" in capsys.readouterr().out
    change(TRAINING, "budget_usd", 1)
    assert run(config.main, []) == 1
    assert "are estimated, and the budget is $1.00; raise 'budget_usd'" in capsys.readouterr().err


def test_the_estimate_of_a_rehearsal_is_free_and_names_the_hosted_price(said: Events) -> None:
    lay_out_plan()
    assert run(config.main, []) == 0
    cost = read_json(settings.run_folder() / estimate.REPORT)
    assert cost["usd"] == 0 < cost["hosted_usd"]
    assert any("free here, $" in event.get("note", "") for event in said())


@pytest.mark.parametrize("key", ["usd", "train_tokens"])
def test_a_wrong_product_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", HOSTED)
    lay_out_plan()
    assert run(config.main, []) == 0
    path = settings.run_folder() / estimate.REPORT
    cost = read_json(path)
    cost["steps"][3][key] *= 2
    path.write_text(json.dumps(cost))
    assert run(estimate.main, ["--check"]) == 1
    assert "step 13 costs" in capsys.readouterr().err


def test_one_step_can_be_asked_for_before_any_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", HOSTED)
    lay_out_plan()
    assert run(estimate.main, ["--step", "8"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("step 8: $")
    assert "step 13" not in printed
    assert "assumption: " in printed
    assert not (settings.run_folder() / "teacher_memory.jsonl").exists()
