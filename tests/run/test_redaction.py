"""No secret and no long prefix of one gets through, in whatever form or pieces it comes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.run.redaction import REPLACEMENT, Redactor, secret_values
from tests.counting import calls_of

KEY = "tml-Zq9/w+7=Kd?Xy"


def test_names_that_look_secret_are_found() -> None:
    environ = {
        "TINKER_API_KEY": "0123456789",
        "hf_token": "abcdefghij",
        "CLIENT_SECRET": "klmnopqrst",
        "PGPASSWORD_FILE": "uvwxyzuvwx",
        "KEYBOARD": "not a secret",
        "TOKENIZER": "not a secret either",
        "DB": "named by the user",
        "EMPTY_KEY": "",
        "PIN_TOKEN": "1234567",
    }
    values, short = secret_values(environ, ["DB"])
    assert values == ("0123456789", "abcdefghij", "klmnopqrst", "uvwxyzuvwx", "named by the user")
    assert short == ("PIN_TOKEN",)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY[:6],
        KEY[:-1],
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        quote(KEY, safe="")
        .replace("%2F", "%2f")
        .replace("%3D", "%3d")
        .replace("%3F", "%3f")
        .replace("%2B", "%2b"),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
    ],
)
def test_every_form_is_replaced_whole(form: str) -> None:
    assert Redactor([KEY]).text(f"<{form}>") == f"<{REPLACEMENT}>"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_longer_text_does_not_give_the_secret_back(
    before: str, encode: Callable[[bytes], bytes]
) -> None:
    shown = Redactor([KEY]).text(encode(f"{before}{KEY}:and more".encode()).decode())
    first, _, rest = shown.partition(REPLACEMENT)
    assert len(first) <= len(before) * 4 / 3 + 3
    assert len(rest) <= len(":and more") * 4 / 3 + 5
    assert REPLACEMENT not in rest


def test_a_secret_of_several_lines_is_hidden_in_json_too() -> None:
    key = 'line "one"\nline two ü\n'
    assert Redactor([key]).text(json.dumps([key])) == f'["{REPLACEMENT}"]'
    assert Redactor([key]).text(json.dumps([key], ensure_ascii=False)) == f'["{REPLACEMENT}"]'


def test_five_characters_of_a_secret_stay() -> None:
    assert Redactor([KEY]).text(KEY[:5] + "!") == KEY[:5] + "!"


def test_the_rest_of_a_secret_that_begins_inside_its_own_prefix_does_not_show() -> None:
    value = "abcdefabcdefSECRETTAIL"
    assert Redactor([value]).text("abcdef" + value + ".") == REPLACEMENT + "."


def test_half_a_character_is_not_left_over() -> None:
    # The two letters after the common prefix begin with the same byte.
    assert Redactor(["парольжжж"]).text("парользеленый") == REPLACEMENT + "зеленый"


def test_text_without_secrets_is_handed_through_as_it_is() -> None:
    text = "x" * 10 + "\ud800"
    data = text.encode("utf-8", "surrogatepass")
    redactor = Redactor([])
    assert redactor.text(text) is text
    assert redactor.stream().feed(data) is data
    assert Redactor([""]).text(text) is text


def test_text_with_stray_bytes_and_surrogates_is_redacted() -> None:
    assert Redactor([KEY]).text(f"\udcff{KEY}") == f"\udcff{REPLACEMENT}"
    assert Redactor([KEY]).text(f"\ud800{KEY}") == f"?{REPLACEMENT}"


def test_nothing_is_held_back_that_cannot_be_a_secret() -> None:
    stream = Redactor([KEY]).stream()
    assert stream.feed(b"loss 0.5\n") == b"loss 0.5\n"
    assert stream.feed(b"x tml") == b"x "
    assert stream.feed(b"l") == b"tmll"
    assert stream.close() == b""


FLOODED = [KEY, "other-secret-value", "aaaaaaaaaaaa"]


def test_there_is_no_call_for_each_line_of_a_flood() -> None:
    stream = Redactor(FLOODED).stream()
    flood = b"loss 0.123 step 42 of 5000, all is well\n" * 1600
    assert calls_of(lambda: stream.feed(flood)) < 100


def test_a_flood_of_overlapping_secrets_costs_what_its_length_asks_for() -> None:
    def seconds(length: int) -> float:
        stream = Redactor(FLOODED).stream()
        began = time.thread_time()
        stream.feed(b"a" * length)
        assert len(stream.close()) < 20
        return time.thread_time() - began

    # Of the processor, so that others on the machine take no part in it. Squared it would be 64 times.
    assert min(seconds(65536) for _ in range(3)) < 24 * min(seconds(8192) for _ in range(5))


# No letter of the replacement: a value made of those would be found in it.
LETTERS = "xyz/+ %üж\n"
values = st.lists(st.text(LETTERS, min_size=8, max_size=20), min_size=1, max_size=3)


@st.composite
def leaks(draw: st.DrawFn) -> tuple[list[str], str, list[int]]:
    """Secrets, a text full of them and their pieces, and where it is cut."""
    secrets = draw(values)
    value = st.sampled_from(secrets)
    piece = st.one_of(
        st.text(LETTERS, max_size=5),
        value,
        st.builds(lambda v, n: v[:n], value, st.integers(1, 20)),
        value.map(quote),
        value.map(lambda v: base64.b64encode(v.encode()).decode()),
        st.builds(
            lambda a, v: base64.urlsafe_b64encode(f"{a}{v}".encode()).decode(), st.text(LETTERS), value
        ),
    )
    text = "".join(draw(st.lists(piece, max_size=8)))
    cuts = draw(st.lists(st.integers(0, len(text.encode())), max_size=12))
    return secrets, text, cuts


@settings(max_examples=300, deadline=None)
@given(leaks())
def test_however_a_text_is_cut_the_output_is_that_of_the_whole(
    leak: tuple[list[str], str, list[int]],
) -> None:
    secrets, text, cuts = leak
    redactor = Redactor(secrets)
    whole = redactor.text(text)
    data = text.encode()
    borders = sorted({0, *cuts, len(data)})
    stream = redactor.stream()
    shown = b"".join(stream.feed(data[a:b]) for a, b in pairwise(borders)) + stream.close()
    assert shown == whole.encode("utf-8", "surrogateescape")
    for visible in whole.split(REPLACEMENT):
        for secret in secrets:
            assert secret[:6] not in visible


@settings(max_examples=100, deadline=None)
@given(st.text(), values)
def test_text_without_the_secrets_letters_is_unchanged(text: str, secrets: list[str]) -> None:
    plain = text.translate({ord(letter): "-" for letter in LETTERS})
    assert Redactor(secrets).text(plain) == plain
