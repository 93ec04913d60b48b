"""Verdicts, and the order in which they reach the journal and the list, whatever fails in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.plan import tasklist
from pytest_tinker_steps.plan.model import Box, Step
from pytest_tinker_steps.record import journal as journals
from pytest_tinker_steps.record.controller import Controller
from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.record.journal import Journal, JournalError
from pytest_tinker_steps.record.state import Records, StepState, fold
from pytest_tinker_steps.record.tale import OK
from pytest_tinker_steps.record.ticking import Edit, ListFile, Tick

from .sessions import a_list, a_plan, a_session, decide, true_steps

PASSED = {"setup": "passed", "call": "passed", "teardown": "passed"}
FAILED = {**PASSED, "call": "failed"}


class FakeJournal(Journal):
    """Keeps its records, tells of each, and fails from a chosen event on."""

    def __init__(self, told: list[str], fails_at: str = "") -> None:
        self.path = Path("journal")
        self.run_id = "run_1"
        self.records: list[dict[str, Any]] = []
        self.closed = False
        self._told = told
        self._fails_at = fails_at
        self._broken = False

    def append(self, event: str, *, sync: bool = False, **more: Any) -> dict[str, Any]:
        assert not self.closed
        self._broken = self._broken or event == self._fails_at
        if self._broken:
            raise JournalError("journal: the journal cannot be written: the disk is full")
        record = {"v": 1, "event": event, "task_id": "", **more}
        self.records.append(record)
        self._told.append(f"record {event}" + (" (synced)" if sync else ""))
        return record

    def sync(self) -> None:
        if self._broken or self._fails_at == "sync":
            self._broken = True
            raise JournalError("journal: the journal cannot be written: the disk is full")
        self._told.append("sync")

    def close(self) -> None:
        self.closed = True


class FakeList(ListFile):
    """A list that does as it is told, and tells."""

    def __init__(self, told: list[str], edits: list[Edit] | None = None, ticked: bool = False) -> None:
        self._told = told
        self._edits = edits or [Edit(True, 3, changed=True)]
        self._is = ticked
        self.asked: list[tuple[str, ...]] = []

    def tick_all(self, ticks: Sequence[Tick]) -> list[list[Edit]]:
        if ticks:
            self._told.append("tick")
        self.asked += [(tick.box.key, tick.timestamp, tick.task_id, tick.note) for tick in ticks]
        return [self._edits for _ in ticks]

    def untick(self, box: Box) -> list[Edit]:
        assert box.key
        self._told.append("untick")
        return self._edits

    def is_ticked(self, box: Box) -> bool:
        assert box.key
        return self._is


class Told:
    """A controller over fakes, and everything that it did, in order."""

    def __init__(
        self,
        *,
        count: int = 3,
        ticked: tuple[int, ...] = (),
        wishes: Wishes | None = None,
        records: Records | None = None,
        fails_at: str = "",
        edits: list[Edit] | None = None,
        list_ticked: bool = False,
        **more: Any,
    ) -> None:
        plan = a_plan(a_list(*(f"Work {n}" for n in range(1, count + 1)), ticked=ticked), true_steps(count))
        known = records or Records()
        self.frozen = a_session(plan, decide(plan, wishes, known), **more)
        self.told: list[str] = []
        self.journal = FakeJournal(self.told, fails_at)
        self.list = FakeList(self.told, edits, list_ticked)
        self.shown: list[dict[str, Any]] = []
        self.controller = Controller(self.frozen, self.journal, self.list, known, self._show)

    def _show(self, step: Step, event: dict[str, Any]) -> None:
        assert event["step"] == step.id
        self.shown.append(event)
        self.told.append(f"show {event['event']}")

    def step(self, name: str = "1") -> Step:
        return self.frozen.by_id[name]

    def event(self, event: str, step: str = "1", /, **more: Any) -> None:
        who = {"step": step, "task_id": self.frozen.task_ids[step], "timestamp": "t"}
        self.controller.event({"event": event, **who, **more})

    def begin(self, name: str = "1") -> None:
        self.event("attempt_started", name, status="running", started_ns=5)
        self.told.clear()

    def settle(self, outcomes: dict[str, str], name: str = "1", **more: Any) -> str:
        self.controller.end(self.step(name), outcomes, **more)
        self.controller.settle()
        return self.controller.verdicts[name]

    def records(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.journal.records if record["event"] == event]


# -- verdicts


@pytest.mark.parametrize(
    ("outcomes", "warned", "verdict"),
    [
        (PASSED, False, "passed"),
        ({**PASSED, "setup": "failed"}, False, "failed"),
        ({"setup": "failed", "teardown": "passed"}, False, "failed"),
        (FAILED, False, "failed"),
        ({**PASSED, "teardown": "failed"}, False, "failed"),
        ({**PASSED, "call": "skipped"}, False, "skipped"),
        ({"setup": "skipped", "teardown": "passed"}, False, "skipped"),
        ({**PASSED, "call": "skipped"}, True, "warned"),
        ({"setup": "skipped", "teardown": "passed"}, True, "warned"),
        ({"setup": "passed", "teardown": "passed"}, False, "not run"),
        ({"setup": "passed"}, False, "not run"),
        ({"setup": "passed", "call": "passed"}, False, "skipped"),
        ({}, False, "skipped"),
        # An xfail is told as a failure, an unexpected pass too, by who reports.
        ({"setup": "passed", "call": "failed", "teardown": "passed"}, False, "failed"),
    ],
)
def test_only_a_pass_in_every_phase_passes(outcomes: dict[str, str], warned: bool, verdict: str) -> None:
    told = Told()
    told.begin()
    assert told.settle(outcomes, warned=warned) == verdict
    assert ("tick" in told.told) == (verdict == "passed")
    assert [r["status"] for r in told.records("attempt_finished")] == [verdict]


@pytest.mark.parametrize(
    ("outcomes", "verdict", "event"),
    [
        ({"setup": "skipped", "teardown": "passed"}, "blocked", "blocked"),
        ({"setup": "failed", "teardown": "passed"}, "failed", "not_started"),
        ({"setup": "passed", "teardown": "passed"}, "not run", None),
    ],
)
def test_a_step_that_never_began_is_recorded_without_an_attempt(
    outcomes: dict[str, str], verdict: str, event: str | None
) -> None:
    told = Told()
    assert told.settle(outcomes, reason="blocked by step_0 (failed)") == verdict
    assert [record["event"] for record in told.journal.records] == ([event] if event else [])
    assert "tick" not in told.told
    assert fold(told.journal.records).of("1") == StepState()


@pytest.mark.parametrize(("mode", "verdict"), [("run", "done"), ("verify", "not verified")])
def test_a_step_that_was_to_be_skipped_is_no_failure(mode: str, verdict: str) -> None:
    told = Told(ticked=(1,) if mode == "run" else (), wishes=Wishes(verify=mode == "verify"), mode=mode)
    assert told.settle({"setup": "skipped", "teardown": "passed"}) == verdict
    assert verdict in OK
    assert told.journal.records == []


def test_a_step_is_settled_once() -> None:
    told = Told()
    told.begin()
    told.settle(PASSED)
    assert told.settle(FAILED) == "passed"
    assert len(told.records("attempt_finished")) == 1


def test_a_worker_that_died_is_one_failed_attempt() -> None:
    told = Told()
    told.begin()
    told.controller.crashed(told.step(), "its worker died", "task_1_00000001")
    assert told.controller.verdicts == {"1": "failed"}
    (record,) = told.records("attempt_finished")
    assert (record["task_id"], record["message"]) == ("task_1_00000001", "its worker died")


def test_a_worker_that_died_before_it_told_anything_still_has_a_task_id() -> None:
    told = Told()
    told.controller.crashed(told.step(), "its worker died", "task_1_00000001")
    assert told.records("attempt_finished")[0]["task_id"] == "task_1_00000001"


def test_a_worker_that_dies_after_the_verdict_changes_nothing() -> None:
    told = Told()
    told.begin()
    told.settle(PASSED)
    told.controller.crashed(told.step(), "its worker died", "task_1_00000001")
    assert told.controller.verdicts == {"1": "passed"}
    assert len(told.records("attempt_finished")) == 1


# -- order


def test_the_verdict_is_on_the_disk_before_the_list_changes() -> None:
    told = Told()
    told.begin()
    told.settle(PASSED)
    assert told.told == [
        "record attempt_finished",
        "sync",
        "tick",
        "record ticked",
        "show ticked",
        "show attempt_finished",
    ]


def test_a_failure_is_on_the_disk_before_a_tick_of_somebody_else_is_taken_back() -> None:
    told = Told(list_ticked=True)
    told.begin()
    told.settle(FAILED, reason="main failed: exit code 1")
    assert told.told == [
        "record attempt_finished",
        "sync",
        "untick",
        "record unticked",
        "show unticked",
        "show attempt_finished",
    ]
    assert told.shown[-2]["message"] == "somebody ticked it, but the attempt failed"


def test_steps_that_end_together_share_one_sync_and_one_rewrite_of_the_list() -> None:
    told = Told()
    for name in ("1", "2", "3"):
        told.begin(name)
    for name, outcomes in (("1", PASSED), ("2", FAILED), ("3", PASSED)):
        told.controller.end(told.step(name), outcomes)
    assert told.told[-3:] == ["record attempt_finished"] * 3
    told.told.clear()
    told.controller.settle()
    assert told.told == [
        "sync",
        "tick",
        *("record ticked", "show ticked", "show attempt_finished"),
        "show attempt_finished",
        *("record ticked", "show ticked", "show attempt_finished"),
    ]
    assert [key for key, *_ in told.list.asked] == ["1", "3"]
    told.controller.settle()
    assert told.told[-1] == "show attempt_finished", "once is enough"


def test_what_may_not_be_on_the_disk_did_not_pass_and_ticks_nothing() -> None:
    told = Told(fails_at="sync")
    for name in ("1", "2"):
        told.begin(name)
        told.controller.end(told.step(name), PASSED)
    told.controller.settle()
    assert told.controller.verdicts == {"1": "failed", "2": "failed"}
    assert "the disk is full" in told.controller.broken
    assert "tick" not in told.told


def test_the_end_of_a_session_settles_what_is_left() -> None:
    told = Told()
    told.begin()
    told.controller.end(told.step(), PASSED)
    told.controller.finish("0")
    assert told.told.index("sync") < told.told.index("tick") < told.told.index("record run_finished (synced)")


def test_a_step_that_was_done_and_fails_again_is_unticked_for_that_reason() -> None:
    told = Told(ticked=(1,), wishes=Wishes("1", rerun=True), list_ticked=True)
    told.begin()
    told.settle(FAILED)
    assert told.controller.tale("1").warnings == ["un-ticked: it was run again and failed"]


def test_a_failed_step_whose_box_is_empty_leaves_the_list_alone() -> None:
    told = Told()
    told.begin()
    told.settle(FAILED)
    assert "untick" not in told.told


def test_what_the_tick_says_is_what_the_attempt_said() -> None:
    told = Told()
    told.begin()
    told.event("note", text="5000 examples")
    told.event("note", text="97 % good")
    told.settle(PASSED)
    ((key, stamp, task_id, note),) = told.list.asked
    (finished,) = told.records("attempt_finished")
    assert (key, task_id, note) == ("1", "task_1_00000001", "5000 examples; 97 % good")
    assert stamp == finished["timestamp"][:19] + "Z"
    assert finished["next"] == "2"


def test_the_next_step_is_one_that_is_not_done_and_only_after_a_pass() -> None:
    told = Told(ticked=(1, 2), wishes=Wishes("1", rerun=True))
    told.begin()
    told.settle(PASSED)
    assert told.records("attempt_finished")[0]["next"] == "3"
    told = Told()
    for name, outcomes in (("1", PASSED), ("2", FAILED)):
        told.begin(name)
        told.settle(outcomes, name)
    assert [record["next"] for record in told.records("attempt_finished")] == ["2", ""]


def test_what_ended_before_the_first_pass_counts_for_the_next_step() -> None:
    plan = a_plan(
        a_list("Try", "Work", "Clean up"),
        "step_1: {main: 'false', needs: []}\nstep_2: {main: 'true', needs: []}\n"
        "step_3: {main: 'true', needs: ['1@ended']}\n",
    )
    journal = FakeJournal([])
    session = a_session(plan, decide(plan))
    controller = Controller(session, journal, FakeList([]), Records(), lambda *_: None)
    for name, outcomes in (("1", FAILED), ("2", PASSED)):
        controller.event({"event": "attempt_started", "step": name, "task_id": session.task_ids[name]})
        controller.end(session.by_id[name], outcomes)
    assert journal.records[-1]["next"] == "3"


def test_a_tick_that_fails_leaves_the_verdict_and_is_told() -> None:
    told = Told(edits=[Edit(False, 3, "SPEC.md:3: box 1 vanished; put it back")])
    told.begin()
    assert told.settle(PASSED) == "passed"
    assert [record["event"] for record in told.journal.records][-2:] == ["attempt_finished", "tick_failed"]
    assert told.controller.tick_problems == ["step_1: SPEC.md:3: box 1 vanished; put it back"]
    assert told.shown[-2]["event"] == "tick_failed"


def test_containers_are_recorded_with_the_step_that_completed_them() -> None:
    told = Told(edits=[Edit(True, 5, changed=True), Edit(True, 3, changed=True)])
    told.begin()
    told.settle(PASSED)
    assert [record["place"] for record in told.records("ticked")] == ["SPEC.md:5", "SPEC.md:3"]
    assert [event["place"] for event in told.shown if event["event"] == "ticked"] == ["SPEC.md:5"]


# -- a journal that breaks


@pytest.mark.parametrize(
    ("fails_at", "told_before"),
    [("attempt_started", []), ("note", ["record attempt_started", "show attempt_started"])],
)
def test_an_event_that_cannot_be_recorded_stops_its_step(fails_at: str, told_before: list[str]) -> None:
    told = Told(fails_at=fails_at)
    for event in ("attempt_started", "note"):
        if event == fails_at:
            with pytest.raises(JournalError):
                told.event(event, status="running", text="x")
            break
        told.event(event, status="running", text="x")
    assert told.told == told_before
    assert "the disk is full" in told.controller.broken


@pytest.mark.parametrize("outcomes", [PASSED, FAILED])
@pytest.mark.parametrize("fails_at", ["attempt_started", "note", "attempt_finished"])
def test_what_is_not_recorded_did_not_pass(fails_at: str, outcomes: dict[str, str]) -> None:
    told = Told(fails_at=fails_at, list_ticked=True)
    for event in ("attempt_started", "note"):
        try:
            told.event(event, status="running", text="x")
        except JournalError:
            break
    assert told.settle(outcomes) == "failed"
    assert "tick" not in told.told
    assert "untick" not in told.told
    assert told.controller.broken


def test_a_pass_that_is_recorded_stays_one_though_its_tick_is_not() -> None:
    told = Told(fails_at="ticked")
    told.begin()
    assert told.settle(PASSED) == "passed"
    assert "the disk is full" in told.controller.broken, "so the session ends, and not well"
    state = fold(told.journal.records).of("1")
    assert (state.verdict, state.ticked) == ("passed", False)
    assert told.told[-1] == "show attempt_finished"
    with pytest.raises(JournalError):
        told.event("attempt_started", "2", status="running")


def test_a_session_that_cannot_be_recorded_does_not_begin() -> None:
    told = Told(fails_at="run_started")
    with pytest.raises(JournalError):
        told.controller.start({})
    assert told.told == []


def test_an_end_that_cannot_be_recorded_is_told_and_is_no_crash() -> None:
    told = Told(fails_at="run_finished")
    told.controller.finish("0")
    assert "the disk is full" in told.controller.broken
    assert told.journal.closed


def test_a_real_full_disk_after_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "SPEC.md"
    spec.write_text(a_list("First"))
    plan = a_plan(spec.read_bytes(), true_steps(1))
    frozen = a_session(plan, folder=tmp_path)
    log = Journal(tmp_path / "log", "run_1")
    listfile = ListFile(spec, spec.read_bytes(), tasklist.parse(spec.read_bytes(), "SPEC.md"))
    controller = Controller(frozen, log, listfile, Records(), lambda *_: None)
    controller.start({})
    controller.event(
        {"event": "attempt_started", "step": "1", "task_id": "task_1_aaaaaaaa", "status": "running"}
    )
    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "write", lambda *_: 0)
        controller.end(plan.steps[0], PASSED)
        controller.settle()
    controller.finish("1")
    assert controller.verdicts == {"1": "failed"}
    assert "[x]" not in spec.read_text()
    assert fold(journals.read(tmp_path / "log")).of("1").verdict == "cut off"


# -- what a step says


def test_only_costs_add_up() -> None:
    told = Told()
    told.begin()
    for name, value in [("cost_usd", 1.5), ("loss", 0.8), ("cost_usd", 2.25), ("loss", 0.5)]:
        told.event("metric", name=name, value=value)
    told.settle(PASSED)
    assert told.records("attempt_finished")[0]["metrics"] == {"cost_usd": 3.75, "loss": 0.5}


def test_a_new_attempt_begins_with_nothing_said_but_what_it_cost() -> None:
    told = Told()
    told.begin()
    told.event("note", text="half of it")
    told.event("check", name="style", status="warned", message="long lines")
    told.event("unverified", criteria=["looks good"])
    told.event("metric", name="cost_usd", value=1.0)
    told.event("attempt_started", task_id="task_1_ffffffff", status="running")
    told.event("metric", name="cost_usd", value=1.0)
    tale = told.controller.tale("1")
    assert (tale.notes, tale.warnings, tale.unverified) == ([], [], [])
    assert tale.metrics == {"cost_usd": 2.0}


def test_checks_that_warn_or_do_not_run_are_remembered() -> None:
    told = Told()
    told.begin()
    for status in ("passed", "warned", "not run", "failed", "cancelled"):
        told.event("check", name=f"is {status}", status=status, message="so it is")
    assert told.controller.tale("1").warnings == ["is warned: so it is", "is not run: so it is"]


def test_output_is_shown_and_not_recorded() -> None:
    told = Told()
    told.begin()
    told.event("output", text="epoch 1")
    told.event("phase_started", phase="main", what="true")
    assert told.told == ["show output", "show phase_started"]


def test_a_dry_session_records_and_ticks_nothing() -> None:
    told = Told()
    dry = Controller(told.frozen, None, None, Records(), lambda *_: None)
    dry.end(told.step(), {"setup": "passed", "teardown": "passed"})
    dry.settle()
    dry.finish("0")
    assert dry.verdicts == {"1": "not run"}


# -- begin and end


def test_a_session_is_recorded_with_what_was_asked_for_and_assumed() -> None:
    told = Told(wishes=Wishes("2-3", assume="1"))
    told.controller.start({"git_head": "abc", "command": "pytest --steps 2-3"})
    first, second = told.journal.records
    assert (first["event"], first["selection"], first["steps"], first["mode"], first["git_head"]) == (
        "run_started",
        "2-3",
        ["2", "3"],
        "run",
        "abc",
    )
    assert (second["event"], second["step"]) == ("assumed", "1")


def a_pass() -> Records:
    passed = StepState("passed", "task_1_aaaaaaaa", "2026-11-20T23:42:00.123Z")
    passed = replace(passed, note="5000 examples", text="**STEP 1**: Work 1")
    return Records({"1": passed})


def test_a_pass_that_never_reached_the_list_is_ticked_at_the_start_as_it_was() -> None:
    told = Told(records=a_pass())
    said = told.controller.start({})
    assert told.list.asked == [("1", "2026-11-20T23:42:00Z", "task_1_aaaaaaaa", "5000 examples")]
    assert said == ["step_1 passed before (task_1_aaaaaaaa) and is ticked now: SPEC.md:3"]
    assert told.told == ["record run_started", "tick", "record ticked"]
    assert told.records("ticked")[0]["task_id"] == "task_1_aaaaaaaa"


def test_a_pass_that_still_cannot_be_ticked_is_told() -> None:
    told = Told(records=a_pass(), edits=[Edit(False, 3, "SPEC.md: cannot be written: Read-only file system")])
    assert told.controller.start({}) == [
        "step_1 passed before (task_1_aaaaaaaa) and cannot be ticked: "
        "SPEC.md: cannot be written: Read-only file system"
    ]


def test_a_session_that_cannot_record_its_reconciling_does_not_begin() -> None:
    told = Told(records=a_pass(), fails_at="ticked")
    with pytest.raises(JournalError):
        told.controller.start({})


def test_attempts_that_an_interruption_left_open_are_recorded_as_such() -> None:
    told = Told()
    told.begin("1")
    told.settle(PASSED, "1")
    told.begin("2")
    told.controller.finish("2")
    assert told.controller.verdicts == {"1": "passed", "2": "interrupted"}
    (record,) = told.records("attempt_interrupted")
    assert (record["step"], record["task_id"], record["status"]) == ("2", "task_2_00000002", "interrupted")
    assert told.records("run_finished")[0]["verdicts"] == {"1": "passed", "2": "interrupted"}
    assert told.told[-1] == "record run_finished (synced)"
    assert fold(told.journal.records).of("2").verdict == "cut off", "the next session tries it again"
    assert "interrupted" not in OK


def test_a_session_ends_once() -> None:
    told = Told()
    told.controller.finish("0")
    told.controller.finish("1")
    assert len(told.records("run_finished")) == 1


# -- verify


@pytest.mark.parametrize(
    ("outcomes", "untick", "unticked"),
    [(PASSED, True, False), (FAILED, False, False), (FAILED, True, True)],
)
def test_a_tick_that_does_not_hold_is_taken_back_only_when_asked(
    outcomes: dict[str, str], untick: bool, unticked: bool
) -> None:
    told = Told(ticked=(1,), wishes=Wishes("1", verify=True), mode="verify", untick=untick, list_ticked=True)
    told.event("verify_started", status="running")
    told.settle(outcomes)
    assert ("untick" in told.told) == unticked
    assert "tick" not in told.told, "it is ticked already, by the attempt that earned it"
    assert told.records("attempt_finished") == []
    assert len(told.records("verify_finished")) == 1
