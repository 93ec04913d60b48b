"""What the journal and the list together say about every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..plan.model import Box, IdentityPart
from ..plan.values import value

STARTED = "attempt_started"
FINISHED = "attempt_finished"
INTERRUPTED = "attempt_interrupted"
TICKED = "ticked"
UNTICKED = "unticked"
METRIC = "metric"
COST = "cost_usd"
"""The number that adds up, in US dollars."""


@value
class StepState:
    """The journal's view of one step.

    Attributes:
        verdict: of the last attempt: a verdict of the runner, ``cut off`` when it never ended, or
            empty when there was none.
        task_id: of the last attempt.
        finished: time of the last verdict, as recorded.
        identity: recorded with the last attempt.
        ticked: whether the box was ticked for the last attempt.
        first_open_ns: start of the first attempt since the last pass, in nanoseconds of the file
            system's clock: outputs written since then count. 0 when there is none.
        seconds: how long the last passed attempt took.
        note: of the last passed attempt.
        text: of the box that this attempt was about.
        spent: US dollars that attempts have cost since the last pass.
    """

    verdict: str = ""
    task_id: str = ""
    finished: str = ""
    identity: tuple[str, ...] = ()
    ticked: bool = False
    first_open_ns: int = 0
    seconds: float = 0.0
    note: str = ""
    text: str = ""
    spent: float = 0.0


@value
class Done:
    """Whether a step is done, and the reason that is shown.

    Attributes:
        reconcile: the journal has a pass that never reached the list: tick it now.
    """

    done: bool
    reason: str
    reconcile: bool = False


@dataclass
class Records:
    """States of all steps, folded from the journal."""

    steps: dict[str, StepState] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        name, task_id = record.get("step"), record.get("task_id")
        if not isinstance(name, str) or not isinstance(task_id, str) or not task_id:
            return
        old = self.steps.get(name, StepState())
        event = record.get("event")
        if event == STARTED:
            new = replace(
                old,
                verdict="cut off",
                task_id=task_id,
                finished="",
                identity=_strings(record.get("identity")),
                ticked=False,
                first_open_ns=old.first_open_ns or _whole(record.get("started_ns")),
            )
        elif event == FINISHED and task_id == old.task_id and record.get("status"):
            status = str(record["status"])
            new = replace(old, verdict=status, finished=str(record.get("timestamp", "")))
            if status == "passed":
                seconds = record.get("seconds")
                new = replace(
                    new,
                    first_open_ns=0,
                    spent=0.0,
                    seconds=float(seconds) if isinstance(seconds, (int, float)) else 0.0,
                    note=str(record.get("note", "")),
                    text=str(record.get("text", "")),
                )
        elif event == METRIC and record.get("name") == COST and "monitor" not in record:
            value = record.get("value")
            new = replace(old, spent=old.spent + (value if isinstance(value, (int, float)) else 0.0))
        elif event == TICKED and task_id == old.task_id:
            new = replace(old, ticked=True)
        elif event == UNTICKED and old.verdict == "passed":
            # It passed once and does not hold any more: it has to run again.
            new = replace(old, verdict="unticked", ticked=False)
        else:
            return
        self.steps[name] = new

    def of(self, name: str) -> StepState:
        return self.steps.get(name, StepState())


def fold(records: Iterable[Mapping[str, Any]]) -> Records:
    """The state of every step from the records of a journal, oldest first."""
    state = Records()
    for record in records:
        state.add(record)
    return state


def done(box: Box, state: StepState, identity: tuple[str, ...]) -> Done:
    """Whether a box is done: ticked and, where a record exists, recorded as passed with the same identity."""
    by = f"by {state.task_id}"
    if state.verdict == "passed" and state.identity != identity:
        there, here = ", ".join(state.identity) or "nothing", ", ".join(identity) or "nothing"
        return Done(False, f"done on {there}, not on {here}")
    if box.done:
        if not state.verdict:
            return Done(True, "done, no record here")
        if state.verdict == "passed":
            return Done(True, f"done {state.finished[:10]} {by}")
        return Done(False, f"ticked, but {state.task_id} {_ended(state.verdict)}")
    if state.verdict == "passed" and not state.ticked and state.text != box.text:
        return Done(False, f"not done: its text has changed since {state.task_id} passed")
    if state.verdict == "passed" and not state.ticked:
        return Done(True, f"done {state.finished[:10]} {by}", reconcile=True)
    if state.verdict == "passed":
        return Done(False, f"un-ticked by hand since {state.task_id}")
    if state.verdict:
        return Done(False, f"not done: {state.task_id} {_ended(state.verdict)}")
    return Done(False, "not done")


def identity(parts: Iterable[IdentityPart], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The identity's values as they are now, ``name=value`` each."""
    values = []
    for part in parts:
        value = part.value
        if part.env is not None:
            found = environ.get(part.env, "")
            value = (found if part.when_set is None else part.when_set) if found else part.when_unset
        values.append(f"{part.name}={value}" if part.name else value)
    return tuple(values)


def _ended(verdict: str) -> str:
    words = {"cut off": "was cut off", "unticked": "does not hold any more"}
    return words.get(verdict, f"ended as {verdict}")


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else ()


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
