"""Waits for one process that is already started: its output, its deadline, its descendants, its end."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal

from . import proctree
from .ended import NO_END, ended_words, exit_words
from .output import Output

Reason = Literal["exit", "timeout", "cancelled"]

POLL = 0.25
"""Seconds between two calls of a listener at most."""
_CANCEL_POLL = 0.05
_FIRST_LOOK = 0.02
_LOOK_SHARE = 50
"""Looking for descendants takes at most one such part of the time."""
_SILENCE = 0.1
"""Seconds to wait for output of others when the process itself has ended."""
_REAPED_WITHIN = 1.0
_PIECE = 65536
_FIRST_PAUSE = 0.001
_AT_ONCE: proctree.Signals = ((signal.SIGKILL, 2.0),)


class Watch:
    """One process from its start to its end.

    Args:
        process: started in a session of its own, its output a pipe; nobody else may wait for it.
        start: its start identity.
        output: takes what it writes.
        on_poll: called at least every `POLL` seconds while it lives.
        on_session: told of each further session that a descendant has opened, with its leader's start
            identity (None when that is gone already).

    Attributes:
        sessions: those of the process and of its descendants, as far as they were seen.
        exit: its exit code, negative for a signal; None while it is not known, or when it was lost.
        lost: whether something else in this process took the exit code.
        ended: when it ended, on the monotonic clock.
        last_signal: the last one it was ended with; 0 for none.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        start: float,
        output: Output,
        on_poll: Callable[[], None] | None,
        on_session: Callable[[int, float | None], None],
    ) -> None:
        assert process.stdout is not None
        self.sessions: dict[int, float | None] = {process.pid: start}
        self.exit: int | None = None
        self.lost = False
        self.ended = 0.0
        self.last_signal = 0
        self._process = process
        self._start = start
        self._output = output
        self._on_poll = on_poll
        self._on_session = on_session
        self._pipe = process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._open = True
        self._muted = False
        self._next_poll = self._next_look = 0.0
        # Of the first look only, which comes soon: later the numbers may have begun anew.
        self._newest_before: int | None = process.pid - 1
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            self._descriptor = os.pidfd_open(process.pid)
            self._poll.register(self._descriptor, select.POLLIN)

    def wait(self, deadline: float, cancel: threading.Event | None, signals: proctree.Signals) -> Reason:
        """Waits for the end; ends the process and its descendants at the deadline or when cancelled.

        Args:
            deadline: on the monotonic clock.
            cancel: asked for every 50 ms.
            signals: how it is ended.

        Raises:
            BaseException: what interrupted the wait, once everything is ended; a second KeyboardInterrupt
                kills at once.
        """
        try:
            reason = self._until_end(deadline, cancel)
            if reason != "exit":
                self._end(signals)
            self.ended = time.monotonic()
            self._take_the_rest()
            self._reap()
            self._output.close()
        except BaseException:
            self._muted = True
            self._output.mute()
            try:
                self._end(signals)
            except KeyboardInterrupt:
                self._end(_AT_ONCE)
            self._reap()
            self._output.close()
            raise
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
            assert self._process.stdout is not None
            self._process.stdout.close()
        return reason

    def words(self, reason: Reason, timeout: float) -> str:
        """How it has ended, for people; ``timeout`` in seconds."""
        if reason == "exit":
            if self.exit is None:
                return "exit code unknown: something in this process waits for all child processes"
            return exit_words(self.exit)
        cause = f"{NO_END} {timeout:g} s" if reason == "timeout" else "cancelled"
        gone = self.exit is not None or self.lost
        return ended_words(cause, gone=gone, last_signal=self.last_signal)

    def _until_end(self, deadline: float, cancel: threading.Event | None) -> Reason:
        now = time.monotonic()
        self._next_poll, self._next_look = now + POLL, now + _FIRST_LOOK
        longest = POLL if cancel is None else _CANCEL_POLL
        pause = _FIRST_PAUSE
        while now < deadline:
            if cancel is not None and cancel.is_set():
                return "cancelled"
            self._attend(now)
            wait = min(deadline - now, self._next_poll - now, self._next_look - now, longest)
            if self._descriptor is None:
                wait = min(wait, pause)
                pause = min(pause * 1.5, _CANCEL_POLL)
            if self._step(wait):
                return "exit"
            now = time.monotonic()
        return "timeout"

    def _step(self, wait: float) -> bool:
        """Waits up to so many seconds for something to happen; returns whether the process has ended."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(0, math.ceil(wait * 1000)))}
        if self._pipe in ready:
            self._read()
        if self._descriptor is None:
            return not proctree.alive(self._process.pid, self._start)
        return self._descriptor in ready

    def _read(self) -> int:
        data = os.read(self._pipe, _PIECE)
        if data:
            self._output.feed(data)
        else:
            # An end of file stays readable: polled on, it would keep us spinning while the process lives.
            self._poll.unregister(self._pipe)
            self._open = False
        return len(data)

    def _attend(self, now: float) -> None:
        if now >= self._next_poll:
            self._next_poll = now + POLL
            if self._on_poll is not None and not self._muted:
                self._on_poll()
        if now >= self._next_look:
            self._living(newer_than_pid=self._newest_before)
            self._newest_before = None
            took = time.monotonic() - now
            self._next_look = now + max(POLL, took * _LOOK_SHARE)

    def _living(self, newer_than_pid: int | None = None) -> list[proctree.Identity]:
        """The process and its descendants; notes the sessions they are in, which outlast the descent."""
        groups = proctree.still_theirs(self.sessions)
        found, sessions = proctree.members(groups, newer_than_pid=newer_than_pid)
        self._note(sessions)
        return found

    def _note(self, sessions: Iterable[int]) -> None:
        for session in sessions:
            if session not in self.sessions:
                self.sessions[session] = proctree.started(session)
                self._on_session(session, self.sessions[session])

    def _end(self, signals: proctree.Signals) -> None:
        def left() -> list[proctree.Identity]:
            # Who is to end in peace must not hang in a write to a full pipe meanwhile.
            while self._open and self._pipe in dict(self._poll.poll(0)) and self._read() == _PIECE:
                pass
            self._attend(time.monotonic())
            return self._living()

        def note(number: int) -> None:
            self.last_signal = number

        proctree.end(left, signals=signals, on_signal=note)

    def _take_the_rest(self) -> None:
        """Reads all that the process itself has written, and a little of what others write."""
        if self._descriptor is not None:
            self._poll.unregister(self._descriptor)
        own: int = 0
        if self._open:
            own = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))[0]
        until = time.monotonic() + _SILENCE
        while self._open:
            left = until - time.monotonic()
            if (left <= 0 and own <= 0) or not self._poll.poll(max(0, math.ceil(left * 1000))):
                # Whoever holds the pipe belongs to us, also one that left the session and its parents.
                self._note(proctree.writers(self._pipe) - {os.getsid(0)})
                return
            own -= self._read()

    def _reap(self) -> None:
        """Takes the exit code. Until here the number could not come to mean another process or group.

        Not with Popen.wait(), which makes an exit code of 0 of one that something else has taken.
        """
        until = time.monotonic() + _REAPED_WITHIN
        try:
            while (found := os.waitpid(self._process.pid, os.WNOHANG))[0] == 0:
                if time.monotonic() > until:
                    break
                time.sleep(_FIRST_PAUSE)
            else:
                self.exit = os.waitstatus_to_exitcode(found[1])
        except ChildProcessError:
            self.lost = True
        self._process.returncode = self.exit if self.exit is not None else 0
