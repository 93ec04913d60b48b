"""How far a step is: one line that is painted over on a terminal, a few lines elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest._io.terminalwriter import TerminalWriter
from _pytest.terminal import TerminalReporter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_tinker_steps import console
from pytest_tinker_steps.console import Console
from pytest_tinker_steps.report import side_by_side

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
        return screen(self.getvalue())


def screen(text: str, columns: int = 80) -> list[str]:
    """What stands on a terminal after a text, line by line; one that is too long goes on in the next."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\].*?\x1b\\|.", text, re.DOTALL):
        if token == "\n":
            row, column = row + 1, 0
        elif token == "\r":
            column = 0
        elif token == "\x1b[A":
            row -= 1
        elif token.startswith("\x1b[") and token.endswith("C"):
            column = int(token[2:-1])
        elif len(token) == 1:
            width = side_by_side.cells(token)
            if column + width > columns:
                row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
            cells = rows[row]
            cells += " " * (column + width - len(cells))
            cells[column : column + width] = [token, *[""] * (width - 1)]
            column += width
        assert row >= 0, "above the screen"
        rows += [[] for _ in range(row + 1 - len(rows))]
    return ["".join(cells).rstrip() for cells in rows]


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
        monkeypatch.delenv("CI", raising=False)
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


@pytest.mark.parametrize(("columns", "left"), [(12, "[MAIN] 5/10"), (40, "[MAIN] 5/100 [5%]")])
def test_a_line_longer_than_the_terminal_does_not_wrap(
    shown: Any, monkeypatch: pytest.MonkeyPatch, columns: int, left: str
) -> None:
    made = shown(tty=True)
    monkeypatch.setenv("COLUMNS", str(columns))
    made.progress(5)
    assert screen(made.text(), columns) == [left]


def test_wide_characters_take_two_cells_of_a_line(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shown(tty=True)
    monkeypatch.setenv("COLUMNS", "20")
    for text in ("日本語" * 4, "0/1 done · 日本語日本語", "日" * 30):
        made.console.overall(text)
        assert len(screen(made.text(), 20)) == 1
    assert screen(made.text(), 20) == ["日" * 9]
    made.console.end_overall()
    assert screen(made.text(), 20) == [""]


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


# -- the line of a whole session, below what pytest prints

WORDS = st.text("ab.F日é", min_size=1, max_size=30)
WRITES = st.one_of(
    st.tuples(st.just("write"), WORDS),
    st.tuples(st.just("write"), WORDS.map(lambda text: f"{text}\n{text[:3]}")),
    st.tuples(st.just("write"), WORDS.map("\r{}".format)),
    st.tuples(st.sampled_from(["line", "write_raw"]), WORDS.map("{}\n".format)),
    st.tuples(st.just("line"), st.just("")),
)
PAINTS = st.one_of(st.tuples(st.just("overall"), WORDS), st.tuples(st.just("ends"), st.just("")))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(st.one_of(WRITES, WRITES, PAINTS), max_size=25))
def test_what_pytest_prints_comes_out_as_without_the_line(shown: Any, acts: list[tuple[str, str]]) -> None:
    made, plain = shown(tty=True), shown(tty=True)
    standing = False
    for act, text in acts:
        if act == "overall":
            made.console.overall(f"{text} · 1s")
            standing = True
        elif act == "ends":
            made.console.end_overall()
            standing = False
        elif standing or act != "write_raw":  # nobody takes note of the latter without the line
            for one in (made, plain):
                getattr(one.reporter._tw, act)(text)
    made.console.end_overall()
    assert "\n".join(made.file.screen()).rstrip() == "\n".join(plain.file.screen()).rstrip()
    assert made.reporter._tw._current_line == plain.reporter._tw._current_line


def test_dots_are_not_painted_over_and_the_line_stays_below_them(shown: Any) -> None:
    made = shown(tty=True)
    made.reporter.write(".")
    made.console.overall("0/1 done")
    for letter in ".F.":
        made.reporter.write(letter)
    assert made.file.screen() == ["..F.", "0/1 done"]
    made.console.lines(["✓ step_1"])
    assert made.file.screen() == ["..F.", "✓ step_1", "0/1 done"]
    made.reporter.write_line("[gw1] node down")
    assert made.file.screen() == ["..F.", "✓ step_1", "[gw1] node down", "0/1 done"]
    made.console.end_overall()
    assert made.file.screen() == ["..F.", "✓ step_1", "[gw1] node down", ""]


def test_of_a_line_whose_end_nobody_knows_nothing_is_painted_over(shown: Any) -> None:
    made = shown(tty=True)
    made.reporter.write("a\tb")
    made.console.overall("0/1 done")
    assert made.text() == "a\tb"
    made.reporter.write("\n")
    assert made.text().endswith("\n\r0/1 done")


def test_the_progress_that_pytest_tells_the_terminal_leaves_the_line_where_it_is(shown: Any) -> None:
    made = shown(tty=True)
    made.reporter.write("..")
    made.console.overall("0/1 done")
    made.reporter.write_raw("\x1b]9;4;1;50\x1b\\")
    assert made.file.screen() == ["..", "0/1 done"]
    made.reporter.write_raw("raw")
    assert made.file.screen() == ["..raw", ""]  # the writer does not know that it stands there
    made.reporter.write("\n")
    assert made.file.screen() == ["..raw", "0/1 done"]


def test_nobody_is_watched_when_the_line_is_gone(shown: Any) -> None:
    made = shown(tty=True)
    before = made.reporter._tw.write, made.reporter._tw.write_raw
    made.console.overall("0/1 done")
    assert made.reporter._tw.write != before[0]
    made.console.end_overall()
    assert (made.reporter._tw.write, made.reporter._tw.write_raw) == before
    made.progress(5)
    made.reporter.write("x")
    assert (made.reporter._tw.write, made.reporter._tw.write_raw) == before
    assert made.file.screen() == ["x"]


def test_a_clock_of_its_own_paints_between_what_pytest_writes(shown: Any) -> None:
    made = shown(tty=True)
    made.console.overall("0/1 done · 0s")
    over = threading.Event()

    def tick() -> None:
        while not over.is_set():
            made.console.overall("0/1 done · 1s")

    clock = threading.Thread(target=tick)
    clock.start()
    for number in range(600):
        made.reporter.write(str(number % 10))
        if number % 60 == 59:
            made.reporter.write("\n")
    over.set()
    clock.join()
    made.console.end_overall()
    assert made.file.screen() == [*["0123456789" * 6] * 10, ""]


@pytest.fixture
def real() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """Both ends of a real terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as file:
        yield ours, file
    os.close(ours)


def test_the_true_width_counts_also_after_a_change(
    shown: Any, real: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shown(tty=True)
    ours, file = real

    def wide(columns: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))

    monkeypatch.setattr(made.file, "fileno", file.fileno)
    wide(30)
    made.reporter.write("..")
    made.console.overall("a" * 50)
    assert made.file.screen() == ["..", "a" * 29]
    wide(15)
    made.console.overall("b" * 50)
    painted = made.text().rpartition("\r")[2]
    assert painted.rstrip() == "b" * 14
    made.reporter.write("x")  # nobody knows where the dots are now
    assert made.reporter._tw._current_line == "x"
    wide(0)  # unknown: what else is known counts
    made.console.overall("c" * 90)
    assert "c" * 79 in made.text()
    assert "c" * 80 not in made.text()
    made.console.end_overall()


def test_only_a_mark_gives_a_line_its_colour(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shown()
    made.reporter._tw.hasmarkup = True
    made.console.overall("0/6 done · running: none · failed: none")
    made.console.lines(
        ["[STEP 1: Go!]", "[MAIN] ✓ [2.0s]", "  ? unverified: x", "! worker gw1", "  ✗ a [1.0s]"]
    )
    assert made.text().splitlines() == [
        "0/6 done · running: none · failed: none",
        "[STEP 1: Go!]",
        "\x1b[32m[MAIN] ✓ [2.0s]\x1b[0m",
        "\x1b[33m  ? unverified: x\x1b[0m",
        "\x1b[33m! worker gw1\x1b[0m",
        "\x1b[31m  ✗ a [1.0s]\x1b[0m",
    ]


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
