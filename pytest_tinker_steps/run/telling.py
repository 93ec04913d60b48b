"""What the work says of itself: progress, numbers, notes, and success criteria that it has met."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .events import EventsFile

if TYPE_CHECKING:
    from ..record.jobs import Job

COST = "cost_usd"
"""The metric that adds up; every other one replaces its last value."""
PROGRESS_EVERY = 1.0
"""Seconds between two progress events of one main."""
RECORDED_EVERY = 10.0
"""Seconds between two of them that are to be recorded, not only shown."""
RATE_OVER = 60.0
"""Seconds over which the rate is measured."""
_SAMPLED_EVERY = 0.5

Heard = Callable[[str, float], None]


class Telling:
    """What one attempt has said, in this process or through its events file.

    A progress event with ``shown`` is for people who watch; it is not worth a record.

    Args:
        path: of the events file; it need not exist.
        emit: takes an event's name and its values.
        heard: is told every number.
        offset: bytes at the start of the file that were taken before.

    Attributes:
        met: success criteria that were reported.
        metrics: the last value of each number; costs are added up.
        part: from the progress of a part of the work, done and total, to that of the whole.
    """

    def __init__(
        self, path: Path, emit: Callable[..., None], heard: Heard | None = None, offset: int = 0
    ) -> None:
        self.met: set[str] = set()
        self.metrics: dict[str, float] = {}
        self.part: Callable[[float, float], tuple[float, float]] | None = None
        self._file = EventsFile(path, offset)
        self._emit = emit
        self._heard = heard
        self._told = False
        self._pace = _Pace()
        self._newest = self._shown = self._recorded = (-1.0, -1.0)
        self._next_shown = self._next_recorded = 0.0

    def resume(self, job: Job) -> None:
        """Take over what a job has told its supervisor, who has recorded it."""
        self.met.update(job.met)
        self.metrics.update(job.metrics)

    @property
    def offset(self) -> int:
        """Bytes of the file that were taken."""
        return self._file.offset

    def progress(self, done: float, total: float) -> None:
        self._told = True
        self._progress(done, total)

    def seen(self, done: float, total: float) -> None:
        """A progress found in the output of a process, which counts for less than one that it reports."""
        if not self._told:
            self._progress(*self._whole(done, total))

    def advanced(self, done: float, total: float) -> None:
        """So much of the whole work is done, as the runner itself knows."""
        self._progress(done, total)

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = self.metrics.get(name, 0.0) + value if name == COST else value
        self._emit("metric", name=name, value=value)
        if self._heard is not None:
            self._heard(name, value)

    def note(self, text: str) -> None:
        self._emit("note", text=" ".join(text.split()))

    def criterion(self, text: str) -> None:
        if text not in self.met:
            self.met.add(text)
            self._emit("criterion", text=text)

    def skip(self) -> None:
        """Leave out what was written until now."""
        self._file.skip()

    def poll(self) -> None:
        """Take what was written since the last time."""
        self._take(self._file.read())

    def ended(self) -> None:
        """Take the rest of what a process has written, also a last line without an end."""
        self._take(self._file.finish())

    def finish(self) -> None:
        """Take the rest, and tell the last progress."""
        self.ended()
        if self._newest != self._recorded:
            self._tell_progress(time.monotonic(), recorded=True)

    def _take(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if "progress" in event:
                self.progress(*self._whole(*event["progress"]))
            elif "metric" in event:
                self.metric(event["metric"], event["value"])
            elif "note" in event:
                self.note(event["note"])
            elif "criterion" in event:
                self.criterion(event["criterion"])
            else:
                self._emit("ignored", status="warned", text=event["ignored"])

    def _whole(self, done: float, total: float) -> tuple[float, float]:
        return (done, total) if self.part is None else self.part(done, total)

    def _progress(self, done: float, total: float) -> None:
        moment = time.monotonic()
        self._pace.add(moment, done, total)
        self._newest = (done, total)
        completes = 0 < total <= done and not 0 < self._shown[1] <= self._shown[0]
        if self._newest != self._shown and (moment >= self._next_shown or completes):
            self._tell_progress(moment, recorded=moment >= self._next_recorded)

    def _tell_progress(self, moment: float, *, recorded: bool) -> None:
        done, total = self._shown = self._newest
        self._next_shown = moment + PROGRESS_EVERY
        more: dict[str, Any] = {"shown": True}
        if recorded:
            self._recorded = self._newest
            self._next_recorded = moment + RECORDED_EVERY
            more = {}
        self._emit("progress", done=done, total=total, rate=self._pace.rate, **more)


class _Pace:
    """How fast the work goes, from what was done lately: a resumed one does not begin at nothing."""

    def __init__(self) -> None:
        self._total = -1.0
        self._samples: deque[tuple[float, float]] = deque()
        self._last = (0.0, 0.0)

    def add(self, moment: float, done: float, total: float) -> None:
        samples = self._samples
        if total != self._total or (samples and done < self._last[1]):
            samples.clear()  # something else is counted now
            self._total = total
        self._last = (moment, done)
        if not samples or moment - samples[-1][0] >= _SAMPLED_EVERY:
            samples.append(self._last)
            # Two are left, however far they are apart.
            while len(samples) > 2 and samples[1][0] < moment - RATE_OVER:
                samples.popleft()

    @property
    def rate(self) -> float:
        """Done per second; 0 while nothing is known."""
        moment, done = self._samples[0] if self._samples else self._last
        elapsed = self._last[0] - moment
        return (self._last[1] - done) / elapsed if elapsed > 0 else 0.0
