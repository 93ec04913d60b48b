"""When a background job is ready: what it wrote or printed, a check that passes, or that it stays alive."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ...plan.model import ReadyWhen

ALIVE = 2.0
"""Seconds that a job without ``ready_when`` must have lived."""
LONGEST_LINE = 64 * 1024
"""Characters; of a longer line the beginning is searched."""

_FILE_EVERY = 0.05
_CHECK_EVERY = 1.0


class Readiness:
    """Whether one job is ready. Output may come from one thread and the check's answer from another.

    Args:
        ready_when: None waits for the first output and ``ALIVE`` seconds of life.
        cwd: where its file is looked for.
        began: start of the job, on the monotonic clock.
        since_ns: start of the job by the clock that stamps files; an older file counts for nothing.
        check: carries out the check of ``ready_when``; runs in a thread of its own.
        notify: called from that thread when the check has passed.
    """

    def __init__(
        self,
        ready_when: ReadyWhen | None,
        *,
        cwd: Path,
        began: float,
        since_ns: int,
        check: Callable[[], bool] | None = None,
        notify: Callable[[], None] | None = None,
    ) -> None:
        self._when = ready_when
        self._file = None if ready_when is None or ready_when.file is None else cwd / ready_when.file
        self._line = None if ready_when is None or ready_when.line is None else re.compile(ready_when.line)
        self._began = began
        self._since_ns = since_ns
        self._check = check
        self._notify = notify
        self._held = False
        self._printed = False
        self._rest = ""
        self._over = threading.Event()

    def start(self) -> None:
        """Begins to try the check, if there is one."""
        if self._check is not None:
            threading.Thread(target=self._try, name="ready_when", daemon=True).start()

    def stop(self) -> None:
        """Nothing is asked any more."""
        self._over.set()

    def output(self, text: str) -> None:
        """Takes output of this attempt, redacted, as it comes."""
        self._printed = True
        if self._line is None or self._held:
            return
        *lines, rest = re.split(r"[\r\n]", self._rest + text)
        self._rest = rest[:LONGEST_LINE]
        self._search(lines)

    def look(self, moment: float) -> bool:
        """Whether the job is ready now."""
        if self._held:
            return True
        if self._when is None:
            self._held = self._printed and moment >= self._began + ALIVE
        elif self._file is not None:
            self._held = _written(self._file, self._since_ns)
        return self._held

    def due(self, moment: float) -> float | None:
        """When to look again, on the monotonic clock; None when only output or the check can change it."""
        if self._file is not None:
            return moment + _FILE_EVERY
        if self._when is None and self._printed:
            return self._began + ALIVE
        return None

    def _search(self, lines: Iterable[str]) -> None:
        assert self._line is not None
        self._held = self._held or any(self._line.search(line) for line in lines)

    def _try(self) -> None:
        assert self._check is not None
        while not self._over.is_set():
            began = time.monotonic()
            if self._check():
                self._held = True
                if self._notify is not None:
                    self._notify()
                return
            self._over.wait(max(0.05, began + _CHECK_EVERY - time.monotonic()))


def _written(path: Path, since_ns: int) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116  called many times a second
    except OSError:
        return False
    return found.st_size > 0 and found.st_mtime_ns >= since_ns


def stamp(path: Path) -> int:
    """Stamps a file, made when missing; returns now, by the clock that stamps files."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
