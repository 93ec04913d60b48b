"""Runs the monitors of one main beside it, and collects what they see.

One thread sleeps until something is due; each run of a command has a short thread of its own, so that a slow
one holds up no other. What a run or a number means is decided in `sampling`, here are only the threads.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...plan.model import Monitor
from ..runner import Runs
from .alerts import uncoloured
from .sampling import NEVER, Event, Sampling
from .series import Series

OUTPUT_KEPT = 64 * 1024
"""Characters at the end of a run's output that are looked at; also the longest line of the main's."""

_ENDED_WITHIN = 9.0
"""Seconds to wait at most for commands that are being ended: TERM, KILL, and a second."""


class Monitors:
    """The monitors of one main; usable from any thread.

    Args:
        runs: starts their commands, and redacts what they print.
        cwd, env: of the commands.
        log_dir: folder for the output of the last run of each, ``monitor-<number>-<name>.log``.
        redact: applied to all texts of events.
        series: file to which every number is appended, as JSON lines.
        notify: called, from any thread, when `take` has something new.

    Attributes:
        stop_requested: set by an alert of a monitor with ``on_alert: stop``.
        stop_reason: of the first such alert, ``monitor <name>: <text>``.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        *,
        runs: Runs,
        cwd: Path,
        env: Mapping[str, str],
        log_dir: Path | None = None,
        redact: Callable[[str], str] = str,
        series: Path | None = None,
        notify: Callable[[], None] | None = None,
    ) -> None:
        self.stop_requested = threading.Event()
        self.stop_reason = ""
        self._monitors = tuple(monitors)
        self._runs = runs
        self._cwd = cwd
        self._env = env
        self._log_dir = log_dir
        self._redact = redact
        self._notify = notify
        self._listens = False
        # All that follows is guarded by the condition's lock, which is not held while a callback runs.
        self._condition = threading.Condition()
        self._begun = time.monotonic()
        self._samplings: list[Sampling] = []
        self._series = None if series is None else Series(series)
        self._events: list[Event] = []
        self._lines = _Lines()
        self._running: dict[threading.Thread, threading.Event] = {}
        self._scheduler: threading.Thread | None = None
        self._sleeps_until = NEVER
        self._stopping = False

    def start(self) -> None:
        """Begins to watch, and runs each command for the first time; called once, when the main starts."""
        with self._condition:
            if self._stopping or not self._monitors:
                return
            self._begun = time.monotonic()
            self._samplings = [Sampling(monitor, self._begun) for monitor in self._monitors]
            self._listens = any(one.reads_output or one.waits_for_output for one in self._samplings)
            self._scheduler = threading.Thread(target=self._schedule, name="monitors", daemon=True)
            self._scheduler.start()

    def stop(self) -> None:
        """Ends running commands and waits for their end; safe to call twice."""
        with self._condition:
            self._stopping = True
            self._listens = False
            for cancel in self._running.values():
                cancel.set()
            self._condition.notify_all()
            threads = [*self._running, *filter(None, [self._scheduler])]
        until = time.monotonic() + _ENDED_WITHIN
        for thread in threads:
            # A callback may be the one that stops us.
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        with self._telling() as events:
            events += self._read(self._lines.rest())
            for sampling in self._samplings:
                events += sampling.last_words()
            self._samplings = []
            if self._series is not None:
                self._series.close()
                self._series = None

    def output(self, text: str) -> None:
        """Takes the main's redacted output as it comes."""
        if not self._listens:
            return
        with self._telling() as events:
            now = time.monotonic()
            for sampling in self._samplings:
                sampling.moved(now)
            if any(one.reads_output for one in self._samplings):
                events += self._read(self._lines.feed(text))

    def metric(self, name: str, value: float) -> None:
        """Takes a number that the main reported."""
        with self._telling() as events:
            if not self._stopping:
                events += self._number(name, float(value), None)

    def take(self) -> list[dict[str, Any]]:
        """The events since the last call, in order: ``sample``, ``alert``, ``metric`` or ``ignored``."""
        with self._condition:
            events, self._events = self._events, []
        return events

    # -- inside

    @contextlib.contextmanager
    def _telling(self) -> Iterator[list[Event]]:
        """Holds the lock; what is put into the list is told when it is free again."""
        events: list[Event] = []
        with self._condition:
            yield events
            for event in events:
                self._events.append(
                    {**event, "text": self._redact(event["text"])} if "text" in event else event
                )
            for sampling in self._samplings:
                if sampling.stop_reason and not self.stop_requested.is_set():
                    self.stop_reason = self._redact(sampling.stop_reason)
                    self.stop_requested.set()
            if self._due() < self._sleeps_until:
                self._condition.notify_all()
        if events and self._notify is not None:
            self._notify()

    def _due(self) -> float:
        return min((one.due() for one in self._samplings), default=NEVER)

    def _schedule(self) -> None:
        while True:
            with self._condition:
                self._sleeps_until = self._due()
                if self._stopping:
                    return
                left = self._sleeps_until - time.monotonic()
                if left > 0:
                    self._condition.wait(None if left == NEVER else left)
                    self._sleeps_until = -NEVER
                    continue
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        with self._telling() as events:
            now = time.monotonic()
            for number, sampling in enumerate(self._samplings, 1):
                events += sampling.tick(now)
                if not self._stopping and sampling.begins(now):
                    events += self._begin(sampling, number, now)

    def _begin(self, sampling: Sampling, number: int, now: float) -> list[Event]:
        cancel = threading.Event()
        name = sampling.monitor.name
        thread = threading.Thread(
            target=self._run, args=(sampling, number, cancel), name=f"monitor {name}", daemon=True
        )
        self._running[thread] = cancel
        try:
            thread.start()
        except RuntimeError as error:  # the limit of threads is reached
            del self._running[thread]
            return sampling.not_run(str(error), now)
        return []

    def _run(self, sampling: Sampling, number: int, cancel: threading.Event) -> None:
        monitor = sampling.monitor
        assert monitor.command is not None
        kept = _Kept()
        ended, why = None, ""
        try:
            ended = self._runs.run(
                monitor.command,
                cwd=self._cwd,
                env=self._env,
                timeout=monitor.timeout,
                log=self._fresh_log(monitor, number),
                on_output=kept.add,
                cancel=cancel,
            )
        except Exception as error:
            # Whatever it is, the main and the other monitors go on; it is told when it happens again.
            why = f"{type(error).__name__}: {error}"
        with self._telling() as events:
            self._running.pop(threading.current_thread(), None)
            now = time.monotonic()
            if ended is None:
                events += sampling.not_run(why, now)
                return
            more, numbers = sampling.ended(ended, kept.text() or ended.tail, now)
            events += more
            for name, value in numbers:
                events += self._number(name, value, sampling)

    def _fresh_log(self, monitor: Monitor, number: int) -> Path | None:
        if self._log_dir is None:
            return None
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", monitor.name)[:80].strip("-.")
        log = self._log_dir / f"monitor-{number}-{slug}.log"
        # One run after the other for days would fill the disk.
        with contextlib.suppress(OSError):
            log.unlink(missing_ok=True)
        return log

    def _read(self, lines: str) -> list[Event]:
        events: list[Event] = []
        for sampling in self._samplings if lines else ():
            if sampling.reads_output:
                for name, value in sampling.numbers(lines):
                    events += self._number(name, value, sampling)
        return events

    def _number(self, name: str, value: float, source: Sampling | None) -> list[Event]:
        """Tells a number to the series and to all who watch it."""
        now = time.monotonic()
        events: list[Event] = []
        if self._series is not None and (error := self._series.add(now - self._begun, name, value)):
            events.append({"event": "ignored", "status": "warned", "text": error})
        for sampling in self._samplings:
            events += sampling.number(name, value, now, own=sampling is source)
        return events


class _Lines:
    """Makes whole lines of a text that comes in pieces; a carriage return ends one too."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        text = self._rest + text
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        if not end and len(text) > OUTPUT_KEPT:
            end = len(text)
        self._rest = text[end:]
        return uncoloured(text[:end]).replace("\r", "\n")

    def rest(self) -> str:
        text, self._rest = self._rest, ""
        return uncoloured(text)


class _Kept:
    """The end of an output that comes in pieces."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, piece: str) -> None:
        self._text = (self._text + piece)[-OUTPUT_KEPT:]

    def text(self) -> str:
        return self._text
