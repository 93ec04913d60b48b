"""Attempts whose worker died, when another attempt follows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from ..plan.model import RetryCause, Step
from ..plan.values import value
from .journal import now
from .state import FINISHED

if TYPE_CHECKING:
    from .controller import Controller


@value
class Death:
    """What the worker that takes over has to know of an attempt whose worker died.

    Attributes:
        step: its id.
        task_id: of the attempt.
        following: task id of the next one.
        attempts: how many have begun by then, this one included.
        message: what happened, for people.
        delay: seconds until the next attempt.
        open_since_ns: start of the first attempt of this session, as outputs are compared with it; 0 when
            that was not heard of.
        cause: what the failure of the attempt is called; empty when the death is what ended it.
        mended: whether the command that recovers from the failure has run.
    """

    step: str
    task_id: str
    following: str
    attempts: int
    message: str
    delay: float
    open_since_ns: int = 0
    cause: RetryCause | Literal[""] = ""
    mended: bool = False


def between(controller: Controller, step: Step, last: Death | None) -> Death | None:
    """What is left to be done when a worker dies between two attempts; None if it did not.

    The end of the first one is recorded, and that another one follows. A second worker that dies between the
    same two is taken to have begun the next: otherwise that could go on for ever.

    Args:
        last: the death before, if there was one.
    """
    assert step.definition is not None
    tale = controller.tale(step.id)
    retry, ended = tale.between.get("retry"), tale.between.get(FINISHED)
    if retry is None or ended is None or (last and last.following == retry["next_task_id"]):
        return None
    tale.task_id = ""
    mended = "recover" in tale.between
    waited = mended or step.definition.main.recover is None
    passed = time.monotonic() - tale.between_since if waited else 0.0
    return Death(
        step.id,
        retry["task_id"],
        retry["next_task_id"],
        retry["attempt"] - 1,
        ended["message"],
        max(0.0, retry["delay"] - passed),
        tale.open_since_ns,
        retry["cause"],
        mended,
    )


def begun(controller: Controller, step: Step, last: Death | None) -> int:
    """How many attempts at a step have begun, the one that died now included.

    Args:
        last: the death before, if there was one.
    """
    return max(controller.tale(step.id).attempt, (last.attempts if last else 0) + 1)


def record(controller: Controller, step: Step, death: Death) -> None:
    """Record the end of an attempt, and that another one follows.

    Raises:
        JournalError: it could not be recorded.
    """
    assert step.definition is not None
    tale = controller.tale(step.id)
    who = {"step": step.id, "task_id": death.task_id, "timestamp": now()}
    seconds = time.monotonic() - tale.began if tale.began else 0.0
    retry = {
        "cause": "exit",
        "message": death.message,
        "attempt": death.attempts + 1,
        "attempts": step.definition.main.retry.attempts,
        "delay": death.delay,
        "next_task_id": death.following,
    }
    controller.event({"event": "retry", "status": "", **who, **retry})
    ended = {"seconds": seconds, "message": death.message, "final": False}
    controller.event({"event": FINISHED, "status": "failed", **who, **ended})
    tale.task_id = ""


def record_spent(controller: Controller, death: Death, why: str) -> None:
    """Record that no other attempt follows, since a budget is reached.

    Raises:
        JournalError: it could not be recorded.
    """
    message = f"{why}; attempt {death.attempts + 1} was not begun"
    who = {"step": death.step, "task_id": death.task_id, "timestamp": now()}
    controller.event({"event": "budget", "status": "failed", **who, "message": message})
