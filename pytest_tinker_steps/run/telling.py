"""What the work says of itself: progress, numbers, notes, and success criteria that it has met."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .events import EventsFile

PROGRESS_EVERY = 1.0
"""Seconds between two progress events of one main."""


class Telling:
    """What one attempt has said, in this process or through its events file.

    Args:
        path: of the events file; it need not exist.
        emit: takes an event's name and its values.

    Attributes:
        met: success criteria that were reported.
    """

    def __init__(self, path: Path, emit: Callable[..., None]) -> None:
        self.met: set[str] = set()
        self._file = EventsFile(path)
        self._emit = emit
        self._began = time.monotonic()
        self._progressed = 0.0

    def progress(self, done: float, total: float) -> None:
        moment = time.monotonic()
        if moment - self._progressed >= PROGRESS_EVERY or 0 < total <= done:
            self._progressed = moment
            elapsed = moment - self._began
            self._emit("progress", done=done, total=total, rate=done / elapsed if elapsed > 0 else 0.0)

    def metric(self, name: str, value: float) -> None:
        self._emit("metric", name=name, value=value)

    def note(self, text: str) -> None:
        self._emit("note", text=" ".join(text.split()))

    def criterion(self, text: str) -> None:
        if text not in self.met:
            self.met.add(text)
            self._emit("criterion", text=text)

    def poll(self) -> None:
        """Take what was written since the last time."""
        self._take(self._file.read())

    def finish(self) -> None:
        """Take the rest, also a last line without an end."""
        self._take(self._file.finish())

    def _take(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if "progress" in event:
                self.progress(*event["progress"])
            elif "metric" in event:
                self.metric(event["metric"], event["value"])
            elif "note" in event:
                self.note(event["note"])
            elif "criterion" in event:
                self.criterion(event["criterion"])
            else:
                self._emit("ignored", status="warned", text=event["ignored"])
