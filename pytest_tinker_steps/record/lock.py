"""One run at a time on one list.

The controller holds ``.steps/lock``; every worker holds a file of its own in ``.steps/holders``. The
locks are ``flock`` locks on descriptors that the guardians inherit, so the kernel keeps them until
the last guardian has ended the last process of the run, however the run died, and frees them then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plan.model import PlanError
from .journal import now

GRACE = 6.0
"""Seconds to wait for what a dead controller left behind: its guardian needs a few to end it."""

COMMAND_LENGTH = 500
"""Characters of a command line that others are told."""


@dataclass
class Lock:
    """A held lock; ``fd`` is for processes that have to share it."""

    fd: int

    def release(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, 0)
            os.close(self.fd)
            self.fd = -1


def acquire(folder: Path, name: str, command: str) -> Lock:
    """Take the lock of a list for a controller.

    Args:
        folder: the ``.steps`` folder; created when missing.
        name: of the list, for messages.
        command: told to whoever comes second.

    Raises:
        PlanError: somebody else holds it; the line says who and since when. Or it cannot be taken at all.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PlanError(f"{name}: {error.filename}: {error.strerror}; it has to be yours to write") from None
    try:
        _wait(fd, folder / "holders", name)
        os.ftruncate(fd, 0)
        who = {"pid": os.getpid(), "host": os.uname().nodename}
        text = json.dumps({**who, "since": now(), "command": command[:COMMAND_LENGTH]})
        os.pwrite(fd, text.encode(), 0)
    except BaseException:
        os.close(fd)
        raise
    return Lock(fd)


def _wait(fd: int, holders: Path, name: str) -> None:
    deadline = time.monotonic() + GRACE
    while not (_take(fd) and _no_holders(holders)):
        holder = _holder(fd)
        where = _elsewhere(holder)
        who = (
            f"pid {holder['pid']}{where} since {holder.get('since')} ({holder.get('command')})"
            if holder
            else ""
        )
        if holder and (where or _alive(holder["pid"])):
            raise PlanError(f"{name}: another run holds this list: {who}; wait for it, or end it")
        if time.monotonic() > deadline:
            died = f"a run that died ({who})" if who else "an earlier run"
            raise PlanError(f"{name}: {died} still has live processes; try again when they are gone")
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(0.05)


def hold(folder: Path, run_id: str) -> Lock:
    """A worker's own part of the lock."""
    holders = folder / "holders"
    holders.mkdir(mode=0o700, parents=True, exist_ok=True)
    # On another machine a worker may have the same process id.
    name = f"{run_id}-{os.uname().nodename}-{os.getpid()}"
    fd = os.open(holders / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return Lock(fd)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _no_holders(folder: Path) -> bool:
    """Whether no worker of an earlier run holds on; files that nobody holds are removed."""
    free = True
    for path in sorted(folder.glob("*")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if _take(fd):
                path.unlink(missing_ok=True)
            else:
                free = False
        finally:
            os.close(fd)
    return free


def _holder(fd: int) -> dict[str, Any]:
    """Who wrote its name into the lock file last, if anybody did."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(os.pread(fd, 65536, 0))
        if isinstance(value, dict) and isinstance(value.get("pid"), int) and 0 < value["pid"] < 1 << 31:
            return value
    return {}


def _elsewhere(holder: dict[str, Any]) -> str:
    """Of a holder on another machine, which nobody can ask from here: where that is."""
    host = holder.get("host")
    return f" on {host}" if isinstance(host, str) and host != os.uname().nodename else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
