"""The one line that says how far a session is whose steps run side by side."""

from __future__ import annotations

import pytest

from pytest_tinker_steps.record.frozen import Frozen
from pytest_tinker_steps.report import side_by_side

from ..record.sessions import a_list, a_plan, a_session


@pytest.fixture
def frozen() -> Frozen:
    tracks = "".join(f"step_{n}: {{main: 'true', track: {'ABC'[n % 3]}, needs: []}}\n" for n in range(1, 12))
    return a_session(a_plan(a_list(*(f"Work {n}" for n in range(1, 13)), ticked=(1, 2)), tracks))


def test_what_is_done_what_runs_what_failed_and_how_long(frozen: Frozen) -> None:
    steps = frozen.by_id
    verdicts = {"3": "passed", "4": "failed", "5": "blocked", "6": "started", "7": "passed"}
    tally = side_by_side.Tally(frozen)
    for name, verdict in verdicts.items():
        tally.note(name, verdict)
    held = (steps["9"], "pool gpu: 1 of 1 taken by step_6", 2)
    assert tally.line([steps["8"], steps["12"]], held) == (
        "4/12 done (1-3, 7) · running: step_8 (C), step_12"
        " · waiting: step_9 (A) for pool gpu: 1 of 1 taken by step_6 and 1 more"
        " · jobs: step_6 · failed: 4 · blocked: 1"
    )
    tally.note("6", "passed")
    tally.note("4", "passed")
    assert tally.line([], None) == "6/12 done (1-4, 6-7) · running: none · failed: none · blocked: 1"


def test_a_long_list_is_told_in_few_words() -> None:
    many = a_session(a_plan(a_list(*("Work" for _ in range(60)))))
    tally = side_by_side.Tally(many)
    for number in range(1, 61, 2):
        tally.note(str(number), "passed")
    for number in range(2, 61, 4):
        tally.note(str(number), "failed")
    assert tally.line([], None) == (
        "30/60 done (1, 3, 5, 7, 9, 11, 13, ...) · running: none"
        " · failed: 2, 6, 10, 14, 18, 22, 26, ... (15 in all)"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0s"), (59.9, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3600, "1h 00m")]
)
def test_a_clock_that_goes_on(seconds: float, shown: str) -> None:
    assert side_by_side.elapsed(seconds) == shown
