"""Where the output of one process goes: redacted, to a log file, to a tail in memory, and to who listens."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

from .redaction import Redactor

TAIL = 8 * 1024
"""Bytes of the last output that are kept in memory."""
LOG_HEAD = 32 * 1024 * 1024
"""Bytes that one process may write to its log before the middle is left out."""
LOG_TAIL = 64 * 1024
"""Bytes at the end that are logged all the same."""


class Output:
    """Takes the raw output of one process, piece by piece.

    Args:
        redactor: what must not be shown.
        log: file to append to, made with mode 0600 when there is something to write; None for none.
        listener: told the text as it comes.
    """

    def __init__(self, redactor: Redactor, log: Path | None, listener: Callable[[str], None] | None) -> None:
        self._stream = redactor.stream()
        self._log = log
        self._log_descriptor: int | None = None
        self._log_room = LOG_HEAD
        self._beyond = 0
        self._last = bytearray()
        self._keep = TAIL
        self._cut = False
        self._listener = listener
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if listener is not None else None
        self.log_error = ""

    def feed(self, data: bytes) -> None:
        """Takes what the process wrote."""
        self._take(self._stream.feed(data))

    def close(self) -> None:
        """Ends the output: writes what was held back, and the end of a log whose middle was left out."""
        try:
            self._take(self._stream.close())
            if self._listener is not None and self._decoder is not None:
                rest = self._decoder.decode(b"", final=True)
                if rest:
                    self._listener(rest)
            if self._beyond:
                end = bytes(self._last[-min(self._beyond, LOG_TAIL) :])
                left_out = self._beyond - len(end)
                if left_out:
                    self._write(b"\n[... %d bytes left out ...]\n" % left_out)
                self._write(end)
        finally:
            if self._log_descriptor is not None:
                os.close(self._log_descriptor)
                self._log_descriptor = None

    def mute(self) -> None:
        """Tells the listener nothing more."""
        self._listener = None

    def tail(self) -> str:
        """The last lines, at most `TAIL` bytes."""
        last = bytes(self._last[-TAIL:])
        if self._cut or len(self._last) > TAIL:
            # A line that lost its beginning is left out, unless it is all there is.
            last = last[last.find(b"\n") + 1 :] or last
        return last.decode("utf-8", "replace")

    def _take(self, data: bytes) -> None:
        if not data:
            return
        if self._log is not None:
            self._to_log(data)
        self._last += data
        if len(self._last) > 2 * self._keep:
            del self._last[: -self._keep]
            self._cut = True
        if self._listener is not None and self._decoder is not None:
            text = self._decoder.decode(data)
            if text:
                self._listener(text)

    def _to_log(self, data: bytes) -> None:
        inside = data[: self._log_room] if len(data) > self._log_room else data
        if inside:
            self._log_room -= len(inside)
            self._write(inside)
        if len(inside) < len(data):
            self._beyond += len(data) - len(inside)
            self._keep = LOG_TAIL

    def _write(self, data: bytes) -> None:
        """A log that cannot be written costs the log, not the process."""
        if self._log is None or self.log_error:
            return
        try:
            if self._log_descriptor is None:
                self._log_descriptor = self._open(self._log)
            view = memoryview(data)
            while view:
                view = view[os.write(self._log_descriptor, view) :]
        except OSError as error:
            self.log_error = f"the log could not be written: {error.strerror}: {str(self._log)!r}"

    @staticmethod
    def _open(log: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            return os.open(log, flags, 0o600)
        except FileNotFoundError:
            # The folder is made with the first log: most of what runs prints nothing.
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(log, flags, 0o600)
