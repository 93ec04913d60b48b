"""The grammar of ``--steps``.

::

    selection = item {"," item}
    item      = "all" | "continue" | "next:" N | id | id "-" id | id "-" | "-" id

An id is a step's key, with or without ``step_`` before it. A range goes by the order of the list,
not by number, so ``T001-T010`` and ``2.1-2.4`` work. An id that contains a dash wins over a range.
A container's id selects the steps inside it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from .graph import describe
from .model import Box, Plan, PlanError, Step


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for.

    Attributes:
        text: as typed.
        ids: in list order, each once.
        remaining: whether only steps that are not done were asked for (``continue``, ``next:N``),
            so that an empty selection means that nothing is left to do.
    """

    text: str
    ids: tuple[str, ...]
    remaining: bool = False


def select(text: str, plan: Plan, done: Callable[[str], bool], option: str = "--steps") -> Selection:
    """Resolve a selection against a plan.

    Args:
        text: what the user typed.
        done: whether a step is done; asked only by ``continue`` and ``next:N``.
        option: named in messages.

    Raises:
        PlanError: one line that says what is wrong and what exists.
    """
    chosen: dict[int, Step] = {}
    remaining = False
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise PlanError(f"{option}: nothing is selected; the list has {describe(plan.steps)}")
    for part in parts:
        if not part:
            raise PlanError(f"{option} {text}: an empty item between commas; write for example 1,3-5")
        if part in ("continue", "all") or part.startswith("next:"):
            usual = [step for step in plan.steps if not step.box.optional]
            if part != "all":
                remaining = True
                usual = [step for step in usual if not done(step.id)]
                if part != "continue":
                    usual = usual[: _count(part, text, option)]
            found = usual
        else:
            found = _named(part, text, plan, option)
        chosen.update((step.index, step) for step in found)
    steps = [chosen[index] for index in sorted(chosen)]
    _refuse_ambiguous(steps, plan, option, text)
    return Selection(text, tuple(step.id for step in steps), remaining)


def lookup(name: str, plan: Plan) -> list[Step]:
    """The steps that one id names: one, several for a container, none if it is unknown."""
    found = [step for step in plan.steps if step.id == name]
    if found:
        return found
    inside = {box.key for box in _descendants(name, plan)}
    return [step for step in plan.steps if step.id in inside and not step.box.optional]


def _descendants(name: str, plan: Plan) -> list[Box]:
    boxes = {box.key: box for box in plan.tasklist.boxes}
    found: list[Box] = []
    queue = [name]
    while queue:
        box = boxes.get(queue.pop())
        for child in box.children if box else ():
            found.append(boxes[child])
            queue.append(child)
    return found


def _count(part: str, text: str, option: str) -> int:
    number = part.removeprefix("next:")
    if not number.isdecimal() or int(number) == 0:
        raise PlanError(f"{option} {text}: 'next:' takes a number of steps from 1, for example next:5")
    return int(number)


def _named(part: str, text: str, plan: Plan, option: str) -> list[Step]:
    name = part.removeprefix("step_")
    exact = lookup(name, plan)
    if exact:
        return exact
    for position, character in enumerate(name):
        if character != "-":
            continue
        left, right = name[:position].strip(), name[position + 1 :].strip().removeprefix("step_")
        first = lookup(left, plan) if left else list(plan.steps[:1])
        last = lookup(right, plan) if right else list(plan.steps[-1:])
        if (left or right) and first and last:
            low, high = first[0].index, last[-1].index
            if low > high:
                raise PlanError(
                    f"{option} {text}: the range {part} is empty, since {left} stands after {right}; "
                    f"write {right}-{left}"
                )
            return list(plan.steps[low : high + 1])
    raise PlanError(_unknown(name, text, plan, option))


def _unknown(name: str, text: str, plan: Plan, option: str) -> str:
    struck = next((box for box in plan.tasklist.boxes if box.key == name and box.struck), None)
    if struck:
        return f"{option} {text}: step {name} is struck out ({plan.tasklist.path}:{struck.line})"
    scoped = [step.id for step in plan.steps if step.box.id == name]
    if scoped:
        lines = " and ".join(f"{plan.tasklist.path}:{s.box.line}" for s in plan.steps if s.box.id == name)
        return f"{option} {text}: {name} stands more than once ({lines}); write one of: {', '.join(scoped)}"
    ends = [end for end in name.split("-") if end] if "-" in name else [name]
    unknown = next((end for end in ends if not lookup(end, plan)), name)
    words = ["all", "continue", "next:5"]
    close = difflib.get_close_matches(unknown, words, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return (
        f"{option} {text}: there is no step {unknown}; {hint}"
        f"{plan.tasklist.path} has {describe(plan.steps)} (also: all, continue, next:N)"
    )


def _refuse_ambiguous(steps: list[Step], plan: Plan, option: str, text: str) -> None:
    seen: dict[str, Step] = {}
    for step in steps:
        other = seen.setdefault(step.id, step)
        if other is not step:
            path = plan.tasklist.path
            raise PlanError(
                f"{option} {text}: step {step.id} stands twice, {path}:{other.box.line} and "
                f"{path}:{step.box.line}; give one of them another id"
            )
