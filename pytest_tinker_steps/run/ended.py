"""How a process ended, in values and in plain words."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

NO_END = "no end after"
"""How the reason begins when a process used up its time."""
NOT_READY = "not ready after"
"""How the reason begins when a background job missed its start-up deadline."""
UNKNOWN_END = "its end is not known: nobody saw its exit code"


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


def why_not_started(error: Exception) -> str:
    """What the system said when a process could not be started."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"
    return str(error)


def exit_words(code: int) -> str:
    """Of a process that ended by itself; empty for exit code 0."""
    if code < 0:
        return f"killed by {signal_name(-code)}"
    return f"exit {code}" if code else ""


def ended_words(cause: str, *, gone: bool, last_signal: int) -> str:
    """Of a process that was ended.

    Args:
        cause: why.
        gone: whether it has ended since.
        last_signal: the last one that it was sent; 0 when it ended before the first.
    """
    if not gone:
        return f"{cause}, and {signal_name(last_signal)} did not end it"
    return f"{cause}: ended with {signal_name(last_signal)}" if last_signal else cause


def duration(seconds: float) -> str:
    """A limit as people write one: ``300 s``, ``24 h``."""
    return f"{seconds / 3600:g} h" if seconds >= 3600 and seconds % 1800 == 0 else f"{seconds:g} s"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
