"""A phase that did not hold, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..plan.model import RetryCause

if TYPE_CHECKING:
    from .checks import CheckResult
    from .process import Ended

TAIL = 20
"""Lines of output that a failure shows; the rest is in the log."""


class PhaseFailed(Exception):
    """A phase did not hold.

    Attributes:
        cause: what a retry policy calls it; None when trying again cannot help.
        message: for people; the first line stands alone.
    """

    def __init__(self, cause: RetryCause | None, message: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message


def process_failed(phase: str, cause: RetryCause | None, command: str, ended: Ended, log: str) -> PhaseFailed:
    """Of a phase that is one process.

    Args:
        command: as people would type it.
        log: where its whole output is; empty when there was none.
    """
    lines = [f"{_name(phase)} failed: {ended.error}", f"command: {command}"]
    if log:
        lines.append(f"whole output: {log}")
    lines += ["its end:", _indented(ended.tail)] if ended.tail.strip() else ["it printed nothing"]
    return PhaseFailed(cause, "\n".join(lines))


def checks_failed(
    phase: str, cause: RetryCause, failed: Sequence[str], results: Iterable[CheckResult]
) -> PhaseFailed:
    """Of a phase of checks.

    Args:
        failed: one line for each check that failed.
        results: of all checks that ran; the output of the failed ones is shown.
    """
    lines = [f"{_name(phase)} failed: {text}" for text in failed]
    for result in results:
        if result.status == "failed" and result.tail.strip():
            lines += [f"output of {result.name}:", _indented(result.tail)]
    return PhaseFailed(cause, "\n".join(lines))


def _name(phase: str) -> str:
    return phase.replace("_", "-")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines()[-TAIL:])
