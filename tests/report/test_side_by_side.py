"""The one line that says how far a session is whose steps run side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        " · waiting: step_9 (pool gpu: 1 of 1 taken by step_6), and 1 more"
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


def test_every_end_is_in_some_count(frozen: Frozen) -> None:
    tally = side_by_side.Tally(frozen)
    ends = ("failed", "blocked", "warned", "skipped", "skipped", "not verified", "passed", "assumed")
    for name, verdict in zip(["3", "4", "5", "6", "7", "8", "9", "10"], ends, strict=True):
        tally.note(name, verdict)
    assert tally.line([], None) == (
        "4/12 done (1-2, 9-10) · running: none · failed: 3"
        " · blocked: 1 · warned: 1 · skipped: 2 · not verified: 1"
    )


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("to run alone, beside step_1, step_3", "step_9 (to run alone, beside step_1, step_3)"),
        ("step_2 runs alone", "step_9 (step_2 runs alone)"),
        ("pool gpu: 1 of 1 taken by step_1", "step_9 (pool gpu: 1 of 1 taken by step_1)"),
    ],
)
def test_why_a_step_waits_stands_behind_it(frozen: Frozen, why: str, shown: str) -> None:
    tally = side_by_side.Tally(frozen)
    line = tally.line([], (frozen.by_id["9"], why, 1))
    assert line == f"2/12 done (1-2) · running: none · waiting: {shown} · failed: none"


LINE = (
    "12/32 done (1-4, 7-9, 19-21, ...) · running: step_5 (A), step_10 (C), step_13 (E)"
    " · waiting: step_9 (pool gpu: 1 of 1 taken by step_6) · failed: 2, 30 · warned: 1 · 2h 15m"
)


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (len(LINE), LINE),
        (
            150,
            "12/32 done (1-4, 7-9, 19-21, ...) · running: step_5 (A), step_10 (C), step_13 (E)"
            " · waiting: step_9 (pool gpu:... · failed: 2, 30 · warned: 1 · 2h 15m",
        ),
        (
            99,
            "12/32 done (1-4, 7-9, 19-21, ...) · running: step_5 (A), ..."
            " · failed: 2, 30 · warned: 1 · 2h 15m",
        ),
        (79, "12/32 done · running: step_5 (A), ... · failed: 2, 30 · warned: 1 · 2h 15m"),
        (59, "12/32 done · failed: 2, 30 · warned: 1 · 2h 15m"),
        (40, "12/32 done · failed: 2, 30 · 2h 15m"),
        (30, "12/32 done · failed: 2, 30 · 2"),
        (1, "1"),
    ],
)
def test_on_a_narrow_terminal_the_middle_gives_way(room: int, shown: str) -> None:
    assert side_by_side.fit(LINE, room) == shown


@given(
    parts=st.lists(st.text("ab, (日é", max_size=20), min_size=1, max_size=4),
    words=st.permutations(["running: ", "waiting: ", "jobs: ", "failed: ", "blocked: "]),
    room=st.integers(1, 60),
)
def test_whatever_the_line_says_it_does_not_wrap(parts: list[str], words: list[str], room: int) -> None:
    line = " · ".join(f"{word}{part}" for word, part in zip(["", *words], parts, strict=False))
    shown = side_by_side.fit(line, room)
    assert side_by_side.cells(shown) <= room
    assert shown == line or side_by_side.cells(line) > room


def test_many_failures_leave_room_for_the_time() -> None:
    line = "3/32 done (1-3) · running: none · failed: 1, 2, 3, 4, 5, 6, 7, ... (9 in all) · 2h 15m"
    assert side_by_side.fit(line, 40) == "3/32 done · failed: 1, 2, ... · 2h 15m"


@pytest.mark.parametrize(
    ("line", "columns", "column"),
    [
        ("", 80, 0),
        ("..F", 80, 3),
        ("日本", 80, 4),
        ("2 workers\r3", 80, 1),
        ("a" * 100, 80, 20),
        ("a" * 80, 80, None),
        ("日" * 60, 80, None),
        ("a\tb", 80, None),
        ("\x1b[31ma", 80, None),
        ("e\u0301", 80, None),
    ],
)
def test_where_the_cursor_stands(line: str, columns: int, column: int | None) -> None:
    assert side_by_side.column(line, columns) == column


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0s"), (59.9, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3600, "1h 00m")]
)
def test_a_clock_that_goes_on(seconds: float, shown: str) -> None:
    assert side_by_side.elapsed(seconds) == shown
