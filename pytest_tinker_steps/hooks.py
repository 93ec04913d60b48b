"""pytest's hooks of a session that has steps; registered only then."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from . import collect, keywords
from .active import Active, distributed
from .collect import StepFile, StepItem
from .plan.model import PlanError, Step
from .record.frozen import Frozen
from .record.tale import OK

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def plugins(active: Active) -> Iterator[tuple[str, object]]:
    """The hooks that this process needs, with names to register them under."""
    yield "session", Hooks(active)
    if active.worker:
        from .worker import WorkerHooks

        yield "worker", WorkerHooks(active)
        return
    from .terminal import TerminalHooks  # workers neither print nor record
    from .verdicts import VerdictHooks

    verdicts = VerdictHooks(active)
    yield "verdicts", verdicts
    yield "terminal", TerminalHooks(active)
    if distributed(active.config):
        from .distribution import DistributionHooks  # only sessions with workers pay for it

        yield "distribution", DistributionHooks(active, verdicts.settle, verdicts.forget)


class Hooks:
    """Hooks of every process of a session with steps."""

    def __init__(self, active: Active) -> None:
        self.active = active
        self._handlers: dict[int, Any] = {}

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
        if distributed(self.active.config) and not self.active.worker:
            self._be_deaf()
        try:
            # First the fixtures are torn down, by pytest itself: they end what is still running.
            return (yield)
        finally:
            # Also when that was cut short: the session's records and its lock are not to be left open.
            if not self.active.worker:
                session.exitstatus = self._exitstatus(int(session.exitstatus))
            self.active.finish(int(session.exitstatus))
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _be_deaf(self) -> None:
        """Hear no interruption while xdist ends its workers, for which it takes some seconds at most.

        Cut short, it would leave them, and pytest would end by a traceback and without its summary.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDING_SIGNALS):
                before = signal.signal(number, lambda *_: None)
                self._handlers.setdefault(number, before)

    def _exitstatus(self, status: int) -> int:
        controller = self.active.controller
        # A worker that comes late may collect nothing: the list is gone, say.
        ran = controller is not None and controller.verdicts
        if status == pytest.ExitCode.NO_TESTS_COLLECTED and (ran or not self.frozen.selection.ids):
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
            item.add_marker(_net(collect.deadline(item.step)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        collect.in_list_order(session.items)

    # -- running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        if not gc.get_freeze_count():
            # What is there now stays until the end: no collection, and not pytest's last ones, has to look at
            # it. Once in a process, so that what other sessions in it leave can go.
            gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
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
        hook, nodeid, location = item.ihook, item.nodeid, item.location
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        runtestprotocol(item, nextitem=nextitem)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)
        return True

    def _blocked(self, step: Step) -> str:
        controller = self.active.controller
        if controller is None or self.frozen.mode == "verify" or step.id in self.frozen.refusals:
            return ""
        found = self.frozen.blocker(step, controller.verdicts, controller.started)
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
        told: Any = report  # further attributes travel with a report, also from a worker
        reason = self.active.redact(_reason(call))
        if reason:
            told.steps_reason = reason
        self._mark_started(item, report)
        text = report.longreprtext if report.longrepr else ""
        safe = self.active.redact(text)
        if safe != text:
            report.longrepr = safe if safe.startswith(reason) else f"{reason}\n\n{safe}"
        report.sections = [(name, self.active.redact(content)) for name, content in report.sections]
        if report.failed and self.frozen.lenient(item.step) and item.step.id not in self.frozen.refusals:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.step.box.line, f"warned: {reason}")
            told.steps_warned = True
        if events := self.active.take_events(item.nodeid):
            told.steps_events = events

    def _mark_started(self, item: StepItem, report: pytest.TestReport) -> None:
        """A job that goes on is neither passed nor failed."""
        running = item.running
        job = running.run.started if running is not None and report.when == "call" else None
        told: Any = report
        if job is not None and report.passed:
            told.steps_started = True
            why = f"started: its job goes on (pid {job.pid})"
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.step.box.line, why)
        elif report.when == "setup" and item.step.id in self.frozen.jobs and item.skipped:
            told.steps_started = True


@cache
def _net(seconds: float) -> pytest.MarkDecorator:
    return pytest.mark.timeout(seconds, func_only=True)


def _reason(call: pytest.CallInfo[None]) -> str:
    """What a failure or a skip comes to in one line."""
    if call.excinfo is None:
        return ""
    error = call.excinfo.value
    first, _, _ = str(error).strip().partition("\n")
    ours = isinstance(error, (pytest.fail.Exception, pytest.skip.Exception))
    return first if ours else f"{type(error).__name__}: {first}"
