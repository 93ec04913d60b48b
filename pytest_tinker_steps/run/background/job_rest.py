"""Keeps what a job has printed and nobody has read: with the last who holds the pipe it would be gone.

A program of its own. The shell that waits for the job runs it when the job has ended and the supervisor that
started it is dead, with the pipe as standard input and the environment of the job. Another supervisor may
have the job meanwhile; then it is that one's to read.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from pathlib import Path

from ...record import jobs
from ..redaction import Redactor, secret_values
from . import job_lock
from .job_log import JobLog
from .job_program import PROGRAM, arguments
from .job_spec import LOG, read_spec

_ENDS_WITHIN = 30
"""Seconds; the exit code is written down after it, whatever the disk does."""
_PIECE = 65536
_AT_MOST = 64
"""Pieces: more than any pipe holds. What still prints without an end is not waited for."""


def command(folder: Path) -> str:
    """The command for a shell whose standard input is the pipe.

    Args:
        folder: of the job.
    """
    return shlex.join(arguments(PROGRAM.format(module="job_rest"), folder))


def main(folder: Path) -> None:
    """Appends what is in the pipe to the log of the job in this folder, if nobody looks after the job."""
    signal.alarm(_ENDS_WITHIN)
    job = jobs.read(folder)
    if job is None or job_lock.held(folder, job) or job_lock.take(folder) is None:
        return
    spec = read_spec(folder)
    stream = Redactor(secret_values(os.environ, spec.secrets)[0]).stream()
    log = JobLog(folder / LOG, spec.log_size)
    os.set_blocking(0, False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(_AT_MOST):
            log.write(stream.feed(os.read(0, _PIECE)))
    log.write(stream.close())
    log.close()
