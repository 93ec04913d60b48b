"""YAML as the definitions need it: lines everywhere, YAML 1.2 scalars, raw text where text is meant."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.plan.shapes.core_schema import Mode
from pytest_tinker_steps.plan.shapes.yaml_source import MAX_DEPTH, Map, Seq, read

MODES: dict[str, Mode] = {"text": "text", "items": "items", "deep": "deep"}


def value(text: str | bytes) -> Any:
    source = read(text.encode() if isinstance(text, str) else text, "f.yaml", MODES)
    assert source.problems == ()
    return source.value


def unreadable(text: str | bytes) -> str:
    with pytest.raises(PlanError) as caught:
        read(text.encode() if isinstance(text, str) else text, "f.yaml", MODES)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers that PyYAML may have."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML is built without libyaml")
    return str(request.param)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("Y", "Y"),
        ("013", 13),
        ("0o14", 12),
        ("0x1F", 31),
        ("+1", 1),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 2.10", "2.10"),
        ("!!int '7'", 7),
        ("9" * 5000, math.inf),
    ],
)
def test_scalars_follow_the_core_schema(parser: str, text: str, expected: object) -> None:
    found = value(f"a: {text}")["a"]
    assert found == expected
    assert type(found) is type(expected)


def test_keys_are_raw_text(parser: str) -> None:
    assert list(value("2.10: 1\nno: 2\n013: 3\n~: 4\n")) == ["2.10", "no", "013", "~"]


def test_text_mode_takes_scalars_and_items_as_typed(parser: str) -> None:
    assert value("text: 2.10")["text"] == "2.10"
    assert value("text: [no, 013, {a: 013}]")["text"] == ["no", "013", {"a": 13}]
    assert value("text:")["text"] is None


def test_items_mode_takes_only_items_as_typed(parser: str) -> None:
    assert value("items: false")["items"] is False
    assert value("items: [false, 1.0]")["items"] == ["false", "1.0"]


def test_deep_mode_takes_everything_below_as_it_stands(parser: str) -> None:
    assert value("deep: {a: 2.10, b: , c: null, d: {e: [1.0]}}")["deep"] == {
        "a": "2.10",
        "b": "",
        "c": "null",
        "d": {"e": ["1.0"]},
    }


def test_every_key_and_item_knows_its_line(parser: str) -> None:
    top = value("# first\na: 1\nb:\n  - x\n  - c: 2\n    d: |\n      text\n  -\n    e: 3\n")
    assert isinstance(top, Map)
    assert (top.line, top.lines) == (2, {"a": 2, "b": 3})
    below = top["b"]
    assert isinstance(below, Seq)
    assert below.lines == [4, 5, 9]
    assert below[1].lines == {"c": 5, "d": 6}


def test_alias_is_read_in_the_mode_of_its_place(parser: str) -> None:
    assert value("a: &x 2.10\ntext: *x\n") == {"a": 2.1, "text": "2.10"}
    assert value("a: &x [1.0, &y 2.0]\ntext: *x\nb: *y\n") == {"a": [1, 2], "text": ["1.0", "2.0"], "b": 2}


def test_merge_adds_what_is_not_written_out(parser: str) -> None:
    top = value("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  z: 3\n  <<: [*a, *b]\n")
    assert top["c"] == {"z": 3, "x": 1, "y": 1}
    assert top["c"].lines == {"z": 4, "x": 1, "y": 1}
    assert value("deep: {<<: &m {a: 1.0}, b: 2.0}")["deep"] == {"a": "1.0", "b": "2.0"}
    assert value("'<<': 1") == {"<<": 1}


def test_merge_of_something_else_is_a_problem(parser: str) -> None:
    source = read(b"a:\n  <<: 5\n", "f.yaml")
    assert [problem.at("f.yaml") for problem in source.problems] == [
        "f.yaml:2: '<<' takes a mapping or a list of mappings; write '<<: *name'"
    ]


def test_anchor_may_be_used_again_for_something_else(parser: str) -> None:
    assert value("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_duplicate_keys_name_both_lines(parser: str) -> None:
    source = read(b"a: 1\nb:\n  c: 1\n  'c': 2\na: 3\n", "f.yaml")
    assert [problem.at("f.yaml") for problem in source.problems] == [
        "f.yaml:4: 'c' stands already on line 3; keep one of the two",
        "f.yaml:5: 'a' stands already on line 1; keep one of the two",
    ]


@pytest.mark.parametrize(
    "text", ["a: !foo 1", "a: !!int x", "a: !!python/name:os.system x", "a: !!set {b: }"]
)
def test_tags_that_mean_nothing_here_are_problems(parser: str, text: str) -> None:
    (problem,) = read(text.encode(), "f.yaml").problems
    assert problem.at("f.yaml").startswith("f.yaml:1: the tag '!")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_and_line_endings(parser: str, encoding: str, ending: str) -> None:
    top = value(f"a: é{ending}b: ✓{ending}".encode(encoding))
    assert top == {"a": "é", "b": "✓"}
    assert top.lines == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: c: d", "f.yaml:2:5: this is not YAML: mapping values are not allowed"),
        ("a:\n\t- b", "f.yaml:2:1: this is not YAML: found character"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:"),
        ("a: 'b", "f.yaml:1:6: this is not YAML: found unexpected end of stream; close the quote"),
        (b"a: b\nc: \xff", "f.yaml:2:4: this is not UTF-8 text; "),
        ("a: \x01", "f.yaml:1:4: a control character stands here; "),
        ("--- 1\n--- 2\n", "f.yaml:2: a second YAML document starts here; "),
        ("? [a]\n: b", "f.yaml:1: a list or mapping stands as a key; "),
        ("a: *x", "f.yaml:1: there is no anchor '&x' above; "),
        ("a: 1\nb: &x [*x]", "f.yaml:2: '*x' stands inside what it names; "),
    ],
)
def test_what_is_not_yaml_gets_one_line_with_a_hint(parser: str, text: str | bytes, expected: str) -> None:
    problem = unreadable(text)
    assert problem.startswith(expected)
    assert "; " in problem
    assert "\n" not in problem


@pytest.mark.parametrize("text", ["- " * 5000, "[" * 200 + "]" * 200])
def test_deep_nesting_is_refused_and_does_not_end_the_process(parser: str, text: str) -> None:
    assert unreadable(text) == f"f.yaml:1: this is nested more than {MAX_DEPTH} levels deep; write it flatter"


def test_aliases_that_multiply_are_refused(parser: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "the aliases repeat too much of the file" in unreadable("\n".join(lines))


def test_one_anchor_used_by_a_thousand_steps_is_fine() -> None:
    text = "a: &a [{b: 1, c: 2}, {d: 3}]\n" + "".join(f"s{n}: *a\n" for n in range(1000))
    assert len(value(text)) == 1001


@given(
    st.binary(max_size=60) | st.text(alphabet="ab: -[]{},&*!|>'\"#%@\n\t?~<1.", max_size=60).map(str.encode)
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_line(text: bytes) -> None:
    try:
        read(text, "f.yaml", MODES)
    except PlanError as error:
        (problem,) = error.problems
        assert problem.startswith("f.yaml:")
        assert "\n" not in problem


TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=5)
PLAIN = st.recursive(
    TEXT | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=150, deadline=None)
def test_what_json_says_is_read_as_json_means_it(plain: object) -> None:
    assert read(json.dumps(plain).encode(), "f.yaml").value == plain
