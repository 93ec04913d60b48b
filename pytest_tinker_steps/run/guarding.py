"""Our end of the guardian's pipe.

What a guardian has to know is said in lines, which ``guardian.py`` describes; one that has died, or hangs, is
replaced by another that is told everything anew.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_BYE, _NO_BYE = 5.0, 10.0
"""Seconds to wait for the guardian, without and with something left for it to end."""


class Guardian:
    """Starts the guardian of this process, and another one if it dies.

    Args:
        start: starts one that has this end of a pipe as its standard input.
    """

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._begin = start
        self._lock = threading.Lock()
        self._sessions: dict[int, float | None] = {}
        self._scripts: set[Path] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._unsaid = b""

    def ensure(self) -> None:
        """Starts it unless it lives."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def add(self, pid: int, start: float | None) -> None:
        """Registers the leader of a session; its start is None when only its session is left."""
        with self._lock:
            self._sessions[pid] = start
            self._say(_session_line(pid, start))

    def remove(self, pids: Iterable[int]) -> None:
        """Takes sessions back.

        The guardian knows a leader by its start too, so it need not hear at once that one has ended: that
        goes with the next line.
        """
        with self._lock:
            for pid in pids:
                start = self._sessions.pop(pid, 0.0)
                if start != 0.0:
                    self._unsaid += b"- %d\n" % pid
                if start is None:
                    self._say(b"")

    def bequeath(self, script: Path) -> None:
        """Has it run a shell script when this process has died, and what it left is ended."""
        self.ensure()
        with self._lock:
            self._scripts.add(script)
            self._say(_script_line(b"!", script))

    def take_back(self, script: Path) -> None:
        """Takes a script back."""
        with self._lock:
            self._scripts.discard(script)
            self._say(_script_line(b"~", script))

    def close(self, *, bye: bool) -> None:
        """Closes the pipe and waits for the guardian's end; without `bye` it ends first what is left."""
        with self._lock:
            if self._process is None:
                return
            if bye:
                with contextlib.suppress(BrokenPipeError, BlockingIOError):
                    os.write(self._pipe, b"bye\n")
            os.close(self._pipe)
            try:
                self._process.wait(_BYE if bye else _NO_BYE)
            except subprocess.TimeoutExpired:
                if bye:
                    self._process.kill()
                    self._process.wait()
            self._process = None

    def _say(self, line: bytes) -> None:
        line, self._unsaid = self._unsaid + line, b""
        if self._process is None:
            return
        try:
            os.write(self._pipe, line)
        except (BrokenPipeError, BlockingIOError):
            # Dead, or hanging so that the pipe has filled up. The new one is told everything.
            # Where that fails, the next process is not started and says why.
            with contextlib.suppress(OSError):
                self._start()

    def _start(self) -> None:
        if self._process is not None:
            # Ended before its pipe is closed, which it would take for our death.
            self._process.kill()
            self._process.wait()
            self._process = None
            os.close(self._pipe)
        reading, writing = os.pipe()
        try:
            self._process = self._begin(reading)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        self._pipe = writing
        # One that dies at once is found dead by the next `ensure`.
        with contextlib.suppress(BrokenPipeError):
            for pid, start in self._sessions.items():
                os.write(writing, _session_line(pid, start))
            for script in self._scripts:
                os.write(writing, _script_line(b"!", script))
        os.set_blocking(writing, False)


def _session_line(pid: int, start: float | None) -> bytes:
    return f"+ {pid} {'gone' if start is None else start}\n".encode()


def _script_line(word: bytes, script: Path) -> bytes:
    return b"%s %s\n" % (word, os.fsencode(script).hex().encode())
