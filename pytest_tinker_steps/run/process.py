"""The only module that starts processes.

Each runs in a session of its own, with a deadline, its output redacted. None is left behind: not at its deadline, not
when the caller is interrupted, not when an attempt ends (`Processes.sweep`), and not when this process dies (the
guardian).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_tinker_steps.plan.model import Command
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.output import Output
from pytest_tinker_steps.run.redaction import Redactor

ATTEMPT = "TINKER_STEPS_ATTEMPT"
"""Environment name: the task id of the attempt that a process belongs to."""
SESSION = "TINKER_STEPS_SESSION"
"""Environment name: the token of the `Processes` that started a process."""
EVENTS = "TINKER_STEPS_EVENTS"
"""Environment name: path of the file in which a process reports."""

TERM_THEN_KILL: proctree.Signals = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))

_AT_ONCE: proctree.Signals = ((signal.SIGKILL, 2.0),)
_SWEEP: proctree.Signals = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_POLL = 0.25
_CANCEL_POLL = 0.05
_FIRST_LOOK = 0.02
_LOOK_SHARE = 50
"""Looking for descendants takes at most one such part of the time."""
_SILENCE = 0.1
"""Seconds to wait for output from others when the process itself has ended."""
_SHORT_ATTEMPT = 5.0
"""Seconds in which process ids are taken not to have gone all the way round."""
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        exit: exit code, negative for a signal; None when it was not started or its code is not known.
        reason: ``exit`` when it ended by itself.
        seconds: from start to end.
        tail: the last lines of its output, redacted.
        error: why it is not a success, in plain words; empty for exit code 0.
    """

    exit: int | None
    reason: Literal["exit", "timeout", "cancelled", "not started"]
    seconds: float
    tail: str
    error: str


class Processes:
    """The processes of one pytest process; usable from any thread.

    Args:
        redactor: what no output may show.
        lock_fds: descriptors of locks, which stay held until nothing that was started here is left, even when this
            process is killed.
    """

    def __init__(self, *, redactor: Redactor, lock_fds: Sequence[int] = ()) -> None:
        self.token = secrets.token_hex(8)
        self._redactor = redactor
        self._guardian = _Guardian(self.token, tuple(lock_fds))
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the guardian go. What an attempt left and nobody swept, the guardian ends."""
        self._guardian.close()

    def run(
        self,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        log: Path | None,
        on_output: Callable[[str], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        cancel: threading.Event | None = None,
        signals: proctree.Signals = TERM_THEN_KILL,
    ) -> Ended:
        """Runs one process to its end.

        Args:
            command: a string runs under ``/bin/sh -c``, a tuple without a shell.
            cwd: working folder.
            env: the whole environment; the marker of this session is added to it.
            timeout: seconds until it is ended.
            log: file to which its redacted output is appended; made when there is some.
            on_output: told its redacted output as it comes.
            on_poll: called at least every 0.25 s and once after the end.
            cancel: ends the process when set.
            signals: how it is ended, with the seconds to wait after each.

        Raises:
            BaseException: whatever interrupts the wait, for example KeyboardInterrupt, once the process and its
                descendants are ended. A second KeyboardInterrupt kills them at once.
        """
        if cancel is not None and cancel.is_set():
            return Ended(None, "cancelled", 0.0, "", "cancelled before it was started")
        self._guardian.ensure()
        begun = time.monotonic()
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        try:
            process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env={**env, SESSION: self.token},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError, IndexError) as error:
            return Ended(None, "not started", time.monotonic() - begun, "", _why_not_started(arguments, error))
        start = proctree.started(process.pid) or 0.0
        attempt = self._attempt(env.get(ATTEMPT), process.pid)
        output = Output(self._redactor, log, on_output)
        watch = _Watch(process, start, output, on_poll, self._guardian)
        self._guardian.add(process.pid, start)
        try:
            reason = watch.wait(begun + timeout, cancel, signals)
        finally:
            with self._lock:
                leftover = watch.release()
                if attempt is not None:
                    attempt.sessions.update(leftover)
                else:
                    self._guardian.remove(leftover)
        if on_poll is not None:
            on_poll()
        error_text = _how_it_ended(process.returncode, reason, timeout, watch.last_signal)
        return Ended(
            process.returncode,
            reason,
            time.monotonic() - begun,
            output.tail(),
            "; ".join(filter(None, (error_text, output.log_error))),
        )
