"""Events of a worker: which wait for the next report, and which travel at once."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tinker_steps.outbox import EVENT, LATEST, Outbox

COST = {"event": "metric", "name": "cost_usd", "value": 0.5}
NOTE = {"event": "note", "text": "done"}


class Item:
    """A fake of an item, whose hook keeps what is reported."""

    nodeid, location = "SPEC.md::step_1", ("SPEC.md", 0, "step_1")

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.ihook = SimpleNamespace(pytest_runtest_logreport=self._logreport)

    def _logreport(self, report: Any) -> None:
        assert report.when == EVENT
        self.sent.append(report.steps_events)


@pytest.fixture
def item() -> Any:
    return Item()


@pytest.fixture
def outbox(item: Any, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """One whose item has just been reported of, at a time that stands still."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    outbox = Outbox()
    outbox.take(item.nodeid)
    return outbox


def test_events_wait_for_the_next_report(outbox: Outbox, item: Any) -> None:
    outbox.put(item, NOTE)
    outbox.put(item, {"event": "attempt_started", "attempt": 1})
    assert item.sent == []
    assert len(outbox.take(item.nodeid)) == 2
    assert outbox.take(item.nodeid) == []


def test_a_cost_and_another_attempt_take_along_what_waits(outbox: Outbox, item: Any) -> None:
    again = {"event": "attempt_started", "attempt": 2}
    for event in (NOTE, COST, again):
        outbox.put(item, event)
    assert item.sent == [[NOTE, COST], [again]]
    assert outbox.take(item.nodeid) == []


def test_the_end_of_an_attempt_travels_before_what_comes_between_it_and_the_next(
    outbox: Outbox, item: Any
) -> None:
    retry = {"event": "retry", "cause": "exit", "attempt": 2}
    ended = {"event": "attempt_finished", "status": "failed", "final": False}
    mended = {"event": "recover", "status": "passed"}
    for event in (NOTE, retry):
        outbox.put(item, event)
    assert item.sent == [], "without the end that belongs to it, it says half of it"
    outbox.put(item, ended)
    assert item.sent == [[NOTE, retry, ended]]
    outbox.put(item, mended)
    assert item.sent[1:] == [[mended]]


def test_that_another_attempt_follows_never_travels_alone(
    outbox: Outbox, item: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.1 + LATEST)
    outbox.put(item, {"event": "retry", "cause": "exit", "attempt": 2})
    assert item.sent == []


def test_after_a_while_without_a_report_events_travel_at_once(
    outbox: Outbox, item: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.1 + LATEST)
    outbox.put(item, NOTE)
    outbox.put(item, NOTE)
    assert item.sent == [[NOTE]], "the second is of the same moment as the report"


def test_what_nobody_watches_is_dropped(outbox: Outbox, item: Any) -> None:
    outbox.put(item, {"event": "progress", "shown": True, "done": 1, "total": 2})
    assert outbox.take(item.nodeid) == []


def test_other_threads_send_nothing(outbox: Outbox, item: Any) -> None:
    thread = threading.Thread(target=outbox.put, args=(item, COST))
    thread.start()
    thread.join()
    assert item.sent == []
    assert outbox.take(item.nodeid) == [COST]
