"""The journal's story of a step, and what it means together with the box."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Box, IdentityPart
from pytest_tinker_steps.record.state import Done, Records, StepState, done, fold, identity

A, B = "task_1_aaaaaaaa", "task_1_bbbbbbbb"


def record(event: str, task_id: str = A, step: str | None = "1", **more: Any) -> dict[str, Any]:
    return {"v": 1, "event": event, "task_id": task_id, "step": step, "run_id": "run_1", **more}


def started(task_id: str = A, at: int = 100, *identity: str) -> dict[str, Any]:
    return record("attempt_started", task_id, status="running", started_ns=at, identity=list(identity))


def finished(status: str, task_id: str = A, **more: Any) -> dict[str, Any]:
    values = {"status": status, "timestamp": "2026-11-20T23:42:00.123Z", "seconds": 7.5, **more}
    return record("attempt_finished", task_id, **values)


def ticked(task_id: str = A) -> dict[str, Any]:
    return record("ticked", task_id)


def unticked(task_id: str = A) -> dict[str, Any]:
    return record("unticked", task_id)


PASS = [started(), finished("passed", note="5000 examples", text="Work"), ticked()]
PASSED = StepState(
    "passed", A, "2026-11-20T23:42:00.123Z", (), True, seconds=7.5, note="5000 examples", text="Work"
)
FAILED = StepState("failed", A, "2026-11-20T23:42:00.123Z", first_open_ns=100)

STORIES = {
    "nothing happened": ([], StepState()),
    "it passed": (PASS, PASSED),
    "it passed and was killed before the tick": (PASS[:2], dataclasses.replace(PASSED, ticked=False)),
    "it is running, or was cut off": ([started()], StepState("cut off", A, first_open_ns=100)),
    "it was interrupted": (
        [started(), record("attempt_interrupted", status="interrupted")],
        StepState("cut off", A, first_open_ns=100),
    ),
    "it failed": ([started(), finished("failed")], FAILED),
    "its failure is a warning": (
        [started(), finished("warned")],
        dataclasses.replace(FAILED, verdict="warned"),
    ),
    "it skipped itself": (
        [started(), finished("skipped")],
        dataclasses.replace(FAILED, verdict="skipped"),
    ),
    "a second try passed": (
        [started(), finished("failed", final=False), started(B, 200), finished("passed", B), ticked(B)],
        dataclasses.replace(PASSED, task_id=B, note="", text=""),
    ),
    "a second try was cut off: outputs count since the first": (
        [started(), finished("failed", final=False), started(B, 200)],
        StepState("cut off", B, first_open_ns=100),
    ),
    "it passed and runs again: what was written before does not count": (
        [*PASS, started(B, 300)],
        StepState("cut off", B, first_open_ns=300, seconds=7.5, note="5000 examples", text="Work"),
    ),
    "it passed, and a later run failed": (
        [*PASS, started(B, 300), finished("failed", B), unticked(B)],
        StepState(
            "failed", B, PASSED.finished, first_open_ns=300, seconds=7.5, note="5000 examples", text="Work"
        ),
    ),
    "its tick was found not to hold": (
        [*PASS, record("verify_started", B), record("verify_finished", B, status="failed"), unticked(B)],
        dataclasses.replace(PASSED, verdict="unticked", ticked=False),
    ),
    "its tick was verified and holds": (
        [*PASS, record("verify_started", B), record("verify_finished", B, status="passed")],
        PASSED,
    ),
    "it was ticked by a later start": ([*PASS[:2], record("run_started", "", None), ticked()], PASSED),
    "it could not be ticked": (
        [*PASS[:2], record("tick_failed", status="failed")],
        dataclasses.replace(PASSED, ticked=False),
    ),
    "it was done on a local engine": (
        [started(A, 100, "engine=local"), *PASS[1:]],
        dataclasses.replace(PASSED, identity=("engine=local",)),
    ),
    "the end of an older attempt comes late": (
        [started(), started(B, 200), finished("passed"), ticked()],
        StepState("cut off", B, first_open_ns=100),
    ),
    "an end without its beginning": ([finished("passed"), ticked()], StepState()),
    "an attempt that was blocked never began": ([record("blocked", "", status="blocked")], StepState()),
    "other steps, sessions and strangers": (
        [
            *PASS,
            record("attempt_started", B, "2"),
            record("run_started", "", None),
            record("attempt_started", B, step=7),  # type: ignore[arg-type]
            {"v": 1, "event": "attempt_finished"},
            {"v": 1, "event": ["odd"], "step": "1"},
        ],
        PASSED,
    ),
    "values of a stranger's making": (
        [started(), finished("passed", seconds="long", note=None)],
        dataclasses.replace(PASSED, ticked=False, seconds=0.0, note="None", text=""),
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_story_comes_to_a_state(story: str) -> None:
    records, expected = STORIES[story]
    assert fold(records).of("1") == expected


def test_steps_do_not_mix() -> None:
    records = fold([*PASS, record("attempt_started", "task_10_cccccccc", "10")])
    assert records.of("1") == PASSED
    assert records.of("10").verdict == "cut off"
    assert records.of("100") == StepState()


def test_runs_one_after_another_are_one_story() -> None:
    whole = [*PASS, started(B, 300), finished("failed", B)]
    state = Records()
    for item in whole:
        state.add(item)
    assert state.steps == fold(whole).steps


any_record = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["attempt_started", "attempt_finished", "ticked", "unticked", "note"]),
        "step": st.sampled_from(["1", "2", None, 3]),
        "task_id": st.sampled_from([A, B, None, 4]),
        "status": st.sampled_from(["passed", "failed", None]),
        "started_ns": st.sampled_from([0, 5, "9", None]),
        "identity": st.sampled_from([None, "x", ["a"], [1], {}]),
        "seconds": st.sampled_from([1, 2.5, None, "x"]),
    },
)


@given(st.lists(any_record))
def test_no_record_breaks_the_fold(records: list[dict[str, Any]]) -> None:
    for state in fold(records).steps.values():
        assert not (state.ticked and not state.verdict), "a tick is of an attempt"


def test_an_end_without_a_verdict_is_none() -> None:
    first = {"event": "attempt_started", "step": "1", "task_id": A}
    records = [first, {"event": "attempt_finished", "step": "1", "task_id": A}]
    assert fold(records).of("1").verdict == "cut off"


# -- done


def box(marker: str) -> Box:
    return Box(id="1", key="1", title="Work", text="Work", line=3, offset=0, marker=marker)


UNTICKED_PASS = dataclasses.replace(PASSED, ticked=False, text="Work")
CUT_OFF = StepState("cut off", A, first_open_ns=1)
LOCAL = dataclasses.replace(PASSED, identity=("engine=local",))


@pytest.mark.parametrize(
    ("marker", "state", "now", "expected"),
    [
        # Ticked, with a record that says the same.
        ("x", PASSED, (), Done(True, f"done 2026-11-20 by {A}")),
        ("X", PASSED, (), Done(True, f"done 2026-11-20 by {A}")),
        # Somebody ticked it before the reconciling start could.
        ("x", UNTICKED_PASS, (), Done(True, f"done 2026-11-20 by {A}")),
        # A fresh clone.
        ("x", StepState(), (), Done(True, "done, no record here")),
        ("x", StepState(), ("engine=local",), Done(True, "done, no record here")),
        # Ticked by whoever claims to be done.
        ("x", FAILED, (), Done(False, f"ticked, but {A} ended as failed")),
        ("x", CUT_OFF, (), Done(False, f"ticked, but {A} was cut off")),
        (
            "x",
            dataclasses.replace(FAILED, verdict="warned"),
            (),
            Done(False, f"ticked, but {A} ended as warned"),
        ),
        (
            "x",
            dataclasses.replace(PASSED, verdict="unticked"),
            (),
            Done(False, f"ticked, but {A} does not hold any more"),
        ),
        # Done as something else.
        ("x", LOCAL, ("engine=hosted",), Done(False, "done on engine=local, not on engine=hosted")),
        (" ", LOCAL, ("engine=hosted",), Done(False, "done on engine=local, not on engine=hosted")),
        ("x", LOCAL, (), Done(False, "done on engine=local, not on nothing")),
        ("x", PASSED, ("engine=hosted",), Done(False, "done on nothing, not on engine=hosted")),
        ("x", LOCAL, ("engine=local",), Done(True, f"done 2026-11-20 by {A}")),
        # Not ticked.
        (" ", StepState(), (), Done(False, "not done")),
        ("~", StepState(), (), Done(False, "not done")),
        (" ", UNTICKED_PASS, (), Done(True, f"done 2026-11-20 by {A}", reconcile=True)),
        (
            " ",
            dataclasses.replace(UNTICKED_PASS, text="Other work"),
            (),
            Done(False, f"not done: its text has changed since {A} passed"),
        ),
        (" ", PASSED, (), Done(False, f"un-ticked by hand since {A}")),
        (" ", FAILED, (), Done(False, f"not done: {A} ended as failed")),
        (" ", CUT_OFF, (), Done(False, f"not done: {A} was cut off")),
    ],
)
def test_done_is_ticked_and_recorded_with_the_same_identity(
    marker: str, state: StepState, now: tuple[str, ...], expected: Done
) -> None:
    assert done(box(marker), state, now) == expected


# -- identity


def test_an_identity_is_what_the_definitions_and_the_environment_say_now() -> None:
    parts = [
        IdentityPart("", "v2"),
        IdentityPart("model", "qwen"),
        IdentityPart("engine", env="BASE_URL", when_unset="hosted"),
        IdentityPart("key", env="API_KEY", when_set="own", when_unset="none"),
    ]
    assert identity(parts, {}) == ("v2", "model=qwen", "engine=hosted", "key=none")
    assert identity(parts, {"BASE_URL": "", "API_KEY": ""}) == identity(parts, {})
    assert identity(parts, {"BASE_URL": "http://here", "API_KEY": "tml-secret"}) == (
        "v2",
        "model=qwen",
        "engine=http://here",
        "key=own",
    )
