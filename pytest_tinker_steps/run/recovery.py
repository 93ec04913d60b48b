"""Between two attempts: the pause, and the command that may mend what made the first one fail."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from ..plan.model import Command, Retry, RetryCause
from ..record.jobs import folder_of
from .failure import told
from .mains.command import shown
from .phases import MAIN_LOG, TEST_LOG, Setting
from .surroundings import layered

LOG = "recover.log"

_FAILED_LOGS: Mapping[RetryCause, str] = {"exit": MAIN_LOG, "timeout": MAIN_LOG, "test": TEST_LOG}
"""Of what failed; checks have one log each, which the message quotes."""


def pause(retry: Retry, attempt: int) -> float:
    """Seconds between the attempt with this number (from 1) and the next."""
    delay = retry.delay * retry.backoff ** (attempt - 1)
    return delay + delay * retry.jitter * random.random()


def recover(at: Setting, what: Command, cause: RetryCause, message: str) -> None:
    """Run the command that is to mend something before the next attempt.

    It has the environment of the attempt that failed, and is told what happened by ``FAILURE_CAUSE``,
    ``FAILURE_MESSAGE_FILE`` and ``FAILURE_LOG``. Whether it goes well decides nothing.

    Args:
        at: the attempt that failed.
        message: the whole failure.
    """
    log = failed_log(at, cause)
    file = at.around.message_of(at.env["TASK_ID"])
    file.write_text(at.around.redactor.text(message) + "\n", encoding="utf-8", errors="replace")
    more = (
        ("FAILURE_CAUSE", cause),
        ("FAILURE_MESSAGE_FILE", str(file)),
        ("FAILURE_LOG", "" if log is None else str(log)),
    )
    ended = at.around.processes.run(
        what,
        cwd=at.cwd,
        env=layered(at.env, more),
        timeout=at.definition.main.timeout,
        log=at.logs / LOG,
        on_poll=at.telling.poll,
    )
    passed = ended.reason == "exit" and ended.exit == 0
    at.emit(
        "recover",
        command=shown(what),
        status="passed" if passed else "failed",
        seconds=ended.seconds,
        message="" if passed else told(ended.error, ended.tail),
    )


def failed_log(at: Setting, cause: RetryCause) -> Path | None:
    """Where the whole output of the phase that failed is; None when it has printed nothing."""
    name = _FAILED_LOGS.get(cause)
    if name is None:
        return None
    job = at.definition.main.mode == "background" and name == MAIN_LOG
    folder = folder_of(at.around.state, at.env["TASK_ID"]) if job else at.logs
    return folder / name if (folder / name).exists() else None
