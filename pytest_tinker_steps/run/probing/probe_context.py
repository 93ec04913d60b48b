"""What probes are given, and how they say no."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...plan.values import value

if TYPE_CHECKING:
    from ..runner import Runs


class ProbeFailed(Exception):
    """What a probe asks for is not so: one plain line, what is wrong and where."""


@value
class ProbeContext:
    """What probes look at.

    Attributes:
        cwd: relative paths start here.
        env: the environment that the main will get.
        interpreter: the Python that the main will run with.
        deadline: on ``time.monotonic``'s clock.
        runs: starts the process of ``import``.
        cancel: ends the process of ``import`` early.
    """

    cwd: Path
    env: Mapping[str, str]
    interpreter: str
    deadline: float
    runs: Runs
    cancel: threading.Event | None = None

    def remaining(self) -> float:
        """Seconds until the deadline, more than 0.

        Raises:
            TimeoutError: it has passed.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def size_text(count: float) -> str:
    """A number of bytes for people, in decimal units: ``12.3 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
