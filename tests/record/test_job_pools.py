"""Who waits for whom since jobs keep what their steps have taken: the same with workers and without."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_tinker_steps.plan import graph
from pytest_tinker_steps.plan.model import Need, PlanError
from pytest_tinker_steps.record.frozen import Frozen, Wishes

from .sessions import a_list, a_plan, a_session, decide

JOB = "main: {mode: background, command: 'true'}"
WORK = "main: 'true'"


def session(*lines: str, pools: str = "{gpu: 1}", wait: bool = False) -> Frozen:
    """A session over steps with these definitions, from the first on."""
    texts = [f"step_{number}: {{{line}}}\n" for number, line in enumerate(lines, start=1)]
    plan = a_plan(
        a_list(*(f"Work {n}" for n in range(1, len(lines) + 1))), f"pools: {pools}\n" + "".join(texts)
    )
    return a_session(plan, decide(plan, Wishes("all", wait=wait)))


def behind(frozen: Frozen) -> dict[str, list[str]]:
    """What each step waits for in the order of the pools alone."""
    return {
        name: found
        for name in frozen.selection.ids
        if (found := [need.step for need in frozen.by_id[name].needs if need.state == "over"])
    }


def test_a_step_waits_for_the_end_of_a_job_that_has_what_it_takes() -> None:
    frozen = session(
        f"needs: [], resources: {{gpu: 1}}, {JOB}",
        f"needs: [], resources: {{gpu: 1}}, {WORK}",
        f"needs: [], {WORK}",
    )
    assert behind(frozen) == {"2": ["1@ended"]}


def test_a_job_comes_behind_the_steps_above_it_that_would_not_find_enough() -> None:
    frozen = session(
        f"needs: [], {WORK}",
        f"needs: [1], resources: {{gpu: 1}}, {WORK}",
        f"needs: [], resources: {{gpu: 1}}, {JOB}",
    )
    assert behind(frozen) == {"3": ["2"]}


def test_a_step_waits_for_as_many_jobs_as_it_has_to() -> None:
    taking = "needs: [], resources: {gpu: 1}"
    frozen = session(*[f"{taking}, {JOB}"] * 3, f"{taking}, {WORK}", pools="{gpu: 3}")
    assert behind(frozen) == {"4": ["1@ended"]}


def test_nothing_that_takes_of_other_pools_waits() -> None:
    frozen = session(
        f"needs: [], resources: {{gpu: 1}}, {JOB}",
        f"needs: [], resources: {{screen: 1}}, {JOB}",
        f"needs: [], resources: {{screen: 1}}, {WORK}",
        pools="{gpu: 1, screen: 1}",
    )
    assert behind(frozen) == {"3": ["2@ended"]}


def test_everything_keeps_away_from_a_job_that_runs_alone() -> None:
    frozen = session(
        f"needs: [], {WORK}",
        f"needs: [], resources: {{gpu: 1}}, {WORK}",
        f"needs: [], exclusive: true, {JOB}",
        f"needs: [], {WORK}",
    )
    assert behind(frozen) == {"3": ["1", "2"], "4": ["3@ended"]}


def test_what_runs_alone_waits_for_every_job_above_it() -> None:
    frozen = session(f"needs: [], {JOB}", f"needs: [], exclusive: true, {WORK}", f"needs: [], {JOB}")
    assert behind(frozen) == {"2": ["1@ended"], "3": ["2"]}


def test_needs_come_before_the_order_of_the_list() -> None:
    """By the list alone each of the three would wait for one of the others: it is 2, 3, 1."""
    taking = "resources: {gpu: 1}"
    frozen = session(
        f"needs: [3], {taking}, {JOB}", f"needs: [], {taking}, {JOB}", f"needs: [], {taking}, {WORK}"
    )
    assert behind(frozen) == {"1": ["2@ended"], "3": ["2@ended"]}


@pytest.mark.parametrize("verdict", ["blocked", "failed", "passed", "not run"])
def test_the_order_holds_however_the_job_ended(verdict: str) -> None:
    frozen = session(f"needs: [], resources: {{gpu: 1}}, {JOB}", f"needs: [], resources: {{gpu: 1}}, {WORK}")
    assert frozen.blocker(frozen.by_id["2"], {"1": verdict, "1@ended": verdict}) is None


def test_a_job_that_failed_after_it_was_ready_had_started() -> None:
    frozen = session(
        f"needs: [], resources: {{gpu: 1}}, {JOB}", f"needs: ['1@started'], resources: {{gpu: 1}}, {WORK}"
    )
    failed = {"1": "failed", "1@ended": "failed"}
    assert frozen.blocker(frozen.by_id["2"], failed, {"1"}) is None
    assert frozen.blocker(frozen.by_id["2"], failed) == "step_1 (failed)", "it was never ready"


# -- whatever the plan

amounts = st.dictionaries(st.sampled_from(["gpu", "licence"]), st.integers(1, 2), max_size=2)


@st.composite
def sessions(draw: st.DrawFn) -> Frozen:
    count = draw(st.integers(2, 6))
    lines = []
    for number in range(1, count + 1):
        others = [other for other in range(1, count + 1) if other != number]
        needs = [str(need) for need in draw(st.lists(st.sampled_from(others), max_size=2, unique=True))]
        taken = ", ".join(f"{name}: {amount}" for name, amount in draw(amounts).items())
        alone = "exclusive: true, " if draw(st.integers(0, 5)) == 0 else ""
        state = draw(st.sampled_from(["", "@started", "@ended"]))
        named = ", ".join(f"'{need}{state}'" for need in needs)
        main = draw(st.sampled_from([JOB, WORK]))
        lines.append(f"needs: [{named}], resources: {{{taken}}}, {alone}{main}")
    try:
        return session(*lines, pools="{gpu: 2, licence: 2}", wait=draw(st.booleans()))
    except PlanError:
        assume(False)  # they need each other
        raise


def items(frozen: Frozen) -> list[str]:
    return [*frozen.selection.ids, *(end.id for end in frozen.ends if end.id in frozen.waiting)]


@given(sessions())
def test_one_after_the_other_never_takes_more_than_there_is(frozen: Frozen) -> None:
    pools = graph.Pools(dict(frozen.plan.definitions.pools))
    order = sorted((frozen.by_id[name] for name in items(frozen)), key=lambda step: step.index)
    seen: set[str] = set()
    for step in graph.in_turn(order):
        assert {need.step for need in step.needs}.intersection(items(frozen)) <= seen
        assert pools.lacks(step) == ""
        pools.take(step)
        seen.add(step.id)
        if step.ends:
            pools.give_back(f"step_{step.ends}")
        elif step.definition is None or step.definition.main.mode != "background":
            pools.give_back(step.node_name)


@given(sessions(), st.randoms(use_true_random=False))
def test_side_by_side_nothing_waits_for_ever_for_what_a_job_has(frozen: Frozen, random: Random) -> None:
    """A job that nobody waits for never ends here."""
    pools = graph.Pools(dict(frozen.plan.definitions.pools))
    frontier = graph.Frontier(frozen.by_id[name] for name in items(frozen))
    ready, running, over = list(frontier.ready), [], []
    while ready or running:
        able = [step for step in ready if not pools.lacks(step)]
        assert able or running, [pools.lacks(step) for step in ready]
        if able and random.choice([True, not running]):
            step = random.choice(able)
            ready.remove(step)
            pools.take(step)
            running.append(step)
            continue
        step = random.choice(running)
        running.remove(step)
        over.append(step.id)
        if step.ends or step.definition is None or step.definition.main.mode != "background":
            pools.give_back(f"step_{step.ends or step.id}")
        ready += frontier.complete(step.id)
    assert sorted(over) == sorted(items(frozen)), "and no wait is part of a circle"


def test_an_edge_to_a_step_that_passed_stays_one() -> None:
    frozen = session(f"needs: [], resources: {{gpu: 1}}, {JOB}", f"needs: [1], resources: {{gpu: 1}}, {WORK}")
    assert frozen.by_id["2"].needs == (Need("1@ended"),)
