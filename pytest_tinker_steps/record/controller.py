"""What becomes of a session's events: verdicts, the journal, the ticks, the summary.

There is one controller in a session, also when workers run the steps. Events of a step come in the
order in which they happened; a step is settled once, after its last event.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..plan.model import Step
from .frozen import Frozen
from .journal import Journal, JournalError, now
from .places import logs_of
from .state import COST, FINISHED, INTERRUPTED, STARTED, TICKED, UNTICKED, Records
from .tale import Tale
from .ticking import Edit, ListFile

if TYPE_CHECKING:
    from .jobs import Job

Event = dict[str, Any]
Show = Callable[[Step, Event], None]

UNRECORDED = ("output", "phase_started", "waiting")
"""Events that are only shown; so is every event with ``shown``."""

OK = ("passed", "done", "started", "warned", "assumed", "not run", "not verified")
"""Verdicts that leave the exit code at 0."""


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
        said = [self._record_fallen(name, job) for name, job in self.frozen.fallen.items()]
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

    def _record_fallen(self, name: str, job: Job) -> str:
        """Give the attempt of a job that failed while no session looked its verdict."""
        assert self.journal is not None
        step = self.frozen.by_id.get(name)
        warn = step is not None and step.definition is not None and step.definition.on_failure == "warn"
        reason = f"job {job.state}: {job.reason}" if job.reason else f"job {job.state}"
        self.journal.append(
            FINISHED,
            status="warned" if warn else "failed",
            step=name,
            task_id=job.task_id,
            seconds=job.seconds,
            message=reason,
            metrics=dict(job.metrics),
            sync=True,
        )
        return f"step_{name}'s {reason} ({job.task_id}, {job.log})"

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
                if tale.task_id and not tale.verdict and not tale.job:
                    self._give(name, tale, "interrupted")
                    tale.seconds = time.monotonic() - tale.began
                    self.journal.append(
                        INTERRUPTED,
                        status="interrupted",
                        step=name,
                        task_id=tale.task_id,
                        seconds=tale.seconds,
                    )
            more: dict[str, Any] = {} if self.cost is None else {"cost_usd": self.cost}
            if self.frozen.budget is not None:
                more["budget_usd"] = self.frozen.budget
            ends = {step.id for step in self.frozen.ends}
            verdicts = {name: verdict for name, verdict in self.verdicts.items() if name not in ends}
            self.journal.append("run_finished", status=status, verdicts=verdicts, sync=True, **more)
        except JournalError as error:
            self.broken = self.broken or str(error)
        finally:
            self.journal.close()

    @property
    def cost(self) -> float | None:
        """US dollars that the steps of this session have cost; None when none said so."""
        costs = [tale.metrics[COST] for tale in self.tales.values() if COST in tale.metrics]
        return sum(costs) if costs else None

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
            tale.begin(event["task_id"], event.get("attempt", 1))
        elif kind == "job":
            from . import jobs, plain  # only sessions with jobs pay for it

            tale.became(plain.from_plain(jobs.Job, event["job"]))
            return
        elif kind == "alert":
            tale.warnings.append(f"{event['monitor']}: {event['text']}")
        elif kind == "note":
            tale.notes.append(event["text"])
        elif kind == "metric" and "monitor" not in event:
            tale.metric(event["name"], event["value"])
        elif kind == "unverified":
            tale.unverified = list(event["criteria"])
        elif kind == "check" and event["status"] in ("warned", "not run"):
            tale.warnings.append(f"{event['name']}: {event['message']}")
        if kind not in UNRECORDED and not event.get("shown") and self.journal is not None:
            self._append(event)
        self._show(step, event)

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
        if step.id in self.verdicts:
            return
        tale = self.tale(step.ends or step.id)
        verdict = self._verdict(step, outcomes, warned)
        if step.ends:
            self.verdicts[step.id] = verdict
            if verdict not in ("passed", "warned", "failed"):
                return  # the job goes on, or waits for the next session
            step = self.frozen.by_id[step.ends]
        self._give(step.id, tale, verdict)
        tale.reason = reason
        tale.seconds = time.monotonic() - tale.began if tale.began else 0.0
        if tale.job and not tale.job.live:
            tale.seconds = tale.job.seconds
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

    def crashed(self, step: Step, reason: str, task_id: str) -> None:
        """Settle the attempt of a worker that died in the middle of it.

        Args:
            task_id: of the attempt, if it was not heard of yet.
        """
        if step.ends:
            self.verdicts[step.id] = "failed"  # who waited is gone; the job is not
            return
        tale = self.tale(step.id)
        tale.task_id = tale.task_id or task_id
        self.settle(step, {"call": "failed"}, reason)

    def conclude(self, step: Step) -> None:
        """Let the end of a job, which nothing runs for, have the verdict of the step itself."""
        self.verdicts[step.id] = self.verdicts.get(step.ends, "not run")

    def _give(self, name: str, tale: Tale, verdict: str) -> None:
        tale.verdict = self.verdicts[name] = verdict

    def _verdict(self, step: Step, outcomes: Mapping[str, str], warned: bool) -> str:
        if warned:
            return "warned"
        if "failed" in outcomes.values():
            return "failed"
        if all(outcomes.get(when) == "passed" for when in ("setup", "call", "teardown")):
            return "passed"
        if outcomes.get("call") == "skipped" and self.tale(step.id).job:
            return "started"
        if step.id in self.frozen.skips and step.id in self.frozen.jobs:
            self.tale(step.id).job = self.frozen.jobs[step.id]
            return "started"
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
        more: dict[str, Any] = {}
        if tale.verdict == "started" and tale.job:
            more["pid"] = tale.job.pid
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
            **more,
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
        elif tale.verdict == "started":
            if self.listfile is not None and self.listfile.is_ticked(step.box):
                self._untick(step, tale, "its job has not ended")
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
