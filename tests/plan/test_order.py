"""What comes before a step: sequence, tracks and layers, of the list and of the definitions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import building
from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import Box, Definitions, Plan, TaskList
from pytest_tinker_steps.plan.order import Order
from pytest_tinker_steps.plan.tasklist import parse


def box(key: str, track: str = "", layer: str = "", **more: object) -> Box:
    return Box(key, key, key, key, 1, 0, " ", track=track, layer=layer, **more)  # type: ignore[arg-type]


def before(*boxes: Box) -> dict[str, list[str]]:
    leaves = [one for one in boxes if not one.children and not one.struck]
    order = Order(boxes, ((one, None) for one in leaves))
    return {one.key: list(order.next(one, None)) for one in leaves}


def placed(count: int, where: Mapping[int, str]) -> dict[str, list[str]]:
    """Needs of a plain list whose definitions say track or layer."""
    spec = "".join(f"- [ ] {number}. Work\n" for number in range(1, count + 1))
    definitions = "".join(f"step_{number}:\n  main: 'true'\n  {line}\n" for number, line in where.items())
    return needs(building.build(load_list(spec), load(definitions.encode(), "steps.yaml")))


def load_list(text: str) -> TaskList:
    return parse(text.encode(), "SPEC.md")


def needs(built: Plan) -> dict[str, list[str]]:
    return {step.id: [need.step for need in step.needs] for step in built.steps}


def test_tracks_of_the_definitions_run_side_by_side_between_steps_without_one() -> None:
    found = placed(6, {2: "track: A", 3: "track: B", 4: "track: A", 5: "track: B"})
    assert found == {"1": [], "2": ["1"], "3": ["1"], "4": ["2"], "5": ["3"], "6": ["4", "5"]}


def test_layers_of_the_definitions_wait_for_all_of_the_layer_before() -> None:
    found = placed(5, {1: "layer: L0", 2: "layer: L0", 3: "layer: L1", 4: "layer: L1"})
    assert found == {"1": [], "2": [], "3": ["1", "2"], "4": ["1", "2"], "5": ["3", "4"]}


def test_layers_count_by_their_numbers_and_not_by_their_place() -> None:
    assert before(box("a", layer="L10"), box("b", layer="L2"), box("c", layer="L2")) == {
        "a": ["b", "c"], "b": [], "c": [],
    }  # fmt: skip


def test_layers_without_numbers_come_as_the_list_has_them() -> None:
    assert before(box("a", layer="ground"), box("b", layer="roof"), box("c", layer="ground")) == {
        "a": [], "b": ["a", "c"], "c": [],
    }  # fmt: skip


def test_tracks_inside_of_a_layer_are_in_sequence() -> None:
    found = before(box("a", "X", "L0"), box("b", "X", "L0"), box("c", "Y", "L0"), box("d", "X", "L1"))
    assert found == {"a": [], "b": ["a"], "c": [], "d": ["a", "b", "c"]}


def test_a_step_between_two_layers_comes_between_them() -> None:
    found = before(box("s"), box("a", layer="L0"), box("b", layer="L0"), box("gate"), box("c", layer="L1"))
    assert found == {"s": [], "a": ["s"], "b": ["s"], "gate": ["a", "b"], "c": ["a", "b", "gate"]}


def test_a_step_between_layers_out_of_place_makes_no_circle() -> None:
    found = before(box("s"), box("late", layer="L1"), box("x"), box("early", layer="L0"), box("end"))
    assert found == {"s": [], "late": ["early", "s"], "x": ["late"], "early": ["s"], "end": ["x", "early"]}


def test_nothing_waits_for_optional_steps() -> None:
    found = before(
        box("a"), box("b", "X", optional=True), box("c", "X"), box("d", optional=True), box("e"),
        box("f", layer="L1", optional=True), box("g", layer="L2"),
    )  # fmt: skip
    assert found == {
        "a": [], "b": ["a"], "c": ["a"], "d": ["c"], "e": ["c"], "f": ["e"], "g": ["e"],
    }  # fmt: skip


def test_keys_of_containers_stand_for_what_is_inside_and_struck_ones_for_nothing() -> None:
    found = before(
        box("p", children=("p1", "p2", "p3")), box("p1"), box("p2", optional=True), box("p3", struck=True),
        box("x", after=("p",)), box("y", after=()),
    )  # fmt: skip
    assert found["x"] == ["p1"]
    assert found["y"] == []


def test_neighbours_with_the_same_front_are_joined_below() -> None:
    found = before(box("a"), box("b", after=("a",)), box("c", after=("a",)), box("d", "X"), box("e"))
    assert found == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}


def test_a_step_that_is_drawn_up_does_not_free_what_is_below_of_the_steps_between() -> None:
    found = before(box("a"), box("b"), box("c", after=("a",)), box("d"))
    assert found["d"] == ["b", "c"]


def test_neighbours_inside_of_a_track_are_joined_by_the_next_of_it() -> None:
    found = before(
        box("a", "X"), box("b", "X", after=("a",)), box("c", "X", after=("a",)), box("d", "X"), box("e", "Y")
    )
    assert found == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": []}


def test_the_track_of_the_definitions_counts_in_place_of_the_list() -> None:
    boxes = (box("a", "X"), box("b", "X", after=("a",)), box("c", "X"))
    defined = load(b"step_b:\n  main: 'true'\n  track: Y\n", "steps.yaml")
    built = building.build(TaskList("SPEC.md", boxes), defined)
    assert needs(built) == {"a": [], "b": [], "c": ["a"]}
    assert [step.track for step in built.steps] == ["X", "Y", "X"]


@pytest.mark.parametrize("layer", ["", "L1"])
def test_a_step_never_waits_for_its_own_id(layer: str) -> None:
    found = building.build(
        TaskList("SPEC.md", (box("a"), box("b", layer=layer), box("b", layer="L0"), box("c"))),
        Definitions("x"),
    )
    assert all(step.id not in [need.step for need in step.needs] for step in found.steps)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "A", "B"]), st.sampled_from(["", "L0", "L1", "L2"]), st.booleans())
    )
)
def test_tracks_and_layers_never_make_a_circle(places: list[tuple[str, str, bool]]) -> None:
    boxes = tuple(box(str(at), *place[:2], optional=place[2]) for at, place in enumerate(places))
    built = building.build(TaskList("SPEC.md", boxes), Definitions("steps.yaml"))
    optional = {one.key for one in boxes if one.optional}
    assert not any(need.step in optional for step in built.steps for need in step.needs)
