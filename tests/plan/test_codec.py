"""The model as plain values: whatever definitions hold comes back as it was."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import codec
from pytest_tinker_steps.plan.model import Check, Definition, Definitions, Main, Metric, Retry, Where

HERE = Where("steps.yaml", 3)
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(), below, max_size=2),
    max_leaves=4,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON_LIKE,
    bool: st.booleans(),
    int: st.integers(),
    # A whole number where a float is declared is what a file may well say.
    float: st.floats(allow_nan=False) | st.integers(),
    str: st.text() | st.sampled_from(["\ud800", "\0", "☃"]),
    type(None): st.none(),
}


def wild(hint: Any) -> st.SearchStrategy[Any]:
    """Anything of this type. By the hints, as the codec does it, so that fields to come are tried too."""
    kind, inside = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: either(field, hints[field.name]) for field in fields(hint)})
    if kind is Literal:
        return st.sampled_from(inside)
    if kind in (Union, types.UnionType):
        return st.one_of(*map(wild, inside))
    if kind is dict:
        return st.dictionaries(st.text(), wild(inside[1]), max_size=2)
    if kind is tuple and inside[1:] == (...,):
        return st.lists(wild(inside[0]), max_size=2).map(tuple)
    if kind is tuple:
        return st.tuples(*map(wild, inside))
    return SCALARS[hint]


def either(field: Any, hint: Any) -> st.SearchStrategy[Any]:
    if field.default_factory is not MISSING:
        return st.builds(field.default_factory) | wild(hint)
    return wild(hint) if field.default is MISSING else st.just(field.default) | wild(hint)


def through_json(value: Any) -> Any:
    return codec.decode(type(value), json.loads(json.dumps(codec.encode(value))))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(wild(Definitions))
def test_wild_definitions_come_back_as_they_were(definitions: Definitions) -> None:
    back = through_json(definitions)
    assert back == definitions
    assert repr(back) == repr(definitions)  # 1, 1.0 and True are equal, and print differently


def test_a_field_with_its_default_is_left_out() -> None:
    definition = Definition("step_1", "1", HERE, main=Main(kind="command", command="make"))
    assert codec.encode(definition) == {
        "key": "step_1",
        "step": "1",
        "where": {"path": "steps.yaml", "line": 3},
        "main": {"kind": "command", "command": "make"},
    }


@pytest.mark.parametrize(
    "value",
    [
        Check("c", "command", HERE, timeout=30),
        Check("c", "command", HERE, critical=1),  # type: ignore[arg-type]
        Retry(attempts=1, delay=-0.0),
        Metric("loss", "x", min=float("-inf"), max=2**70),
        Main(test_first=False),
        Main(command=()),
        Definition("k", "1", HERE, needs=()),
    ],
)
def test_what_only_looks_like_a_default_is_kept(value: Any) -> None:
    assert repr(through_json(value)) == repr(value)


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no form"):
        codec.encode(Check("c", "file", HERE, probe={"path": object()}))


@dataclass(frozen=True)
class Left:
    name: str = ""


@dataclass(frozen=True)
class Right:
    name: str = ""


@dataclass(frozen=True)
class Unclear:
    side: Left | Right


@dataclass(frozen=True)
class Motley:
    pair: tuple[Left, str]


@dataclass(frozen=True)
class Strange:
    value: set[str]


@pytest.mark.parametrize("kind", [Unclear, Motley, Strange])
def test_a_type_that_its_form_does_not_tell_is_refused(kind: type) -> None:
    with pytest.raises(TypeError, match="told"):
        codec.decode(kind, {})


@pytest.mark.parametrize("form", [[], "text", {"path": "p"}, {"path": "p", "line": 1, "column": 2}])
def test_a_form_of_something_else_is_refused(form: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        codec.decode(Where, form)
