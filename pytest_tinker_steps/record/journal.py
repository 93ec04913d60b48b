"""The append-only journal: one JSON object per line, one ``os.write`` per record.

``O_APPEND`` and a single write keep records whole when several processes append. A record that must
not be lost is synced before anything is built on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..plan.model import PlanError

VERSION = 1

_ENCODER = json.JSONEncoder(ensure_ascii=False)


class JournalError(Exception):
    """The journal cannot be written; nothing may be ticked after that."""


def now() -> str:
    """The wall-clock time as it stands in records: UTC, milliseconds, ``Z``."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Journal:
    """The writing end, open for one run.

    Args:
        path: created with mode 0600 when missing.
        run_id: stands in every record.
        redact: applied to every string before it is written, if there is anything to hide.

    Raises:
        JournalError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, run_id: str, redact: Callable[[str], str] | None = None) -> None:
        self.path = path
        self.run_id = run_id
        self._redact = redact
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{path}: the journal cannot be opened: {error.strerror}") from None
        # What a torn line would swallow is the next record: begin a line of our own.
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def append(
        self,
        event: str,
        *,
        status: str = "",
        step: str | None = None,
        task_id: str = "",
        timestamp: str | None = None,
        sync: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        """Write one record and give it back.

        Args:
            sync: return only when the record is on the disk.

        Raises:
            JournalError: nothing, or not all of it, could be written.
        """
        if self._redact is not None:
            more = {key: redacted(value, self._redact) for key, value in more.items()}
        record = {
            "v": VERSION,
            "timestamp": timestamp or now(),
            "run_id": self.run_id,
            "task_id": task_id,
            "step": step,
            "event": event,
            "status": status,
            **more,
        }
        text = _ENCODER.encode(record)
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise self._refused(error) from None
        self._torn = written != len(line)
        if self._torn:
            raise JournalError(f"{self.path}: the journal cannot be written: the disk is full")
        if sync:
            self.sync()
        return record

    def sync(self) -> None:
        """Return when all records are on the disk.

        Raises:
            JournalError: they may not be.
        """
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> JournalError:
        return JournalError(f"{self.path}: the journal cannot be written: {error.strerror}")

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A JSON-like value with ``redact`` applied to every string in it, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): redacted(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, redact) for item in value]
    return value


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All whole records, oldest first; a missing file has none.

    Lines that are not records (torn by a crash, or written by somebody else) are passed over.

    Raises:
        PlanError: it is there and cannot be read.
    """
    try:
        if not path.is_file() and path.exists():
            raise PlanError(f"{path}: the journal is no regular file; make it one, or move it away")
        stream = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise PlanError(
            f"{path}: the journal cannot be read: {error.strerror}; make it a file that is yours"
        ) from None
    with stream:
        for line in stream:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and record.get("v") == VERSION and "event" in record:
                yield record
