"""What can be run next, as a session goes on."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping

from ..plan import graph
from ..plan.model import Need, Step
from .frozen import Frozen
from .state import Records

REACHED: Mapping[str, tuple[str, ...]] = {
    "passed": ("passed", "started", "ended"),
    "started": ("started",),
    "warned": ("ended",),
    "failed": ("ended",),
}
"""The states of needs that hold after each verdict."""


class Upcoming:
    """Which open steps could be run now, as verdicts come in.

    It looks at the whole plan once; then a verdict costs what waits for its step.

    Args:
        frozen: the session. What runs in it is waited for, also where it was done before.
        records: the journal's state before the session.
    """

    def __init__(self, frozen: Frozen, records: Records) -> None:
        self._steps = frozen.plan.steps
        self._ready: list[int] = []  # a heap of indices
        self._gates: dict[tuple[str, str], list[tuple[set[tuple[str, str]], list[int]]]] = {}
        again = {step.id for step in frozen.pending}

        def holds(need: Need) -> bool:
            if need.step in again:
                return False
            verdict = "started" if need.step in frozen.jobs else records.of(need.step).verdict
            return frozen.satisfied(need.step) or (
                need.state != "passed" and need.state in REACHED.get(verdict, ())
            )

        to_run = [
            step
            for step in self._steps
            if not (step.box.optional or frozen.satisfied(step.id) or step.id in frozen.jobs)
        ]
        for needs, alike in graph.by_needs(to_run):
            waits: set[tuple[str, str]] = {(need.step, need.state) for need in needs if not holds(need)}
            places = [step.index for step in alike]
            if not waits:
                self._ready += places
            for key in waits:
                self._gates.setdefault(key, []).append((waits, places))
        heapq.heapify(self._ready)

    def note(self, name: str, verdict: str) -> None:
        """Take in the verdict of a step."""
        for state in REACHED.get(verdict, ()):
            for waits, places in self._gates.pop((name, state), ()):
                waits.discard((name, state))
                for place in places if not waits else ():
                    heapq.heappush(self._ready, place)

    def behind(self, step: Step, begun: Container[str]) -> str:
        """Id of the first of them behind a step in the list; empty when there is none.

        What was passed over once is never named later, so that an answer costs nothing that grows.

        Args:
            begun: ids of steps that the session has begun.
        """
        ready = self._ready
        while ready and (ready[0] <= step.index or self._steps[ready[0]].id in begun):
            heapq.heappop(ready)
        return self._steps[ready[0]].id if ready else ""
