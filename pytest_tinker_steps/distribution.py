"""pytest's hooks of the controller of a session whose items run in workers of xdist."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.junitxml import xml_key

from . import remote
from .active import Active
from .ahead import AHEAD
from .console import Console
from .parcels import unpack
from .plan.model import Definition, Step
from .record import deaths
from .record.journal import JournalError
from .report import side_by_side
from .report.lines import duration
from .run.attempt import new_task_id
from .run.recovery import pause
from .scheduling import END_OF_TURN, StepScheduling
from .worker import DEATH

if TYPE_CHECKING:
    from .record.controller import Controller

WAITS = 3
"""Workers that may take over the wait for the end of a job, which is no attempt. Not any number: what follows
the end might be what they die of."""


class DistributionHooks:
    """What the controller needs besides; it is what the scheduler asks.

    Args:
        settle: gives all steps that have ended their verdicts.
        forget: drops what was reported of a step so far.
    """

    def __init__(
        self, active: Active, settle: Callable[[], Sequence[Step]], forget: Callable[[Step], None]
    ) -> None:
        self.active = active
        self._settle = settle
        self._forget = forget
        self._frozen = active.frozen  # as workers get it
        self._dumped = ""
        self._died: dict[str, str] = {}  # by step, the worker that died last in it
        self._deaths: dict[str, deaths.Death] = {}  # by step, if it is tried again
        self._waits: Counter[str] = Counter()  # for the end of a job, by the step, that another went on with
        self._scheduling: StepScheduling | None = None
        self._progress: Progress | None = None
        self._tally = side_by_side.Tally(active.frozen)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: Sequence[Any]) -> None:
        if AHEAD in config.stash:
            config.stash[AHEAD].give(config.pluginmanager.getplugin("dsession").nodemanager)
        if remote.any_of(specs):
            collected = remote.absolute(config.args, config.invocation_params.dir)
            self._frozen = replace(self._frozen, args=collected)
            remote.prepare(config)
        remote.outlive(config, self._lost)

    def _lost(self, worker: str, why: str, others: bool) -> None:
        """A worker has died and cannot be replaced."""
        self.active.console.lines([f"! worker {worker} cannot be replaced: {why}"])
        if self._scheduling is not None:
            self._scheduling.not_replaced(others=others)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        self._dumped = self._dumped or self._frozen.dump()
        node.workerinput["tinker_steps"] = self._dumped

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> StepScheduling:
        from xdist.workermanage import parse_tx_spec_config

        self._scheduling = StepScheduling(
            self.active.frozen, len(parse_tx_spec_config(config)), self, self._seconds
        )
        return self._scheduling

    def _seconds(self, step: Step) -> float:
        controller = self.active.controller
        return 0.0 if controller is None or step.ends else controller.records.of(step.id).seconds

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        frozen, controller = self.active.frozen, self.active.controller
        step = frozen.step_of(crashitem)
        if step is None or controller is None:
            return
        report.when = "call"
        report.location = (frozen.nodeid, step.box.line - 1, f"{step.node_name} {step.title}")
        warned = frozen.lenient(step) and frozen.mode == "run"
        controller.crashed(step, self._why(step), self._task_id(step), warned=warned)
        if warned:
            told: Any = report
            report.outcome, told.steps_warned = "skipped", True
            report.longrepr = (str(frozen.path), step.box.line, f"warned: {self._why(step)}")
        self._tally.note(step.id, self.verdicts()[step.ends or step.id])

    def _why(self, step: Step) -> str:
        return f"worker {self._died[step.id]} died"

    def _task_id(self, step: Step) -> str:
        """Of the attempt that a worker was given last."""
        last = self._deaths.get(step.id)
        return last.following if last else self._frozen.task_ids.get(step.id, "")

    # -- what the scheduler asks and tells

    def verdicts(self) -> dict[str, str]:
        """Of the steps that are settled."""
        controller = self.active.controller
        return controller.verdicts if controller else {}

    def started(self) -> Collection[str]:
        """Ids of steps whose jobs have become ready, whatever came of them."""
        controller = self.active.controller
        return controller.started if controller else ()

    def stopped(self) -> str:
        """Why nothing more may be started, or an empty string."""
        controller, session = self.active.controller, self.active.session
        # xdist itself does not count a worker's death for --maxfail; pytest does.
        failed = str(session.shouldfail or "") if session is not None else ""
        return (controller.broken if controller else "") or failed

    def concluded(self, step: Step) -> bool:
        """Whether nothing has to be run for the end of a job, which has a verdict then."""
        return self.active.concluded(step)

    def report(self, nodeid: str, step: Step, reason: str) -> None:
        """Tell pytest that a step is skipped, and why."""
        hook = self.active.config.hook
        reports = skip_reports(nodeid, step, self.active.frozen.nodeid, reason)
        location = reports[0].location
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    def crashed(self, step: Step, worker: str) -> bool:
        """A worker died in the middle of a step; whether the step is tried again."""
        self._died[step.id] = worker
        if step.ends and self._waits[step.id] < WAITS:
            self._waits[step.id] += 1
            self._forget_reports(step)
            return True
        controller, definition = self.active.controller, step.definition
        if controller is None or definition is None or step.ends or self.active.frozen.mode != "run":
            return False
        death = deaths.between(controller, step, self._deaths.get(step.id)) or self._ended_by_it(
            controller, step, definition
        )
        if death is None:
            return False
        self._forget_reports(step)
        self._deaths[step.id] = death
        # The step's own lines come when it ends, which may be hours from now.
        after = f" in {duration(death.delay)}" if death.delay else ""
        following = f"attempt {death.attempts + 1} of {definition.main.retry.attempts} follows{after}"
        self.active.console.lines([f"! {step.node_name}: {self._why(step)}; {following}"])
        return True

    def _ended_by_it(self, controller: Controller, step: Step, definition: Definition) -> deaths.Death | None:
        """Record that the attempt has ended with its worker; None if no other one follows."""
        task_id = controller.tale(step.id).task_id or self._task_id(step)
        if definition.main.mode == "background":
            self.active.end_job(task_id, self._why(step))
        retry = definition.main.retry
        used = deaths.begun(controller, step, self._deaths.get(step.id))
        if "exit" not in retry.when or used >= retry.attempts:
            return None
        spent = self.active.over_budget(step)
        following = new_task_id(step.id)
        since = controller.tale(step.id).open_since_ns
        death = deaths.Death(step.id, task_id, following, used, self._why(step), pause(retry, used), since)
        try:
            if spent:
                deaths.record_spent(controller, death, spent)
                return None
            deaths.record(controller, step, death)
        except JournalError:
            return None  # the scheduler is told that nothing more may be started
        return death

    def _forget_reports(self, step: Step) -> None:
        """Drop what was begun with the worker that died: the next one has reports, and a case, of its own."""
        self._forget(step)
        nodeid = self.active.frozen.nodeid_of(step)
        junit = self.active.config.stash.get(xml_key, None)
        if junit is None:
            return
        for key in [key for key in junit.node_reporters if str(key[0]) == nodeid]:
            junit.node_reporters_ordered.remove(junit.node_reporters.pop(key))

    def given(self, step: Step, node: Any) -> None:
        """Tell a worker of the attempt that died before it is sent the step."""
        death = self._deaths.get(step.id)
        if death is not None:
            with contextlib.suppress(OSError):  # it has just died, of which xdist will tell
                node.sendcommand(DEATH, **asdict(death))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_from_serializable(self, data: dict[str, Any]) -> Generator[None, Any, Any]:
        unpack(data)
        return (yield)

    @pytest.hookimpl(tryfirst=True)  # before it is recorded: the worker is about to ask for more
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell the scheduler that the work of a step is done."""
        done = report.when == "call" or (report.when == "setup" and not report.passed)
        node = getattr(report, "node", None)
        if node is None or not done or self._scheduling is None:
            return
        if report.passed or not self.active.config.getoption("maxfail"):
            self._scheduling.tidying_up(node, report.nodeid)

    def settle(self) -> None:
        """Record the steps that have ended; their verdicts stand from then on."""
        for step in self._settle():
            name = step.ends or step.id
            self._tally.note(name, self.verdicts().get(name, ""))

    def turn_ends_later(self, node: Any, seconds: float) -> bool:
        """Have the end of the turn come after what waits in xdist's queue then; False if it may come now."""
        queue = self.active.config.pluginmanager.getplugin("dsession").queue
        event = (
            "runtest_protocol_complete",
            {"node": node, "item_index": END_OF_TURN, "duration": 0.0},
        )
        if seconds:
            timer = threading.Timer(seconds, queue.put, [event])
            timer.daemon = True
            timer.start()
        elif queue.empty():
            return False
        else:
            queue.put(event)
        return True

    def changed(self) -> None:
        """Show what runs now, and what is done."""
        if self._scheduling is None:
            return
        self.settle()  # those that were reported as blocked just now
        if self._progress is None:
            self._progress = Progress(self.active.console)
        running = sorted((step for step, _ in self._scheduling.running.values()), key=lambda step: step.index)
        self._progress.show(self._tally.line(running, self._scheduling.held()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.settle()  # what ended when xdist had stopped already stands before pytest's summary, too
        self.active.left_over = self._scheduling is not None and self._scheduling.left_over
        if self._progress is not None:
            self._progress.close()


class Progress:
    """The line of the whole session, with a clock that goes on.

    Args:
        console: writes it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._text = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if console.paints_overall:
            self._thread = threading.Thread(target=self._tick, name="tinker-steps-progress", daemon=True)
            self._thread.start()

    def show(self, text: str) -> None:
        """Show a new text; the time since the session began goes behind it."""
        if text != self._text:
            self._text = text
            self._write()

    def _write(self) -> None:
        passed = side_by_side.elapsed(time.monotonic() - self._began)
        self._console.overall(f"{self._text} · {passed}")

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            if self._text:
                self._write()

    def close(self) -> None:
        """Take the line away; what is printed from now on stays."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._console.end_overall()


def skip_reports(nodeid: str, step: Step, path: str, reason: str) -> list[pytest.TestReport]:
    """What a worker would report for an item that is skipped before it starts."""
    location = (path, step.box.line - 1, f"{step.node_name} {step.title}")
    now = time.time()
    reports = []
    for when, outcome, longrepr in (
        ("setup", "skipped", (path, step.box.line, f"Skipped: {reason}")),
        ("teardown", "passed", None),
    ):
        values: dict[str, Any] = {"when": when, "outcome": outcome, "longrepr": longrepr}
        values["steps_reason"] = reason
        reports.append(
            pytest.TestReport(nodeid=nodeid, location=location, keywords={}, start=now, stop=now, **values)
        )
    return reports
