"""How far a step is: one line that is painted over on a terminal, a few lines elsewhere."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest._io.terminalwriter import TerminalWriter
from _pytest.terminal import TerminalReporter

from pytest_tinker_steps import console
from pytest_tinker_steps.console import Console

from .record.sessions import a_list, a_plan, a_session, true_steps

PLAN = a_plan(a_list("Work", "More"), true_steps(2))


class Terminal(io.StringIO):
    """A stream that may be a terminal; ``screen`` is what stands on it."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    def screen(self) -> list[str]:
        shown = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for part in line.split("\r"):
                cells[: len(part)] = part
            shown.append("".join(cells).rstrip())
        return shown


class Shown:
    """A console over a terminal, with a clock that stands still until it is moved."""

    def __init__(
        self,
        config: pytest.Config,
        monkeypatch: pytest.MonkeyPatch,
        *,
        tty: bool = False,
        together: bool = False,
        live: bool = False,
        verbosity: int = 0,
    ) -> None:
        self.moment = 1000.0
        monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: self.moment))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("NO_COLOR", "1")
        self.file = Terminal(tty)
        self.reporter = TerminalReporter(config, self.file)
        assert isinstance(self.reporter._tw, TerminalWriter)
        frozen = a_session(PLAN, folder=Path("/plan"), live=live)
        self.console = Console(config, frozen, together=together)
        monkeypatch.setattr(Console, "reporter", property(lambda _: self.reporter))
        monkeypatch.setattr(Console, "_uncaptured", lambda _: contextlib.nullcontext())
        self.console.verbosity = verbosity

    def event(self, event: str, **more: Any) -> None:
        who = {"step": "1", "task_id": "task_1_1a2b3c4d", "status": ""}
        self.console.show(PLAN.steps[0], {"event": event, **who, **more})

    def progress(self, *counts: int, every: float = 1.0) -> None:
        for done in counts:
            self.event("progress", done=done, total=100, rate=0.0)
            self.moment += every

    def waiting(self, *seconds: int) -> None:
        for number in seconds:
            self.event("waiting", job="1", seconds=float(number), progress=None)
            self.moment += 1

    def ends(self) -> None:
        self.event("phase", phase="main", status="passed", seconds=2.0)

    def finishes(self) -> None:
        self.event("attempt_finished", status="passed", seconds=2.0, next="")

    def text(self) -> str:
        return self.file.getvalue()

    def lines(self, word: str = "[MAIN]") -> list[str]:
        return [line for line in self.text().split("\n") if word in line]


@pytest.fixture
def shown(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda **more: Shown(pytestconfig, monkeypatch, **more)


# -- on a terminal


def test_on_a_terminal_progress_is_one_line_that_the_next_real_one_replaces(shown: Any) -> None:
    made = shown(tty=True)
    made.progress(5, 10, 7)
    assert made.file.screen() == ["[MAIN] 7/100 [7%]"]
    assert "\n" not in made.text()
    made.event("note", text="x")
    assert made.file.screen() == ["[MAIN] x", ""]
    made.progress(50)
    made.ends()
    assert made.file.screen() == ["[MAIN] x", "[MAIN] ✓ [2.0s]", ""]


def test_a_wait_is_painted_over_as_well(shown: Any) -> None:
    made = shown(tty=True)
    made.waiting(1, 2, 3)
    assert made.file.screen() == ["[WAIT] step 1's job: 3.0s"]
    made.event("job_ended", status="passed", seconds=4.0)
    assert made.file.screen() == ["[JOB] ✓ step 1's job ended well after 4.0s", ""]


def test_a_line_longer_than_the_terminal_does_not_wrap(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shown(tty=True)
    monkeypatch.setattr(TerminalWriter, "fullwidth", 12)
    made.progress(5)
    assert made.file.screen() == ["[MAIN] 5/10"]


def test_a_painted_line_begins_below_the_dots_of_other_tests(shown: Any) -> None:
    made = shown(tty=True)
    made.reporter.write("..")
    made.progress(5, 6)
    made.ends()
    assert made.file.screen() == ["..", "[MAIN] ✓ [2.0s]", ""]


def test_a_terminal_that_knows_nothing_is_not_painted_on(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shown(tty=True)
    monkeypatch.setenv("TERM", "dumb")
    made.progress(5, 6)
    assert made.text() == "[MAIN] 5/100 [5%]\n"


def test_nothing_is_painted_over_the_output_of_the_main(shown: Any) -> None:
    made = shown(tty=True, live=True)
    made.event("output", text="epoch 1")
    made.progress(5, 6)
    made.event("output", text="epoch 2\n")
    assert made.text() == "epoch 1\n[MAIN] 5/100 [5%]\nepoch 2\n"


# -- elsewhere


def test_elsewhere_the_pauses_between_lines_grow_and_the_last_one_is_printed(shown: Any) -> None:
    made = shown()
    moments = []
    for second in range(1, 301):
        before = made.text()
        made.progress(second // 4)
        if made.text() != before:
            moments.append(second)
    assert moments == [1, 11, 31, 71, 131, 191, 251]
    made.progress(99)
    made.ends()
    assert made.lines()[-2:] == ["[MAIN] 99/100 [99%]", "[MAIN] ✓ [2.0s]"]


def test_a_last_line_that_stands_there_is_not_repeated(shown: Any) -> None:
    made = shown()
    made.progress(100, 100)
    made.ends()
    assert made.lines() == ["[MAIN] 100/100 [100%]", "[MAIN] ✓ [2.0s]"]


def test_what_else_is_printed_does_not_bring_the_newest_progress_along(shown: Any) -> None:
    made = shown()
    made.progress(5, 6, 7)
    made.event("note", text="x")
    assert made.lines() == ["[MAIN] 5/100 [5%]", "[MAIN] x"]


def test_the_next_attempt_is_shown_from_its_beginning(shown: Any) -> None:
    made = shown()
    for _ in range(2):
        made.progress(5, 6)
        made.ends()
    assert [line for line in made.lines() if "/" in line] == 2 * ["[MAIN] 5/100 [5%]", "[MAIN] 6/100 [6%]"]


def test_elsewhere_a_wait_says_at_intervals_that_it_goes_on(shown: Any) -> None:
    made = shown()
    made.waiting(*range(1, 40))
    made.event("job_ended", status="passed", seconds=40.0)
    assert [line.rpartition(" ")[2] for line in made.lines("[WAIT]")] == ["1.0s", "11.0s", "31.0s"]


# -- steps side by side, and quiet


def test_of_a_block_only_the_last_progress_is_kept(shown: Any) -> None:
    made = shown(together=True, tty=True)
    made.progress(*range(1, 60), every=10.0)
    made.waiting(1, 2)
    made.event("note", text="x")
    made.progress(70, 99)
    made.ends()
    assert made.text() == ""
    made.finishes()
    assert made.lines() == ["[MAIN] x", "[MAIN] 99/100 [99%]", "[MAIN] ✓ [2.0s]"]
    assert "[WAIT]" not in made.text()


def test_a_quiet_session_shows_no_progress(shown: Any) -> None:
    made = shown(tty=True, verbosity=-1)
    made.progress(5, 6)
    made.ends()
    assert made.text() == ""
