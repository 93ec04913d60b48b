"""pytest's hooks of a session that has steps; registered only then."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from . import collect, keywords
from .active import EVENT, Active, distributed
from .collect import IdleItem, StepFile, StepItem
from .plan.model import PlanError, Step
from .record.frozen import Frozen
from .record.journal import JournalError
from .record.tale import OK

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def plugins(active: Active) -> Iterator[tuple[str, object]]:
    """The hooks that this process needs, with names to register them under."""
    session = Hooks(active)
    yield "session", session
    if active.worker:
        yield "worker", WorkerHooks()
    elif distributed(active.config):
        from .distribution import DistributionHooks  # only sessions with workers pay for it

        yield "distribution", DistributionHooks(active, session.settle, session.forget)


class Hooks:
    """Hooks of every process of a session with steps."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self._outcomes: dict[str, dict[str, str]] = {}
        self._reasons: dict[str, str] = {}
        self._warned: set[str] = set()
        self._ended: list[Step] = []
        self._together = distributed(active.config)
        self._handlers: dict[int, Any] = {}
        self._summing_up = False

    @property
    def frozen(self) -> Frozen:
        return self.active.frozen

    # -- session

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        try:
            self.active.start(session)
        except PlanError as error:
            self.active.finish(pytest.ExitCode.USAGE_ERROR)
            raise pytest.UsageError("\n".join(error.problems)) from None
        if not self.frozen.dry and not self.active.worker:
            self._handle_signals()

    def _handle_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def interrupt(number: int, _: object) -> None:
            raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

        for number in ENDING_SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._handlers[number] = signal.signal(number, interrupt)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        if self.active.controller is not None:
            self.active.controller.stop_clocks()
        # First the fixtures are torn down, by pytest itself: they end what is still running.
        result = yield
        if not self.active.worker:
            session.exitstatus = self._exitstatus(int(session.exitstatus))
        self.active.finish(int(session.exitstatus))
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        return result

    def _exitstatus(self, status: int) -> int:
        controller = self.active.controller
        if status == pytest.ExitCode.NO_TESTS_COLLECTED and not self.frozen.selection.ids:
            status = pytest.ExitCode.OK
        if controller is None or self.frozen.dry:
            return status
        maxfail = self.active.config.getoption("maxfail") or 0
        failed = sum(verdict == "failed" for verdict in controller.verdicts.values())
        if (
            status == pytest.ExitCode.INTERRUPTED
            and distributed(self.active.config)
            and 0 < maxfail <= failed
        ):
            # xdist stops by an interruption; without it pytest says that tests failed.
            status = pytest.ExitCode.TESTS_FAILED
        # What goes on at the end of a strict session has not passed.
        good = [verdict for verdict in OK if verdict != "started" or not self.frozen.strict]
        bad = [verdict for verdict in controller.verdicts.values() if verdict not in good]
        if status == pytest.ExitCode.OK and (bad or controller.broken):
            status = pytest.ExitCode.TESTS_FAILED
        if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and self.active.left_over:
            status = pytest.ExitCode.TESTS_FAILED
        return int(status)

    # -- collection

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> StepFile | None:
        if file_path == self.frozen.path:
            return StepFile.of(parent, self.active)
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        option = config.option
        keyword, deselect = option.keyword, option.deselect
        self._deselect(config, items)
        option.keyword = keywords.exact_keywords(keyword) if keyword else keyword
        try:
            return (yield)
        except pytest.UsageError as error:
            raise pytest.UsageError(str(error).replace(option.keyword, keyword)) from None
        finally:
            option.keyword, option.deselect = keyword, deselect

    def _deselect(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if not config.option.deselect:
            return
        config.option.deselect, steps = keywords.exact_deselect(config.option.deselect, self.frozen)
        gone = [item for item in items if item.nodeid in steps]
        if gone:
            items[:] = [item for item in items if item.nodeid not in steps]
            config.hook.pytest_deselected(items=gone)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if isinstance(item, StepItem) and item.config.pluginmanager.hasplugin("timeout"):
            item.add_marker(pytest.mark.timeout(collect.deadline(item.step), func_only=True))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        collect.in_list_order(session.items)
        if not gc.get_freeze_count():
            # What is there now stays until the end: no collection, and not pytest's last one, has to look at
            # it. Once in a process, so that what other sessions in it leave can go.
            gc.freeze()

    # -- running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if isinstance(item, IdleItem):
            if nextitem is None:
                item.end()
            return True
        if not isinstance(item, StepItem):
            return None
        if item.step.ends and self.active.concluded(item.step):
            return True
        item.skipped = (
            self.frozen.skips.get(item.step.id)
            or self._blocked(item.step)
            or (item.step.id not in self.frozen.refusals and self.active.over_budget(item.step))
            or ""
        )
        if item.skipped:
            item.add_marker(pytest.mark.skip(reason=item.skipped))
        # Run here, so that no plugin that repeats failed tests ever repeats a step.
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _blocked(self, step: Step) -> str:
        controller = self.active.controller
        if controller is None or self.frozen.mode == "verify" or step.id in self.frozen.refusals:
            return ""
        found = self.frozen.blocker(step, controller.verdicts)
        return f"blocked by {found}" if found else ""

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if isinstance(item, StepItem):
            self._finish_report(item, call, report)
        return report

    def _finish_report(self, item: StepItem, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        definition = item.step.definition
        told: Any = report  # further attributes travel with a report, also from a worker
        told.steps_reason = self.active.redact(_reason(call))
        told.steps_warned = False
        self._mark_started(item, report)
        text = report.longreprtext if report.longrepr else ""
        safe = self.active.redact(text)
        if safe != text:
            reason = told.steps_reason
            report.longrepr = safe if safe.startswith(reason) else f"{reason}\n\n{safe}"
        report.sections = [(name, self.active.redact(content)) for name, content in report.sections]
        lenient = definition is not None and definition.on_failure == "warn" and not self.frozen.strict
        if report.failed and lenient and item.step.id not in self.frozen.refusals:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.step.box.line, f"warned: {told.steps_reason}")
            told.steps_warned = True
        if self.active.worker:
            told.steps_events = self.active.take_events(item.nodeid)

    def _mark_started(self, item: StepItem, report: pytest.TestReport) -> None:
        """A job that goes on is neither passed nor failed."""
        running: Any = item.funcargs.get("step_run")
        job = running.run.started if running is not None and report.when == "call" else None
        told: Any = report
        told.steps_started = job is not None and report.passed
        if job is not None and report.passed:
            why = f"started: its job goes on (pid {job.pid})"
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.step.box.line, why)
        elif report.when == "setup" and item.step.id in self.frozen.jobs and item.skipped:
            told.steps_started = True

    # -- reports, in the controller

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
        controller.settle()
        for step in ended:
            self.active.settled(step)
        if controller.broken:
            self.active.stop(controller.broken)
        return ended

    # -- what is printed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, object, object]:
        if self.frozen.step_of(nodeid) is None:
            return (yield)
        with self.active.console.quiet_start(nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> Generator[None, tuple[str, str, str], tuple[str, str, str]]:
        category, letter, word = yield
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
        from .report import summary  # workers print nothing

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
        from .report import summary

        title, text = summary.of(self.frozen, controller)
        terminalreporter.section(title, sep="-")
        if terminalreporter.no_header or self.active.console.verbosity < 0:
            for warning in self.frozen.plan.warnings:
                terminalreporter.write_line(f"! {warning}", yellow=True)
        for line, markup in text:
            terminalreporter.write_line(line, **markup)


class WorkerHooks:
    """What a worker needs besides."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # After xdist has told the controller the ids: the idle item is nobody's business.
        session.items.append(IdleItem.from_parent(session, name="idle"))


def _reason(call: pytest.CallInfo[None]) -> str:
    """What a failure or a skip comes to in one line."""
    if call.excinfo is None:
        return ""
    error = call.excinfo.value
    first, _, _ = str(error).strip().partition("\n")
    ours = isinstance(error, (pytest.fail.Exception, pytest.skip.Exception))
    return first if ours else f"{type(error).__name__}: {first}"
