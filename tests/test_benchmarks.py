"""The measure of the dispatch uses the inside of the scheduler, so it is tried here on small plans."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def dispatching(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The measure, of plans that take no time."""
    # Behind all others: a script there is called what a package of ours is called.
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    module = importlib.import_module("dispatching")
    for name, value in (("FEW", 12), ("MANY", 40), ("SAMPLE", 36)):
        monkeypatch.setattr(module, name, value)
    return module


def test_the_dispatch_of_short_and_long_plans_is_compared_in_each_shape(dispatching: Any) -> None:
    figures = dispatching.dispatch(rounds=1)
    assert [figure.name.partition(": ")[0] for figure in figures] == [
        "dispatch of a step, 6 tracks",
        "dispatch of a step, 10 layers",
        "dispatch of a step, no order",
        "dispatch of a step, no order, with the line of the session",
    ]
    assert [len(figure.samples) for figure in figures] == [1, 1, 1, 1]
    assert all(sample > 0 for figure in figures for sample in figure.samples)


def test_with_the_line_each_end_is_told(dispatching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dispatching.decided(12, "  needs: []\n")
    dispatching.per_step(plan, told=True)
    monkeypatch.setattr(dispatching.Telling, "changed", lambda _: None)
    with pytest.raises(SystemExit, match="not every end is told"):
        dispatching.per_step(plan, told=True)


def test_a_session_that_dispatches_nothing_is_no_measurement(
    dispatching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dispatching.decided(12, "  needs: []\n")
    monkeypatch.setattr(dispatching.Session, "end", lambda *_: None)
    with pytest.raises(SystemExit, match="nothing is dispatched"):
        dispatching.per_step(plan, told=False)
