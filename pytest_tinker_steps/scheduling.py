"""Steps side by side under xdist.

A worker of xdist starts an item only when it knows the one that follows, for the sake of fixtures
that both use. A scheduler that sends one ready step at a time would therefore wait for ever. So each
step, and each chunk of ordinary tests, is followed by an idle item: it lets the worker begin, and
waits itself until the next piece of work, or the end, is known.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from .plan import graph
from .plan.model import Step
from .record.frozen import Frozen

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

CHUNKS_PER_NODE = 4
"""Ordinary tests are cut so that each worker comes back for more about this often."""


class IdleItem(pytest.Item):
    """Does nothing, last in the worker's list; never reported, counted or selected."""

    def runtest(self) -> None:
        return None

    def end(self) -> None:
        """At the end of the session: tear down what the items before left set up."""
        call = pytest.CallInfo.from_call(lambda: self.session._setupstate.teardown_exact(None), "teardown")
        if call.excinfo:
            self.ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(self, call))


class StepScheduling:
    """xdist's scheduling protocol for a session with steps.

    Args:
        frozen: the session.
        verdicts: of the steps that are settled.
        nodes: how many workers were asked for.
        report: tells the session that a node id is skipped, and why.
        stopped: why nothing more may be started, or an empty string.
        concluded: whether nothing has to be run for the end of a job, which has a verdict then.
    """

    def __init__(
        self,
        frozen: Frozen,
        verdicts: Callable[[], dict[str, str]],
        nodes: int,
        report: Callable[[str, Step, str], None],
        stopped: Callable[[], str] = str,
        concluded: Callable[[Step], bool] = lambda _: False,
    ) -> None:
        self._frozen = frozen
        self._verdicts = verdicts
        self._wanted = nodes
        self._report = report
        self._stopped = stopped
        self._concluded = concluded
        self._ids: list[str] | None = None
        self._index: dict[str, int] = {}
        self._steps: dict[str, Step] = {}  # not given to a worker yet
        self._tests: list[str] = []
        self._frontier = graph.Frontier(())
        self._ready: list[tuple[bool, int]] = []  # a heap: whether it only waits for a job, and the index
        self._late: list[Step] = []  # ends of jobs that nobody waits for
        self._all_over = False  # but those
        self._over: list[str] = []  # ids of steps that ended since work was last given
        self._collections: dict[WorkerController, list[str]] = {}
        self._given: dict[WorkerController, list[str]] = {}

    # -- the protocol's questions

    @property
    def nodes(self) -> list[WorkerController]:
        return list(self._given)

    @property
    def collection_is_completed(self) -> bool:
        return self._ids is not None or len(self._collections) >= self._wanted

    @property
    def tests_finished(self) -> bool:
        return self._ids is not None and not self._pending and not any(self._given.values())

    @property
    def has_pending(self) -> bool:
        return bool(self._pending) or any(self._given.values())

    @property
    def _pending(self) -> bool:
        return bool(self._steps or self._tests)

    # -- the protocol's events

    def add_node(self, node: WorkerController) -> None:
        self._given[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        if self._ids is not None and list(collection) != self._ids:
            # A replacement that found another list (it was deleted, or tests changed) is of no use.
            self._given.pop(node, None)
            node.shutdown()
            if not self._given:
                self._give_up("no worker is left that has collected this plan")
            return
        self._collections[node] = list(collection)

    def schedule(self) -> None:
        if self._ids is None:
            first = next(iter(self._collections))
            self._ids = self._collections[first]
            different = [node for node, ids in self._collections.items() if ids != self._ids]
            if different:
                names = ", ".join(node.gateway.id for node in different)
                raise RuntimeError(f"workers collected different items than {first.gateway.id}: {names}")
            self._index = {nodeid: index for index, nodeid in enumerate(self._ids)}
            for nodeid in self._ids:
                step = self._frozen.step_of(nodeid)
                if step is None:
                    self._tests.append(nodeid)
                else:
                    self._steps[nodeid] = step
            self._frontier = graph.Frontier(self._steps.values())
            self._release(self._frontier.ready)
        self._fill()

    def mark_test_complete(
        self,
        node: WorkerController,
        item_index: int,
        duration: float = 0,  # noqa: ARG002 - the protocol's
    ) -> None:
        assert self._ids is not None
        if item_index == len(self._ids):
            return  # the idle item
        given = self._given.get(node)
        nodeid = self._ids[item_index]
        if given and nodeid in given:
            given.remove(nodeid)
            self._note_end(nodeid)
        self._fill()

    def mark_test_pending(self, item: str) -> None:
        """Run a test again whose worker died. A step is not: that was its attempt."""
        if self._frozen.step_of(item) is None:
            self._tests.insert(0, item)
        self._fill()

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError("only schedulers that take work back need this")

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a dead or ended worker away; the item that it died in, if it has no verdict yet."""
        given = self._given.pop(node, [])
        self._collections.pop(node, None)
        if not given:
            return None
        crashed, *rest = given
        self._tests = rest + self._tests
        # What waits for it is looked at when work is next given: its verdict follows this call.
        self._note_end(crashed)
        step = self._frozen.step_of(crashed)
        settled = step is not None and step.id in self._verdicts()
        return None if settled else crashed

    # -- decisions

    def _note_end(self, nodeid: str) -> None:
        step = self._frozen.step_of(nodeid)
        if step is not None:
            self._over.append(step.id)

    def _release_behind(self) -> None:
        over, self._over = self._over, []
        self._release(self._frontier.complete(*over))

    def _fill(self) -> None:
        stopped = self._stopped()
        if stopped:
            self._give_up(stopped)
            return
        self._release_behind()
        if self._late and len(self._late) == len(self._steps) and not any(self._given.values()):
            self._all_over = True
            late, self._late = self._late, []
            self._release(late)
        for node, given in self._given.items():
            if given or node not in self._collections or node.shutting_down:
                continue
            work = self._next()
            if not work:
                break
            self._given[node] = work
            assert self._ids is not None
            node.send_runtest_some([*(self._index[nodeid] for nodeid in work), len(self._ids)])
        able = [node for node in self._given if node in self._collections and not node.shutting_down]
        if self._pending and able and not any(self._given.values()):
            self._give_up("nothing is running and nothing is ready")

    def _next(self) -> list[str]:
        if self._ready:
            assert self._ids is not None
            nodeid = self._ids[heapq.heappop(self._ready)[1]]
            del self._steps[nodeid]
            return [nodeid]
        size = max(1, len(self._tests) // (CHUNKS_PER_NODE * max(1, len(self._given))))
        chunk, self._tests = self._tests[:size], self._tests[size:]
        return chunk

    def _release(self, steps: Sequence[Step]) -> None:
        """Steps whose turn has come wait for a worker, or are reported as blocked with all behind them."""
        queue = deque(steps)
        while queue:
            step = queue.popleft()
            if self._hold_back(step):
                continue
            nodeid = f"{self._frozen.nodeid}::{step.node_name}"
            if step.ends and self._concluded(step):
                del self._steps[nodeid]
                queue.extend(self._frontier.complete(step.id))
                continue
            why = self._blocker(step)
            if why:
                del self._steps[nodeid]
                self._report(nodeid, step, f"blocked by {why}")
                queue.extend(self._frontier.complete(step.id))
            else:
                heapq.heappush(self._ready, (bool(step.ends), self._index[nodeid]))

    def _hold_back(self, step: Step) -> bool:
        """Keep the end of a job that nobody waits for until all else is over."""
        if not step.ends or step.id in self._frozen.waiting or self._all_over:
            return False
        self._late.append(step)
        return True

    def _blocker(self, step: Step) -> str | None:
        settled = step.id in self._frozen.skips or step.id in self._frozen.refusals
        if settled or self._frozen.mode != "run":
            return None
        return blocker(step, self._frozen, self._verdicts())

    def _give_up(self, why: str) -> None:
        self._release_behind()
        self._frontier = graph.Frontier(())
        for nodeid, step in list(self._steps.items()):
            del self._steps[nodeid]
            self._report(nodeid, step, f"not run: {why}")
        self._ready.clear()
        self._tests.clear()


def blocker(step: Step, frozen: Frozen, verdicts: dict[str, str]) -> str | None:
    """What keeps a step whose turn has come from running: ``step_4 (failed)``, or None."""
    reached = {
        name: "passed" if verdict == "done" else verdict
        for name in (need.step for need in step.needs)
        if (verdict := verdicts.get(name))
    }
    waited = frozenset(
        need.step
        for need in step.needs
        if need.step in frozen.selected and (need.step in reached or not frozen.satisfied(need.step))
    )
    found = graph.blocked_by(step, reached, waited)
    # The end of a job is the last word on its step, and people know the step.
    return found.replace("@ended (", " (") if found else None


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
