"""Steps side by side under xdist.

A worker of xdist starts an item only when it knows the one that follows, for the sake of fixtures that both
use. A scheduler that sends one ready step at a time would therefore wait for ever. So each step, and each
chunk of tests, is followed by an idle item: the worker begins, and this waits until more is known.

Verdicts are recorded once for all that has happened by then, since the disk is slow. A worker need not wait
for that: while it tidies up after a step it is told the next one, if that is what it would get anyway.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .around import Around
from .plan import graph
from .plan.model import Step
from .record.frozen import Frozen

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

END_OF_TURN = -1
"""In place of an item's index."""
UNHURRIED = 0.2
"""Seconds in which steps that end are settled together, while every worker has work."""
CHUNKS_PER_NODE = 4
"""Ordinary tests are cut so that each worker comes back for more about this often."""


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
        self._dropped = False  # tests, since the session cannot go on
        self._frontier = graph.Frontier(())
        self._pools = graph.Pools(dict(frozen.plan.definitions.pools), self._only_reported)
        self._ready = graph.ReadyQueue(self._pools, lambda _: 0.0)
        self._late: list[Step] = []  # ends of jobs that nobody waits for
        self._all_over = False  # but those, and tests beside a job that goes on
        self._over: list[Step] = []  # steps that ended since work was last given
        self._turn_ends_in: float | None = None  # then what has ended by now is settled
        self._ranks: dict[str, float] = {}
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
        return self._ids is None or self._pending or self._dropped

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
        self._ranks = graph.ranks(self._steps.values(), lambda step: self._seconds(step) or graph.UNKNOWN)
        self._ready = graph.ReadyQueue(self._pools, self._rank)
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
        if item_index == END_OF_TURN:
            self._turn_ends_in = None
            self._fill()
            return
        if item_index == len(self._ids):
            return  # the idle item
        given = self._given.get(node)
        nodeid = self._ids[item_index]
        if given and nodeid in given:
            given.remove(nodeid)
            self._note_end(node, nodeid)
        self._end_turn(node)

    def _end_turn(self, node: WorkerController) -> None:
        """Settle what has ended, once for all that has happened by now; while nobody waits, in a moment."""
        seconds = UNHURRIED if all(self._given.values()) else 0.0
        if self._turn_ends_in is not None and self._turn_ends_in <= seconds:
            return
        if self._around.turn_ends_later(node, seconds):
            self._turn_ends_in = seconds
        else:
            self._fill()

    def tidying_up(self, node: WorkerController, nodeid: str) -> None:
        """Note that a worker has done the work of a step, and only the teardown is left.

        It is told the next step, if that is the one which it would get afterwards.
        """
        step = self._frozen.step_of(nodeid)
        if step is None or self._given.get(node) != [nodeid] or node.shutting_down:
            return
        if self._around.stopped():
            return
        freed = self._frontier.would_free(step.id, *(over.id for over in self._over))
        following = self._ready.take(above=max(map(self._rank, freed), default=0.0))
        if following is not None:
            self._send(node, [self._start(following, node)])

    def mark_test_pending(self, item: str) -> None:
        """Run a test again whose worker died. A step is not: that was its attempt."""
        if self._frozen.step_of(item) is None:
            self._tests.insert(0, item)
        self._fill()

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError("only schedulers that take work back need this")

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a dead or ended worker away; the item that it died in, if that is to be reported as failed."""
        self._around.settle()
        given = self._given.pop(node, [])
        self._collections.pop(node, None)
        settled = self._around.verdicts()
        while given and (step := self._frozen.step_of(given[0])) and step.id in settled:
            self._note_end(node, given.pop(0))
        if not given:
            return None
        crashed, *rest = given
        for nodeid in reversed(rest):
            self._take_back(nodeid)
        step = self._frozen.step_of(crashed)
        if step is not None and self._around.crashed(step, node.gateway.id):
            self._ready.add(self._unstart(step))
            self._fill()
            return None
        # What waits for it is looked at when work is next given: its verdict follows this call.
        self._note_end(node, crashed)
        return crashed

    def not_replaced(self, *, others: bool) -> None:
        """Go on when none comes in place of a dead worker."""
        self._wanted -= 1
        if not others:
            self._give_up("no worker is left")
        elif self._ids is None and self.collection_is_completed:
            self.schedule()  # xdist has it done only when another one has collected

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
            if not step.ends and self._only_reported(step):
                continue
            if verdicts.get(step.ends or step.id) != "started":
                self._pools.give_back(f"step_{step.ends or step.id}")
        self._release(self._frontier.complete(*(step.id for step in over)))

    def _fill(self) -> None:
        self._around.settle()
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
            elif self._tests and not self._all_over:
                self._all_over = True  # a job that goes on runs alone among steps; tests are none
            else:
                self._give_up("nothing is running and nothing is ready")
            self._give_work()
        self._around.changed()

    def _idle(self) -> bool:
        """Whether workers wait, and nothing is under way that could bring them work."""
        able = any(node in self._collections and not node.shutting_down for node in self._given)
        return able and not any(self._given.values())

    def _give_work(self) -> None:
        for node, given in self._given.items():
            if given or node not in self._collections or node.shutting_down:
                continue
            work = self._next(node)
            if work:
                self._send(node, work)

    def _send(self, node: WorkerController, work: list[str]) -> None:
        assert self._ids is not None
        self._given[node] += work
        with contextlib.suppress(OSError):  # it has just died, of which xdist will tell
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
        step = self._ready.take()
        if step is not None:
            return [self._start(step, node)]
        if not self._tests or (self._pools.alone and not self._all_over):
            return []
        size = max(1, len(self._tests) // (CHUNKS_PER_NODE * max(1, len(self._given))))
        chunk, self._tests = self._tests[:size], self._tests[size:]
        self._pools.hold(_tests_on(node), {})
        return chunk

    def _start(self, step: Step, node: WorkerController) -> str:
        nodeid = self._frozen.nodeid_of(step)
        del self._steps[nodeid]
        self.running[step.id] = (step, node.gateway.id)
        self._around.given(step, node)
        return nodeid

    def _unstart(self, step: Step) -> Step:
        del self.running[step.id]
        self._pools.give_back(step.node_name)
        self._steps[self._frozen.nodeid_of(step)] = step
        return step

    def _take_back(self, nodeid: str) -> None:
        """What a dead worker was given and has not begun is for others."""
        step = self._frozen.step_of(nodeid)
        if step is None:
            self._tests.insert(0, nodeid)
        else:
            self._ready.add(self._unstart(step))

    def _rank(self, step: Step) -> float:
        return self._ranks.get(step.id, 0.0)

    def held(self) -> tuple[Step, str, int] | None:
        """A step that could run but for what it takes, what that is, and how many such there are."""
        return self._ready.held()

    def _release(self, steps: Sequence[Step]) -> None:
        """Steps whose turn has come wait for a worker, or are reported as blocked with all behind them."""
        blockers: dict[int, str | None] = {}  # by needs: these are over, so one answer holds for all
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
            why = self._blocker(step, blockers)
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

    def _blocker(self, step: Step, known: dict[int, str | None]) -> str | None:
        if self._only_reported(step):
            return None
        needs = id(step.needs)
        if needs not in known:
            around = self._around
            known[needs] = self._frozen.blocker(step, around.verdicts(), around.started())
        return known[needs]

    def _only_reported(self, step: Step) -> bool:
        """Whether a step is only reported, or looked at, and not run."""
        settled = step.id in self._frozen.skips or step.id in self._frozen.refusals
        return settled or self._frozen.mode != "run"

    def _refuse(self, step: Step, reason: str) -> None:
        nodeid = self._frozen.nodeid_of(step)
        del self._steps[nodeid]
        self._around.report(nodeid, step, reason)

    def _give_up(self, why: str) -> None:
        self._release_behind()
        self._frontier = graph.Frontier(())
        self._ready.clear()
        self._dropped = bool(self._tests)
        self._tests.clear()
        for step in list(self._steps.values()):
            self._refuse(step, f"not run: {why}")


def _tests_on(node: WorkerController) -> str:
    return f"the tests on {node.gateway.id}"
