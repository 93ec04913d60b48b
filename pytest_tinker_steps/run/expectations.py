"""What a check makes of the output it sees: pure decisions, no process and no clock."""

from __future__ import annotations

import math
import re
import signal
from typing import TYPE_CHECKING

from ..plan.model import Check, Metric
from ..plan.values import value

if TYPE_CHECKING:
    from .process import Ended

LONGEST_LINE = 100
"""Characters of a line of output that stand in a message."""

LONGEST_MESSAGE = 400

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


@value
class Judged:
    """Attributes:
    message: one line.
    metric: name and value, where a finite number was found, whether it holds or not.
    """

    passed: bool
    message: str
    metric: tuple[str, float] | None = None


def judge_process(check: Check, ended: Ended, output: str) -> Judged:
    """Whether the process of a command check did what the check expects.

    Args:
        output: in which patterns are looked for.
    """
    problem = unwanted_end(ended, check.timeout, check.expect.exit)
    text = output or ended.tail
    judged = judge_text(check, text, last_line(ended.tail or text))
    # A number that was found is worth recording also when the process failed.
    return Judged(False, problem, judged.metric) if problem else judged


def judge_text(check: Check, text: str, message: str) -> Judged:
    """Whether ``text`` (output of a command, answer of a probe) holds what the check expects.

    Args:
        message: of a check that passes and has no metric.
    """
    expect = check.expect
    try:
        if expect.match is not None and not re.search(expect.match, text, re.MULTILINE):
            return Judged(False, _joined(f"no match for {expect.match!r} in the output", message))
        if expect.not_match is not None and (found := re.search(expect.not_match, text, re.MULTILINE)):
            return Judged(False, _joined(f"{expect.not_match!r} is in the output", one_line(found.group())))
        return _measure(check.metric, text) if check.metric else Judged(True, message)
    except re.error as error:
        return Judged(False, f"{error.pattern!r} is not a regular expression: {error.msg}")


def unwanted_end(ended: Ended, timeout: float, exit_code: int = 0) -> str:
    """One line on how a process failed, empty if it ended with ``exit_code``."""
    if ended.reason == "timeout":
        return no_end(timeout)
    if ended.reason != "exit" or ended.exit is None:
        return one_line(ended.error) or ended.reason
    if ended.exit == exit_code:
        return ""
    how = f"killed by {_signal_name(-ended.exit)}" if ended.exit < 0 else f"exit {ended.exit}"
    if exit_code != 0:
        how += f" instead of {exit_code}"
    return _joined(how, last_line(ended.tail))


def no_end(timeout: float) -> str:
    return f"no end after {timeout:g} s"


def last_line(text: str) -> str:
    """The last line with something in it, as it may be printed, cut to ``LONGEST_LINE``."""
    for line in reversed(text.splitlines()):
        if shown := one_line(line, LONGEST_LINE):
            return shown
    return ""


def one_line(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """``text`` without line breaks, terminal escapes and other characters that do not print."""
    plain = "".join(char if char.isprintable() else " " for char in _ESCAPE.sub("", text))
    joined = " ".join(plain.split())
    return joined if len(joined) <= longest else joined[: longest - 1] + "…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _joined(what: str, detail: str) -> str:
    return f"{what}: {detail}" if detail else what


def _measure(metric: Metric, text: str) -> Judged:
    found = re.search(metric.pattern, text, re.MULTILINE)
    if found is None:
        return Judged(False, f"{metric.name}: no number found with {metric.pattern!r}")
    group = 1 if found.re.groups else 0
    number = (found.group(group) or "").strip()
    # The unit may stand inside the group or right behind it.
    unit = "%" if number.endswith("%") or text[found.end(group) :].startswith("%") else ""
    number = number.removesuffix("%").strip()
    try:
        value = float(number)
    except ValueError:
        return Judged(False, f"{metric.name}: {one_line(number, LONGEST_LINE)!r} is not a number")
    shown = f"{metric.name}: {number}{unit}"
    low, high = metric.min, metric.max
    # Asked this way round so that "nan" holds no bound.
    if low is not None and not value >= low:
        shown += f" is below min {low:g}{unit}" if value < low else " is no number to compare"
    elif high is not None and not value <= high:
        shown += f" is above max {high:g}{unit}" if value > high else " is no number to compare"
    else:
        bounds = [
            f"{word} {bound:g}{unit}" for word, bound in (("min", low), ("max", high)) if bound is not None
        ]
        inside = f" ({', '.join(bounds)})" if bounds else ""
        return Judged(True, shown + inside, _finite(metric.name, value))
    return Judged(False, shown, _finite(metric.name, value))


def _finite(name: str, value: float) -> tuple[str, float] | None:
    return (name, value) if math.isfinite(value) else None  # JSON has no other numbers
