"""What the runs and the numbers of one monitor mean: decisions, without threads, processes or a clock.

Times are seconds on the monotonic clock, given by the caller.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...plan.model import Metric, Monitor, Threshold
from ...plan.shapes.alert_words import pattern
from ..expectations import one_line, unwanted_end
from .alerts import matching_line, uncoloured
from .series import as_json

if TYPE_CHECKING:
    from ..ended import Ended

Event = dict[str, Any]
Condition = tuple[str, str]
"""Name of a number, and what it breaks."""

NEVER = math.inf
SAMPLE = 2000
"""Characters at the end of an output that are recorded."""
LONGEST_ALERT = 300
FAILURES = 3
"""A monitor that failed so often in a row raises an alert itself."""
METRIC_EVERY = 1.0
"""Seconds between two events of a number that changes all the time."""

_NOTHING_FOUND = 1
_NO_NUMBER = "no number"
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Sampling:
    """One monitor: what is due when, what it saw last, which of its conditions hold.

    Its methods return the events that follow from what they are told.

    Args:
        start: of the main; the first run is due then, and a stall counts from then.

    Attributes:
        reads_output: whether it looks for its number in the main's output.
        waits_for_output: whether it is a stall when the main prints nothing.
        stop_reason: why the main is to end, once an alert asks for that.
    """

    def __init__(self, monitor: Monitor, start: float) -> None:
        self.monitor = monitor
        self.stop_reason = ""
        metric = monitor.metric
        self._number = re.compile(metric.pattern, re.MULTILINE) if metric and metric.pattern else None
        self.reads_output = self._number is not None and monitor.command is None
        self.waits_for_output = monitor.stall is not None and monitor.stall.metric is None
        self._alert_on = None if monitor.alert_on is None else pattern(monitor.alert_on)
        self._next_run = start if monitor.command is not None else NEVER
        self._last_run = start
        self._failures = 0
        self._output: str | None = None
        self._sample = ""
        self._values: dict[str, float] = {}
        self._told_value = ""
        self._told_at = -NEVER
        self._untold: float | None = None
        self._holding: set[Condition] = set()
        self._told_broken: dict[Condition, float] = {}
        self._moved_at = start
        self._stalled = False

    # -- time

    def due(self) -> float:
        """When something is to be done next: `begins` or `tick`."""
        stall = self.monitor.stall
        stalls = NEVER if stall is None or self._stalled else self._moved_at + stall.seconds
        tells = NEVER if self._untold is None else self._told_at + self._pause
        return min(self._next_run, stalls, tells)

    def begins(self, now: float) -> bool:
        """Whether its command is to be started; it is not again before it has ended."""
        if now < self._next_run:
            return False
        self._last_run, self._next_run = now, NEVER
        return True

    def tick(self, now: float) -> list[Event]:
        """What follows from the time alone."""
        events = self._tell_value(now)
        stall = self.monitor.stall
        if stall is not None and not self._stalled and now >= self._moved_at + stall.seconds:
            self._stalled = True
            events.append(self._alert(f"{self._still()} for {stall.seconds:g} s"))
        return events

    # -- what it sees

    def ended(self, ended: Ended, output: str, now: float) -> tuple[list[Event], list[tuple[str, float]]]:
        """Its command has ended.

        Args:
            output: all of it, or its end.

        Returns:
            The events, and the number that was found, with its name.
        """
        if ended.reason == "cancelled":
            return [], []
        by_itself = ended.reason == "exit" and ended.exit is not None
        quiet = by_itself and self.monitor.kind == "alert" and ended.exit == _NOTHING_FOUND
        events = self._worked(now, "" if quiet else unwanted_end(ended, self.monitor.timeout))
        if not by_itself:
            return events, []
        text = uncoloured(output).strip()
        if self.monitor.kind == "sample":
            events += self._sampled(text)
        elif quiet or ended.exit == 0:
            events += self._found("" if quiet else text)
        return events, self.numbers(text)[-1:]

    def not_run(self, why: str, now: float) -> list[Event]:
        """Its command could not be started."""
        return self._worked(now, why)

    def moved(self, now: float) -> None:
        """The main has printed something."""
        if self.waits_for_output:
            self._moves(now)

    def numbers(self, text: str) -> list[tuple[str, float]]:
        """All numbers in a text, with their name, in order; what is no number is left out."""
        metric, found = self.monitor.metric, []
        if metric is not None and self._number is not None:
            for match in self._number.finditer(text):
                said = match[1 if self._number.groups else 0] or ""
                try:
                    found.append((metric.name, float(said.strip().removesuffix("%"))))
                except ValueError:
                    continue
        return found

    def number(self, name: str, value: float, now: float, *, own: bool) -> list[Event]:
        """A number has a value.

        Args:
            own: it is the one that this monitor found itself. A monitor that finds a number itself takes it
                from nobody else.
        """
        monitor = self.monitor
        if not own and self._number is not None and monitor.metric and monitor.metric.name == name:
            return []
        stall = monitor.stall
        if stall is not None and stall.metric == name and not _same(self._values.get(name), value):
            self._moves(now)
        self._values[name] = value
        # What comes at intervals is judged each time. Numbers that stream in may cross a limit to and fro
        # many times a second: there, a condition is told once within an interval.
        pause = 0.0 if own and monitor.command is not None else monitor.interval
        events = self._judged(name, value, now, pause)
        if own:
            # Who reported the others has recorded them already.
            self._untold = value
            events = self._tell_value(now) + events
        return events

    def last_words(self) -> list[Event]:
        """What is still to be told at the end."""
        return self._tell_value(NEVER)

    # -- inside

    @property
    def _pause(self) -> float:
        return min(METRIC_EVERY, self.monitor.interval)

    def _worked(self, now: float, why_not: str) -> list[Event]:
        interval = self.monitor.interval
        self._next_run = next_beat(self._last_run, interval, now)
        self._failures = self._failures + 1 if why_not else 0
        if self._failures != FAILURES:
            return []
        why = one_line(why_not, LONGEST_ALERT - 40)
        # The monitor is at fault then and not the main, which is not ended for it.
        return [self._alert(f"keeps failing: {why} ({FAILURES} times)", stops=False)]

    def _sampled(self, text: str) -> list[Event]:
        if text == self._output:
            return []
        self._output = text
        events: list[Event] = []
        sample = text[-SAMPLE:].strip()
        if sample != self._sample:
            self._sample = sample
            events.append(self._event("sample", text=sample))
        return events + self._matches(text)

    def _found(self, text: str) -> list[Event]:
        if text == self._output:
            return []
        self._output = text
        if not text:
            return []
        return [self._alert(text.splitlines()[-1])] if self._alert_on is None else self._matches(text)

    def _matches(self, text: str) -> list[Event]:
        line = None if self._alert_on is None else matching_line(self._alert_on, text)
        if line is None:
            return []
        return [self._alert(line or f"{self.monitor.alert_on} is found in its output")]

    def _judged(self, name: str, value: float, now: float, pause: float) -> list[Event]:
        """An alert when conditions begin to hold that were not told within the last `pause` seconds."""
        why = broken(self.monitor, name, value)
        self._holding = {one for one in self._holding if one[0] != name or one in why}
        begun = [
            one
            for one in why
            if one not in self._holding and now >= self._told_broken.get(one, -NEVER) + pause
        ]
        self._holding.update(begun)
        self._told_broken |= dict.fromkeys(begun, now)
        return [self._alert("; ".join(dict.fromkeys(why[one] for one in begun)))] if begun else []

    def _tell_value(self, now: float) -> list[Event]:
        if self._untold is None or now < self._told_at + self._pause:
            return []
        value, self._untold = as_json(self._untold), None
        assert self.monitor.metric is not None
        if str(value) == self._told_value:
            return []
        self._told_value, self._told_at = str(value), now
        return [self._event("metric", name=self.monitor.metric.name, value=value)]

    def _moves(self, now: float) -> None:
        self._moved_at, self._stalled = now, False

    def _still(self) -> str:
        assert self.monitor.stall is not None
        name = self.monitor.stall.metric
        if name is None:
            return "no output"
        if name not in self._values:
            return f"{name} was not seen"
        return f"{name} has stayed at {self._values[name]:g}"

    def _alert(self, text: str, *, stops: bool = True) -> Event:
        text = one_line(text, LONGEST_ALERT)
        if stops and self.monitor.on_alert == "stop" and not self.stop_reason:
            self.stop_reason = f"monitor {self.monitor.name}: {text}"
        return self._event("alert", status="warned", text=text)

    def _event(self, event: str, status: str = "", **more: Any) -> Event:
        return {"event": event, "status": status, "monitor": self.monitor.name, **more}


def next_beat(last: float, interval: float, now: float) -> float:
    """When the next run starts: a whole number of intervals after the last start, and not before now."""
    return last + max(1, math.ceil((now - last) / interval)) * interval


def broken(monitor: Monitor, name: str, value: float) -> dict[Condition, str]:
    """Which of a monitor's conditions a number breaks, each with a line that says so."""
    threshold, metric = monitor.threshold, monitor.metric
    why = _over(threshold, value) if threshold is not None and threshold.metric == name else {}
    if metric is not None and metric.name == name:
        why |= _outside(metric, value)
    return {(name, condition): f"{name} is {value:g}{detail}" for condition, detail in why.items()}


def _over(threshold: Threshold, value: float) -> dict[str, str]:
    limit = f"{threshold.operator} {threshold.value:g}"
    none = {} if math.isfinite(value) else {_NO_NUMBER: ""}
    if threshold.operator == "nan":
        return none
    if none:
        return none | {limit: ""}
    return {limit: f" ({limit})"} if _OPERATORS[threshold.operator](value, threshold.value) else {}


def _outside(metric: Metric, value: float) -> dict[str, str]:
    low, high = metric.min, metric.max
    if low is None and high is None:
        return {}
    if not math.isfinite(value):
        return {_NO_NUMBER: ""}
    if low is not None and value < low:
        return {"min": f", below min {low:g}"}
    if high is not None and value > high:
        return {"max": f", above max {high:g}"}
    return {}


def _same(one: float | None, other: float) -> bool:
    return one == other or (one is not None and math.isnan(one) and math.isnan(other))
