"""The line that an alert shows is the one that was found."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.shapes.alert_words import pattern
from pytest_tinker_steps.run.monitoring.alerts import LONGEST_LINE, matching_line, uncoloured


@pytest.mark.parametrize(
    ("words", "text", "line"),
    [
        ("error", "all is well", None),
        ("error", "", None),
        ("error", "one\n  two error here \nthree", "two error here"),
        ("error", "error 1\nfine\nerror 2\nfine", "error 2"),
        ("nan", "10%\rloss=nan\r30%", "loss=nan"),
        ("error", "a\r\nerror\r\nb", "error"),
        ("out of memory", "so: out of\nmemory again\nrest", "so: out of\nmemory again"),
        ("/^$/", "", ""),
    ],
)
def test_the_newest_matching_line(words: str, text: str, line: str | None) -> None:
    assert matching_line(pattern(words), text) == line


@pytest.mark.parametrize("before", [0, 10, 5000])
@pytest.mark.parametrize("after", [0, 10, 5000])
def test_of_a_long_line_the_part_with_the_match_is_kept(before: int, after: int) -> None:
    text = f"first\n{'a ' * before}error{' b' * after}\nlast"
    line = matching_line(pattern("error"), text)
    assert line is not None
    assert "error" in line
    assert len(line) <= LONGEST_LINE + 2
    assert (line[0] == "…") == (before == 5000)
    assert (line[-1] == "…") == (after == 5000)
    assert "first" not in line
    assert "last" not in line


@given(st.text("ab\n\r e", max_size=600), st.sampled_from(["a", "a+", "b.*e", r"a\s+b", "$", "(?s).+"]))
def test_there_is_a_line_when_there_is_a_match(text: str, regex: str) -> None:
    found = re.compile(regex)
    line = matching_line(found, text)
    assert (line is None) == (found.search(text) is None)
    assert line is None or line.strip("…").strip() in text
    assert line is None or len(line) <= LONGEST_LINE + 2


def test_colours_do_not_stick_to_words() -> None:
    assert matching_line(pattern("error"), uncoloured("\x1b[31merror\x1b[0m: x")) == "error: x"
    assert uncoloured("plain") == "plain"
