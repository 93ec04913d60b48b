"""Progress is read from what programs print, and from nothing that only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.run.progress import LONGEST_LINE, ProgressReader


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (" 10%|█         | 500/5000 [00:10<01:30, 12.3it/s]", (500, 5000)),
        ("\r 10%|█         | 500/5000 [00:10<01:30, 12.3it/s]", (500, 5000)),
        ("train:  10%|#         | 500/5000 [1:00:10<9:01:30,  2.3s/it, loss=0.8]", (500, 5000)),
        ("  0%|          | 0/5000 [00:00<?, ?it/s]", (0, 5000)),
        ("100%|██████████| 10.0/10.0 [00:01<00:00, 9.98it/s]", (10, 10)),
        (" 30%|███       | 1.50k/5.00k [00:01<00:02, 1.45kit/s]", (1500, 5000)),
        (" 30%|███       | 1.50M/5.00M [00:01<00:02, 1.45MB/s]", (1.5e6, 5e6)),
        (" 30%|███       | 1.5G/5G [00:01<00:02, 1.45GB/s]", (1.5e9, 5e9)),
        ("\x1b[32m 10%|█  | \x1b[1m500\x1b[0m/5000 [00:10<01:30, 12.3it/s]\x1b[0m", (500, 5000)),
        ("500/5000 [10%]", (500, 5000)),
        ("generated 500/5000 [10.5%] 12.3/s", (500, 5000)),
    ],
)
def test_what_progress_bars_print_is_read(line: str, found: tuple[float, float]) -> None:
    assert ProgressReader().feed(line) == pytest.approx(found)


@pytest.mark.parametrize(
    "line",
    [
        "500/5000",
        "500/5000\n",
        "3/10 tests passed",
        "3/10 tests [10%]",
        "2026/11/21 [10:20] started",
        "11/21 [10:20:30] started",
        "logs/8/10 [00:10<00:20]",
        "2026/11/21 [00:10<00:20]",
        "a1/2 [50%]",
        "1.2.3/4 [50%]",
        "500/0 [00:10<00:20]",
        "600/500 [00:10<00:20]",
        "tests/test_x.py ....... [ 10%]",
        "step 3/10 [loss 0.5]",
        "http://host/3/4 [10%]",
        "",
    ],
)
def test_what_only_looks_like_progress_is_none(line: str) -> None:
    assert ProgressReader().feed(line) is None


def test_the_newest_counts() -> None:
    text = "".join(f"\r {n}%|█| {n}/100 [00:10<01:30, 12.3it/s]" for n in range(50))
    assert ProgressReader().feed(text) == (49, 100)


@given(st.lists(st.integers(1, 40), max_size=8))
def test_a_bar_is_read_however_it_is_cut(cuts: list[int]) -> None:
    text = "".join(f"\r {n}%|█| {n}00/5000 [00:10<01:30, 12.3it/s]" for n in (7, 8, 50))
    reader, found, at = ProgressReader(), [], 0
    for cut in [*cuts, len(text)]:
        found.append(reader.feed(text[at : at + cut]))
        at += cut
    numbers = [pair for pair in found if pair is not None]
    assert set(numbers) <= {(700, 5000), (800, 5000), (5000, 5000)}, "never a number without its beginning"
    assert numbers[-1] == (5000, 5000)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"step (\d+) of (\d+)", "step 7 of 20\n", (7, 20)),
        (r"step (\d+)", "step 7\n", (7, 0)),
        (r"(\d+)%", "done: 35%\n", (35, 100)),
        (r"(\d+%)", "done: 35%\n", (35, 100)),
        (r"(\S+)/(\S+) rows", "1,500/12,000 rows\n", (1500, 12000)),
        (r"(\S+) of (\S+)", "1.5k of 3M\n", (1500, 3e6)),
        (r"step (\d+)(?: of (\d+))?", "step 7\n", None),
        (r"step (\S+)", "step seven\n", None),
        (r"at (\S+)", "at -3\n", None),
        (r"at (\S+)", "at nan\n", None),
        (r"^step (\d+)", "a step 6\nstep 7\nnothing\n", (7, 0)),
        (r"step (\d+)", "step 6, step 7\n", (7, 0)),
        (r"step (\d+)", "\x1b[1mstep \x1b[32m7\x1b[0m\r", (7, 0)),
    ],
)
def test_a_pattern_of_the_users_says_what_is_done(
    pattern: str, text: str, found: tuple[float, float] | None
) -> None:
    assert ProgressReader(pattern).feed(text) == found


def test_with_a_pattern_a_bar_is_no_progress() -> None:
    assert ProgressReader(r"step (\d+)").feed("500/5000 [10%]\n") is None


def test_a_pattern_waits_for_the_end_of_its_line() -> None:
    reader = ProgressReader(r"step (\d+)")
    assert reader.feed("step 1") is None
    assert reader.feed("23") is None
    assert reader.feed("\nstep 4") == (123, 0)
    assert reader.feed("\n") == (4, 0)


def test_a_line_that_never_ends_is_not_kept() -> None:
    reader = ProgressReader()
    for _ in range(10):
        reader.feed("x" * LONGEST_LINE)
    assert len(reader._rest) == LONGEST_LINE


@given(st.text(), st.text("0123456789/[]<:%. k\r\n"))
def test_whatever_is_printed_is_read_without_an_error(any_text: str, much_like_it: str) -> None:
    for reader in (ProgressReader(), ProgressReader(r"(\S+)/(\S*)")):
        for text in (any_text, much_like_it):
            found = reader.feed(text)
            assert found is None or min(found) >= 0
