"""``--steps-plan``: show what would run, and run nothing."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from .activation import planned
from .plan.model import PlanError
from .record.frozen import Frozen
from .report import plan_json, plan_mermaid, plan_text, plan_view
from .run import artefacts

if TYPE_CHECKING:
    from .record.state import Records

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
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    view = plan_view.make(
        frozen,
        seconds=lambda name: records.of(name).seconds,
        workers=len(getattr(option, "tx", None) or ()) or 1,
        environ=os.environ,
        changed=_changed(frozen, records),
    )
    print("\n".join(FORMATS[wanted](view)))
    return int(pytest.ExitCode.OK)


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
