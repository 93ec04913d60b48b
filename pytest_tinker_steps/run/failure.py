"""A phase that did not hold, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..plan.model import RetryCause
from .expectations import one_line

if TYPE_CHECKING:
    from .checks import CheckResult
    from .process import Ended

TAIL = 20
"""Lines of output that a failure shows; the rest is in the log."""
QUOTED = 200
"""Characters of the last line of output that stand in the first line of a failure."""


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
    lines = [f"{_name(phase)} failed: {told(ended.error, ended.tail)}", f"command: {command}"]
    return PhaseFailed(cause, "\n".join([*lines, *ending(ended.tail, log)]))


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


def told(error: str, tail: str) -> str:
    """Why a process failed; of one that ended by itself also its last line: often that is the reason."""
    if not error.startswith("exit "):
        return error
    last = next((line for text in reversed(tail.splitlines()) if (line := one_line(text, QUOTED))), "")
    return f"{error}: {last}" if last else error


def ending(tail: str, log: str) -> list[str]:
    """The end of an output, and where all of it is.

    Args:
        log: empty when nothing was printed.
    """
    end = ["its end:", _indented(tail)] if tail.strip() else ["it printed nothing"]
    return [f"whole output: {log}", *end] if log else end


def _name(phase: str) -> str:
    return phase.replace("_", "-")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines()[-TAIL:])
