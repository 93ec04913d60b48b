"""Boxes and definitions joined, and the order that follows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import building, forecast, graph
from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import Definitions, Need, Plan, PlanError, Step
from pytest_tinker_steps.plan.tasklist import parse

NAMES = "abcdefg"

needs_of_names = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4), max_size=7
)


def plan(spec: str, definitions: str = "") -> Plan:
    tasks = parse(spec.encode(), "SPEC.md")
    return building.build(
        tasks, load(definitions.encode(), "defs.yaml") if definitions else Definitions("defs.yaml")
    )


def boxes(*numbers: int) -> str:
    return "".join(f"- [ ] **STEP {number}**: Work {number}\n" for number in numbers)


def needs(built: Plan) -> dict[str, list[str]]:
    return {step.id: [f"{need.step}@{need.state}" for need in step.needs] for step in built.steps}


def made(needs_of: dict[str, list[str]]) -> list[Step]:
    """Steps of a list ``a, b, c...`` with needs as given; needs outside of it are left out."""
    known = parse(boxes(*range(1, 8)).encode(), "SPEC.md").boxes
    return [
        Step(name, index, known[index], None, tuple(Need(other) for other in needs_of[name]))
        for index, name in enumerate(NAMES)
        if name in needs_of
    ]


# -- what a step waits for


def test_without_needs_a_step_follows_the_one_before_it() -> None:
    assert needs(plan(boxes(1, 2, 3))) == {"1": [], "2": ["1@passed"], "3": ["2@passed"]}


def test_empty_needs_mean_that_a_step_waits_for_none_and_the_next_still_follows_it() -> None:
    built = plan(boxes(1, 2, 3), "step_2:\n  main: 'true'\n  needs: []\n")
    assert needs(built) == {"1": [], "2": [], "3": ["2@passed"]}


def test_declared_needs_replace_the_sequence_and_carry_their_state() -> None:
    built = plan(boxes(1, 2, 3), "step_3:\n  main: 'true'\n  needs: [1, '2@started']\n")
    assert needs(built)["3"] == ["1@passed", "2@started"]


def test_the_step_after_a_background_step_only_waits_for_its_start() -> None:
    built = plan(boxes(1, 2), "step_1:\n  main: {command: 'true', mode: background}\n")
    assert needs(built)["2"] == ["1@started"]


def test_nothing_waits_for_an_optional_step() -> None:
    built = plan("- [ ] 1. One\n- [ ]* 2. Two\n- [ ] 3. Three\n")
    assert needs(built) == {"1": [], "2": ["1@passed"], "3": ["1@passed"]}


def test_containers_and_struck_boxes_are_no_steps() -> None:
    built = plan("- [ ] 1. One\n  - [ ] 1.1 Inner\n- [ ] ~~2. Two~~\n- [ ] 3. Three\n")
    assert [step.id for step in built.steps] == ["1.1", "3"]


# -- mistakes


@pytest.mark.parametrize(
    ("spec", "definitions", "problems"),
    [
        (
            boxes(12, 13),
            "step_113:\n  main: 'true'\n",
            ["defs.yaml:1: step_113: there is no step 113 in SPEC.md; did you mean 13?"],
        ),
        (
            boxes(1, 2),
            "step_7:\n  main: 'true'\n",
            [
                "defs.yaml:1: step_7: there is no step 7 in SPEC.md; it has 1-2; "
                "add the step there, or take its definition out"
            ],
        ),
        (
            "- [ ] 1. One\n  - [ ] 1.1 Inner\n- [ ] ~~2. Two~~\n",
            "step_1:\n  main: 'true'\nstep_2:\n  main: 'true'\n",
            [
                "defs.yaml:1: step 1 is a container; define the steps inside it (SPEC.md:1)",
                "defs.yaml:3: step 2 is struck out (SPEC.md:3)",
            ],
        ),
        (
            "- [ ] T001 Work\n- [ ] T002 More\n",
            "step_T002:\n  main: 'true'\n  needs: [T01, Z]\n",
            [
                "defs.yaml:1: step_T002 needs step T01, which is not in SPEC.md; did you mean T001?",
                "defs.yaml:1: step_T002 needs step Z, which is not in SPEC.md; "
                "take it out, or add the step to the list",
            ],
        ),
        (
            boxes(1, 2, 3),
            "step_1:\n  main: 'true'\n  needs: [3]\nstep_2:\n  main: 'true'\n  needs: [1]\n"
            "step_3:\n  main: 'true'\n  needs: [2]\n",
            ["defs.yaml:1: needs go in a circle: step_1 -> step_3 -> step_2 -> step_1; take one of them out"],
        ),
        (
            boxes(1, 2),
            "step_1:\n  main: 'true'\n  needs: [2]\n",
            [
                "defs.yaml:1: needs go in a circle: step_1 -> step_2 -> step_1; "
                "step_2 has no needs of its own, so it follows the step before it; take one of them out"
            ],
        ),
        (
            boxes(1),
            "step_1:\n  main: 'true'\n  needs: [1]\n",
            ["defs.yaml:1: needs go in a circle: step_1 -> step_1; take one of them out"],
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_to_do(
    spec: str, definitions: str, problems: list[str]
) -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec, definitions)
    assert list(caught.value.problems) == problems


def test_ids_that_repeat_make_no_circle_and_are_a_warning_where_they_are_defined() -> None:
    built = plan(boxes(1, 2, 3, 2, 4, 2), "step_2:\n  main: 'true'\n")
    assert [need for step in built.steps for need in step.needs] == [
        Need("1"),
        Need("2"),
        Need("2"),
    ]
    assert built.warnings == (
        "defs.yaml:1: step_2 fits more than one box (SPEC.md:2 and SPEC.md:4 and SPEC.md:6), "
        "so none can run; give each an id of its own",
    )
    assert [step.definition for step in built.steps] == [None] * 6


# -- circles


@settings(deadline=None)
@given(needs_of_names)
def test_a_circle_is_found_where_there_is_one_and_its_path_is_real(needs_of: dict[str, list[str]]) -> None:
    def reaches(start: str) -> set[str]:
        found: set[str] = set()
        queue = list(needs_of.get(start, ()))
        while queue:
            name = queue.pop()
            if name not in found and name in needs_of:
                found.add(name)
                queue += needs_of[name]
        return found

    path = building.find_cycle(needs_of)
    assert bool(path) == any(name in reaches(name) for name in needs_of)
    if path:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(after in needs_of[before] for before, after in pairwise(path))


def test_a_long_chain_is_walked_without_recursion() -> None:
    chain = {str(n): [str(n + 1)] for n in range(20_000)}
    assert building.find_cycle(chain) == []
    assert len(building.find_cycle({**chain, "20000": ["0"]})) == 20_002


# -- waves


@settings(deadline=None)
@given(needs_of_names, st.sets(st.sampled_from(NAMES)))
def test_every_wave_waits_only_for_earlier_ones(needs_of: dict[str, list[str]], done: set[str]) -> None:
    # Forward needs only, so that there is no circle.
    steps = made({name: [other for other in others if other < name] for name, others in needs_of.items()})
    waves = graph.waves(steps, done.__contains__)
    level = {step.id: number for number, wave in enumerate(waves) for step in wave}
    assert level.keys() == {step.id for step in steps}
    for step in steps:
        waited = [level[n.step] for n in step.needs if n.step in level and n.step not in done]
        assert level[step.id] == max(waited, default=-1) + 1, "as early as its needs allow, and not earlier"
    assert all([s.index for s in wave] == sorted(s.index for s in wave) for wave in waves)


# -- what takes longest


def forward(needs_of: dict[str, list[str]]) -> list[Step]:
    """Steps that only need earlier ones, so that there is no circle."""
    return made({name: [other for other in others if other < name] for name, others in needs_of.items()})


weights = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 9), min_size=len(NAMES))


def chains(steps: list[Step]) -> list[list[Step]]:
    """All chains of work that end with nothing behind them, the slow way."""
    behind: dict[str, list[Step]] = {step.id: [] for step in steps}
    for step in steps:
        for need in step.needs:
            if need.step in behind:
                behind[need.step].append(step)

    def from_here(step: Step) -> list[list[Step]]:
        return [[step, *chain] for other in behind[step.id] for chain in from_here(other)] or [[step]]

    return [chain for step in steps for chain in from_here(step)]


@settings(deadline=None)
@given(needs_of_names, weights)
def test_a_rank_is_the_longest_chain_of_work_that_begins_with_a_step(
    needs_of: dict[str, list[str]], seconds: dict[str, int]
) -> None:
    steps = forward(needs_of)
    ranks = graph.ranks(steps, lambda step: seconds[step.id])
    longest: dict[str, float] = {}
    for chain in chains(steps):
        length = sum(seconds[step.id] for step in chain)
        longest[chain[0].id] = max(longest.get(chain[0].id, 0), length)
    assert ranks == longest


@settings(deadline=None)
@given(needs_of_names, weights)
def test_the_critical_path_is_a_chain_of_work_and_none_is_longer(
    needs_of: dict[str, list[str]], seconds: dict[str, int]
) -> None:
    steps = forward(needs_of)
    path = forecast.critical_path(steps, lambda step: seconds[step.id])
    possible = chains(steps)
    assert path in possible or not possible
    assert sum(seconds[step.id] for step in path) == max(
        (sum(seconds[step.id] for step in chain) for chain in possible), default=0
    )


def test_of_chains_that_are_as_long_the_critical_path_is_the_one_that_begins_first() -> None:
    steps = made({"a": [], "b": [], "c": ["a"], "d": ["b"]})
    assert [step.id for step in forecast.critical_path(steps, lambda _: 1.0)] == ["a", "c"]


# -- pools


POOLED = """
pools: {gpu: 2, seat: 1}
step_1: {main: 'true', resources: {gpu: 1}}
step_2: {main: 'true', resources: {gpu: 2, seat: 1}}
step_3: {main: 'true', exclusive: true}
step_4: {main: 'true'}
"""


def pooled() -> tuple[graph.Pools, list[Step]]:
    built = plan(boxes(1, 2, 3, 4, 5), POOLED)
    return graph.Pools(dict(built.definitions.pools)), list(built.steps)


def test_amounts_are_those_of_the_definition_and_none_without_one() -> None:
    _, steps = pooled()
    assert [graph.amounts(step) for step in steps] == [{"gpu": 1}, {"gpu": 2, "seat": 1}, {}, {}, {}]


def test_what_a_pool_lacks_is_said_with_who_has_it_until_that_is_given_back() -> None:
    pools, (one, two, _, four, _) = pooled()
    assert pools.lacks(two) == ""
    pools.take(one)
    assert pools.lacks(one) == "", "there is another one"
    assert pools.lacks(two) == "pool gpu: 1 of 2 taken by step_1"
    assert pools.lacks(four) == ""
    pools.give_back("step_1")
    assert pools.lacks(two) == ""
    pools.give_back("step_1")


def test_an_exclusive_step_waits_for_all_and_all_wait_for_it() -> None:
    pools, (one, _, three, four, undefined) = pooled()
    pools.take(four)
    assert pools.lacks(three) == "to run alone, beside step_4"
    pools.give_back("step_4")
    assert pools.lacks(three) == ""
    pools.take(three)
    assert [pools.alone] == [True]
    assert {pools.lacks(step) for step in (one, three, four, undefined)} == {"step_3 runs alone"}
    pools.give_back("step_3")
    assert [pools.alone] == [False]
    assert pools.lacks(one) == ""


def test_the_end_of_a_job_takes_nothing_and_waits_for_nothing() -> None:
    pools, (one, two, three, *_) = pooled()
    end = Step("2@ended", 1, two.box, two.definition, ends="2")
    pools.take(three)
    assert pools.lacks(end) == ""
    pools.take(end)
    pools.give_back("step_3")
    assert pools.lacks(one) == ""


def test_a_step_that_does_not_run_takes_nothing_and_waits_for_nothing() -> None:
    built = plan(boxes(1, 2, 3, 4, 5), POOLED)
    one, _, three, four, _ = built.steps
    pools = graph.Pools(dict(built.definitions.pools), lambda step: step is not four)
    pools.take(three)
    assert (pools.alone, pools.lacks(one), pools.lacks(four)) == (False, "", "")


# -- who goes next


DEMANDS = (
    "",
    ", resources: {gpu: 1}",
    ", resources: {gpu: 2}",
    ", resources: {seat: 1}",
    ", exclusive: true",
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(DEMANDS), st.integers(1, 3)), min_size=2, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_who_is_taken_early_is_who_would_be_taken_afterwards(
    wanted: list[tuple[str, int]], waits: list[bool]
) -> None:
    count = len(wanted)
    texts = (f"step_{n}: {{main: 'true'{demand}}}" for n, (demand, _) in enumerate(wanted, start=1))
    built = plan(boxes(*range(1, count + 1)), "\n".join(["pools: {gpu: 2, seat: 1}", *texts]))
    rank = {str(n): float(value) for n, (_, value) in enumerate(wanted, start=1)}
    first, *others = built.steps
    behind = [step for step, waits_for_it in zip(others, waits, strict=False) if waits_for_it]

    def begun() -> tuple[graph.Pools, graph.ReadyQueue]:
        pools = graph.Pools(dict(built.definitions.pools))
        queue = graph.ReadyQueue(pools, lambda step: rank[step.id])
        pools.take(first)
        for step in others:
            if step not in behind:
                queue.add(step)
        return pools, queue

    _, queue = begun()
    early = queue.take(above=max((rank[step.id] for step in behind), default=0.0))
    pools, queue = begun()
    pools.give_back(first.node_name)
    for step in behind:
        queue.add(step)
    late = queue.take()
    assert early in (None, late)
    if not behind and not any(demand for demand, _ in wanted):
        assert early == late, "nothing speaks against it"


def test_what_would_be_free_is_what_waits_for_nothing_else() -> None:
    steps = made({"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["d"]})
    frontier = graph.Frontier(steps)
    assert [step.id for step in frontier.would_free("a")] == ["c"]
    assert {step.id for step in frontier.would_free("a", "b")} == {"c", "d"}
    assert [step.id for step in frontier.complete("a")] == ["c"], "asking has changed nothing"
    assert [step.id for step in frontier.would_free("b")] == ["d"]
    assert list(frontier.would_free("e", "unknown")) == []


# -- what is missing, what blocks


def test_what_is_missing_includes_the_needs_of_what_is_missing_in_list_order() -> None:
    steps = made({"a": [], "b": ["a"], "c": ["b"], "d": ["c", "a"], "e": ["d"]})
    by_id = {step.id: step for step in steps}
    nothing = set[str]().__contains__
    assert graph.missing_needs(by_id["d"], by_id, ["d"], nothing) == ["a", "b", "c"]
    assert graph.missing_needs(by_id["d"], by_id, ["d"], {"b", "a"}.__contains__) == ["c"]
    assert graph.missing_needs(by_id["e"], by_id, ["e", "d"], nothing) == []


@settings(deadline=None)
@given(needs_of_names, st.sampled_from(NAMES))
def test_a_step_with_what_it_misses_misses_nothing(needs_of: dict[str, list[str]], name: str) -> None:
    full = {key: [o for o in needs_of.get(key, ()) if o < key] for key in NAMES}
    by_id = {step.id: step for step in made(full)}
    nothing = set[str]().__contains__
    chosen = [*graph.missing_needs(by_id[name], by_id, [name], nothing), name]
    assert all(graph.missing_needs(by_id[key], by_id, chosen, nothing) == [] for key in chosen)


@pytest.mark.parametrize(
    ("state", "verdict", "blocks"),
    [
        ("passed", "passed", None),
        ("passed", "started", "step_a (started)"),
        ("passed", "failed", "step_a (failed)"),
        ("passed", "warned", "step_a (warned)"),
        ("passed", None, "step_a (not run)"),
        ("started", "started", None),
        ("started", "passed", None),
        ("started", "failed", "step_a (failed)"),
        ("ended", "failed", None),
        ("ended", "warned", None),
        ("ended", "started", "step_a (started)"),
        ("ended", "blocked", "step_a (blocked)"),
    ],
)
def test_a_need_blocks_until_its_state_is_reached(
    state: str, verdict: str | None, blocks: str | None
) -> None:
    first, second = made({"a": [], "b": ["a"]})
    waiting = Step("b", 1, second.box, None, (Need("a", state),))  # type: ignore[arg-type]
    verdicts = {} if verdict is None else {first.id: verdict}
    assert graph.blocked_by(waiting, verdicts, {"a", "b"}) == blocks
    assert graph.blocked_by(waiting, verdicts, {"b"}) is None, "what is not selected was judged before"


# -- ids for people


def test_ids_are_shown_as_ranges_and_not_more_than_people_read() -> None:
    steps = plan(boxes(*range(1, 31))).steps
    assert graph.describe(steps) == "1-30"
    assert graph.describe([steps[0], *steps[2:4], steps[8]]) == "1, 3-4, 9"
    assert graph.describe(steps[::2]) == "1, 3, 5, 7, 9, 11, 13, ... (15 in all)"
    assert graph.describe([]) == ""
