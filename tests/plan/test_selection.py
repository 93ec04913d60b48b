"""The grammar of --steps."""

from __future__ import annotations

import shlex
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import building
from pytest_tinker_steps.plan.model import Definitions, Plan, PlanError
from pytest_tinker_steps.plan.selection import named, select, typed
from pytest_tinker_steps.plan.tasklist import parse


def plan(spec: str) -> Plan:
    return building.build(parse(spec.encode(), "SPEC.md"), Definitions("defs.yaml"))


def numbered(count: int) -> str:
    return "".join(f"- [ ] **STEP {number}**: Work\n" for number in range(1, count + 1))


TWENTY = plan(numbered(20))
SPEC_KIT = plan("".join(f"- [ ] T{number:03} Work\n" for number in range(1, 13)))
NESTED = plan(
    "- [ ] 1. One\n  - [ ] 1.1 A\n  - [ ] 1.2 B\n  - [ ]* 1.3 Extra\n"
    "- [ ] 2. Two\n  - [ ] 2.1 C\n  - [ ] 2.2 D\n- [ ] 3. Three\n"
)
PHASES = plan(
    "# Phase 1\n\n- [ ] T001 Work\n- [ ] T002 Work\n\n# Phase 2\n\n- [ ] T001 Work\n- [ ] T003 Work\n"
)
STRUCK = plan("- [ ] 1. One\n- [ ] ~~2. Two~~\n- [ ] 3. Three\n")
TWICE = plan("- [ ] **STEP 1**: Work\n- [ ] **STEP 2**: Work\n- [ ] **STEP 2**: Work again\n")


def ids(text: str, of: Plan, done: Collection[str] = ()) -> list[str]:
    return list(select(text, of, lambda name: name in done).ids)


def numbers(*ranges: tuple[int, int]) -> list[str]:
    return [str(number) for low, high in ranges for number in range(low, high + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", ["1"]),
        ("13", ["13"]),
        ("step_13", ["13"]),
        ("1-5", numbers((1, 5))),
        ("step_1-step_5", numbers((1, 5))),
        ("1,3-5", ["1", "3", "4", "5"]),
        (" 1 , 3 - 5 ", ["1", "3", "4", "5"]),
        ("8-", numbers((8, 20))),
        ("-8", numbers((1, 8))),
        ("5,1-3,2", numbers((1, 3), (5, 5))),
        ("7-7", ["7"]),
        ("all", numbers((1, 20))),
        ("continue", numbers((3, 20))),
        ("next:5", numbers((3, 7))),
        ("next:500", numbers((3, 20))),
        ("1,next:2", ["1", "3", "4"]),
    ],
)
def test_numbers_ranges_and_words(text: str, expected: list[str]) -> None:
    assert ids(text, TWENTY, done=["1", "2"]) == expected


@pytest.mark.parametrize(
    ("text", "of", "expected"),
    [
        ("T001-T010", SPEC_KIT, [f"T{number:03}" for number in range(1, 11)]),
        ("T011-", SPEC_KIT, ["T011", "T012"]),
        ("2.1", NESTED, ["2.1"]),
        ("1.2-2.1", NESTED, ["1.2", "1.3", "2.1"]),
        ("1", NESTED, ["1.1", "1.2"]),
        ("1-2", NESTED, ["1.1", "1.2", "1.3", "2.1", "2.2"]),
        ("1.3", NESTED, ["1.3"]),
        ("2-3", NESTED, ["2.1", "2.2", "3"]),
        ("all", NESTED, ["1.1", "1.2", "2.1", "2.2", "3"]),
        ("phase-2/T001", PHASES, ["phase-2/T001"]),
        ("phase-1/T001-phase-2/T001", PHASES, ["phase-1/T001", "T002", "phase-2/T001"]),
        ("phase-2/T001-", PHASES, ["phase-2/T001", "T003"]),
    ],
)
def test_ids_of_any_format_go_by_the_order_of_the_list(text: str, of: Plan, expected: list[str]) -> None:
    assert ids(text, of) == expected


def test_only_words_for_what_remains_may_come_to_nothing() -> None:
    everything = numbers((1, 20))
    for text in ("continue", "next:3"):
        chosen = select(text, TWENTY, everything.__contains__)
        assert (chosen.ids, chosen.remaining, chosen.text) == ((), True, text)
    assert not select("all", TWENTY, everything.__contains__).remaining


@pytest.mark.parametrize(
    ("text", "of", "message"),
    [
        ("", TWENTY, "--steps '': nothing is selected; the list has 1-20"),
        (" , ", TWENTY, "--steps ' , ': nothing is selected; the list has 1-20"),
        ("1,,2", TWENTY, "--steps 1,,2: an empty item between commas; write for example 1,3-5"),
        (
            "21",
            TWENTY,
            "--steps 21: there is no step 21; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            "3-99",
            TWENTY,
            "--steps 3-99: there is no step 99; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            "99-",
            TWENTY,
            "--steps 99-: there is no step 99; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            "-",
            TWENTY,
            "--steps -: there is no step -; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            "contineu",
            TWENTY,
            "--steps contineu: there is no step contineu; did you mean 'continue'? "
            "SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            "5-3",
            TWENTY,
            "--steps 5-3: the range 5-3 is empty, since 5 stands after 3; write 3-5",
        ),
        (
            "next:0",
            TWENTY,
            "--steps next:0: 'next:' takes a number of steps from 1, for example next:5",
        ),
        (
            "next:two",
            TWENTY,
            "--steps next:two: 'next:' takes a number of steps from 1, for example next:5",
        ),
        ("2", STRUCK, "--steps 2: step 2 is struck out (SPEC.md:2)"),
        ("1-2", STRUCK, "--steps 1-2: step 2 is struck out (SPEC.md:2)"),
        (
            "T001",
            PHASES,
            "--steps T001: T001 stands more than once (SPEC.md:3 and SPEC.md:8); "
            "write one of: phase-1/T001, phase-2/T001",
        ),
        (
            "2",
            TWICE,
            "--steps 2: step 2 stands twice, SPEC.md:2 and SPEC.md:3; give one of them another id",
        ),
        (
            "all",
            TWICE,
            "--steps all: step 2 stands twice, SPEC.md:2 and SPEC.md:3; give one of them another id",
        ),
    ],
)
def test_a_wrong_selection_is_one_line_that_says_what_exists(text: str, of: Plan, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        ids(text, of)
    assert caught.value.problems == (message,)


def test_an_id_that_repeats_does_not_disturb_the_others() -> None:
    assert ids("1", TWICE) == ["1"]


def test_the_option_that_was_meant_stands_in_the_message() -> None:
    with pytest.raises(PlanError, match="--steps-assume 21: there is no step 21"):
        select("21", TWENTY, lambda _: False, "--steps-assume")


def test_node_ids_name_steps_and_containers_in_list_order() -> None:
    assert named(["13", "2"], TWENTY).ids == ("2", "13")
    assert named(["2"], NESTED).ids == ("2.1", "2.2")


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("99", TWENTY, "SPEC.md::step_99: there is no step 99; SPEC.md has 1-20"),
        ("all", TWENTY, "SPEC.md::step_all: there is no step all; SPEC.md has 1-20"),
        ("1-3", TWENTY, "SPEC.md::step_1-3: there is no step 1-3; SPEC.md has 1-20"),
        ("2", STRUCK, "SPEC.md::step_2: step 2 is struck out (SPEC.md:2)"),
        (
            "2",
            TWICE,
            "SPEC.md::step_2: step 2 stands twice, SPEC.md:2 and SPEC.md:3; give one of them another id",
        ),
    ],
)
def test_a_node_id_is_an_id_and_nothing_else(name: str, of: Plan, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        named([name], of)
    assert caught.value.problems == (message,)


@st.composite
def lists(draw: st.DrawFn) -> Plan:
    """Lists whose ids are as confusing as the formats allow."""
    kind = draw(st.sampled_from(("numbers", "shuffled", "phases", "none", "nested")))
    count = draw(st.integers(1, 15))
    if kind == "numbers":
        return plan(numbered(count))
    if kind == "shuffled":
        order = draw(st.permutations(range(1, count + 1)))
        return plan("".join(f"- [ ] **STEP {number}**: Work\n" for number in order))
    if kind == "phases":
        return plan(
            "".join(
                f"\n# Phase {phase}{tail}\n\n" + "".join(f"- [ ] T{n:03} Work\n" for n in range(1, 4))
                for phase in range(1, 4)
                for tail in ("", "-1")
            )
        )
    if kind == "none":
        return plan("".join("- [ ] Work\n" for _ in range(count)))
    return plan("".join(f"- [ ] {n}. Work\n  - [ ] {n}.1 A\n  - [ ] {n}.2 B\n" for n in range(1, count + 1)))


@settings(deadline=None)
@given(lists(), st.data())
def test_what_is_shown_to_be_typed_selects_exactly_what_was_meant(of: Plan, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(of.steps), min_size=1))
    steps = sorted(chosen, key=lambda step: step.index)
    [word] = shlex.split(typed(steps, of), comments=True)
    assert ids(word, of) == [step.id for step in steps]


def test_what_is_to_be_typed_is_short_and_complete() -> None:
    steps = TWENTY.steps
    assert typed(steps[:5], TWENTY) == "1-5"
    assert typed(steps[::2], TWENTY) == "1,3,5,7,9,11,13,15,17,19"
    nameless = plan("- [ ] Work\n- [ ] More\n")
    assert typed(nameless.steps, nameless) == "'#1-#2'"
