"""The only module that starts processes.

Each runs in a session of its own, with a deadline, its output redacted. None is left behind: not at its
deadline, not when the caller is interrupted, not when an attempt ends (`Processes.sweep`), and not when this
process dies (the guardian).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ..plan.model import Command
from . import proctree
from .ended import Ended as Ended
from .ended import why_not_started
from .guarding import Guardian
from .output import Output
from .redaction import Redactor
from .watching import Watch

ATTEMPT = "TINKER_STEPS_ATTEMPT"
"""Environment name: the task id of the attempt that a process belongs to."""
SESSION = "TINKER_STEPS_SESSION"
"""Environment name: the token of the `Processes` that started a process."""
EVENTS = "TINKER_STEPS_EVENTS"
"""Environment name: path of the file in which a process reports."""
JOB = "TINKER_STEPS_JOB"
"""Environment name: the task id of the background job that a process belongs to."""
SUPERVISOR = "TINKER_STEPS_SUPERVISOR"
"""Environment name: the task id of the background job that a process looks after."""
MARKERS = (ATTEMPT, SESSION, EVENTS, JOB, SUPERVISOR)
"""None of these reaches a process that is to outlive what it was started by."""

TERM_THEN_KILL: proctree.Signals = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))

_SWEEP: proctree.Signals = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_SHORT_ATTEMPT = 5.0
"""Seconds in which process ids are taken not to have gone all the way round."""
_DETACHING = 30.0


@dataclass(slots=True)
class _Attempt:
    """What is known of an attempt whose end was not swept yet."""

    first_pid: int
    begun: float
    started: int = 0
    sessions: dict[int, float | None] = field(default_factory=dict)


class Processes:
    """The processes of one pytest process; usable from any thread.

    Args:
        redactor: what no output may show.
        lock_fds: descriptors of locks, held until nothing that was started here is left, also after a kill.
    """

    def __init__(self, *, redactor: Redactor, lock_fds: Sequence[int] = ()) -> None:
        self.token = os.urandom(8).hex()
        self._redactor = redactor
        self._guardian = Guardian(lambda reading: _start_guardian(self.token, lock_fds, reading))
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}
        self._starting: set[float] = set()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the guardian go. What an attempt may have left and nobody swept, it ends first."""
        self._guardian.close(bye=not (self._attempts or self._starting))

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
        guarded: bool = True,
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
            guarded: False for what soon ends by itself: no guardian is started for it.

        Raises:
            BaseException: whatever interrupts the wait, for example KeyboardInterrupt, once the process and
                its descendants are ended. A second KeyboardInterrupt kills them at once.
        """
        if cancel is not None and cancel.is_set():
            return Ended(None, "cancelled", 0.0, "", "cancelled before it was started")
        begun = time.monotonic()
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        self._starting.add(begun)  # stays there when an interruption hides from us what was started
        try:
            if guarded:
                self._guardian.ensure()
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
            self._starting.discard(begun)
            why = why_not_started(error) if arguments else "the command is empty"
            return Ended(None, "not started", time.monotonic() - begun, "", self._redactor.text(why))
        start = proctree.started(process.pid) or 0.0
        task_id = env.get(ATTEMPT, "")  # without one there is no sweep: what is left is the guardian's
        self._note_start(task_id, process.pid, begun)
        self._guardian.add(process.pid, start)
        self._starting.discard(begun)
        output = Output(self._redactor, log, on_output)
        watch = Watch(process, start, output, on_poll, self._guardian.add)
        try:
            reason = watch.wait(begun + timeout, cancel, signals)
        finally:
            self._note_end(task_id, process.pid, watch.sessions)
        if on_poll is not None:
            on_poll()
        why = "; ".join(filter(None, (watch.words(reason, timeout), output.log_error)))
        return Ended(watch.exit, reason, watch.ended - begun, output.tail(), why)

    @contextlib.contextmanager
    def bequeathed(self, script: Path) -> Iterator[None]:
        """Has the guardian run a shell script, and remove it, if this process dies in the body.

        Args:
            script: for ``/bin/sh``; it has the environment that this process has now.
        """
        self._guardian.bequeath(script)
        try:
            yield
        finally:
            self._guardian.take_back(script)

    def sweep(self, task_id: str, *, newer_than_pid: int | None = None) -> int:
        """Ends whatever an attempt has left; called once, at its end.

        Args:
            task_id: of the attempt.
            newer_than_pid: look only at higher process ids, which is faster; found out by itself for a
                short attempt.

        Returns:
            How many processes were left.
        """
        with self._lock:
            attempt = self._attempts.get(task_id)
        sessions = {} if attempt is None else attempt.sessions
        if newer_than_pid is None and attempt and time.monotonic() - attempt.begun < _SHORT_ATTEMPT:
            newer_than_pid = attempt.first_pid - 1
            if not sessions and proctree.last_pid() == newer_than_pid + attempt.started:
                # On the whole machine nothing was started since, but what we started and saw end.
                with self._lock:
                    self._attempts.pop(task_id, None)
                return 0

        def left() -> list[proctree.Identity]:
            groups = proctree.still_theirs(sessions)
            return proctree.find(ATTEMPT, task_id, newer_than_pid=newer_than_pid, groups=groups)

        count = proctree.end(left, signals=_SWEEP)
        with self._lock:
            self._attempts.pop(task_id, None)
        self._guardian.remove(sessions)
        return count

    def _note_start(self, task_id: str, pid: int, begun: float) -> None:
        with self._lock:
            attempt = self._attempts.setdefault(task_id, _Attempt(pid, begun))
            # Of two that started side by side, the later one may have been given the lower number.
            attempt.first_pid = min(attempt.first_pid, pid)
            attempt.started += 1

    def _note_end(self, task_id: str, pid: int, sessions: Mapping[int, float | None]) -> None:
        kept = {
            number: start for number, start in sessions.items() if number != pid or proctree.group_lives(pid)
        }
        with self._lock:
            attempt = self._attempts.get(task_id)
            if attempt is not None:
                attempt.sessions.update(kept)
        if pid not in kept:
            self._guardian.remove([pid])


class Child(Protocol):
    """A process that was started here and is not waited for by this module."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal, and from then on no zombie of it; None while it runs."""


def start_leader(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Child:
    """Starts the leader of a session of its own. Whoever starts it sees to its end.

    Its standard output is a pipe, its standard error is thrown away.

    Raises:
        OSError, ValueError: it cannot be started; `why_not_started` says it in words.
    """
    return subprocess.Popen(
        list(arguments),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    )


def start_detached(arguments: Sequence[str], *, env: Mapping[str, str], errors: Path) -> proctree.Identity:
    """Starts a process that outlives this one: no child of it, in no session of its terminal.

    It is left in the session of a shell that has ended; it opens one of its own with ``setsid``. It finds
    SIGINT and SIGQUIT ignored, which is what a shell does to what it starts in the background.

    Args:
        arguments: without a shell.
        env: the whole environment.
        errors: file to which its standard error is appended.

    Returns:
        Its identity; a start of 0 when it has ended already.

    Raises:
        OSError: it cannot be started.
    """
    errors_fd = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        said = subprocess.run(
            ["/bin/sh", "-c", '"$@" >/dev/null & echo $!', "sh", *arguments],
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors_fd,
            start_new_session=True,
            check=True,
            timeout=_DETACHING,
        ).stdout
    except subprocess.SubprocessError as error:
        raise OSError(0, f"/bin/sh did not start it: {error}") from None
    finally:
        os.close(errors_fd)
    pid = int(said)
    return pid, proctree.started(pid) or 0.0


def _start_guardian(token: str, lock_fds: Sequence[int], reading: int) -> subprocess.Popen[bytes]:
    """Starts a guardian of this process that listens on a pipe."""
    return subprocess.Popen(
        [
            sys.executable,
            # psutil, which is needed where there is no /proc, lies in site-packages.
            "-I" + "S" * proctree.RAW + "B" * sys.dont_write_bytecode,
            str(Path(__file__).with_name("guardian.py")),
            token,
            str(os.getpid()),
        ],
        cwd="/",
        env={k: v for k, v in os.environ.items() if k not in MARKERS},
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=tuple(lock_fds),
        start_new_session=True,
    )
