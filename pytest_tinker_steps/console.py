"""Printing steps to pytest's terminal: live blocks, one line each, or pytest's own dots."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from .plan.model import Step
from .report import lines

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from .record.frozen import Frozen

COLOURS = {"✓": "green", "✗": "red", "!": "yellow", "?": "yellow", "·": "yellow"}


class Console:
    """Where the lines of steps go.

    Args:
        together: whether a step's lines are held back until it is settled (steps side by side).
    """

    def __init__(self, config: pytest.Config, frozen: Frozen, *, together: bool) -> None:
        self._config = config
        self._frozen = frozen
        self._together = together
        self._held: dict[str, list[str]] = {}
        self.verbosity = config.get_verbosity()

    @property
    def reporter(self) -> TerminalReporter | None:
        found: TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return found

    @property
    def own_result(self) -> bool:
        """Whether the block, or the one line of ``-q``, stands for pytest's letter or word."""
        return self.reporter is not None and not self._frozen.dry and self.verbosity in (0, -1)

    def show(self, step: Step, event: dict[str, Any]) -> None:
        """Print what people are to see of one event."""
        if self.reporter is None or self._frozen.dry or self.verbosity < -1:
            return
        if event["event"] == "output":
            self._raw(event["text"])
            return
        if self.verbosity == -1:
            text = self._one_line(step, event)
        else:
            text = list(lines.of(event, title=step.title, journal=self._frozen.journal_name))
        if not text:
            return
        if self._together:
            held = self._held.setdefault(step.id, [])
            held.extend(text)
            if event["event"] not in ("attempt_finished", "verify_finished"):
                return
            text = self._held.pop(step.id)
        self.lines(text)

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
        reporter = self.reporter
        if reporter is None or not text:
            return
        with self._uncaptured():
            if reporter._tw.width_of_current_line:
                reporter._tw.line()  # behind the dots of other tests
            for line in text:
                markup = {colour: True for mark, colour in COLOURS.items() if mark in line[:14]}
                reporter.write_line(line, **(markup if len(markup) == 1 else {}))

    def _raw(self, text: str) -> None:
        reporter = self.reporter
        assert reporter is not None
        with self._uncaptured():
            reporter.ensure_newline()
            reporter.write(text, flush=True)
            if not text.endswith("\n"):
                # The next line of ours begins on a line of its own.
                reporter.currentfspath = -2

    def _uncaptured(self) -> contextlib.AbstractContextManager[Any]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()

    @contextlib.contextmanager
    def quiet_start(self, nodeid: str) -> Any:
        """Keep pytest from beginning a line for this item: its block has a headline of its own."""
        reporter = self.reporter
        if reporter is None or not self.own_result:
            yield
            return
        reporter.ensure_newline()
        # The reporter begins a line when the file changes; let it believe that it has begun.
        reporter.currentfspath = reporter.config.rootpath / nodeid.split("::")[0]
        yield
        reporter.currentfspath = None
