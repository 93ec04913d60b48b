"""How long a plan is expected to take: the schedule worked out from past durations, without running it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from . import graph
from .model import Step


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected.

    Attributes:
        seconds: until the last step has ended; steps of unknown duration count as 0.
        spans: when each step starts and ends, in seconds from the beginning, by id.
    """

    seconds: float
    spans: Mapping[str, tuple[float, float]]


def critical_path(steps: Iterable[Step], known: Callable[[Step], float | None]) -> list[Step]:
    """The longest chain of work, first step first; of several that are as long, the one that begins first.

    Args:
        known: how long a step, with its job, took when it last passed; None when nobody knows.
    """
    chosen = list(steps)
    rank = _ranks(chosen, known)
    dependants: dict[str, list[Step]] = {}
    first: list[Step] = []
    for needs, alike in graph.by_needs(step for step in chosen if step.id in rank):
        waits = [need.step for need in needs if need.step in rank]
        longest = max(alike, key=lambda step: rank[step.id])
        for name in waits:
            dependants.setdefault(name, []).append(longest)
        if not waits:
            first.append(longest)
    places = {step.id: place for place, step in enumerate(chosen)}
    path: list[Step] = []
    following = first
    while following:
        path.append(max(following, key=lambda step: (rank[step.id], -places[step.id])))
        following = dependants.get(path[-1].id, [])
    return path


def simulate(
    steps: Iterable[Step],
    known: Callable[[Step], float | None],
    workers: int,
    sizes: Mapping[str, int],
    held: Iterable[Step] = (),
) -> Forecast:
    """List scheduling: a free worker takes the most urgent step that may start.

    Args:
        known: see ``critical_path``.
        workers: how many steps run side by side.
        sizes: of the pools.
        held: steps of earlier sessions whose jobs run, and hold what they have taken.
    """
    chosen = list(steps)
    rank = _ranks(chosen, known)
    pools = graph.Pools(sizes)
    for step in held:
        pools.take(step)
    queue = graph.ReadyQueue(pools, lambda step: rank.get(step.id, 0.0))
    frontier = graph.Frontier(chosen)
    spans: dict[str, tuple[float, float]] = {}
    running: list[tuple[float, int, Step]] = []
    now = 0.0
    for step in frontier.ready:
        queue.add(step)
    while True:
        while len(running) < workers and (taken := queue.take()):
            began = spans[taken.ends][0] if taken.ends in spans else now
            spans[taken.id] = (now, max(now, began + _own_seconds(taken, known)))
            heapq.heappush(running, (spans[taken.id][1], len(spans), taken))
        if not running:
            break
        now = running[0][0]
        over: list[Step] = []
        while running and running[0][0] == now:
            over.append(heapq.heappop(running)[-1])
        for step in over:
            if not _starts_job(step):  # else its job keeps what it has taken
                pools.give_back(f"step_{step.ends or step.id}")
        for step in frontier.complete(*(step.id for step in over)):
            queue.add(step)
    return Forecast(now, spans)


def _ranks(steps: Iterable[Step], known: Callable[[Step], float | None]) -> dict[str, float]:
    return graph.ranks(steps, lambda step: _own_seconds(step, known) or graph.UNKNOWN)


def _own_seconds(step: Step, known: Callable[[Step], float | None]) -> float:
    """How long the item of a step takes: a background step only starts its job, whose end is an item too."""
    return 0.0 if _starts_job(step) else known(step) or 0.0


def _starts_job(step: Step) -> bool:
    return not step.ends and step.definition is not None and step.definition.main.mode == "background"
