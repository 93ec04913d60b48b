"""Words of ``alert_on`` are found whole and nowhere else."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.shapes.alert_words import pattern, problem

LOWER = st.text(string.ascii_lowercase, min_size=1, max_size=8)
NAME = st.text(string.ascii_lowercase, min_size=2, max_size=8)
NO_LETTER = st.sampled_from([*"_ 0179.,:;=-+*/()[]{}'\"\t\n", "\u20ac"])
NO_ENDING = st.sampled_from("abdfgklmnrtw")  # letters that begin no plural


def finds(words: str, text: str) -> bool:
    return pattern(words).search(text) is not None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("error", "error"),
        ("error", "ERROR: x"),
        ("error", "RuntimeError"),
        ("error", "ErrorHandler"),
        ("error", "HTTPError"),
        ("error", "HTTPErrors"),
        ("error", "errors"),
        ("error", "ERRORS"),
        ("error", "2 errors_total"),
        ("error", "read_error_1"),
        ("error", "error2"),
        ("error", "ErrorsFound"),
        ("crash", "crashes"),
        ("loss", "losses"),
        ("retry", "retries"),
        ("zero", "zeros and zeroes"),
        ("nan", "NaN"),
        ("nan", "nan,"),
        ("nan", "loss=nan"),
        ("nan", "loss_nan 3"),
        ("nan", "isNaN()"),
        ("http", "HTTPError"),
        ("oom", "OOMKilled"),
        ("error|failed|nan", "it Failed"),
        ("error | failed", "failed"),
        ("out of memory", "CUDA out  of\nmemory"),
        ("out of memory", "Out Of Memory"),
        ("disk quota", "disk quotas"),
        ("404", "HTTP 404."),
        ("exit code 1", "exit code 1"),
        ("loss.txt", "cannot open 'loss.txt'"),
        ("über", "ÜBER"),
        ("ошибка", "ЧтоОшибка"),
    ],
)
def test_a_word_is_found(words: str, text: str) -> None:
    assert finds(words, text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("nan", "finance"),
        ("nan", "nano"),
        ("nan", "banana"),
        ("nan", "Nanometer NANOSECOND FiNance"),
        ("error", "terror"),
        ("error", "Terror"),
        ("error", "erroring"),
        ("crash", "crashs crashing"),
        ("fail", "failed"),
        ("404", "14041"),
        ("out of memory", "outofmemory"),
        ("loss.txt", "lossatxt"),
        ("é", "née"),
        ("error", ""),
    ],
)
def test_a_part_of_another_word_is_not(words: str, text: str) -> None:
    assert not finds(words, text)


@given(LOWER, NO_LETTER, NO_LETTER, st.sampled_from([str.lower, str.upper, str.title]))
def test_whatever_is_no_letter_ends_a_word(
    word: str, before: str, after: str, case: Callable[[str], str]
) -> None:
    assert finds(word, f"x{before}{case(word)}{after}x")


@given(NAME, NAME, NAME)
def test_a_change_of_case_ends_a_word(before: str, word: str, after: str) -> None:
    assert finds(word, f"{before}{word.title()}")
    assert finds(word, f"{word.title()}{after.title()}")
    assert finds(word, f"{before}{word.title()}{after.title()}")
    assert finds(word, f"{before.upper()}{word.title()}")
    assert finds(word, f"{word.upper()}{after.title()}")


@given(LOWER, NO_ENDING, NO_ENDING)
def test_letters_of_the_same_case_do_not(word: str, before: str, after: str) -> None:
    assume(word not in (before + word)[:-1] and word not in (word + after)[1:])
    for text in (f"{before}{word}", f"{word}{after}", f"{before}{word}{after}"):
        assert not finds(word, text)
        assert not finds(word, text.upper())


@given(NAME)
def test_a_plural_is_the_word(word: str) -> None:
    hissing = word.endswith(("s", "x", "z", "ch", "sh"))
    assert finds(word, f"all {word}{'es' if hissing else 's'}!")


@given(st.lists(LOWER, min_size=1, max_size=4), st.text(" \t\n\r", min_size=1), st.data())
def test_one_alternative_is_enough(words: list[str], space: str, data: st.DataObject) -> None:
    alternatives = [f"{one} {one}" for one in words]
    chosen = data.draw(st.sampled_from(words))
    assert finds("|".join(alternatives), f"- {chosen}{space}{chosen} -")


@given(st.text())
def test_every_text_has_a_problem_or_a_pattern(text: str) -> None:
    if why := problem(text):
        assert "\n" not in why
        assert "; " in why
        with pytest.raises(ValueError, match=re.escape(why)):
            pattern(text)
    else:
        assert isinstance(pattern(text), re.Pattern)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty; write words separated by |, or a /regular expression/"),
        (" \n", "is empty; write words separated by |, or a /regular expression/"),
        ("error|", "has nothing on one side of a |; write a word there, or remove the |"),
        ("a| |b", "has nothing on one side of a |; write a word there, or remove the |"),
        (
            "err.*",
            "has '*' in the word 'err.*', which is no regular expression; write /err.*/i to make it one",
        ),
        (
            "nan|loss=(nan)",
            "has '(' in the word 'loss=(nan)', which is no regular expression; "
            "write /nan|loss=(nan)/i to make it one",
        ),
        ("nan|/x/", "mixes words with '/x/'; write all of it as one /regular expression/"),
        ("/x/|/y/", "has several regular expressions; write one, with | inside of it: /this|that/"),
        ("//", "has nothing between its slashes; write a regular expression there"),
        ("/x", "begins with / and does not end with / or /i; end it so, or leave the first / out"),
        ("/x/g", "begins with / and does not end with / or /i; end it so, or leave the first / out"),
        (
            "/a(b/",
            "is not a regular expression: missing ), unterminated subpattern at character 2 behind the "
            "slash; put a backslash before a character meant as such",
        ),
        ("/a{99999999999}/", "is not a regular expression that can be used; make it smaller"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(text: str, why: str) -> None:
    assert problem(text) == why


def test_a_regular_expression_is_taken_as_written() -> None:
    assert finds("/loss=(nan|inf)/", "xloss=infx")
    assert not finds("/loss=(nan|inf)/", "LOSS=NAN")
    assert finds("/loss=(nan|inf)/i", "LOSS=NAN")
    assert finds("/^done$/", "begun\ndone\nmore")
    assert finds(r"/usr\/bin/", "/usr/bin")
    assert finds("/a/b/", "a/b")


@pytest.mark.filterwarnings("error")
def test_what_a_later_python_may_read_differently_is_not_warned_of() -> None:
    assert problem("/[[a]/") == ""
    assert finds("/[[a]/", "[")
