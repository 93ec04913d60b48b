"""pytest's hooks for what a session with steps prints; workers print nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from .active import Active
from .console import write_lines
from .outbox import EVENT
from .record.frozen import Frozen
from .report import summary


class TerminalHooks:
    """Where pytest's terminal shows steps, it uses their words."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self._summing_up = False

    @property
    def frozen(self) -> Frozen:
        return self.active.frozen

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, object, object]:
        console = self.active.console
        if self.frozen.step_of(nodeid) is None or not console.begin_quietly():
            return (yield)
        try:
            return (yield)
        finally:
            console.begun()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> Generator[None, tuple[str, str, str], tuple[str, str, str]]:
        category, letter, word = yield
        if not (category or letter or word):
            return "", "", ""  # a phase that has nothing to tell
        if self.frozen.step_of(report.nodeid) is None:
            return category, letter, word
        if report.when == EVENT:
            return "", "", ""
        if getattr(report, "steps_warned", False):
            category, letter, word = "warned", "w", "WARNED"
        if getattr(report, "steps_started", False):
            category, letter, word = "started", "s", "STARTED"
        if self.active.console.own_result and not self._summing_up:
            return category, "", ""
        return category, letter, word

    def pytest_report_header(self) -> list[str]:
        return summary.header(self.frozen, self.active.short_secrets)

    @pytest.hookimpl(tryfirst=True, specname="pytest_terminal_summary")
    def pytest_steps_end_of_live_output(self) -> None:
        # From here on results are listed, with pytest's own words for them.
        self._summing_up = True

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        controller = self.active.controller
        if self.frozen.dry and not self.frozen.selection.ids:
            terminalreporter.write_line("nothing left to do")
        if controller is None or self.frozen.dry:
            return
        title, text = summary.of(self.frozen, controller)
        terminalreporter.section(title, sep="-")
        if terminalreporter.no_header or self.active.console.verbosity < 0:
            text = [*((f"! {warning}", {"yellow": True}) for warning in self.frozen.plan.warnings), *text]
        write_lines(terminalreporter, text)
