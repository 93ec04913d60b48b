"""The grammar of ``--steps``.

::

    selection = item {"," item}
    item      = "all" | "continue" | "next:" N | id | id "-" id | id "-" | "-" id

An id is a step's key, with or without ``step_`` before it. A range goes by the order of the list,
not by number, so ``T001-T010`` and ``2.1-2.4`` work. An id that contains a dash wins over a range.
A container's id selects the steps inside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

from .graph import describe, neighbours
from .model import Box, Plan, PlanError, Step
from .values import value


@value
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
        raise PlanError(
            f"{option} {shlex.quote(text)}: nothing is selected; the list has {describe(plan.steps)}"
        )
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
    _refuse_ambiguous(steps, plan, f"{option} {text}")
    return Selection(text, tuple(step.id for step in steps), remaining)


def named(names: Iterable[str], plan: Plan) -> Selection:
    """The steps whose node ids were given: ids only, no ranges and no words.

    Raises:
        PlanError: one line for the first that names no step.
    """
    path = plan.tasklist.path
    chosen: dict[int, Step] = {}
    for name in names:
        found = lookup(name, plan)
        if not found:
            raise PlanError(f"{path}::step_{name}: {_missing(name, plan) or _exists(name, plan)}")
        _refuse_ambiguous(found, plan, f"{path}::step_{name}")
        chosen.update((step.index, step) for step in found)
    return Selection(", ".join(names), tuple(chosen[index].id for index in sorted(chosen)))


def typed(steps: Sequence[Step], plan: Plan) -> str:
    """What to type after ``--steps`` to select exactly these steps, quoted for a shell.

    Args:
        steps: in list order.
    """
    items: list[str] = []
    for run in neighbours(steps):
        text = "-".join([run[0].id, run[-1].id])
        # An id with a dash in it may make the range mean something else.
        whole = len(run) > 1 and _range_or_id(text, plan) == run
        items += [text] if whole else [step.id for step in run]
    return shlex.quote(",".join(items))


def of_parts(selection: Selection, plan: Plan, tracks: str | None, layers: str | None) -> Selection:
    """What of a selection is in the tracks and layers that were asked for.

    Args:
        tracks, layers: names with commas between them, as typed; None for all.

    Raises:
        PlanError: one line for the first name that the plan does not have, or nothing is left.
    """
    text, kept = [selection.text], set(selection.ids)
    for option, word, wanted in (("--steps-track", "track", tracks), ("--steps-layer", "layer", layers)):
        if wanted is None:
            continue
        names = [name.strip() for name in wanted.split(",")]
        of_step = {step.id: getattr(step, word) for step in plan.steps}
        existing = {name.lower(): name for name in of_step.values() if name}
        for name in names:
            if name.lower() not in existing:
                has = f"it has {', '.join(existing.values())}" if existing else f"it has no {word}s"
                raise PlanError(
                    f"{option} {wanted}: there is no {word} {name!r} in {plan.tasklist.path}; {has}"
                )
        chosen = {name.lower() for name in names}
        kept = {name for name in kept if of_step[name].lower() in chosen}
        text.append(f"{word} {', '.join(existing[name.lower()] for name in names)}")
    ids = tuple(name for name in selection.ids if name in kept)
    if not ids and selection.ids:
        raise PlanError(f"{' of '.join(reversed(text))}: nothing of the one is in the other")
    return Selection(", ".join(text), ids, selection.remaining)


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
    found = _range_or_id(name, plan)
    if not found:
        raise PlanError(f"{option} {text}: {_unknown(name, plan)}")
    first, last = found[0], found[-1]
    if first.index > last.index:
        raise PlanError(
            f"{option} {text}: the range {part} is empty, since {first.id} stands after {last.id}; "
            f"write {last.id}-{first.id}"
        )
    return found


def _range_or_id(name: str, plan: Plan) -> list[Step]:
    """The steps of an id or a range; none if it is neither; the two ends of a range that runs backwards."""
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
            return [first[0], last[-1]] if low > high else list(plan.steps[low : high + 1])
    return []


def _unknown(name: str, plan: Plan) -> str:
    ends = [name, *(end.strip().removeprefix("step_") for end in name.split("-") if end.strip())]
    told = next((why for end in ends if (why := _missing(end, plan))), "")
    if told:
        return told
    unknown = next((end for end in ends[1:] if not lookup(end, plan)), name)
    import difflib  # only for what is unknown

    close = difflib.get_close_matches(unknown, ["all", "continue", "next:5"], n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{_exists(unknown, plan, hint)} (also: all, continue, next:N)"


def _missing(name: str, plan: Plan) -> str:
    """Why a name that stands in the list is no step of it, or an empty string."""
    path = plan.tasklist.path
    struck = next((box for box in plan.tasklist.boxes if box.key == name and box.struck), None)
    if struck:
        return f"step {name} is struck out ({path}:{struck.line})"
    scoped = [step for step in plan.steps if step.box.id == name and step.id != name]
    if scoped:
        lines = " and ".join(f"{path}:{step.box.line}" for step in scoped)
        return f"{name} stands more than once ({lines}); write one of: {', '.join(s.id for s in scoped)}"
    return ""


def _exists(unknown: str, plan: Plan, hint: str = "") -> str:
    return f"there is no step {unknown}; {hint}{plan.tasklist.path} has {describe(plan.steps)}"


def _refuse_ambiguous(steps: list[Step], plan: Plan, asked: str) -> None:
    seen: dict[str, Step] = {}
    for step in steps:
        other = seen.setdefault(step.id, step)
        if other is not step:
            path = plan.tasklist.path
            raise PlanError(
                f"{asked}: step {step.id} stands twice, {path}:{other.box.line} and "
                f"{path}:{step.box.line}; give one of them another id"
            )
