"""Reads what a process says: a file of JSON lines that grows while the process runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

LONGEST_LINE = 64 * 1024
"""Bytes; a longer line is not an event."""
_SHOWN = 200
_PIECE = 1024 * 1024


class EventsFile:
    """The new events of one file, each time it is read.

    An event is a JSON object with one of the known keys: ``progress`` (``[done, total]``), ``metric`` with
    ``value``, ``note`` or ``criterion``. Of a line that is none, ``{"ignored": <its first 200 characters>}``
    is returned.

    Args:
        path: need not exist yet.
        offset: bytes at its start that somebody else has read.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        self._torn = b""
        self._skipping = False  # inside a line that is too long and already reported

    @property
    def offset(self) -> int:
        """Bytes of the lines that were read to their end."""
        return self._offset - len(self._torn)

    def skip(self) -> None:
        """Leave out what stands there by now."""
        with contextlib.suppress(OSError):
            self._offset = self._path.stat().st_size

    def read(self) -> list[dict[str, Any]]:
        """The events of all lines completed since the last call; a torn last line waits for its rest.

        A file that became shorter was begun anew and is read from its start.
        """
        try:
            size = os.stat(self._path).st_size  # noqa: PTH116  called several times a second
        except OSError:
            return []
        if size < self._offset:
            self._offset, self._torn, self._skipping = 0, b"", False
        if size == self._offset:
            return []
        events: list[dict[str, Any]] = []
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while data := file.read(_PIECE):
                    self._offset += len(data)
                    self._take(data, events)
        except OSError:
            pass  # not readable at present: the next call goes on from the same place
        return events

    def finish(self) -> list[dict[str, Any]]:
        """As `read`, and takes a last line without a line ending as complete."""
        events = self.read()
        if self._torn and not self._skipping:
            _append_event(self._torn, events)
        self._torn, self._skipping = b"", False
        return events

    def _take(self, data: bytes, events: list[dict[str, Any]]) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._skipping:
                _append_event(self._torn + line, events)
            self._torn, self._skipping = b"", False
        if self._skipping:
            return
        self._torn += rest
        if len(self._torn) > LONGEST_LINE:
            _append_event(self._torn, events)
            self._torn, self._skipping = b"", True


def _append_event(line: bytes, events: list[dict[str, Any]]) -> None:
    text = line[: LONGEST_LINE + 1].decode("utf-8", "replace").strip()
    if not text:
        return
    event = _event(text) if len(line) <= LONGEST_LINE else None
    events.append({"ignored": text[:_SHOWN]} if event is None else event)


def _event(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match said:
        case {"progress": [done, total]} if _number(done) and _number(total) and done >= 0 and total >= 0:
            return {"progress": [done, total]}
        case {"metric": str(name), "value": value} if name and _number(value):
            return {"metric": name, "value": value}
        case {"note": str(note)}:
            return {"note": note}
        case {"criterion": str(criterion)}:
            return {"criterion": criterion}
    return None


def _number(value: object) -> bool:
    """Whether JSON's writers would call it a number: no true, no NaN, nothing beyond a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
