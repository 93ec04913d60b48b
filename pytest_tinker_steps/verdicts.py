"""pytest's hooks for the reports of steps, in the process that records what becomes of them."""

from __future__ import annotations

import pytest

from .active import Active, distributed
from .outbox import EVENT
from .plan.model import Step
from .record.frozen import Frozen
from .record.journal import JournalError


class VerdictHooks:
    """Gives steps their verdicts by what is reported of them, from wherever they ran."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self._outcomes: dict[str, dict[str, str]] = {}
        self._reasons: dict[str, str] = {}
        self._warned: set[str] = set()
        self._ended: list[Step] = []
        self._together = distributed(active.config)

    @property
    def frozen(self) -> Frozen:
        return self.active.frozen

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        controller = self.active.controller
        step = self.frozen.step_of(report.nodeid)
        if controller is None or step is None or report.when is None:
            return
        try:
            for event in getattr(report, "steps_events", ()):
                controller.event(event)
        except JournalError as error:
            self.active.stop(str(error))
        if report.when == EVENT:
            return
        outcome = "failed" if hasattr(report, "wasxfail") else report.outcome
        self._outcomes.setdefault(step.id, {})[report.when] = outcome
        if outcome != "passed" and step.id not in self._reasons:
            self._reasons[step.id] = getattr(report, "steps_reason", "")
        if getattr(report, "steps_warned", False):
            self._warned.add(step.id)

    def forget(self, step: Step) -> None:
        """Drop what was reported of an attempt that another one follows."""
        self._outcomes.pop(step.id, None)
        self._reasons.pop(step.id, None)
        self._warned.discard(step.id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        controller = self.active.controller
        step = self.frozen.step_of(nodeid)
        if controller is None or step is None:
            return
        controller.end(
            step,
            self._outcomes.pop(step.id, {}),
            self._reasons.pop(step.id, ""),
            warned=step.id in self._warned,
        )
        self._ended.append(step)
        if not self._together:
            self.settle()

    def settle(self) -> list[Step]:
        """Make the verdicts of all steps that have ended stand; these steps."""
        controller = self.active.controller
        ended, self._ended = self._ended, []
        if controller is None:
            return []
        with self.active.console.at_once():
            controller.settle()
        for step in ended:
            self.active.settled(step)
        if controller.broken:
            self.active.stop(controller.broken)
        return ended
