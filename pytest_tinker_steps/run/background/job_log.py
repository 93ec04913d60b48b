"""The log of a job: begun anew when it has grown to its size, so that no job can fill a disk with it."""

from __future__ import annotations

import os
from pathlib import Path

KEPT = 2
"""Full logs that are kept beside the current one: ``main.log.1`` is the newer, ``main.log.2`` the older."""


class JobLog:
    """Appends to a file and its successors. A disk that is full costs output, and the log says how much.

    Args:
        path: of the current log; made with mode 0600, or gone on with when it is there.
        size: bytes after which it is begun anew.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = max(size, 1)
        self._descriptor = -1
        self._written = 0
        self._lost = 0

    def write(self, data: bytes) -> None:
        """Appends output; lines stay whole when a log is begun anew, unless one alone is longer than it."""
        note = b"\n[... %d bytes could not be written ...]\n" % self._lost if self._lost else b""
        left = note + data
        try:
            while left:
                left = left[self._some(left) :]
            self._lost = 0
        except OSError:
            said = len(left) <= len(data)
            self._lost = (0 if said else self._lost) + min(len(left), len(data))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _some(self, data: bytes) -> int:
        """Writes the beginning of it; how many bytes that was."""
        self._open()
        room = self._size - self._written
        if len(data) > room:
            # A line that was begun in this log ends in it, where it can.
            room = data.rfind(b"\n", 0, room) + 1 or (0 if self._written else room)
            if room <= 0:
                self._begin_anew()
                return 0
        count = os.write(self._descriptor, data[:room])
        self._written += count
        return count

    def _open(self) -> None:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._written = os.fstat(self._descriptor).st_size

    def _begin_anew(self) -> None:
        self.close()
        for number in range(KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
