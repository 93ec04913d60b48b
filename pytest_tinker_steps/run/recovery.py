"""Between two attempts: the pause, and the command that may mend what made the first one fail."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..plan.model import Command, Retry, RetryCause, Runner
from ..record.jobs import folder_of
from .failure import told
from .mains.command import shown
from .phases import MAIN_LOG, TEST_LOG, Emit, Setting
from .surroundings import Surroundings, layered

if TYPE_CHECKING:
    from ..record.deaths import Death

LOG = "recover.log"

_FAILED_LOGS: Mapping[RetryCause, str] = {"exit": MAIN_LOG, "timeout": MAIN_LOG, "test": TEST_LOG}
"""Of what failed; checks have one log each, which the message quotes."""


def pause(retry: Retry, attempt: int) -> float:
    """Seconds between the attempt with this number (from 1) and the next."""
    delay = retry.delay * retry.backoff ** (attempt - 1)
    return delay + delay * retry.jitter * random.random()


def end_dead(around: Surroundings, task_id: str, runner: Runner | None, emit: Emit) -> None:
    """End what an attempt has left whose pytest process died: here, and where its runner put it."""
    around.processes.sweep(task_id)
    if runner is None:
        return
    from . import handover  # only steps with runners pay for it

    handover.settle(
        runner,
        task_id,
        around.exchanged,
        around.processes,
        env=around.environ,
        log=around.logs(task_id) / handover.STOP_LOG,
        tell=lambda text: emit("note", text=text, task_id=task_id),
    )


def failure_before(around: Surroundings, death: Death) -> str:
    """Why another attempt follows one whose worker died: all of it, where that was noted."""
    if death.cause:
        with contextlib.suppress(OSError):
            file = around.message_of(death.task_id)
            return file.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    return death.message


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
