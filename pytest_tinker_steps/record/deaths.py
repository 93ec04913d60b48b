"""Attempts whose worker died, when another attempt follows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..plan.model import Step
from .journal import now
from .state import FINISHED

if TYPE_CHECKING:
    from .controller import Controller


def begun(controller: Controller, step: Step, before: int) -> int:
    """How many attempts at a step have begun, the one that died included.

    Args:
        before: those of workers that died before.
    """
    return max(controller.tale(step.id).attempt, before + 1)


def record(
    controller: Controller, step: Step, reason: str, *, task_id: str, following: str, attempt: int
) -> None:
    """Record the end of an attempt, and that another one follows.

    Args:
        task_id: of the attempt, if it was not heard of yet.
        following: task id of the next one; ``attempt`` is its number.

    Raises:
        JournalError: it could not be recorded.
    """
    assert step.definition is not None
    tale = controller.tale(step.id)
    who = {"step": step.id, "task_id": tale.task_id or task_id, "timestamp": now()}
    seconds = time.monotonic() - tale.began if tale.began else 0.0
    retry = {
        "cause": "exit",
        "attempt": attempt,
        "attempts": step.definition.main.retry.attempts,
        "delay": 0.0,
        "next_task_id": following,
    }
    controller.event({"event": "retry", "status": "", **who, **retry})
    ended = {"seconds": seconds, "message": reason, "final": False}
    controller.event({"event": FINISHED, "status": "failed", **who, **ended})
    tale.task_id = ""
