"""Steps side by side under xdist.

A worker of xdist starts an item only when it knows the one that follows, for the sake of fixtures that both
use. A scheduler that sends one ready step at a time would therefore wait for ever. So each step, and each
chunk of tests, is followed by an idle item: the worker begins, and this waits until more is known.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

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


class Around(Protocol):
    """What the scheduler asks of the session around it, and tells it."""

    def verdicts(self) -> dict[str, str]:
        """Of the steps that are settled."""

    def report(self, nodeid: str, step: Step, reason: str) -> None:
        """A step is skipped, and why."""

    def stopped(self) -> str:
        """Why nothing more may be started, or an empty string."""

    def concluded(self, step: Step) -> bool:
        """Whether nothing has to be run for the end of a job, which has a verdict then."""

    def crashed(self, step: Step, worker: str) -> bool:
        """A worker died in the middle of a step; whether the step is tried again."""

    def knows(self, worker: str, step: Step) -> bool:
        """Whether a worker knows of all attempts at a step."""

    def changed(self) -> None:
        """Something was started, or has ended."""


class StepScheduling:
    """xdist's scheduling protocol for a session with steps.

    Args:
        frozen: the session.
        nodes: how many workers were asked for.
        around: the session around it.
        seconds: how long a step took when it last passed; 0 when nobody knows.

    Attributes:
        running: the steps that were given to workers, with the names of these.
    """

    def __init__(
        self, frozen: Frozen, nodes: int, around: Around, seconds: Callable[[Step], float] = lambda _: 0.0
    ) -> None:
        self._frozen = frozen
        self._wanted = nodes
        self._around = around
        self._seconds = seconds
        self._ids: list[str] | None = None
        self._index: dict[str, int] = {}
        self._steps: dict[str, Step] = {}  # by node id, not given to a worker yet
        self._tests: list[str] = []
        self._frontier = graph.Frontier(())
        self._pools = graph.Pools(dict(frozen.plan.definitions.pools))
        self._ready = graph.ReadyQueue(self._pools, lambda _: 0.0)
        self._again: list[Step] = []  # their workers died; only a worker that knows of it may try them
        self._late: list[Step] = []  # ends of jobs that nobody waits for
        self._all_over = False  # but those
        self._over: list[Step] = []  # steps that ended since work was last given
        self._collections: dict[WorkerController, list[str]] = {}
        self._given: dict[WorkerController, list[str]] = {}
        self.running: dict[str, tuple[Step, str]] = {}

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
    def left_over(self) -> bool:
        """Whether there is work that nobody was given, or nobody could say what there is."""
        return self._ids is None or self._pending

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
            self._begin()
        self._fill()

    def _begin(self) -> None:
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
        ranks = graph.ranks(self._steps.values(), lambda step: self._seconds(step) or 1.0)
        self._ready = graph.ReadyQueue(self._pools, lambda step: ranks.get(step.id, 0.0))
        for step in self._frozen.holders:
            self._pools.take(step)
        self._frontier = graph.Frontier(self._steps.values())
        self._release(self._frontier.ready)

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
            self._note_end(node, nodeid)
        self._fill()

    def mark_test_pending(self, item: str) -> None:
        """Run a test again whose worker died. A step is not: that was its attempt."""
        if self._frozen.step_of(item) is None:
            self._tests.insert(0, item)
        self._fill()

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError("only schedulers that take work back need this")

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a dead or ended worker away; the item that it died in, if that is to be reported as failed."""
        given = self._given.pop(node, [])
        self._collections.pop(node, None)
        if not given:
            return None
        crashed, *rest = given
        self._tests = rest + self._tests
        step = self._frozen.step_of(crashed)
        if step is None:
            self._note_end(node, crashed)
            return crashed
        settled = step.id in self._around.verdicts()
        if not settled and self._around.crashed(step, node.gateway.id):
            del self.running[step.id]
            self._pools.give_back(step.node_name)
            self._steps[crashed] = step
            self._again.append(step)
            return None
        # What waits for it is looked at when work is next given: its verdict follows this call.
        self._note_end(node, crashed)
        return None if settled else crashed

    def not_replaced(self, steps: Collection[str], *, others: bool) -> None:
        """Go on when none comes in place of a dead worker; ``steps``, by their ids, died with it."""
        for step in [step for step in self._again if step.id in steps]:
            self._again.remove(step)
            self._refuse(step, "not run: no worker came in place of the one that died")
            self._release(self._frontier.complete(step.id))
        self._fill() if others else self._give_up("no worker is left")

    # -- decisions

    def _note_end(self, node: WorkerController, nodeid: str) -> None:
        step = self._frozen.step_of(nodeid)
        if step is not None:
            self.running.pop(step.id, None)
            self._over.append(step)
        elif not self._given.get(node):
            self._pools.give_back(_tests_on(node))

    def _release_behind(self) -> None:
        over, self._over = self._over, []
        verdicts = self._around.verdicts()
        for step in over:
            # A job that goes on keeps what its step has taken; its end gives it back.
            if verdicts.get(step.ends or step.id) != "started":
                self._pools.give_back(f"step_{step.ends or step.id}")
        self._release(self._frontier.complete(*(step.id for step in over)))

    def _fill(self) -> None:
        stopped = self._around.stopped()
        if stopped:
            self._give_up(stopped)
            return
        self._release_behind()
        self._give_work()
        while self._pending and self._idle():
            if self._late:
                self._release_late()
            elif self._ready:
                self._refuse_lacking()
            else:
                self._give_up("nothing is running and nothing is ready")
            self._give_work()
        self._around.changed()

    def _idle(self) -> bool:
        """Whether workers wait, and nothing is under way that could bring them work."""
        able = any(node in self._collections and not node.shutting_down for node in self._given)
        return able and not self._again and not any(self._given.values())

    def _give_work(self) -> None:
        for node, given in self._given.items():
            if given or node not in self._collections or node.shutting_down:
                continue
            work = self._next(node)
            if work:
                self._given[node] = work
                assert self._ids is not None
                node.send_runtest_some([*(self._index[nodeid] for nodeid in work), len(self._ids)])

    def _release_late(self) -> None:
        """Nothing else can go on: look at the ends of jobs that nobody waits for."""
        self._all_over = True
        late, self._late = self._late, []
        self._release(late)

    def _refuse_lacking(self) -> None:
        """Nothing that runs will give back what the ready steps lack: a job has it, beyond this session."""
        for step, lack in self._ready.clear():
            self._refuse(step, f"blocked by {lack}")
            self._release(self._frontier.complete(step.id))

    def _next(self, node: WorkerController) -> list[str]:
        step = self._retried(node) or self._ready.take()
        if step is not None:
            nodeid = self._frozen.nodeid_of(step)
            del self._steps[nodeid]
            self.running[step.id] = (step, node.gateway.id)
            return [nodeid]
        if not self._tests or self._pools.alone:
            return []
        size = max(1, len(self._tests) // (CHUNKS_PER_NODE * max(1, len(self._given))))
        chunk, self._tests = self._tests[:size], self._tests[size:]
        self._pools.hold(_tests_on(node), {})
        return chunk

    def _retried(self, node: WorkerController) -> Step | None:
        for step in self._again:
            if self._around.knows(node.gateway.id, step) and not self._pools.lacks(step):
                self._again.remove(step)
                self._pools.take(step)
                return step
        return None

    def held(self) -> tuple[Step, str, int] | None:
        """A step that could run but for what it takes, what that is, and how many such there are."""
        return self._ready.held()

    def _release(self, steps: Sequence[Step]) -> None:
        """Steps whose turn has come wait for a worker, or are reported as blocked with all behind them."""
        queue = deque(steps)
        while queue:
            step = queue.popleft()
            if self._hold_back(step):
                continue
            nodeid = self._frozen.nodeid_of(step)
            if step.ends and self._around.concluded(step):
                del self._steps[nodeid]
                queue.extend(self._frontier.complete(step.id))
                continue
            why = self._blocker(step)
            if why:
                self._refuse(step, f"blocked by {why}")
                queue.extend(self._frontier.complete(step.id))
            else:
                self._ready.add(step)

    def _hold_back(self, step: Step) -> bool:
        """Keep the end of a job that nobody waits for until nothing else can go on."""
        if not step.ends or step.id in self._frozen.waiting or self._all_over:
            return False
        self._late.append(step)
        return True

    def _blocker(self, step: Step) -> str | None:
        settled = step.id in self._frozen.skips or step.id in self._frozen.refusals
        if settled or self._frozen.mode != "run":
            return None
        return blocker(step, self._frozen, self._around.verdicts())

    def _refuse(self, step: Step, reason: str) -> None:
        nodeid = self._frozen.nodeid_of(step)
        del self._steps[nodeid]
        self._around.report(nodeid, step, reason)

    def _give_up(self, why: str) -> None:
        self._release_behind()
        self._frontier = graph.Frontier(())
        self._ready.clear()
        self._again.clear()
        self._tests.clear()
        for step in list(self._steps.values()):
            self._refuse(step, f"not run: {why}")


def _tests_on(node: WorkerController) -> str:
    return f"the tests on {node.gateway.id}"


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
