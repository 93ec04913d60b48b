"""Values are what frozen, slotted dataclasses are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Box, Definition, Main, Need, Where
from pytest_tinker_steps.plan.values import value


@value
class Tool:
    """Something to compare."""

    name: str
    size: int = 1
    parts: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def large(self) -> bool:
        return self.size > 10


@dataclass(frozen=True, slots=True)
class Standard:
    """The same, made by the standard library."""

    name: str
    size: int = 1
    parts: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


@value
class One:
    """With one field."""

    pair: tuple[int, int]


NAMES = ("name", "size", "parts", "notes", "colour")
some = st.integers(0, 2) | st.text(max_size=2) | st.just({})


def outcome(make: Callable[..., Any], values: list[Any], named: dict[str, Any]) -> Any:
    try:
        return asdict(make(*values, **named))
    except TypeError:
        return TypeError


@given(st.lists(some, max_size=6), st.dictionaries(st.sampled_from(NAMES), some))
def test_arguments_are_taken_and_refused_as_by_a_dataclass(values: list[Any], named: dict[str, Any]) -> None:
    assert outcome(Tool, values, named) == outcome(Standard, values, named)


@given(st.lists(some, min_size=1, max_size=3), st.lists(some, min_size=1, max_size=3))
def test_values_are_equal_and_have_one_hash_as_dataclasses_do(first: list[Any], second: list[Any]) -> None:
    assert (Tool(*first) == Tool(*second)) == (Standard(*first) == Standard(*second))
    assert repr(Tool(*first)) == repr(Standard(*first)).replace("Standard", "Tool")
    assert hash(Need("1", "started")) == hash(Need("1", "started"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Tool("a", notes={"a": "b"}))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Tool(), r"Tool\(\) is missing arguments: 'name'"),
        (lambda: Tool(size=1, colour="red"), r"Tool\(\) got an unexpected keyword argument 'colour'"),
        (lambda: Tool("a", name="b"), r"Tool\(\) got multiple values for argument 'name'"),
        (lambda: Tool("a", 1, (), {}, 2), r"Tool\(\) takes 4 arguments, and 5 were given"),
    ],
    ids=["missing", "unknown", "twice", "many"],
)
def test_a_wrong_argument_is_named(make: Callable[[], Tool], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        make()


def test_a_value_stays_as_it_is() -> None:
    tool = Tool("a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'size'"):
        tool.size = 2  # type: ignore[misc] # what is refused
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'colour'"):
        tool.colour = "red"  # type: ignore[attr-defined] # what is refused
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del tool.name
    assert not hasattr(tool, "__dict__")


def test_each_value_has_a_default_of_its_own() -> None:
    first, second = Tool("a"), Tool("a")
    first.notes["x"] = "y"
    assert second.notes == {}


def test_values_of_other_classes_are_others() -> None:
    assert Tool("a") != Standard("a")
    assert One((1, 2)) == One((1, 2)) != One((1, 3))
    assert hash(One((1, 2))) == hash(One((1, 2)))


@pytest.mark.parametrize(
    "own",
    [
        Tool("a", 20, notes={"b": "c"}),
        One((1, 2)),
        Definition("step_1", "1", Where("s", 3), main=Main("command")),
    ],
    ids=lambda own: type(own).__name__,
)
def test_values_travel_and_are_copied(own: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(own, protocol)) == own
    assert copy.copy(own) == own
    assert copy.deepcopy(own) == own


def test_what_is_made_for_dataclasses_takes_values() -> None:
    assert is_dataclass(Box)
    assert [own.name for own in fields(Need)] == ["step", "state"]
    assert replace(Tool("a"), size=20).large
    match Need("1", "ended"):
        case Need(name, "ended"):
            assert name == "1"
        case _:
            pytest.fail("its fields are not known by their places")
