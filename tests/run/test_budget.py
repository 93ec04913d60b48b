"""What was spent is added up across processes, and stops what would begin above the budget."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.run.budget import Budget, costs_of


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return costs_of(tmp_path / ".steps", "run_1")


def test_nothing_is_written_before_something_was_spent(ledger: Path) -> None:
    budget = Budget(ledger, 10.0)
    assert budget.total() == budget.of("8") == 0
    assert budget.reached("8", 5.0, 0.0) == ""
    assert not ledger.parent.exists()


def test_costs_of_several_processes_come_to_one_sum(ledger: Path) -> None:
    one, other = Budget(ledger, None), Budget(ledger, None)
    one.add("8", 1.25)
    other.add("9", 0.5)
    one.add("8", 0.25)
    for budget in (one, other, Budget(ledger, None)):
        assert (budget.total(), budget.of("8"), budget.of("9")) == (2.0, 1.5, 0.5)
    assert ledger.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("limit", "step_limit", "before", "why"),
    [
        (None, None, 0.0, ""),
        (None, 12.31, 0.0, ""),
        (None, 12.3, 0.0, "$12.30 of $12.30 spent by step_8"),
        (None, 10.0, 0.0, "$12.30 of $10.00 spent by step_8"),
        (None, 20.0, 7.7, "$20.00 of $20.00 spent by step_8"),
        (15.0, None, 7.7, "$15.30 of $15.00 spent by this run"),
        (15.0, 20.0, 0.0, "$15.30 of $15.00 spent by this run"),
        (15.31, 20.0, 0.0, ""),
        (1e6, 0.0, 0.0, "$12.30 of $0.00 spent by step_8"),
    ],
)
def test_a_budget_is_reached_when_its_sum_is(
    ledger: Path, limit: float | None, step_limit: float | None, before: float, why: str
) -> None:
    budget = Budget(ledger, limit)
    budget.add("8", 12.3)
    budget.add("9", 3.0)
    assert budget.reached("8", step_limit, before) == why


def test_a_budget_of_nothing_lets_begin_what_costs_nothing(ledger: Path) -> None:
    assert Budget(ledger, 0.0).reached("8", 0.0, 0.0) == ""


def test_what_earlier_runs_have_spent_counts_for_the_step_alone(ledger: Path) -> None:
    budget = Budget(ledger, 5.0)
    assert budget.reached("8", 5.0, 6.0) == "$6.00 of $5.00 spent by step_8"
    assert budget.reached("8", None, 6.0) == ""


def test_small_sums_are_not_shown_as_nothing(ledger: Path) -> None:
    budget = Budget(ledger, 0.001)
    budget.add("8", 0.0042)
    assert budget.reached("8", None, 0.0) == "$0.0042 of $0.001 spent by this run"


def test_a_line_torn_by_a_full_disk_costs_no_other_line(ledger: Path) -> None:
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b'{"step": "8", "us')
    budget = Budget(ledger, None)
    budget.add("8", 1.0)
    assert budget.total() == 1.0


def test_a_cost_that_cannot_be_written_counts_all_the_same(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(ledger, 1.0)
    budget.add("8", 0.5)
    real = budget._append
    monkeypatch.setattr(budget, "_append", lambda line: real(line[:12]))
    budget.add("8", 0.25)

    def refuse(line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(budget, "_append", refuse)
    budget.add("9", 0.25)
    assert (budget.of("8"), budget.of("9"), budget.total()) == (0.75, 0.25, 1.0)
    assert budget.reached("9", None, 0.0) == "$1.00 of $1.00 spent by this run"
    monkeypatch.setattr(budget, "_append", real)
    budget.add("8", 1.0)
    assert Budget(ledger, None).total() == 1.5, "what is whole in the ledger"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_no_cost(ledger: Path, value: float) -> None:
    budget = Budget(ledger, 1.0)
    budget.add("8", value)
    assert budget.total() == 0


@pytest.mark.parametrize("line", ["[]", "3", "null", '{"step": "8"}', '{"step": "8", "usd": "much"}', "{"])
def test_what_is_no_cost_in_the_ledger_is_passed_over(ledger: Path, line: str) -> None:
    ledger.parent.mkdir(parents=True)
    ledger.write_text(f"{line}\n{json.dumps({'step': '8', 'usd': 2})}\n")
    assert Budget(ledger, None).total() == 2


def test_many_threads_lose_nothing(ledger: Path) -> None:
    budgets = [Budget(ledger, None) for _ in range(4)]

    def spend(budget: Budget) -> None:
        for _ in range(50):
            budget.add("8", 0.5)

    threads = [threading.Thread(target=spend, args=(budget,)) for budget in budgets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {budget.total() for budget in budgets} == {100.0}


@given(st.lists(st.tuples(st.sampled_from(["8", "2.1", "ü"]), st.integers(0, 10**6)), max_size=20), st.data())
def test_the_sums_are_those_of_the_entries_whenever_they_are_asked(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, int]], data: Any
) -> None:
    path = tmp_path_factory.mktemp("costs") / "ledger.jsonl"
    budget = Budget(path, None)
    for number, (step, cents) in enumerate(entries, 1):
        budget.add(step, cents / 100)
        if data.draw(st.booleans()):
            assert budget.total() == pytest.approx(sum(cents for _, cents in entries[:number]) / 100)
    for step in ("8", "2.1", "ü"):
        assert budget.of(step) == pytest.approx(sum(cents for name, cents in entries if name == step) / 100)
