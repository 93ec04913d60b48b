"""What becomes of a session's events: verdicts, the journal, the ticks, the summary.

There is one controller in a session, also when workers run the steps. Events of a step come in the
order in which they happened; a step is settled once, after its last event.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plan.model import Step
from .frozen import Frozen, logs_of
from .journal import Journal, JournalError, now
from .state import FINISHED, INTERRUPTED, STARTED, TICKED, UNTICKED, Records
from .ticking import Edit, ListFile

Event = dict[str, Any]
Show = Callable[[Step, Event], None]

UNRECORDED = ("output", "phase_started")
"""Events that are only shown."""

OK = ("passed", "done", "started", "warned", "assumed", "not run", "not verified")
"""Verdicts that leave the exit code at 0."""


@dataclass
class Tale:
    """What is known of one step in this session."""

    verdict: str = ""
    reason: str = ""
    task_id: str = ""
    began: float = 0.0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


class Controller:
    """State of one session.

    Args:
        frozen: the session.
        journal: None in a dry session.
        listfile: None in a dry session.
        records: the journal's state before this session.
        show: is given every event for people.
    """

    def __init__(
        self,
        frozen: Frozen,
        journal: Journal | None,
        listfile: ListFile | None,
        records: Records,
        show: Show,
    ) -> None:
        self.frozen = frozen
        self.journal = journal
        self.listfile = listfile
        self.records = records
        self.tales: dict[str, Tale] = {}
        self.verdicts: dict[str, str] = {}
        self.broken = ""
        self.tick_problems: list[str] = []
        self._show = show
        self._finished = False

    def tale(self, name: str) -> Tale:
        return self.tales.setdefault(name, Tale())

    def logs(self, task_id: str) -> str:
        """Folder of an attempt's logs as people type it; empty when nothing was printed."""
        folder = logs_of(task_id)
        return f"{folder}/" if (self.frozen.folder / folder).is_dir() else ""

    # -- the session's begin and end

    def start(self, provenance: Mapping[str, Any]) -> list[str]:
        """Record the session, and tick what an earlier one could not.

        Returns:
            lines for people about what was reconciled.

        Raises:
            JournalError: nothing can be recorded, so nothing may run.
        """
        assert self.journal is not None
        self.journal.append(
            "run_started",
            status="running",
            selection=self.frozen.selection.text,
            steps=list(self.frozen.selection.ids),
            mode=self.frozen.mode,
            **provenance,
        )
        for name in sorted(self.frozen.assumed):
            self.journal.append("assumed", status="assumed", step=name)
        said = []
        for name, standing in self.frozen.standing.items():
            if standing.reconcile:
                said.append(self._reconcile(self.frozen.by_id[name]))
        return said

    def _reconcile(self, step: Step) -> str:
        old = self.records.of(step.id)
        edit = self._tick(step, old.finished, old.task_id, old.note)
        if edit.done:
            return f"step_{step.id} passed before ({old.task_id}) and is ticked now: {self._place(edit)}"
        return f"step_{step.id} passed before ({old.task_id}) and cannot be ticked: {edit.message}"

    def stop_clocks(self) -> None:
        """What has no verdict now was interrupted now; the summary comes before it is recorded."""
        for tale in self.tales.values():
            if tale.task_id and not tale.verdict:
                tale.seconds = time.monotonic() - tale.began

    def finish(self, status: str) -> None:
        """Record attempts that an interruption left without a verdict, and the session's end."""
        if self.journal is None or self._finished:
            return
        self._finished = True
        try:
            for name, tale in self.tales.items():
                if tale.task_id and not tale.verdict:
                    self._give(name, tale, "interrupted")
                    tale.seconds = time.monotonic() - tale.began
                    self.journal.append(
                        INTERRUPTED,
                        status="interrupted",
                        step=name,
                        task_id=tale.task_id,
                        seconds=tale.seconds,
                    )
            self.journal.append("run_finished", status=status, verdicts=self.verdicts, sync=True)
        except JournalError as error:
            self.broken = self.broken or str(error)
        finally:
            self.journal.close()

    # -- events of steps

    def event(self, event: Event) -> None:
        """Record and show one event of a step.

        Raises:
            JournalError: it could not be recorded; the step must not go on.
        """
        step = self.frozen.by_id[event["step"]]
        tale = self.tale(step.id)
        kind = event["event"]
        if kind in (STARTED, "verify_started"):
            tale.task_id = event["task_id"]
            tale.began = tale.began or time.monotonic()
            tale.notes.clear()
            tale.unverified.clear()
            tale.warnings.clear()
        elif kind == "note":
            tale.notes.append(event["text"])
        elif kind == "metric":
            self._metric(tale, event)
        elif kind == "unverified":
            tale.unverified = list(event["criteria"])
        elif kind == "check" and event["status"] in ("warned", "not run"):
            tale.warnings.append(f"{event['name']}: {event['message']}")
        if kind not in UNRECORDED and self.journal is not None:
            self._append(event)
        self._show(step, event)

    @staticmethod
    def _metric(tale: Tale, event: Event) -> None:
        name, value = event["name"], event["value"]
        # Costs are reported piece by piece and add up; every other number replaces the one before.
        tale.metrics[name] = tale.metrics.get(name, 0.0) + value if name == "cost_usd" else value

    def _append(self, event: Event, sync: bool = False) -> None:
        assert self.journal is not None
        try:
            self.journal.append(sync=sync, **{key: value for key, value in event.items() if key != "sync"})
        except JournalError as error:
            self.broken = self.broken or str(error)
            raise

    # -- verdicts

    def settle(self, step: Step, outcomes: Mapping[str, str], reason: str = "", warned: bool = False) -> None:
        """Give a step its verdict, record it, then edit its box.

        Args:
            outcomes: ``setup``, ``call``, ``teardown`` -> ``passed``, ``failed``, ``skipped``.
            reason: first line of what was reported for it, if it did not pass.
            warned: the step failed and its definition says that this is a warning.
        """
        tale = self.tale(step.id)
        if step.id in self.verdicts:
            return
        self._give(step.id, tale, self._verdict(step, outcomes, warned))
        tale.reason = reason
        tale.seconds = time.monotonic() - tale.began if tale.began else 0.0
        if self.journal is None:
            return
        try:
            if tale.task_id:
                self._settle_attempt(step, tale)
            elif tale.verdict in ("failed", "blocked"):
                event = "blocked" if tale.verdict == "blocked" else "not_started"
                self._append(self._event(step, tale, event, tale.verdict, message=reason))
        except JournalError:
            # What is not recorded did not pass.
            self._give(step.id, tale, "failed" if tale.verdict == "passed" else tale.verdict)

    def crashed(self, step: Step, reason: str) -> None:
        """Settle the attempt of a worker that died in the middle of it."""
        tale = self.tale(step.id)
        tale.task_id = tale.task_id or self.frozen.task_ids[step.id]
        self.settle(step, {"call": "failed"}, reason)

    def _give(self, name: str, tale: Tale, verdict: str) -> None:
        tale.verdict = self.verdicts[name] = verdict

    def _verdict(self, step: Step, outcomes: Mapping[str, str], warned: bool) -> str:
        if warned:
            return "warned"
        if "failed" in outcomes.values():
            return "failed"
        if all(outcomes.get(when) == "passed" for when in ("setup", "call", "teardown")):
            return "passed"
        if step.id in self.frozen.skips:
            return "not verified" if self.frozen.mode == "verify" else "done"
        if "call" not in outcomes and outcomes.get("setup") == "passed":
            return "not run"
        tale = self.tale(step.id)
        return "skipped" if tale.task_id else "blocked"

    def _settle_attempt(self, step: Step, tale: Tale) -> None:
        verify = self.frozen.mode == "verify"
        note = "; ".join(tale.notes)
        stamp = now()
        finished = self._event(
            step,
            tale,
            "verify_finished" if verify else FINISHED,
            tale.verdict,
            timestamp=stamp,
            seconds=tale.seconds,
            message=tale.reason,
            note=note,
            text=step.box.text,
            unverified=tale.unverified,
            metrics=tale.metrics,
            identity=list(self.frozen.identities.get(step.id, ())),
            next=self._next(step),
        )
        self._append(finished, sync=True)
        # From here on the verdict stands; what else cannot be recorded is told as `broken`.
        with contextlib.suppress(JournalError):
            self._edit_list(step, tale, stamp, note)
        self._show(step, finished)

    def _edit_list(self, step: Step, tale: Tale, stamp: str, note: str) -> None:
        if self.frozen.mode == "verify":
            if tale.verdict == "failed" and self.frozen.untick:
                self._untick(step, tale, "its tick does not hold")
        elif tale.verdict == "passed":
            edit = self._tick(step, stamp, tale.task_id, note)
            if edit.done:
                self._show(step, self._event(step, tale, TICKED, "passed", place=self._place(edit)))
            else:
                self._show(step, self._event(step, tale, "tick_failed", "failed", message=edit.message))
        else:
            self._untick_if_ticked(step, tale)

    def _next(self, step: Step) -> str:
        steps = self.frozen.plan.steps
        return steps[step.index + 1].id if step.index + 1 < len(steps) else ""

    def _event(self, step: Step, tale: Tale, event: str, status: str, **more: Any) -> Event:
        return {
            "event": event,
            "status": status,
            "step": step.id,
            "task_id": tale.task_id,
            "timestamp": now(),
            **more,
        }

    # -- the list

    def _tick(self, step: Step, stamp: str, task_id: str, note: str) -> Edit:
        assert self.listfile is not None
        edits = self.listfile.tick(step.box, f"{stamp[:19]}Z", task_id, note)
        self._record_edits(step, task_id, edits, TICKED, "passed")
        return edits[0]

    def _untick_if_ticked(self, step: Step, tale: Tale) -> None:
        assert self.listfile is not None
        if self.listfile.is_ticked(step.box):
            before = step.box.done
            why = "it was run again and failed" if before else "somebody ticked it, but the attempt failed"
            self._untick(step, tale, why)

    def _untick(self, step: Step, tale: Tale, why: str) -> None:
        assert self.listfile is not None
        edits = self.listfile.untick(step.box)
        self._record_edits(step, tale.task_id, edits, UNTICKED, "failed")
        place = self._place(edits[0])
        if edits[0].done:
            self._show(step, self._event(step, tale, UNTICKED, "failed", place=place, message=why))
            tale.warnings.append(f"un-ticked: {why}")

    def _record_edits(self, step: Step, task_id: str, edits: Iterable[Edit], event: str, status: str) -> None:
        who = {"step": step.id, "task_id": task_id}
        for edit in edits:
            if not edit.done:
                self.tick_problems.append(f"step_{step.id}: {edit.message}")
                self._append({"event": "tick_failed", "status": "failed", **who, "message": edit.message})
            elif edit.changed or event == TICKED:
                self._append({"event": event, "status": status, **who, "place": self._place(edit)})

    def _place(self, edit: Edit) -> str:
        return f"{self.frozen.plan.tasklist.path}:{edit.line}"
