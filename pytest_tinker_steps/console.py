"""Printing steps to pytest's terminal: live blocks, one line each, or pytest's own dots."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .plan.model import Step
from .report import lines, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _pytest._io import TerminalWriter
    from _pytest.terminal import TerminalReporter

    from .record.frozen import Frozen

COLOURS = {"✓": "green", "✗": "red", "!": "yellow", "?": "yellow", "·": "yellow"}
MARK = re.compile(rf"\s*(?:\[[A-Z -]+\] )?([{''.join(COLOURS)}])(?: |$)")
"""A mark where lines have theirs: what else stands in a line says nothing about its colour."""

PASSING = ("progress", "waiting")
"""Events whose line the next one of their kind replaces."""
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 60.0
"""Seconds between two such lines where they cannot be painted over; the pauses double."""

STILL = re.compile(r"(?:\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))*")
"""Sequences that move no cursor: pytest tells terminals by them how far it is."""


@dataclass(slots=True)
class _Passing:
    """The passing lines of one step where all lines stay.

    Attributes:
        unsaid: the newest, as long as it was not printed.
        said: the last one that was.
        due: when the next may be, on the monotonic clock.
        pause: seconds until the one after it.
    """

    unsaid: str = ""
    said: str = ""
    due: float = 0.0
    pause: float = FIRST_PAUSE

    def take(self, text: str) -> bool:
        """Whether a new line is to be printed now."""
        moment = time.monotonic()
        if moment < self.due or text == self.said:
            self.unsaid = text
            return False
        self.unsaid, self.said = "", text
        self.due = moment + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return True

    @property
    def rest(self) -> list[str]:
        """The last line, if it was not printed."""
        return [self.unsaid] if self.unsaid not in ("", self.said) else []


class _LastLine:
    """One line of a terminal that is painted over, below all that is written there.

    As long as it stands, whatever is written by pytest's writer takes it away first: what pytest prints comes
    out whole, even a line that it prints piece by piece.

    Args:
        uncaptured: lets through what is written to the terminal.
    """

    def __init__(self, uncaptured: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._uncaptured = uncaptured
        self._lock = threading.RLock()  # a clock paints in a thread of its own
        self._writer: TerminalWriter | None = None  # watched
        self._originals: dict[str, Callable[..., None]] = {}
        self._away = False
        self._stays = ""  # painted again behind what is written
        self._cells = 0  # painted now
        self._columns = 0  # of the terminal, when it was painted
        self._column = 0  # where the cursor stood in the line above
        self._unsure = False  # whether nobody can tell where it stands

    def paint(self, writer: TerminalWriter, text: str, *, stays: bool) -> None:
        """Paint the line over the one before; one that stays comes again behind what is written meanwhile."""
        with self._lock:
            self._stays = text if stays else ""
            if self._writer is None:
                self._watch(writer)
            if not self._away:
                self._paint(writer, text)

    def end(self) -> None:
        """Take the line away for good."""
        with self._lock:
            self._stays = ""
            with self.away():
                pass

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Have no such line while something else is written."""
        with self._lock:
            writer = self._writer
            if writer is None or self._away:
                yield
                return
            self._erase(writer)
            self._away = True
            try:
                yield
            finally:
                self._away = False
                if self._stays:
                    self._paint(writer, self._stays)
                else:
                    vars(writer).update(self._originals)
                    self._writer = None

    def _watch(self, writer: TerminalWriter) -> None:
        self._writer = writer
        self._originals = {"write": writer.write, "write_raw": writer.write_raw}
        vars(writer).update({"write": self._write, "write_raw": self._write_raw})

    def _write(self, msg: str, **more: Any) -> None:
        with self.away():
            self._unsure = self._unsure and "\n" not in msg
            self._originals["write"](msg, **more)

    def _write_raw(self, msg: str, **more: Any) -> None:
        with self._lock:
            # The writer itself takes no note of what was not written by its other method.
            self._unsure = self._unsure or not (self._away or STILL.fullmatch(msg))
            with self.away():
                self._originals["write_raw"](msg, **more)

    def _paint(self, writer: TerminalWriter, text: str) -> None:
        with self._uncaptured():
            columns = side_by_side.columns_of(writer._file)
            if columns != self._columns:
                self._erase(writer)
            if not self._cells:
                column = side_by_side.column(writer._current_line, columns)
                if column is None or self._unsure:
                    return
                self._column, self._columns = column, columns
            shown = side_by_side.fit(text, max(1, columns - 1))
            encoding = getattr(writer._file, "encoding", None) or "utf-8"
            shown = shown.encode(encoding, "replace").decode(encoding)
            below = "\n" if self._column and not self._cells else ""
            taken = side_by_side.cells(shown)
            # With spaces, since a terminal without colours may know no sequences at all.
            rest = " " * (self._cells - taken)
            self._originals["write_raw"](f"{below}\r{shown}{rest}", flush=True)
            self._cells = taken

    def _erase(self, writer: TerminalWriter) -> None:
        if not self._cells:
            return
        with self._uncaptured():
            columns = side_by_side.columns_of(writer._file)
            blank = " " * min(self._cells, max(1, columns - 1))
            back = ""
            if self._column and columns == self._columns:
                back = f"\x1b[A\x1b[{self._column}C"
            elif self._column:
                # Who knows where that line is now: what comes behind it begins a line.
                writer._current_line = ""
            self._originals["write_raw"](f"\r{blank}\r{back}", flush=True)
            self._cells = 0


class Console:
    """Where the lines of steps go.

    How far a step is shows in one line that is painted over, on a terminal; elsewhere in lines whose pauses
    grow.

    Args:
        together: whether a step's lines are held back until it is settled (steps side by side).
    """

    def __init__(self, config: pytest.Config, frozen: Frozen, *, together: bool) -> None:
        self._config = config
        self._frozen = frozen
        self._together = together
        self._file = config.rootpath / frozen.nodeid
        journal = frozen.folder / frozen.journal_name
        self._journal = os.path.relpath(journal, config.invocation_params.dir)
        self._held: dict[str, list[str]] = {}
        self._passing: dict[str, _Passing] = {}
        self._last = _LastLine(lambda: self._uncaptured())
        self._writing = threading.RLock()
        self._gathered: list[str] | None = None  # what is printed together at the end
        self.verbosity = config.get_verbosity()

    @property
    def reporter(self) -> TerminalReporter | None:
        found: TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return found

    @property
    def own_result(self) -> bool:
        """Whether the block, or the one line of ``-q``, stands for pytest's letter or word."""
        return self.reporter is not None and not self._frozen.dry and self.verbosity in (0, -1)

    @property
    def _silent(self) -> bool:
        """Whether nothing is said of steps while they run."""
        return self.reporter is None or self._frozen.dry or self.verbosity < -1

    def show(self, step: Step, event: dict[str, Any]) -> None:
        """Print what people are to see of one event."""
        if self._silent:
            return
        kind = event["event"]
        if kind == "output":
            self._raw(event["text"])
            return
        if self.verbosity == -1:
            text = self._one_line(step, event)
        else:
            if self._together and "next" in event:
                event = {**event, "next": ""}  # the next one may have begun long ago
            text = list(lines.of(event, title=step.title, journal=self._journal))
        if not text:
            return
        if kind in PASSING:
            self._pass(step.id, kind, text[-1])
            return
        if step.id in self._passing and kind in ("phase", "job_ended", "attempt_finished"):
            passing = self._passing.pop(step.id)
            text = [*(() if self.repaints else passing.rest), *text]
        if self._together:
            held = self._held.setdefault(step.id, [])
            held.extend(text)
            if kind not in ("attempt_finished", "verify_finished"):
                return
            text = self._held.pop(step.id)
        self.lines(text)

    def overall(self, text: str) -> None:
        """Show how far the whole session is: on a terminal in a line that stays the last one."""
        if self._silent:
            return
        if not self.paints_overall:
            self.lines([text])
            return
        self._paint(text, stays=True)

    @property
    def paints_overall(self) -> bool:
        """Whether the line of the whole session can be painted over."""
        reporter = self.reporter
        return (
            bool(reporter and reporter.isatty)
            and os.environ.get("TERM") != "dumb"
            and not os.environ.get("CI")
        )

    def end_overall(self) -> None:
        """Take that line away."""
        self._last.end()

    @property
    def repaints(self) -> bool:
        """Whether a line can be painted over, and nobody else writes in between."""
        reporter = self.reporter
        if reporter is None or self._together or self._frozen.live or os.environ.get("TERM") == "dumb":
            return False
        return bool(reporter.isatty)

    def _pass(self, name: str, kind: str, text: str) -> None:
        passing = self._passing.setdefault(name, _Passing())
        if self.repaints:
            self._paint(text, stays=False)
        elif self._together:
            passing.unsaid = text  # of a block that is printed at its end only the last one tells something
        elif passing.take(text):
            self.lines([text])
        if kind == "waiting":
            passing.unsaid = ""  # what was waited for says itself how it ended

    def _paint(self, text: str, *, stays: bool) -> None:
        """Write a line that the next one replaces."""
        reporter = self.reporter
        assert reporter is not None
        self._last.paint(reporter._tw, text, stays=stays)

    def _one_line(self, step: Step, event: dict[str, Any]) -> list[str]:
        if event["event"] in ("unticked", "tick_failed"):
            return list(lines.of(event))
        if event["event"] not in ("attempt_finished", "verify_finished") or not event.get("final", True):
            return []
        mark = lines.MARKS.get(event["status"], "✗")
        why = f": {event['message']}" if event.get("message") else ""
        return [f"{mark} step_{step.id} {step.title}{why} [{lines.duration(event['seconds'])}]"]

    def lines(self, text: list[str]) -> None:
        """Print whole lines, past pytest's capture."""
        if self.reporter is None or not text:
            return
        with self._writing:
            if self._gathered is None:
                self._print(text)
            else:
                self._gathered += text

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Print what is said meanwhile in one go, at the end."""
        with self._writing:
            gathered: list[str] = []
            self._gathered = gathered
            try:
                yield
            finally:
                self._gathered = None
                self.lines(gathered)

    def catch_up(self) -> None:
        """Print now what was said meanwhile: somebody else is about to print."""
        if self._gathered:
            text, self._gathered[:] = [*self._gathered], []
            self._print(text)

    def _print(self, text: list[str]) -> None:
        reporter = self.reporter
        assert reporter is not None
        with self._last.away(), self._uncaptured():
            reporter.ensure_newline()
            if reporter._tw.width_of_current_line:
                reporter._tw.line()  # behind the dots of other tests
            write_lines(reporter, ((line, _markup(line)) for line in text))

    def _raw(self, text: str) -> None:
        reporter = self.reporter
        assert reporter is not None
        with self._last.away(), self._uncaptured():
            reporter.ensure_newline()
            reporter.write(text, flush=True)
            if not text.endswith("\n"):
                # The next line of ours begins on a line of its own.
                reporter.currentfspath = -2

    def _uncaptured(self) -> contextlib.AbstractContextManager[Any]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()

    def begin_quietly(self) -> bool:
        """Have pytest believe that it has begun the line of a step: its block has a headline of its own.

        Returns:
            Whether `begun` is to be called behind it.
        """
        reporter = self.reporter
        if reporter is None or not self.own_result:
            return False
        reporter.ensure_newline()
        reporter.currentfspath = self._file  # a line is begun when the file changes
        return True

    def begun(self) -> None:
        """Let pytest see again what stands on the terminal."""
        reporter = self.reporter
        assert reporter is not None
        reporter.currentfspath = None


def _markup(line: str) -> dict[str, bool]:
    found = MARK.match(line)
    return {COLOURS[found[1]]: True} if found else {}


def write_lines(reporter: TerminalReporter, lines: Iterable[tuple[str, dict[str, bool]]]) -> None:
    """Write whole lines, each with its markup, at once: the terminal gathers nothing."""
    writer = reporter._tw
    ready = [f"{writer.markup(line, **markup)}\n" for line, markup in lines]
    text = "".join(ready)
    reporter.ensure_newline()
    try:
        text.encode(getattr(writer._file, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        for line in ready:  # what cannot be shown is escaped by the writer, and the line's end would be, too
            writer.line(line[:-1])
    else:
        writer.write(text)
