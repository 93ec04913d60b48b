"""``--steps-plan``: show what would run, and run nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from _pytest.mark.expression import Expression

from . import keywords
from .activation import planned
from .plan.model import PlanError, Step
from .record.frozen import Frozen
from .report import plan_json, plan_mermaid, plan_text, plan_view
from .report.lines import showable
from .run import artefacts

if TYPE_CHECKING:
    from .record.state import Records
    from .report.plan_view import PlanView

DESELECTED = "deselected"
"""Why a step does not run that pytest takes out of the selection."""

FORMATS = {"text": plan_text.of, "mermaid": plan_mermaid.of, "json": plan_json.of}


def show(config: pytest.Config) -> int:
    """Print the plan; the exit code of the session.

    Raises:
        pytest.UsageError: the options, the list, its definitions or the selection do not hold.
    """
    option = config.option
    wanted = "text" if option.steps_plan_format is None else option.steps_plan_format
    if not option.steps_plan:
        raise pytest.UsageError(f"--steps-plan-format {wanted} goes with --steps-plan: add it")
    if wanted not in FORMATS:
        raise pytest.UsageError(f"--steps-plan-format {wanted}: give text, mermaid or json")
    try:
        frozen, records = planned(config)
        gone = _deselected(config, frozen)
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    view = plan_view.make(
        _without(frozen, gone),
        seconds=lambda name: records.of(name).seconds,
        workers=len(getattr(option, "tx", None) or ()) or 1,
        environ=os.environ,
        changed=_changed(frozen, records),
    )
    if gone:
        view = _told(view, frozen, gone)
    print("\n".join(showable(FORMATS[wanted](view), sys.stdout.encoding)))
    return int(pytest.ExitCode.OK)


def _deselected(config: pytest.Config, frozen: Frozen) -> frozenset[str]:
    """Ids of the selected steps that pytest would deselect: by ``-k``, ``-m`` or ``--deselect``.

    Raises:
        PlanError: an expression is none.
    """
    option = config.option
    prefixes, nodeids = keywords.exact_deselect(option.deselect or (), frozen)
    by_word = _by_word(option.keyword, frozen) if option.keyword.strip() else None
    by_mark = keywords.matching(option.markexpr) if option.markexpr else None

    def stays(step: Step) -> bool:
        nodeid = frozen.nodeid_of(step)
        return (
            nodeid not in nodeids
            and not nodeid.startswith(tuple(prefixes))
            and (by_word is None or by_word(step))
            and (by_mark is None or by_mark(step))
        )

    return frozenset(name for name in frozen.selection.ids if not stays(frozen.by_id[name]))


def _by_word(expression: str, frozen: Frozen) -> Callable[[Step], bool]:
    """Whether ``-k`` takes a step: by the names that its item would have.

    Raises:
        PlanError: it is no expression.
    """
    try:
        compiled = Expression.compile(keywords.exact_keywords(expression))
    except SyntaxError:
        raise PlanError(f"Wrong expression passed to '-k': {expression}") from None
    around = [name.lower() for name in frozen.nodeid.split("/")]

    def matches(step: Step) -> bool:
        own = (step.node_name, step.title, keywords.ITEM, f"{keywords.ITEM}{step.id}::")
        names = [*around, *(name.lower() for name in (*own, *keywords.marks_of(step)))]
        return compiled.evaluate(lambda word, /, **_: any(word.lower() in name for name in names))

    return matches


def _without(frozen: Frozen, gone: frozenset[str]) -> Frozen:
    """A session in which deselected steps do not run, and block what needs them as they do in a real one."""
    if not gone:
        return frozen
    block = {name for name in gone if not frozen.satisfied(name)}
    ids = tuple(name for name in frozen.selection.ids if name not in gone or name in block)
    return replace(
        frozen,
        selection=replace(frozen.selection, ids=ids),
        skips={name: why for name, why in frozen.skips.items() if name not in block},
        refusals=frozen.refusals | dict.fromkeys(block, DESELECTED),
    )


def _told(view: PlanView, frozen: Frozen, gone: frozenset[str]) -> PlanView:
    """The view in which deselected steps are steps that are not selected."""
    steps = tuple(
        replace(one, status="skipped", reason=DESELECTED, selected=False)
        if one.step.id in gone and not frozen.satisfied(one.step.id)
        else one
        for one in view.steps
    )
    selection = replace(
        frozen.selection,
        text=f"{frozen.selection.text} ({len(gone)} deselected)",
        ids=tuple(name for name in frozen.selection.ids if name not in gone),
        remaining=False,
    )
    refusals = {name: why for name, why in frozen.refusals.items() if name not in gone}
    session = replace(frozen, selection=selection, refusals=refusals)
    return replace(view, frozen=session, steps=steps, by_id={one.step.id: one for one in steps})


def _changed(frozen: Frozen, records: Records) -> dict[str, tuple[str, ...]]:
    """Declared inputs of steps that are done which were modified since their pass was recorded."""
    found = {}
    for step in frozen.plan.steps:
        inputs = step.definition.inputs if step.definition else ()
        since = _nanoseconds(records.of(step.id).finished) if inputs else 0
        if since and frozen.standing[step.id].done:
            newer = tuple(path for path in inputs if artefacts.changed(path, frozen.folder, since))
            if newer:
                found[step.id] = newer
    return found


def _nanoseconds(timestamp: str) -> int:
    """A time of the journal by the file system's clock, rounded up; 0 when there is none that can be read."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0
    return (int(moment.timestamp() * 1000) + 1) * 1_000_000
