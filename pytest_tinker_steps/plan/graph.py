"""The order that follows from what steps need: who may start, who waits, what takes longest."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import NamedTuple, TypeVar

from .model import Box, Need, Step

Item = TypeVar("Item", bound=Box | Step)

UNKNOWN = 1.0
"""Seconds that a step of unknown duration weighs where the order is decided."""


class Frontier:
    """Which steps may start, as others are completed.

    Each completion costs what the completed step's own dependants cost, however long the list is, and steps
    that share their needs, as those of a layer do, count as one.

    Args:
        steps: in the order in which they start when several may.
        satisfied: whether a need holds already. A need that is neither satisfied nor among ``steps``
            holds no step back: that it is missing is for others to say.

    Attributes:
        ready: steps that wait for nothing from the beginning.
    """

    def __init__(self, steps: Iterable[Step], satisfied: Callable[[str], bool] = lambda _: False) -> None:
        known = {step.id: step for step in steps}
        self._places = {name: place for place, name in enumerate(known)}
        self._gates: dict[str, list[_Gate]] = {}  # by what they wait for
        self.ready: list[Step] = []
        for needs, alike in by_needs(known.values()):
            waits = {need.step for need in needs if need.step in known and not satisfied(need.step)}
            if not waits:
                self.ready += alike
                continue
            gate = _Gate(waits, alike)
            for name in waits:
                self._gates.setdefault(name, []).append(gate)
        self._sort(self.ready)

    def complete(self, *names: str) -> list[Step]:
        """Note that steps are over, however they ended; the steps that may start with that, in order."""
        freed: list[Step] = []
        for name in names:
            for gate in self._gates.pop(name, ()):
                gate.waits.discard(name)
                if not gate.waits:
                    freed += gate.steps
        return self._sort(freed)

    def would_free(self, *names: str) -> Iterator[Step]:
        """The steps that could start if these were over, too."""
        for name in names:
            for gate in self._gates.get(name, ()):
                if gate.waits.issubset(names):
                    yield from gate.steps

    def _sort(self, steps: list[Step]) -> list[Step]:
        steps.sort(key=lambda step: self._places[step.id])
        return steps


class _Gate(NamedTuple):
    """Steps that wait for the same."""

    waits: set[str]
    steps: list[Step]


def by_needs(steps: Iterable[Step]) -> Iterator[tuple[tuple[Need, ...], list[Step]]]:
    """Steps that share their needs, each group with these.

    A plan has one object for the needs of a whole layer (see ``building``). Equal ones that are not the same
    make groups of their own: to compare them would cost what the sharing saves.
    """
    groups: dict[int, list[Step]] = {}
    for step in steps:
        groups.setdefault(id(step.needs), []).append(step)
    return ((alike[0].needs, alike) for alike in groups.values())


def waves(steps: Iterable[Step], satisfied: Callable[[str], bool]) -> list[list[Step]]:
    """Steps in waves: each waits only for steps of earlier waves or for what is satisfied already.

    A step whose need is neither satisfied nor among ``steps`` counts as ready.
    """
    frontier = Frontier(steps, satisfied)
    result: list[list[Step]] = []
    ready = frontier.ready
    while ready:
        result.append(ready)
        ready = frontier.complete(*(step.id for step in ready))
    return result


def in_turn(steps: Sequence[Step]) -> list[Step]:
    """Steps one after the other: each as early as ``steps`` have it, but behind what it needs of them.

    Those in a circle come last.
    """
    places = {step.id: place for place, step in enumerate(steps)}
    frontier = Frontier(steps)
    ready = [places[step.id] for step in frontier.ready]
    found: dict[int, Step] = {}
    while ready:
        place = heapq.heappop(ready)
        found[place] = steps[place]
        for step in frontier.complete(steps[place].id):
            heapq.heappush(ready, places[step.id])
    return [*found.values(), *(step for place, step in enumerate(steps) if place not in found)]


def ranks(steps: Iterable[Step], seconds: Callable[[Step], float]) -> dict[str, float]:
    """The length of the longest chain of work that begins with each step: the more, the more urgent.

    Args:
        seconds: how long a step is expected to take.
    """
    order = list(chain.from_iterable(waves(steps, lambda _: False)))
    behind: dict[str, list[int]] = {}  # the groups that wait for a step
    longest: dict[int, float] = {}  # of each group
    for needs, _ in by_needs(order):
        for need in needs:
            behind.setdefault(need.step, []).append(id(needs))
    found: dict[str, float] = {}
    for step in reversed(order):
        after = max((longest[group] for group in behind.get(step.id, ())), default=0.0)
        rank = found[step.id] = seconds(step) + after
        longest[id(step.needs)] = max(longest.get(id(step.needs), 0.0), rank)
    return found


class Pools:
    """What there is only so much of, and who holds it.

    Args:
        sizes: of the pools, by name.
        idle: whether a step takes nothing, since it does not run.

    Attributes:
        holders: names of what runs for people (``step_13``), each with what it has taken.
    """

    def __init__(self, sizes: Mapping[str, int], idle: Callable[[Step], bool] = lambda _: False) -> None:
        self._sizes = dict(sizes)
        self._idle = idle
        self.holders: dict[str, Mapping[str, int]] = {}
        self._alone = ""

    def lacks(self, step: Step) -> str:
        """What a step would have to wait for now, in words; empty when it may start."""
        if self._takes_nothing(step):
            return ""
        if self._alone:
            return f"{self._alone} runs alone"
        if is_exclusive(step) and self.holders:
            return f"to run alone, beside {', '.join(self.holders)}"
        for name, amount in amounts(step).items():
            size = self._sizes.get(name, 0)
            holding = [holder for holder, taken in self.holders.items() if name in taken]
            used = sum(self.holders[holder][name] for holder in holding)
            if used + amount > size:
                return f"pool {name}: {used} of {size} taken by {', '.join(holding)}"
        return ""

    @property
    def alone(self) -> bool:
        """Whether something runs that nothing else may run beside."""
        return bool(self._alone)

    def take(self, step: Step) -> None:
        """Give a step what it needs until ``give_back``."""
        if not self._takes_nothing(step):
            self.hold(step.node_name, amounts(step))
            if is_exclusive(step):
                self._alone = step.node_name

    def demand(self, step: Step) -> object:
        """What steps have in common that are always answered alike."""
        if self._takes_nothing(step):
            return None
        return is_exclusive(step), tuple(sorted(amounts(step).items()))

    def _takes_nothing(self, step: Step) -> bool:
        return bool(step.ends) or self._idle(step)

    def hold(self, holder: str, taken: Mapping[str, int]) -> None:
        """Note that something else runs, or holds what it has taken."""
        self.holders[holder] = taken

    def give_back(self, holder: str) -> None:
        """Take back what a holder had, if it had anything."""
        self.holders.pop(holder, None)
        if self._alone == holder:
            self._alone = ""


class ReadyQueue:
    """Steps that could start, the most urgent first, as far as the pools have what they take.

    Each question costs what the kinds of demands cost that wait, however many steps do.

    Args:
        pools: asked, and told who has started.
        rank: of a step, see ``ranks``. The end of a job goes behind everything else: it only waits.
    """

    def __init__(self, pools: Pools, rank: Callable[[Step], float]) -> None:
        self._pools = pools
        self._rank = rank
        self._heaps: dict[object, list[tuple[bool, float, int, int, Step]]] = {}
        self._added = count()

    def __bool__(self) -> bool:
        return bool(self._heaps)

    def add(self, step: Step) -> None:
        entry = (bool(step.ends), -self._rank(step), step.index, next(self._added), step)
        heapq.heappush(self._heaps.setdefault(self._pools.demand(step), []), entry)

    def take(self, *, above: float | None = None) -> Step | None:
        """The most urgent step that may start; it has what it takes from now on.

        Args:
            above: only one that would also be taken when more is given back, and steps up to this rank are
                added.
        """
        if above is not None and (
            not self._heaps or self.held() or min(self._heaps.values())[0][:2] >= (False, -above)
        ):
            return None
        best = None
        for heap in self._heaps.values():
            if (best is None or heap[0] < best[0]) and not self._pools.lacks(heap[0][-1]):
                best = heap
        if best is None:
            return None
        step = heapq.heappop(best)[-1]
        if not best:
            del self._heaps[self._pools.demand(step)]
        self._pools.take(step)
        return step

    def held(self) -> tuple[Step, str, int] | None:
        """The most urgent step that waits for what it takes, what that is, and how many such there are."""
        best, why, many = None, "", 0
        for heap in self._heaps.values():
            lack = self._pools.lacks(heap[0][-1])
            if lack:
                many += len(heap)
                if best is None or heap[0] < best:
                    best, why = heap[0], lack
        return None if best is None else (best[-1], why, many)

    def waiting(self) -> list[tuple[Step, str]]:
        """Steps that could start but for what they take, and what they wait for."""
        found = []
        for heap in self._heaps.values():
            why = self._pools.lacks(heap[0][-1])
            found += [(step, why) for *_, step in heap if why]
        return sorted(found, key=lambda pair: pair[0].index)

    def clear(self) -> list[tuple[Step, str]]:
        """Forget all; what ``waiting`` said of those that wait."""
        waiting = self.waiting()
        self._heaps.clear()
        return waiting


def amounts(step: Step) -> dict[str, int]:
    """How much of which pool a step takes while it runs, or its job does."""
    return dict(step.definition.resources) if step.definition is not None else {}


def is_exclusive(step: Step) -> bool:
    """Whether nothing may run beside a step, or its job."""
    return step.definition is not None and step.definition.exclusive


def widest(steps: Iterable[Step], sizes: Mapping[str, int], satisfied: Callable[[str], bool]) -> int:
    """How many steps run side by side at most, wave by wave, as far as the pools go.

    Args:
        sizes: of the pools, by name.
    """
    most = 0
    for wave in waves(steps, satisfied):
        pools = Pools(sizes)
        together_now = 0
        # Those that share with nobody come last: they do not keep the others apart.
        for step in sorted(wave, key=lambda step: (is_exclusive(step), len(amounts(step)))):
            if not pools.lacks(step):
                pools.take(step)
                together_now += 1
        most = max(most, together_now)
    return most


def missing_needs(
    step: Step, by_id: Mapping[str, Step], selected: Collection[str], satisfied: Callable[[str], bool]
) -> list[str]:
    """Ids that the step needs and that are neither satisfied nor selected, those of its needs included."""
    missing: dict[str, None] = {}
    queue = [step]
    while queue:
        for need in queue.pop().needs:
            if need.step in selected or need.step in missing or satisfied(need.step):
                continue
            missing[need.step] = None
            queue.append(by_id[need.step])
    return sorted(missing, key=lambda name: by_id[name].index)


def blocked_by(
    step: Step, verdicts: Mapping[str, str], selected: Collection[str], started: Collection[str] = ()
) -> str | None:
    """Why a step whose turn has come cannot run: ``step_4 (failed)``, or None.

    A selected need without a verdict blocks too: it was deselected or interrupted.
    """
    accepted = {
        "passed": ("passed",),
        "started": ("passed", "started"),
        "ended": ("passed", "warned", "failed"),
    }
    for need in step.needs:
        if need.step not in selected or need.state == "over":
            continue
        if need.state == "started" and need.step in started:
            continue
        verdict = verdicts.get(need.step, "not run")
        if verdict not in accepted[need.state]:
            return f"step_{need.step} ({verdict})"
    return None


def describe(items: Sequence[Box | Step]) -> str:
    """Ids for people, neighbours of the list as ranges: ``1-5, 7, 9-12``; at most eight pieces."""
    shown = []
    for run in neighbours(items):
        names = [item.key if isinstance(item, Box) else item.id for item in run]
        shown.append("-".join(dict.fromkeys([names[0], names[-1]])))
    if len(shown) > 8:
        shown = [*shown[:7], f"... ({len(items)} in all)"]
    return ", ".join(shown)


def neighbours(items: Sequence[Item]) -> list[list[Item]]:
    """Cut where the list has something in between; boxes count as they come."""
    runs: list[list[Item]] = []
    last = None
    for place, item in enumerate(items):
        position = item.index if isinstance(item, Step) else place
        if last is not None and position == last + 1:
            runs[-1].append(item)
        else:
            runs.append([item])
        last = position
    return runs
