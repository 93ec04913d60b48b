"""Boxes and definitions joined into a plan."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

from .graph import describe
from .model import Box, Definition, Definitions, Need, NeedState, Plan, PlanError, Step, TaskList
from .order import Order


def build(tasklist: TaskList, definitions: Definitions) -> Plan:
    """Join a task list with its definitions and resolve what each step needs.

    ``needs`` of the definitions count alone. Without them a step waits for what the list says it depends on,
    and for what comes before it by ``order``; this edge to a background step only asks for its start.

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
    background = {name for name, definition in defined.items() if definition.main.mode == "background"}
    order = Order(tasklist.boxes, ((box, defined.get(box.key)) for box in leaves))
    seen: set[str] = set()
    # Steps of a layer wait for the same: one object for all of them, by which ``graph`` takes them together.
    shared: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Need, ...]] = {}
    for index, box in enumerate(leaves):
        definition = defined.get(box.key)
        before = order.next(box, definition)
        if definition is not None and definition.needs is not None:
            needs = _declared(definition, known, tasklist, problems)
        elif box.key in seen:
            # An id that repeats cannot be selected. An edge from it would lead back to its first box.
            needs = ()
        else:
            edges = (before, order.said(box))
            needs = shared.get(edges) or shared.setdefault(edges, _implied(*edges, background))
        seen.add(box.key)
        track, layer = order.place(box, definition)
        steps.append(Step(box.key, index, box, definition, needs, track=track, layer=layer))
    if not problems:
        # The first of several with one id: the later ones wait for nothing.
        needs_of = {step.id: [need.step for need in step.needs] for step in reversed(steps)}
        cycle = find_cycle({name: needs_of[name] for name in dict.fromkeys(step.id for step in steps)})
        if cycle:
            problems.append(_circle(cycle, steps, tasklist))
    if problems:
        raise PlanError(*problems)
    warnings = tasklist.warnings + definitions.warnings + tuple(repeated)
    return Plan(tasklist, definitions, tuple(steps), warnings)


def _circle(cycle: Sequence[str], steps: Sequence[Step], tasklist: TaskList) -> str:
    by_id = {step.id: step for step in reversed(steps)}
    members = [by_id[name] for name in cycle[:-1]]
    path = " -> ".join(f"step_{name}" for name in cycle)
    written = [s.definition for s in members if s.definition and s.definition.needs is not None]
    implied = [s for s in members if not s.definition or s.definition.needs is None]
    said = [s for s in implied if s.box.depends]
    follow = [s.node_name for s in implied if s not in said]
    why = "".join(
        f"; the list says what {s.node_name} depends on ({tasklist.path}:{s.box.line})" for s in said
    )
    why += "".join(f"; {name} has no needs of its own, so it follows the step before it" for name in follow)
    where = written[0].where if written else f"{tasklist.path}:{(said or members)[0].box.line}"
    return f"{where}: needs go in a circle: {path}{why}; take one of them out"


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


def _implied(before: Sequence[str], said: Sequence[str], background: Collection[str]) -> tuple[Need, ...]:
    """Edges without ``needs``: to what comes before, and to what the list says in words."""
    states: dict[str, NeedState] = {name: "started" if name in background else "passed" for name in before}
    states |= dict.fromkeys(said, "passed")
    return tuple(Need(name, state) for name, state in states.items())


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
