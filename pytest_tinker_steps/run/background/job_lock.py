"""Who looks after a job: the lock that its supervisor holds, which the kernel frees however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ...record.jobs import Job
from .. import proctree
from .job_spec import LOCK

_ASKING = 1.0
"""Seconds in which those who only ask whether it is held have let it go again."""
_PAUSE = 0.02


def take(folder: Path) -> int | None:
    """Takes a job for this process.

    Returns:
        A descriptor that holds it until it is closed; None when somebody else has it.

    Raises:
        OSError: the folder is gone, or not ours.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _ASKING
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(descriptor)
                return None
            time.sleep(_PAUSE)
        except OSError:
            return descriptor  # a file system without locks: identities have to do
        else:
            return descriptor


def held(folder: Path, job: Job) -> bool:
    """Whether the job has a supervisor that lives."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return job.boot == proctree.boot() and proctree.alive(job.supervisor, job.supervisor_start)
    finally:
        os.close(descriptor)
    return False
