"""What happens in a worker, on its way to the controller: with the next report, or sooner."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from .console import PASSING
from .run.telling import COST

EVENT = "event"
"""In place of a phase: a report that has nothing but events."""
LATEST = 1.0
"""Seconds after the last report from which an event travels at once: a main may go on for hours, and its
worker, or all of them, may be killed meanwhile."""


class Outbox:
    """Events of the items of one worker that the controller has not been told yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._emptied = 0.0

    def put(self, item: pytest.Item, event: dict[str, Any]) -> None:
        """Take an event of an item; what is only for people who watch is dropped, since nobody does."""
        if event.get("shown") and event["event"] in PASSING:
            return
        self._waiting.setdefault(item.nodeid, []).append(event)
        # Other threads leave it to the one whose reports xdist carries.
        if self._urgent(event) and threading.current_thread() is threading.main_thread():
            self._send(item)

    def take(self, nodeid: str) -> list[dict[str, Any]]:
        """Events of an item since they were last taken, for whoever carries them."""
        self._emptied = time.monotonic()
        return self._waiting.pop(nodeid, [])

    def _urgent(self, event: dict[str, Any]) -> bool:
        kind = event["event"]
        if kind == "retry":
            return False  # the end of the attempt, which comes next, takes it along: both are known, or none
        # The next report may never come: what has failed, and what was done for it, would be lost.
        if kind == "recover" or (kind == "attempt_finished" and not event.get("final", True)):
            return True
        if kind == "attempt_started" and event["attempt"] > 1:
            return True
        if kind == "metric" and event["name"] == COST:
            return True
        return time.monotonic() - self._emptied > LATEST

    def _send(self, item: pytest.Item) -> None:
        values: dict[str, Any] = {"when": EVENT, "steps_events": self.take(item.nodeid)}
        report = pytest.TestReport(
            nodeid=item.nodeid, location=item.location, keywords={}, outcome="passed", longrepr=None, **values
        )
        item.ihook.pytest_runtest_logreport(report=report)
