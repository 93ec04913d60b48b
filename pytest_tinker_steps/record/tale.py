"""What is known of one step in a session."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .state import COST

if TYPE_CHECKING:
    from .jobs import Job


OK = ("passed", "done", "started", "warned", "assumed", "not run", "not verified")
"""Verdicts that leave the exit code at 0."""


@dataclass
class Tale:
    """What is known of one step in this session.

    Attributes:
        attempt: the number of the current one.
        job: its background job, once it has become ready.
        open_since_ns: start of the first attempt of this session that knew it; 0 when none did.
        cost_before: US dollars that the attempts before the current one have cost in this session.
        between: what was told since the current attempt has failed and another one follows, by event.
        between_since: when the last of it was told.
    """

    verdict: str = ""
    reason: str = ""
    task_id: str = ""
    attempt: int = 0
    began: float = 0.0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    job: Job | None = None
    open_since_ns: int = 0
    cost_before: float = 0.0
    between: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    between_since: float = 0.0

    def begin(self, task_id: str, attempt: int = 1, started_ns: int = 0) -> None:
        """Another attempt: what was said of the one before counts no more, but what it has cost."""
        self.open_since_ns = self.open_since_ns or started_ns
        self.task_id = task_id
        self.attempt = attempt
        self.began = self.began or time.monotonic()
        self.notes.clear()
        self.unverified.clear()
        self.warnings.clear()
        self.job = None
        self.between.clear()
        self.cost_before = self.metrics.get(COST, 0.0)

    def follows(self, event: Mapping[str, Any]) -> None:
        """Another attempt follows; what is told until it begins."""
        if event["event"] == "retry" or self.between:  # pieces recover within an attempt, too
            self.between[event["event"]] = event
            self.between_since = time.monotonic()

    def metric(self, name: str, value: float) -> None:
        """Costs are reported piece by piece and add up; every other number replaces the one before."""
        self.metrics[name] = self.metrics.get(name, 0.0) + value if name == COST else value

    def became(self, job: Job) -> None:
        """What its job has become; that has said the rest itself, in the journal and in its state."""
        self.job = job
        self.task_id = job.task_id
        self.notes = list(job.notes)
        self.warnings = [f"{alert.monitor}: {alert.text}" for alert in job.alerts]
        self.metrics.update(job.metrics)
        if COST in job.metrics:
            self.metrics[COST] = self.cost_before + job.metrics[COST]
