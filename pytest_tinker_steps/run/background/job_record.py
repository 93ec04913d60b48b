"""What a supervisor writes down: the state of its job, and its part of the journal.

Nothing here raises because a disk is full. A state that cannot be written is tried again, a record that
cannot be appended is dropped, and the next one that can says how many there were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...record import jobs
from ...record.jobs import ALERTS_KEPT, NOTES_KEPT, Alert, Job
from ...record.journal import Journal, JournalError, now, redacted
from ..telling import COST

SAVED_EVERY = 1.0
"""Seconds between two states that are only news."""

_LAST_WORDS = 10.0
"""Seconds in which the end is tried to be written when the disk is full."""
_LAST_WORDS_EVERY = 0.5


class JobRecord:
    """The state of one job, and who is told of its changes.

    Args:
        folder: of the job.
        job: the state so far.
        journal: to append to.
        redact: applied to every text.
        on_cost: told the US dollars of each cost.

    Attributes:
        job: the state as it is now.
    """

    def __init__(
        self,
        folder: Path,
        job: Job,
        *,
        journal: Path,
        redact: Callable[[str], str] = str,
        on_cost: Callable[[float], None] | None = None,
    ) -> None:
        self.job = job
        self._folder = folder
        self._journal_path = journal
        self._redact = redact
        self._on_cost = on_cost
        self._journal: Journal | None = None
        self._dropped = 0
        self._unsaved = False
        self._saved_at = float("-inf")

    # -- state

    def change(self, **values: Any) -> None:
        """Changes values of the state; ``save`` writes them."""
        changed = replace(self.job, **values)
        if changed != self.job:
            self.job = changed
            self._unsaved = True

    def save(self, *, sync: bool = False) -> bool:
        """Writes the state at once; returns whether that went well."""
        self._saved_at = time.monotonic()
        try:
            jobs.write(self._folder, self.job, sync=sync)
        except OSError:
            self._unsaved = True
            return False
        self._unsaved = False
        return True

    def there(self) -> bool:
        """Whether the state that was written is still in its place."""
        return (self._folder / jobs.FILE).exists()

    def due(self) -> float | None:
        """When the state has to be written, on the monotonic clock; None while it is on the disk."""
        return self._saved_at + SAVED_EVERY if self._unsaved else None

    def save_if_due(self, moment: float) -> None:
        due = self.due()
        if due is not None and moment >= due:
            self.save()

    # -- journal

    def event(self, event: str, *, status: str = "", sync: bool = False, **more: Any) -> bool:
        """Appends a record to the journal; returns whether that went well.

        Args:
            sync: return only when it is on the disk; the caller tries again when it could not be written.
        """
        try:
            if self._journal is None:
                self._journal = Journal(self._journal_path, self.job.run_id, self._redact)
            if self._dropped:
                text = f"{self._dropped} records of the job could not be written"
                self._append("ignored", status="warned", text=text)
                self._dropped = 0
            self._append(event, status=status, sync=sync, **more)
        except JournalError:
            if not sync:
                self._dropped += 1
            return False
        return True

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _append(self, event: str, **more: Any) -> None:
        assert self._journal is not None
        self._journal.append(event, step=self.job.step, task_id=self.job.task_id, **more)

    def end(self, state: str, code: int | None, reason: str) -> None:
        """Writes down how the job ended: first in the journal, then in the state.

        On a full disk it is tried for some seconds; after that the exit code on the disk has to speak.
        """
        self.change(state=state, reason=reason, exit=code, ended=self.job.ended or now())
        job = self.job
        until = time.monotonic() + _LAST_WORDS
        recorded = saved = False
        while not (recorded and saved) and self._folder.is_dir():
            recorded = recorded or self.event(
                "job_ended",
                status=state,
                sync=True,
                exit=code,
                reason=reason,
                seconds=job.seconds,
                log=job.log,
            )
            saved = saved or self.save(sync=True)
            if time.monotonic() > until:
                return
            if not (recorded and saved):
                time.sleep(_LAST_WORDS_EVERY)

    # -- what the job and its monitors say

    def told(self, event: str, **values: Any) -> None:
        """Takes an event of the job: progress, a number, a note, or a criterion that is met."""
        values = redacted(values, self._redact)
        match event:
            case "progress":
                self.change(progress=(values["done"], values["total"], values["rate"]))
                if values.pop("shown", False):
                    return
            case "metric":
                self._metric(values["name"], values["value"])
            case "note":
                self.change(notes=(*self.job.notes, values["text"])[-NOTES_KEPT:])
            case "criterion" if values["text"] in self.job.met:
                return
            case "criterion":
                self.change(met=(*self.job.met, values["text"]))
        self.event(event, **values)

    def watched(self, events: list[dict[str, Any]]) -> None:
        """Takes the events of the monitors; an alert is on the disk when this returns."""
        alerted = False
        for raw in events:
            more: Mapping[str, Any] = redacted(raw, self._redact)
            monitor, text = str(more.get("monitor", "")), str(more.get("text", ""))
            match more["event"]:
                case "sample":
                    self.change(samples={**self.job.samples, monitor: text})
                case "alert":
                    alerts = (*self.job.alerts, Alert(now(), monitor, text))[-ALERTS_KEPT:]
                    self.change(alerts=alerts, alert_count=self.job.alert_count + 1)
                    alerted = True
                case "metric":
                    self.change(metrics={**self.job.metrics, more["name"]: more["value"]})
            self.event(**more)
        if alerted:
            self.save()

    def _metric(self, name: str, value: float) -> None:
        if name != COST:
            self.change(metrics={**self.job.metrics, name: value})
            return
        self.change(metrics={**self.job.metrics, COST: self.job.metrics.get(COST, 0.0) + value})
        if self._on_cost is not None:
            with contextlib.suppress(OSError):
                self._on_cost(value)
