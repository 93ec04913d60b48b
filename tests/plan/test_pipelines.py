"""Which shell commands pass whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.shapes.pipelines import ending_filter


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("cat config.yaml | head -20", "head"),
        ("ps aux | grep train | head -1", "head"),
        ("echo $KEY | head -c 10", "head"),
        ("make && cat x | /usr/bin/tail -1", "tail"),
        ("cat x | LC_ALL=C sort", "sort"),
        ("cat x 2>&1 | wc -l 2>/dev/null", "wc"),
        ("cat x |& tee log", "tee"),
        ("(cat a; cat b) | sort", "sort"),
        ("(cat a | head)", "head"),
        ("cat x | head;", "head"),
        ("cat x | head # the first lines", "head"),
        ("cat x |\n  head", "head"),
        ("cat x \\\n  | head", "head"),
        ("echo `date` | tr a b", "tr"),
        ("cat x | >out head", "head"),
        ("cat x | awk '{print $1}'", "awk"),
    ],
)
def test_pipelines_that_end_in_a_filter(command: str, program: str) -> None:
    assert ending_filter(command) == program


@pytest.mark.parametrize(
    "command",
    [
        "",
        "head -1 x",
        "df -h . | grep -E '^/'",
        "echo 'a | head'",
        'echo "a | head"',
        "echo a \\| head",
        "echo a # | head",
        "echo `cat x | head`",
        "test -n $(cat x | head)",
        'test -n "$(cat x | head)"',
        "diff <(cat a | sort) b",
        "cat x | head && test -s y",
        "cat x | head; test -s y",
        "cat x | head\ntest -s y",
        "cat x | head || exit 1",
        "false || head x",
        "set -o pipefail; cat x | head",
        "cat x | awk '{n++} END {exit n < 5}'",
        "cat x | sort -c",
        "cat x | sed '/bad/q1'",
        "cat <<END | head\nx\nEND",
        "cat x | xargs head",
        "cat x | header",
    ],
)
def test_commands_whose_exit_code_says_something(command: str) -> None:
    assert ending_filter(command) is None


@given(st.text(alphabet="ab |&;()<>$'\"`\\#\n2head", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gets_an_answer(command: str) -> None:
    assert ending_filter(command) in (None, "head")
