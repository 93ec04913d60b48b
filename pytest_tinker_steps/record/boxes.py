"""What the verdicts of a session do to the boxes of its list, and the records of that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..plan.model import Step
from .frozen import Frozen
from .journal import JournalError, now
from .state import TICKED, UNTICKED, StepState
from .tale import Tale
from .ticking import Edit, ListFile, Tick

Event = dict[str, Any]


class Boxes:
    """The boxes of a session's steps.

    Args:
        frozen: the session.
        listfile: the list on the disk.
        append: records an event, or raises ``JournalError``.
        show: is given what people are to see.
        problems: is given a line for what could not be ticked or un-ticked.
    """

    def __init__(
        self,
        frozen: Frozen,
        listfile: ListFile,
        append: Callable[[Event], None],
        show: Callable[[Step, Event], None],
        problems: list[str],
    ) -> None:
        self._frozen = frozen
        self._listfile = listfile
        self._append = append
        self._show = show
        self._problems = problems

    def tick_late(self, step: Step, old: StepState) -> str:
        """Tick a step that passed in an earlier session, which could not; a line that says so."""
        edits = self._listfile.tick(step.box, _second(old.finished), old.task_id, old.note)
        self._record(step, old.task_id, edits, TICKED, "passed")
        if edits[0].done:
            return f"step_{step.id} passed before ({old.task_id}) and is ticked now: {self._place(edits[0])}"
        return f"step_{step.id} passed before ({old.task_id}) and cannot be ticked: {edits[0].message}"

    def edit(self, ended: Sequence[tuple[Step, Tale, Event]]) -> None:
        """Let the boxes of steps say what their verdicts do: one rewrite for all that have passed.

        Args:
            ended: each with the record of its end.
        """
        ticked: dict[str, list[Edit]] = {}
        if self._frozen.mode != "verify":
            passed = [(step, finished) for step, tale, finished in ended if tale.verdict == "passed"]
            ticks = [
                Tick(step.box, _second(finished["timestamp"]), finished["task_id"], finished["note"])
                for step, finished in passed
            ]
            edits = self._listfile.tick_all(ticks)
            ticked = {step.id: found for (step, _), found in zip(passed, edits, strict=True)}
        for step, tale, finished in ended:
            # The verdict stands; that this cannot be recorded is told in another way.
            with contextlib.suppress(JournalError):
                self._edit(step, tale, ticked.get(step.id))
            self._show(step, finished)

    def _edit(self, step: Step, tale: Tale, ticked: list[Edit] | None) -> None:
        if ticked is not None:
            self._record(step, tale.task_id, ticked, TICKED, "passed")
            first = ticked[0]
            if first.done:
                self._show(step, _event(step, tale, TICKED, "passed", place=self._place(first)))
            else:
                self._show(step, _event(step, tale, "tick_failed", "failed", message=first.message))
        elif self._frozen.mode == "verify":
            if tale.verdict == "failed" and self._frozen.untick:
                self._untick(step, tale, "its tick does not hold")
        elif tale.verdict == "started":
            if self._listfile.is_ticked(step.box):
                self._untick(step, tale, "its job has not ended")
        elif self._listfile.is_ticked(step.box):
            before = step.box.done
            why = "it was run again and failed" if before else "somebody ticked it, but the attempt failed"
            self._untick(step, tale, why)

    def _untick(self, step: Step, tale: Tale, why: str) -> None:
        edits = self._listfile.untick(step.box)
        self._record(step, tale.task_id, edits, UNTICKED, "failed")
        if edits[0].done:
            place = self._place(edits[0])
            self._show(step, _event(step, tale, UNTICKED, "failed", place=place, message=why))
            tale.warnings.append(f"un-ticked: {why}")

    def _record(self, step: Step, task_id: str, edits: Iterable[Edit], event: str, status: str) -> None:
        who = {"step": step.id, "task_id": task_id}
        for edit in edits:
            if not edit.done:
                self._problems.append(f"step_{step.id}: {edit.message}")
                self._append({"event": "tick_failed", "status": "failed", **who, "message": edit.message})
            elif edit.changed or event == TICKED:
                self._append({"event": event, "status": status, **who, "place": self._place(edit)})

    def _place(self, edit: Edit) -> str:
        return f"{self._frozen.plan.tasklist.path}:{edit.line}"


def _event(step: Step, tale: Tale, event: str, status: str, **more: Any) -> Event:
    who = {"step": step.id, "task_id": tale.task_id, "timestamp": now()}
    return {"event": event, "status": status, **who, **more}


def _second(timestamp: str) -> str:
    return f"{timestamp[:19]}Z"
