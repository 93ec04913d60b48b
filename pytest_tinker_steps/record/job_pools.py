"""Who waits for whom since jobs keep what their steps have taken of the pools, until they end.

It is decided before anything runs, so that it comes to the same with workers and without. Of two steps that
cannot run side by side, the list has the order, as far as needs leave it one; so no wait makes a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..plan import graph
from ..plan.model import Step


def waits(todo: Iterable[Step], holders: Sequence[Step], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Steps that also wait until others are over, with the ids of those: a step with a job is over with it.

    A step waits for the jobs that would leave too little of a pool for it, the first ones first. A step with
    a job waits for the steps before it in the list that would not find enough beside the job.

    Args:
        todo: steps of the session that are not done.
        holders: steps whose jobs run now.
        sizes: of the pools.
    """
    steps = graph.in_turn(sorted(todo, key=lambda step: step.index))
    # What takes nothing only matters where something runs alone.
    alone = any(map(graph.is_exclusive, (*steps, *holders)))
    running = {job.id for job in holders}
    before: dict[str, list[str]] = {}
    jobs = list(holders)
    beside: list[tuple[Step, list[Step]]] = []  # each with the jobs that may run at the same time
    for step in steps:
        if step.id in running or not (alone or graph.amounts(step)):
            continue
        ended = {need.step for need in step.needs if need.state != "started"}
        others = [job for job in jobs if job.id not in ended]
        found = before[step.id] = _in_the_way(step, others, sizes)
        if step.definition is not None and step.definition.main.mode == "background":
            for other, companions in beside:
                if other.id in found:
                    continue
                remaining = [job for job in companions if job.id not in found]
                if _fits(other, [*remaining, step], sizes):
                    companions.append(step)
                elif other.id not in ended:
                    found.append(other.id)
            jobs.append(step)
        beside.append((step, [job for job in others if job.id not in found]))
    return {name: found for name, found in before.items() if found}


def _in_the_way(step: Step, jobs: Sequence[Step], sizes: Mapping[str, int]) -> list[str]:
    """Jobs that must have ended before a step finds enough beside the others."""
    found: list[str] = []
    left = list(jobs)
    for job in jobs:
        if _fits(step, left, sizes):
            break
        alone = graph.is_exclusive(step) or graph.is_exclusive(job)
        if alone or graph.amounts(step).keys() & graph.amounts(job).keys():
            left.remove(job)
            found.append(job.id)
    return found


def _fits(step: Step, others: Collection[Step], sizes: Mapping[str, int]) -> bool:
    pools = graph.Pools(sizes)
    for other in others:
        pools.take(other)
    return not pools.lacks(step)
