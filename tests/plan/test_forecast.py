"""The schedule that is to be expected, worked out from past durations."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import building, forecast, graph
from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import Definition, Need, Step, Where
from pytest_tinker_steps.plan.tasklist import parse

NAMES = "abcdefg"
BOXES = parse("".join(f"- [ ] **STEP {n}**: Work\n" for n in range(1, 8)).encode(), "SPEC.md").boxes
HERE = Where("steps.yaml", 1)

seconds_of = st.fixed_dictionaries({name: st.integers(0, 9).map(float) for name in NAMES})
needs_of_names = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3), max_size=7
)
amounts_of = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))


def made(
    needs_of: Mapping[str, list[str]], takes: Mapping[str, int] | None = None, alone: str = ""
) -> list[Step]:
    """Steps whose needs are those before them; ``takes`` of the pool ``gpu``."""
    steps = []
    for index, name in enumerate(NAMES):
        if name not in needs_of:
            continue
        amount = (takes or {}).get(name)
        resources = (("gpu", amount),) if amount else ()
        definition = Definition(name, name, HERE, resources=resources, exclusive=name in alone)
        needs = tuple(Need(other) for other in dict.fromkeys(needs_of[name]) if other < name)
        steps.append(Step(name, index, BOXES[index], definition, needs))
    return steps


def built(definitions: str, count: int = 4) -> list[Step]:
    boxes = "".join(f"- [ ] **STEP {n}**: Work\n" for n in range(1, count + 1))
    return list(building.build(parse(boxes.encode(), "SPEC.md"), load(definitions.encode(), "d.yaml")).steps)


def end_of(step: Step) -> Step:
    return Step(f"{step.id}@ended", 9, step.box, step.definition, (Need(step.id, "started"),), ends=step.id)


@settings(deadline=None)
@given(needs_of_names, seconds_of)
def test_one_worker_takes_the_sum_of_all(needs_of: dict[str, list[str]], seconds: dict[str, float]) -> None:
    steps = made(needs_of)
    found = forecast.simulate(steps, lambda step: seconds[step.id], 1, {})
    assert found.seconds == sum(seconds[step.id] for step in steps)


@settings(deadline=None)
@given(needs_of_names, seconds_of, st.integers(1, 4))
def test_no_schedule_is_shorter_than_its_longest_chain_or_longer_than_list_scheduling_can_be(
    needs_of: dict[str, list[str]], seconds: dict[str, float], workers: int
) -> None:
    steps = made(needs_of)
    found = forecast.simulate(steps, lambda step: seconds[step.id], workers, {})
    longest = max(graph.ranks(steps, lambda step: seconds[step.id]).values(), default=0.0)
    total = sum(seconds[step.id] for step in steps)
    assert max(longest, total / workers) <= found.seconds + 1e-9
    assert found.seconds <= total / workers + longest * (1 - 1 / workers) + 1e-9, "Graham, 1966"


@settings(deadline=None)
@given(needs_of_names, seconds_of, amounts_of, st.sets(st.sampled_from(NAMES)), st.integers(1, 4))
def test_needs_workers_pools_and_those_that_run_alone_are_respected_at_all_times(
    needs_of: dict[str, list[str]],
    seconds: dict[str, float],
    takes: dict[str, int],
    alone: set[str],
    workers: int,
) -> None:
    steps = made(needs_of, takes, "".join(alone))
    known = {step.id: step for step in steps}
    found = forecast.simulate(steps, lambda step: seconds[step.id], workers, {"gpu": 3})
    assert found.spans.keys() == known.keys()
    for step in steps:
        start, end = found.spans[step.id]
        assert end - start == seconds[step.id]
        assert all(found.spans[need.step][1] <= start for need in step.needs if need.step in known)
        beside = [
            other
            for other in steps
            if found.spans[other.id][0] <= start < found.spans[other.id][1] and seconds[other.id]
        ]
        assert len(beside) <= workers
        assert sum(takes.get(other.id, 0) for other in beside) <= 3
        assert len(beside) < 2 or not any(other.id in alone for other in beside)


def test_the_step_with_the_longest_chain_behind_it_goes_first() -> None:
    steps = made({"a": [], "b": [], "c": ["b"]})
    found = forecast.simulate(steps, lambda _: 2.0, 1, {})
    assert list(found.spans) == ["b", "a", "c"]


def test_a_step_of_unknown_duration_takes_no_time_and_still_comes_in_its_order() -> None:
    steps = made({"a": [], "b": ["a"], "c": ["b"]})
    found = forecast.simulate(steps, lambda step: None if step.id == "b" else 5.0, 2, {})
    assert found.seconds == 10.0
    assert found.spans["b"] == (5.0, 5.0)


BACKGROUND = """
pools: {gpu: 1}
step_1: {main: {command: serve, mode: background}, resources: {gpu: 1}, needs: []}
step_2: {main: 'true', needs: ['1@started']}
step_3: {main: 'true', needs: [], resources: {gpu: 1}}
"""


def test_a_job_runs_beside_other_steps_and_keeps_what_it_took_until_its_end() -> None:
    one, two, three, _ = built(BACKGROUND)
    seconds = {"1": 60.0, "2": 20.0, "3": 7.0}
    found = forecast.simulate(
        [one, two, three, end_of(one)], lambda s: seconds[s.ends or s.id], 1, {"gpu": 1}
    )
    assert found.spans == {"1": (0, 0), "2": (0, 20), "1@ended": (20, 60), "3": (60, 67)}


def test_a_job_whose_end_nobody_waits_for_keeps_what_it_took() -> None:
    one, two, three, _ = built(BACKGROUND)
    found = forecast.simulate([one, two, three], lambda _: 5.0, 2, {"gpu": 1})
    assert found.seconds == 5.0
    assert "3" not in found.spans


def test_a_job_of_an_earlier_session_has_what_it_took_before_anything_begins() -> None:
    one, _, three, _ = built(BACKGROUND)
    found = forecast.simulate([three], lambda _: 5.0, 2, {"gpu": 1}, held=[one])
    assert found.spans == {}
    with_end = forecast.simulate([three, end_of(one)], lambda _: 5.0, 2, {"gpu": 1}, held=[one])
    assert with_end.spans == {"1@ended": (0, 5), "3": (5, 10)}


def test_the_critical_path_counts_a_job_once() -> None:
    one, two, three, four = built(BACKGROUND + "step_4: {main: 'true', needs: [1]}\n")
    seconds = {"1": 30.0, "2": 20.0, "3": 35.0, "4": 1.0}
    after = Step(four.id, 3, four.box, four.definition, (Need("1@ended"),))
    path = forecast.critical_path([one, two, three, end_of(one), after], lambda s: seconds[s.ends or s.id])
    assert [step.id for step in path] == ["3"]
    seconds["3"] = 31.0
    path = forecast.critical_path([one, two, three, end_of(one), after], lambda s: seconds[s.ends or s.id])
    assert [step.id for step in path] == ["1", "1@ended", "4"]


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_a_long_list_is_worked_out_without_recursion(count: int) -> None:
    box = BOXES[0]
    steps = [Step(str(n), n, box, None, (Need(str(n - 1)),) if n else ()) for n in range(count)]
    assert forecast.simulate(steps, lambda _: 1.0, 4, {}).seconds == count
    assert len(forecast.critical_path(steps, lambda _: 1.0)) == count
