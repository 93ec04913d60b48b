"""What the runs and the numbers of one monitor mean, without threads and without a clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Metric, Monitor, Stall, Threshold, Where
from pytest_tinker_steps.run.monitoring.sampling import (
    LONGEST_ALERT,
    NEVER,
    SAMPLE,
    Event,
    Sampling,
    next_beat,
)
from pytest_tinker_steps.run.process import Ended

START = 100.0
LOSS = Metric("loss", r"loss[= ](\S+)")


def a_monitor(**more: Any) -> Monitor:
    given = {"name": "watch", "kind": "sample", "command": "look", "where": Where("steps.yaml", 1)}
    return Monitor(**{**given, **more})


def a_sampling(**more: Any) -> Sampling:
    return Sampling(a_monitor(**more), START)


def ran(
    sampling: Sampling, output: str, code: int | None = 0, reason: Any = "exit", now: float = START
) -> list[Event]:
    """The events of one run, and of the number that it has found."""
    sampling.begins(now)
    events, numbers = sampling.ended(Ended(code, reason, 0.1, output, "why"), output, now)
    for name, value in numbers:
        events += sampling.number(name, value, now, own=True)
    return events


def told(events: list[Event]) -> list[str]:
    assert all(event["monitor"] == "watch" for event in events)
    return [f"{event['event']}: {event.get('text', event.get('value'))}" for event in events]


def numbers(sampling: Sampling, *values: float, every: float = 60.0, now: float = START) -> list[list[str]]:
    """What is told of numbers that the main reports, one after the other."""
    return [
        told(sampling.number("loss", value, now + n * every, own=False)) for n, value in enumerate(values)
    ]


# ---------------------------------------------------------------- when


def test_the_first_run_is_due_at_the_start_and_the_next_at_its_interval_from_it() -> None:
    sampling = a_sampling(interval=60)
    assert sampling.due() == START
    assert not sampling.begins(START - 0.1)
    assert sampling.begins(START + 1)
    sampling.ended(Ended(0, "exit", 1, "", ""), "", START + 2)
    assert sampling.due() == START + 61


def test_a_run_does_not_begin_while_the_last_one_goes_on() -> None:
    sampling = a_sampling(interval=60)
    assert sampling.begins(START)
    assert sampling.due() == NEVER
    assert not sampling.begins(START + 1000)


@pytest.mark.parametrize(
    ("took", "following"), [(0, 60), (59, 60), (60, 60), (61, 120), (120, 120), (1e6, 1000020)]
)
def test_skipped_beats_are_not_made_up_for(took: float, following: float) -> None:
    assert next_beat(START, 60, START + took) == START + following


@given(st.floats(0, 1e6), st.floats(0.01, 1e5), st.floats(0, 1e6).map(lambda value: round(value, 3)))
def test_the_next_beat_lies_within_an_interval_from_now(last: float, interval: float, took: float) -> None:
    beat = next_beat(last, interval, last + took)
    assert beat >= last + interval
    assert beat >= last + took - 1e-6
    assert beat - max(last + took, last) <= interval + 1e-6


def test_one_without_a_command_is_never_run() -> None:
    assert a_sampling(command=None, metric=LOSS).due() == NEVER


# ---------------------------------------------------------------- samples


def test_a_sample_is_told_when_it_has_changed() -> None:
    sampling = a_sampling()
    said = [told(ran(sampling, text)) for text in (" a \n", "a", "b", "", "", "b")]
    assert said == [["sample: a"], [], ["sample: b"], ["sample: "], [], ["sample: b"]]


def test_a_command_that_prints_nothing_has_no_sample() -> None:
    assert ran(a_sampling(), "\n") == []


def test_the_end_of_a_long_output_is_the_sample_and_all_of_it_is_searched() -> None:
    events = ran(a_sampling(alert_on="error"), "error at first\n" + "x" * SAMPLE)
    assert told(events) == [f"sample: {'x' * SAMPLE}", "alert: error at first"]


def test_colours_are_no_part_of_a_sample() -> None:
    assert told(ran(a_sampling(alert_on="error"), "\x1b[31merror\x1b[0m")) == [
        "sample: error",
        "alert: error",
    ]


def test_words_raise_one_alert_for_each_changed_sample() -> None:
    sampling = a_sampling(alert_on="error|nan")
    said = [told(ran(sampling, text)) for text in ("fine", "1 nan", "1 nan", "2 nan", "finance")]
    assert said == [
        ["sample: fine"],
        ["sample: 1 nan", "alert: 1 nan"],
        [],
        ["sample: 2 nan", "alert: 2 nan"],
        ["sample: finance"],
    ]


def test_a_failing_command_has_a_sample_and_an_alert_too() -> None:
    assert told(ran(a_sampling(alert_on="nan"), "loss is nan", 1)) == [
        "sample: loss is nan",
        "alert: loss is nan",
    ]


def test_a_match_of_nothing_is_told_in_words() -> None:
    assert told(ran(a_sampling(alert_on="/^$/"), "")) == ["alert: /^$/ is found in its output"]


def test_an_alert_is_one_line_marked_as_a_warning() -> None:
    (alert,) = ran(a_sampling(kind="alert"), "a\n" + "error\x07 " * 200)
    assert alert["status"] == "warned"
    assert len(alert["text"]) == LONGEST_ALERT
    assert alert["text"].isprintable()


# ---------------------------------------------------------------- commands that find something


def test_a_finding_raises_an_alert_when_it_is_new() -> None:
    sampling = a_sampling(kind="alert")
    runs = [("", 1), ("ERROR a\n", 0), ("ERROR a\n", 0), ("ERROR a\nERROR b\n", 0), ("", 1), ("ERROR a\n", 0)]
    said = [told(ran(sampling, text, code)) for text, code in runs]
    assert said == [[], ["alert: ERROR a"], [], ["alert: ERROR b"], [], ["alert: ERROR a"]]


@pytest.mark.parametrize(("text", "code"), [("", 0), ("found", 1), ("broken", 2)])
def test_exit_0_with_output_is_a_finding_and_nothing_else_is(text: str, code: int) -> None:
    assert ran(a_sampling(kind="alert"), text, code) == []


def test_a_finding_can_be_narrowed_by_words() -> None:
    sampling = a_sampling(kind="alert", alert_on="fatal")
    assert ran(sampling, "a warning") == []
    assert told(ran(sampling, "a warning\nfatal: x\nmore")) == ["alert: fatal: x"]


# ---------------------------------------------------------------- monitors that fail


@pytest.mark.parametrize(
    ("kind", "code", "reason", "why"),
    [
        ("sample", 1, "exit", "exit 1: no file"),
        ("sample", -9, "exit", "killed by SIGKILL: no file"),
        ("sample", None, "exit", "why"),
        ("sample", None, "timeout", "no end after 30 s"),
        ("sample", None, "not started", "why"),
        ("alert", 2, "exit", "exit 2: no file"),
        ("alert", None, "timeout", "no end after 30 s"),
    ],
)
def test_a_monitor_that_keeps_failing_says_so_once(kind: str, code: int, reason: str, why: str) -> None:
    sampling = a_sampling(kind=kind)

    def alerts(*codes: int | None) -> list[str]:
        return [
            text
            for one in codes
            for text in told(ran(sampling, "no file", one, "exit" if one == 0 else reason))
            if text.startswith("alert: keeps")
        ]

    assert alerts(code, code) == []
    assert alerts(code) == [f"alert: keeps failing: {why} (3 times)"]
    assert alerts(code, code, code, code) == []
    assert alerts(0, code, code) == []
    assert alerts(code) == [f"alert: keeps failing: {why} (3 times)"]


def test_nothing_found_is_no_failure() -> None:
    sampling = a_sampling(kind="alert")
    assert [ran(sampling, "", 1) for _ in range(5)] == [[]] * 5


def test_what_cannot_be_started_at_all_keeps_failing_too() -> None:
    sampling = a_sampling(on_alert="stop")
    said = [told(sampling.not_run("RuntimeError: no more threads", START)) for _ in range(4)]
    assert said == [[], [], ["alert: keeps failing: RuntimeError: no more threads (3 times)"], []]
    assert sampling.stop_reason == ""  # the monitor is at fault, not the main


def test_a_cancelled_run_means_nothing() -> None:
    assert [ran(a_sampling(alert_on="x"), "x", None, "cancelled") for _ in range(4)] == [[]] * 4


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("loss=0.5", 0.5),
        ("loss=1\nloss 2e-1\n", 0.2),
        ("loss=nan", "nan"),
        ("loss=-inf", "-inf"),
        ("loss=7%", 7),
    ],
)
def test_the_newest_number_of_an_output_is_told(text: str, value: float | str) -> None:
    (metric,) = ran(a_sampling(metric=LOSS), text)[1:]
    assert metric == {"event": "metric", "status": "", "monitor": "watch", "name": "loss", "value": value}


def test_what_is_no_number_is_left_out() -> None:
    assert told(ran(a_sampling(metric=LOSS), "loss=high")) == ["sample: loss=high"]


def test_an_unchanged_number_is_told_once() -> None:
    sampling = a_sampling(metric=LOSS)
    said = [
        told(ran(sampling, f"loss={text}", now=START + 60 * n))
        for n, text in enumerate(["1", "1.0", "nan", "NaN"])
    ]
    assert [one[1:] for one in said] == [["metric: 1.0"], [], ["metric: nan"], []]


def test_numbers_that_stream_in_are_told_once_a_second_and_at_the_end() -> None:
    sampling = a_sampling(command=None, metric=LOSS)

    def read(value: float, now: float) -> list[str]:
        return told(sampling.number("loss", value, START + now, own=True))

    assert read(1, 0) == ["metric: 1"]
    assert read(2, 0.1) == read(3, 0.2) == []
    assert sampling.due() == START + 1
    assert told(sampling.tick(START + 1)) == ["metric: 3"]
    assert sampling.due() == NEVER
    assert read(4, 1.5) == []
    assert told(sampling.last_words()) == ["metric: 4"]


def test_a_number_that_the_main_reports_is_not_told_again() -> None:
    assert a_sampling(threshold=Threshold("loss", ">", 10)).number("loss", 1, START, own=False) == []


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("operator", "limit", "good", "bad"),
    [
        (">", 10, 10, 10.5),
        (">=", 10, 9, 10),
        ("<", 10, 10, 9),
        ("<=", 10, 11, 10),
        ("==", 0, 1, 0),
        ("!=", 0, 0, 1),
        ("nan", 0, 1e300, math.nan),
        ("nan", 0, -1, math.inf),
        (">", 10, 1, math.nan),
        ("<", 10, 11, math.nan),
    ],
)
def test_a_threshold_raises_an_alert_when_it_begins_to_hold(
    operator: Any, limit: float, good: float, bad: float
) -> None:
    sampling = a_sampling(command=None, threshold=Threshold("loss", operator, limit))
    said = [bool(events) for events in numbers(sampling, good, bad, bad, good, bad)]
    assert said == [False, True, False, False, True]


def test_a_limit_is_told_with_the_number() -> None:
    sampling = a_sampling(threshold=Threshold("loss", ">", 10), metric=Metric("loss", "", min=1, max=5.5))
    assert numbers(sampling, 12.34, 3, 0.5, 7, math.nan) == [
        ["alert: loss is 12.34 (> 10); loss is 12.34, above max 5.5"],
        [],
        ["alert: loss is 0.5, below min 1"],
        ["alert: loss is 7, above max 5.5"],
        ["alert: loss is nan"],
    ]


def test_a_number_that_becomes_none_beyond_its_limit_is_told_once_more() -> None:
    sampling = a_sampling(threshold=Threshold("loss", ">", 10))
    assert numbers(sampling, 12, math.nan, 12, math.inf) == [
        ["alert: loss is 12 (> 10)"],
        ["alert: loss is nan"],
        [],
        ["alert: loss is inf"],
    ]


def test_a_number_without_limits_raises_none() -> None:
    assert numbers(a_sampling(metric=Metric("loss", "")), math.nan, 1e300) == [[], []]


def test_another_number_is_of_no_concern() -> None:
    sampling = a_sampling(threshold=Threshold("loss", ">", 10))
    assert sampling.number("rate", 100, START, own=False) == []


def test_a_number_that_crosses_its_limit_to_and_fro_is_told_once_an_interval() -> None:
    sampling = a_sampling(command=None, interval=60, threshold=Threshold("loss", ">", 10))
    said = numbers(sampling, *[11, 9] * 50, every=1)
    assert [n for n, texts in enumerate(said) if texts] == [0, 60]


def test_each_run_of_a_command_is_judged_however_quick() -> None:
    sampling = a_sampling(interval=60, metric=Metric("loss", LOSS.pattern, max=10))
    said = [told(ran(sampling, f"loss={value}", now=START + value / 100)) for value in (11, 9, 12)]
    assert [any("max" in text for text in texts) for texts in said] == [True, False, True]


def test_a_number_that_a_monitor_finds_itself_comes_from_nobody_else() -> None:
    sampling = a_sampling(metric=Metric("loss", LOSS.pattern, max=10))
    assert sampling.number("loss", 11, START, own=False) == []
    assert told(sampling.number("loss", 11, START, own=True))[1:] == ["alert: loss is 11, above max 10"]


# ---------------------------------------------------------------- stalls


def test_a_main_that_prints_nothing_is_told_once_for_each_stall() -> None:
    sampling = a_sampling(command=None, stall=Stall(30))
    assert sampling.due() == START + 30
    assert sampling.tick(START + 29.9) == []
    assert told(sampling.tick(START + 30)) == ["alert: no output for 30 s"]
    assert sampling.tick(START + 500) == []
    assert sampling.due() == NEVER
    sampling.moved(START + 600)
    assert sampling.due() == START + 630
    assert told(sampling.tick(START + 631)) == ["alert: no output for 30 s"]


def test_output_keeps_a_stall_away() -> None:
    sampling = a_sampling(command=None, stall=Stall(30))
    sampling.moved(START + 20)
    assert sampling.tick(START + 30) == []
    assert sampling.due() == START + 50


def test_a_number_that_stays_as_it_is_is_a_stall() -> None:
    sampling = a_sampling(command=None, stall=Stall(30, "loss"))
    numbers(sampling, 5, 5, math.nan, math.nan, every=10)
    sampling.moved(START + 40)  # other output does not count
    assert sampling.due() == START + 50
    assert told(sampling.tick(START + 50)) == ["alert: loss has stayed at nan for 30 s"]
    numbers(sampling, 4, now=START + 60)
    assert sampling.due() == START + 90


def test_a_number_that_never_comes_is_a_stall_from_the_start() -> None:
    sampling = a_sampling(command=None, stall=Stall(30, "loss"))
    assert told(sampling.tick(START + 30)) == ["alert: loss was not seen for 30 s"]


# ---------------------------------------------------------------- what an alert asks for


def test_an_alert_can_ask_for_the_end_of_the_main() -> None:
    sampling = a_sampling(alert_on="nan", on_alert="stop")
    ran(sampling, "fine")
    assert sampling.stop_reason == ""
    ran(sampling, "nan 1")
    ran(sampling, "nan 2")
    assert sampling.stop_reason == "monitor watch: nan 1"


def test_an_alert_only_warns_unless_it_is_said() -> None:
    sampling = a_sampling(alert_on="nan")
    assert len(ran(sampling, "nan")) == 2
    assert sampling.stop_reason == ""


@given(
    st.lists(
        st.one_of(
            st.floats(),
            st.tuples(st.text(max_size=30), st.sampled_from([0, 1, 2, -9])),
        ),
        max_size=20,
    ),
    st.sampled_from(["sample", "alert"]),
)
def test_events_are_json_whatever_is_seen(seen: list[Any], kind: str) -> None:
    sampling = a_sampling(
        kind=kind,
        alert_on="a|error",
        metric=Metric("loss", r"(\d+)", min=0, max=5),
        threshold=Threshold("loss", ">", 3),
        stall=Stall(5, "loss"),
    )
    for step, one in enumerate(seen):
        now = START + step
        events = (
            sampling.number("loss", one, now, own=True)
            if isinstance(one, float)
            else ran(sampling, one[0], one[1], now=now)
        )
        for event in [*events, *sampling.tick(now)]:
            if event["event"] == "alert":
                assert event["text"].isprintable()
                assert 0 < len(event["text"]) <= LONGEST_ALERT
            if event["event"] == "metric":
                assert isinstance(event["value"], str) or math.isfinite(event["value"])
