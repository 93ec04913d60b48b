"""Ends the foreground processes of a pytest process that died, however it died.

Run by path as a program of its own::

    python -I -S guardian.py TOKEN PARENT_PID

It inherits the read end of a pipe as its standard input, and the descriptors of locks: those are free only
when it has ended too, that is when nothing is left. On the pipe come lines: ``+ PID START`` registers the
leader of a session (``gone`` for the start of one that has ended), ``- PID`` takes it back, ``! PATH`` and
``~ PATH`` do the same for a shell script (in hexadecimal digits), ``bye`` ends the guardian at once. When the
pipe closes without ``bye``, or the parent is gone, it ends whatever carries TOKEN in its environment, is in a
registered session, or descends from such. Then it runs the scripts, each for 30 s at most, and removes them.
From the parent's end on it holds a lock on each of them: who gets it later knows that this one is gone.

It starts before the first process of every session, so it imports next to nothing then.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import ModuleType
else:
    import _signal as signal  # what that one wraps; its names for numbers take half of this program's start

MARKER = "TINKER_STEPS_SESSION"
SIGNALS: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 2.0))
_LOOK_AT_PARENT_MS = 1000
_LOOK_ANYWAY_MS = 30_000
"""Where the system tells the parent's end, a look is only for what it may not have told."""
_HURRIED = 4
"""Times that it waits, of a moment or a second each, before it loads what it will need at the end."""
SCRIPT_WITHIN = 30.0
"""Seconds that a script may take."""
_NAP_MS = 200
"""How long lines may wait when others came just now. The pipe holds those of thousands of processes."""


class Register:
    """The sessions to end and the scripts to run, as the lines of the pipe tell them."""

    def __init__(self) -> None:
        self.sessions: dict[int, float | None] = {}
        self.scripts: dict[bytes, None] = {}
        self.bye = False
        self._torn = b""

    def take(self, data: bytes) -> None:
        """Takes the next bytes of the pipe; a torn last line waits for its rest."""
        *lines, self._torn = (self._torn + data).split(b"\n")
        for line in lines:
            match line.split():
                case [b"+", pid, start]:
                    self.sessions[int(pid)] = None if start == b"gone" else float(start)
                case [b"-", pid]:
                    self.sessions.pop(int(pid), None)
                case [b"!", path]:
                    self.scripts[bytes.fromhex(path.decode())] = None
                case [b"~", path]:
                    self.scripts.pop(bytes.fromhex(path.decode()), None)
                case [b"bye"]:
                    self.bye = True


def main(token: str, parent: int) -> None:
    """Waits for the parent's end, then ends what it left.

    Args:
        token: value of the marker.
        parent: process id of the pytest process, which has started this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # At the end: the names of our other modules must not hide those of the standard library.
    sys.path.append(__file__.rpartition("/")[0])
    register = Register()
    _listen(register, parent)
    if register.bye:
        return
    claims = {script: claimed(script) for script in register.scripts}
    proctree = _proctree()

    def left() -> list[tuple[int, float]]:
        groups = proctree.still_theirs(register.sessions)
        found: list[tuple[int, float]] = proctree.find(MARKER, token, groups=groups)
        return found

    signals = SIGNALS
    while left():
        proctree.end(left, signals=signals)
        signals = SIGNALS[-1:]
    for script, claim in claims.items():
        if claim is not None:
            _run(script)
            os.close(claim)


def claimed(script: bytes) -> int | None:
    """Locks a script for whoever is about to run it.

    Returns:
        A descriptor, to be closed when the script is removed; None when it is gone, or another has it.
    """
    import fcntl

    try:
        fd = os.open(script, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had the lock before may have removed it.
        os.stat(script)  # noqa: PTH116 - the guardian does without pathlib
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    except OSError:
        pass  # where nothing can be locked, it is run all the same
    return fd


def _run(script: bytes) -> None:
    """Runs a script to its end, or until it has taken too long, and removes it."""
    import contextlib
    import subprocess
    from pathlib import Path

    # Nobody is left who could be told what goes wrong.
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [b"/bin/sh", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SCRIPT_WITHIN,
            check=False,
        )
    with contextlib.suppress(OSError):
        Path(os.fsdecode(script)).unlink()


def _proctree() -> ModuleType:
    return __import__("proctree")


def _listen(register: Register, parent: int) -> None:
    """Returns when the pipe closes, at ``bye``, or when the parent is gone.

    The pipe alone does not tell the parent's death: a process that the parent forked without an exec holds
    its writing end too.

    What is registered is of use only then, so nobody is woken for each of many short processes.
    """
    os.set_blocking(0, False)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    every = _LOOK_AT_PARENT_MS
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
        every = _LOOK_ANYWAY_MS
    except (OSError, AttributeError):
        pass  # the system tells no end of a process
    naps = False
    waits = 0
    while not register.bye:
        # That the pipe was closed is told without being asked for.
        poll.modify(0, 0 if naps else select.POLLIN)
        poll.poll(_NAP_MS if naps else every if waits > _HURRIED else _LOOK_AT_PARENT_MS)
        waits += 1
        if waits == _HURRIED:
            _proctree()  # while it is there: a step may replace what is installed
        # Asked before the pipe is emptied: what a dead parent has written is all there then.
        lives = os.getppid() == parent
        naps = False
        try:
            while data := os.read(0, 65536):
                register.take(data)
                naps = True
        except BlockingIOError:
            if lives:
                continue
        return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
