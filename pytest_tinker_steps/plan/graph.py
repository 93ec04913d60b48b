"""Boxes and definitions joined into a plan, and the order that follows from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from .model import Box, Definition, Definitions, Need, NeedState, Plan, PlanError, Step, TaskList

Item = TypeVar("Item", bound=Box | Step)


def build(tasklist: TaskList, definitions: Definitions) -> Plan:
    """Join a task list with its definitions and resolve what each step needs.

    Without ``needs`` a step follows the one before it in the list; optional steps are passed over,
    so that nothing waits for work that nobody asked for. The implicit edge to a background step
    only asks for its start.

    Raises:
        PlanError: all of: definitions of steps that the list lacks, needs that name no step,
            cycles (with their path).
    """
    leaves = [box for box in tasklist.boxes if not box.children and not box.struck]
    problems: list[str] = []
    repeated: list[str] = []
    defined = _match(tasklist, leaves, definitions, problems, repeated)
    steps: list[Step] = []
    known = {box.key for box in leaves}
    seen: set[str] = set()
    previous: Step | None = None
    for index, box in enumerate(leaves):
        definition = defined.get(box.key)
        if definition is not None and definition.needs is not None:
            needs = _declared(definition, known, tasklist, problems)
        elif box.key in seen:
            # An id that repeats cannot be selected. An edge from it would lead back to its first box.
            needs = ()
        else:
            needs = _implicit(previous)
        seen.add(box.key)
        step = Step(box.key, index, box, definition, needs)
        steps.append(step)
        if not box.optional:
            previous = step
    if not problems:
        # The first of several with one id: the later ones wait for nothing.
        needs_of = {step.id: [need.step for need in step.needs] for step in reversed(steps)}
        cycle = find_cycle({name: needs_of[name] for name in dict.fromkeys(step.id for step in steps)})
        if cycle:
            problems.append(_circle(cycle, steps))
    if problems:
        raise PlanError(*problems)
    warnings = tasklist.warnings + definitions.warnings + tuple(repeated)
    return Plan(tasklist, definitions, tuple(steps), warnings)


def _circle(cycle: Sequence[str], steps: Sequence[Step]) -> str:
    by_id = {step.id: step for step in reversed(steps)}
    members = [by_id[name] for name in cycle[:-1]]
    path = " -> ".join(f"step_{name}" for name in cycle)
    written = [s.definition for s in members if s.definition and s.definition.needs is not None]
    implied = [s.node_name for s in members if not s.definition or s.definition.needs is None]
    why = "".join(f"; {name} has no needs of its own, so it follows the step before it" for name in implied)
    return f"{written[0].where}: needs go in a circle: {path}{why}; take one of them out"


def _match(
    tasklist: TaskList,
    leaves: Sequence[Box],
    definitions: Definitions,
    problems: list[str],
    repeated: list[str],
) -> dict[str, Definition]:
    by_key: dict[str, list[Box]] = {}
    for box in leaves:
        by_key.setdefault(box.key, []).append(box)
    others = {box.key: box for box in tasklist.boxes if box.children or box.struck}
    matched: dict[str, Definition] = {}
    for definition in definitions.steps:
        boxes = by_key.get(definition.step, [])
        if len(boxes) == 1:
            matched[definition.step] = definition
        elif boxes:
            # Only a mistake when the step is asked for: the rest of the list can be run without it.
            lines = " and ".join(f"{tasklist.path}:{box.line}" for box in boxes)
            repeated.append(
                f"{definition.where}: {definition.key} fits more than one box ({lines}), so none can run; "
                "give each an id of its own"
            )
        elif definition.step in others:
            box = others[definition.step]
            why = "is struck out" if box.struck else "is a container; define the steps inside it"
            problems.append(f"{definition.where}: step {definition.step} {why} ({tasklist.path}:{box.line})")
        else:
            close = difflib.get_close_matches(definition.step, by_key, n=1, cutoff=0.75)
            hint = (
                f"did you mean {close[0]}?"
                if close
                else f"it has {describe(leaves)}; add the step there, or take its definition out"
            )
            problems.append(
                f"{definition.where}: {definition.key}: there is no step {definition.step} "
                f"in {tasklist.path}; {hint}"
            )
    return matched


def _declared(
    definition: Definition, known: Collection[str], tasklist: TaskList, problems: list[str]
) -> tuple[Need, ...]:
    found: list[Need] = []
    for need in definition.needs or ():
        if need.step in known:
            found.append(need)
            continue
        close = difflib.get_close_matches(need.step, known, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "take it out, or add the step to the list"
        problems.append(
            f"{definition.where}: {definition.key} needs step {need.step}, "
            f"which is not in {tasklist.path}; {hint}"
        )
    return tuple(found)


def _implicit(previous: Step | None) -> tuple[Need, ...]:
    if previous is None:
        return ()
    background = previous.definition is not None and previous.definition.main.mode == "background"
    state: NeedState = "started" if background else "passed"
    return (Need(previous.id, state),)


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """A path that ends where it began (``[a, b, a]``), or an empty list. Depth-first, without recursion."""
    white, grey, black = 0, 1, 2
    colour = dict.fromkeys(needs, white)
    for root in needs:
        if colour[root] != white:
            continue
        path: list[str] = [root]
        stack: list[Iterator[str]] = [iter(needs[root])]
        colour[root] = grey
        while stack:
            for name in stack[-1]:
                if colour.get(name, black) == grey:
                    return [*path[path.index(name) :], name]
                if colour.get(name, black) == white:
                    colour[name] = grey
                    path.append(name)
                    stack.append(iter(needs[name]))
                    break
            else:
                stack.pop()
                colour[path.pop()] = black
    return []


class Frontier:
    """Which steps may start, as others are completed.

    Each completion costs what the completed step's own dependants cost, however long the list is.

    Args:
        steps: in the order in which they start when several may.
        satisfied: whether a need holds already. A need that is neither satisfied nor among ``steps``
            holds no step back: that it is missing is for others to say.

    Attributes:
        ready: steps that wait for nothing from the beginning.
    """

    def __init__(self, steps: Iterable[Step], satisfied: Callable[[str], bool] = lambda _: False) -> None:
        self._places = {step.id: (place, step) for place, step in enumerate(steps)}
        self._waiting: dict[str, set[str]] = {}
        self._dependants: dict[str, list[str]] = {}
        self.ready: list[Step] = []
        for name, (_, step) in self._places.items():
            waits = {
                need.step for need in step.needs if need.step in self._places and not satisfied(need.step)
            }
            for need in waits:
                self._dependants.setdefault(need, []).append(name)
            if waits:
                self._waiting[name] = waits
            else:
                self.ready.append(step)

    def complete(self, *names: str) -> list[Step]:
        """Note that steps are over, however they ended; the steps that may start with that, in order."""
        freed = []
        for name in names:
            for dependant in self._dependants.pop(name, ()):
                waits = self._waiting[dependant]
                waits.discard(name)
                if not waits:
                    del self._waiting[dependant]
                    freed.append(self._places[dependant])
        return [step for _, step in sorted(freed, key=lambda placed: placed[0])]


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


def blocked_by(step: Step, verdicts: Mapping[str, str], selected: Collection[str]) -> str | None:
    """Why a step whose turn has come cannot run: ``step_4 (failed)``, or None.

    A selected need without a verdict blocks too: it was deselected or interrupted.
    """
    accepted = {
        "passed": ("passed",),
        "started": ("passed", "started"),
        "ended": ("passed", "warned", "failed"),
    }
    for need in step.needs:
        if need.step not in selected:
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
