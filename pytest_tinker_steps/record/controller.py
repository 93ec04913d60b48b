"""What becomes of a session's events: verdicts, the journal, the ticks, the summary.

There is one controller in a session, also when workers run the steps. Events of a step come in the
order in which they happened; a step ends once, after its last event. Its verdict stands when it is
settled: then it is on the disk, and the box says so. Steps that end at the same time are settled at once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..plan.model import Step
from .boxes import Boxes
from .frozen import Frozen
from .journal import Journal, JournalError, now
from .places import logs_of
from .state import COST, FINISHED, INTERRUPTED, STARTED, Records
from .tale import Tale
from .ticking import ListFile
from .upcoming import Upcoming

if TYPE_CHECKING:
    from .jobs import Job

Event = dict[str, Any]
Show = Callable[[Step, Event], None]

UNRECORDED = ("output", "phase_started", "waiting")
"""Events that are only shown; so is every event with ``shown``."""


class Controller:
    """State of one session.

    Args:
        frozen: the session.
        journal: None in a dry session.
        listfile: None in a dry session.
        records: the journal's state before this session.
        show: is given every event for people.

    Attributes:
        started: ids of steps whose jobs have become ready, whatever came of them.
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
        self.records = records
        self.tales: dict[str, Tale] = {}
        self.verdicts: dict[str, str] = {}
        self.broken = ""
        self._ended: list[tuple[Step, Tale, Event]] = []  # recorded, and not settled
        self.tick_problems: list[str] = []
        self._boxes = None
        if listfile is not None:
            self._boxes = Boxes(frozen, listfile, self._append, show, self.tick_problems)
        self._show = show
        self._finished = False
        self._upcoming: Upcoming | None = None
        self.started: set[str] = set()

    def tale(self, name: str) -> Tale:
        found = self.tales.get(name)
        if found is None:
            found = self.tales[name] = Tale()
        return found

    def logs(self, task_id: str) -> str:
        """Folder of an attempt's logs as people type it; empty when nothing was printed."""
        folder = logs_of(task_id)
        # Asked for hundreds of steps at once, and making paths takes longer than looking.
        found = os.path.isdir(f"{self.frozen.folder}/{folder}")  # noqa: PTH112 - a path takes longer
        return f"{folder}/" if found else ""

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
                assert self._boxes is not None
                said.append(self._boxes.tick_late(self.frozen.by_id[name], self.records.of(name)))
        return said

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
        self.settle()
        try:
            for name, tale in self.tales.items():
                if tale.task_id and not tale.verdict and not tale.job:
                    self._interrupt(name, tale)
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

    def _interrupt(self, name: str, tale: Tale, why: str = "") -> None:
        assert self.journal is not None
        self._give(name, tale, "interrupted")
        tale.seconds = time.monotonic() - tale.began
        more: dict[str, Any] = {"message": why} if why else {}
        self.journal.append(
            INTERRUPTED,
            status="interrupted",
            step=name,
            task_id=tale.task_id,
            seconds=tale.seconds,
            **more,
        )

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
            tale.begin(event["task_id"], event.get("attempt", 1), event.get("started_ns", 0))
        elif kind == "job":
            from . import jobs, plain  # only sessions with jobs pay for it

            tale.became(plain.from_plain(jobs.Job, event["job"]))
            return
        elif kind == "alert":
            tale.warnings.append(f"{event['monitor']}: {event['text']}")
        elif kind == "note":
            tale.notes.append(event["text"])
        elif kind in ("retry", FINISHED, "recover"):
            tale.follows(event)
        elif kind == "metric" and "monitor" not in event:
            tale.metric(event["name"], event["value"])
        elif kind == "unverified":
            tale.unverified = list(event["criteria"])
        elif kind == "check" and event["status"] in ("warned", "not run"):
            tale.warnings.append(f"{event['name']}: {event['message']}")
        if kind not in UNRECORDED and not event.get("shown") and self.journal is not None:
            self._append(event)
        self._show(step, event)

    def _append(self, event: Event) -> None:
        assert self.journal is not None
        try:
            self.journal.append(**event)
        except JournalError as error:
            self.broken = self.broken or str(error)
            raise

    def _sync(self) -> None:
        assert self.journal is not None
        try:
            self.journal.sync()
        except JournalError as error:
            self.broken = self.broken or str(error)
            raise

    # -- verdicts

    def end(self, step: Step, outcomes: Mapping[str, str], reason: str = "", warned: bool = False) -> None:
        """Give a step that has ended its verdict; ``settle`` makes it stand.

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
                self._end_attempt(step, tale)
            elif tale.verdict in ("failed", "blocked"):
                event = "blocked" if tale.verdict == "blocked" else "not_started"
                self._append(self._event(step, tale, event, tale.verdict, message=reason))
        except JournalError:
            self._withdraw(step, tale)

    def settle(self) -> None:
        """Put the verdicts since the last call on the disk, then edit the boxes: once for all of them."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        try:
            self._sync()
        except JournalError:
            for step, tale, _ in ended:
                self._withdraw(step, tale)
            return
        assert self._boxes is not None
        self._boxes.edit(ended)

    def crashed(self, step: Step, reason: str, task_id: str, *, warned: bool = False) -> None:
        """Settle the attempt of a worker that died in the middle of it.

        Args:
            task_id: of the attempt, if it was not heard of yet.
            warned: as in ``end``.
        """
        if step.ends:
            self.verdicts[step.id] = "failed"  # who waited is gone; the job is not
            return
        tale = self.tale(step.id)
        if self.frozen.mode == "verify" and tale.task_id:
            # Nothing was found that does not hold, so no tick is taken back for it.
            tale.reason = reason
            with contextlib.suppress(JournalError):
                self._interrupt(step.id, tale, reason)
            return
        tale.task_id = tale.task_id or task_id
        self.end(step, {"call": "failed"}, reason, warned)

    def conclude(self, step: Step) -> None:
        """Let the end of a job, which nothing runs for, have the verdict of the step itself."""
        self.verdicts[step.id] = self.verdicts.get(step.ends, "not run")

    def _give(self, name: str, tale: Tale, verdict: str) -> None:
        tale.verdict = self.verdicts[name] = verdict
        if verdict == "started":
            self.started.add(name)
        if self._upcoming is not None:
            self._upcoming.note(name, verdict)

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

    def _withdraw(self, step: Step, tale: Tale) -> None:
        """What is not recorded did not pass."""
        self._give(step.id, tale, "failed" if tale.verdict == "passed" else tale.verdict)

    def _end_attempt(self, step: Step, tale: Tale) -> None:
        verify = self.frozen.mode == "verify"
        more: dict[str, Any] = {}
        if tale.verdict == "started" and tale.job:
            more["pid"] = tale.job.pid
        finished = self._event(
            step,
            tale,
            "verify_finished" if verify else FINISHED,
            tale.verdict,
            seconds=tale.seconds,
            message=tale.reason,
            note="; ".join(tale.notes),
            text=step.box.text,
            unverified=tale.unverified,
            metrics=tale.metrics,
            identity=list(self.frozen.identities.get(step.id, ())),
            next=self._next(step),
            **more,
        )
        self._append(finished)
        self._ended.append((step, tale, finished))

    def _next(self, step: Step) -> str:
        """Id of the step behind this one that is the next to be run; empty when there is none."""
        if self.frozen.mode == "verify" or self.verdicts[step.id] != "passed":
            return ""
        if self._upcoming is None:
            self._upcoming = Upcoming(self.frozen, self.records)
            for name, verdict in self.verdicts.items():
                self._upcoming.note(name, verdict)
        return self._upcoming.behind(step, self.tales)

    def _event(self, step: Step, tale: Tale, event: str, status: str, **more: Any) -> Event:
        return {
            "event": event,
            "status": status,
            "step": step.id,
            "task_id": tale.task_id,
            "timestamp": now(),
            **more,
        }
