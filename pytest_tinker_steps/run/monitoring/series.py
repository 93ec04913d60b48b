"""Numbers over time: one JSON object per line, appended."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

from ...record.journal import now


class Series:
    """The file of one main's numbers.

    Args:
        path: made with mode 0600 when there is a number; what is in it is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._torn = False
        self._failed = False

    def add(self, seconds: float, name: str, value: float) -> str:
        """Append one number.

        Args:
            seconds: since the start.
            value: one that is not finite is written as text, since JSON has no such number.

        Returns:
            Why it could not be written, the first time; the number is lost then.
        """
        said = {"timestamp": now(), "seconds": round(seconds, 3), "name": name, "value": as_json(value)}
        line = json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._open()
            # A line that was cut off by a full disk must not swallow this one.
            line = b"\n" + line if self._torn else line
            written = os.write(self._descriptor, line)
            self._torn = line[:written][-1:] != b"\n"
            why = "the disk is full" if written != len(line) else ""
        except OSError as error:
            why = error.strerror or str(error)
        if not why or self._failed:
            return ""
        self._failed = True
        return f"{self._path.name} could not be written: {why}"

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor >= 0:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"


def as_json(value: float) -> float | str:
    """A number as it can stand in JSON: one that is not finite as ``nan``, ``inf`` or ``-inf``."""
    return value if math.isfinite(value) else str(value)
