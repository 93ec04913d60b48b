"""Which of the ready steps goes first, and which waits for what it takes."""

from __future__ import annotations

from typing import Any

from pytest_tinker_steps.plan import graph
from pytest_tinker_steps.record.frozen import Frozen

from .record.sessions import a_list, a_plan, a_session
from .test_scheduling import MockNode, Session, frozen


def pooled(*more: str, pools: str = "gpu: 1, tinker: 4", needs: str = "[]") -> Frozen:
    """A session over steps with what is given of each; none waits for another one."""
    texts = [f"step_{n}: {{main: 'true', needs: {needs}, {text}}}\n" for n, text in enumerate(more, start=1)]
    plan = a_plan(a_list(*("Work" for _ in more)), f"pools: {{{pools}}}\n{''.join(texts)}")
    return a_session(plan)


def busy(session: Session) -> dict[str, list[str]]:
    """What each worker has now."""
    given: Any = session.scheduling._given
    return {
        node.gateway.id: [name.removeprefix("SPEC.md::step_") for name in ids] for node, ids in given.items()
    }


# -- the longest chain first


def test_the_step_with_the_longest_chain_behind_it_goes_first() -> None:
    session = Session(frozen(5, {1: "", 2: "", 3: "", 4: "3", 5: "4"}), nodes=1)
    assert session.running(session.nodes[0]) == ["3"]


def test_steps_of_equal_urgency_go_in_list_order() -> None:
    session = Session(frozen(3, {1: "", 2: "", 3: ""}), nodes=2)
    assert busy(session) == {"gw0": ["1"], "gw1": ["2"]}


def test_what_took_long_before_goes_before_what_was_short() -> None:
    known = frozen(4, {1: "", 2: "", 3: "", 4: "2"})
    session = Session(known, nodes=0)
    session.seconds = {"1": 5.0, "3": 60.0, "4": 20.0}
    node = MockNode()
    session.scheduling._wanted = 1
    session.join(node)
    order = []
    while not session.scheduling.tests_finished:
        order += session.running(node)
        session.end(node)
    assert order == ["3", "2", "4", "1"], "60; 1 and 20 behind it; 20; 5"


# -- pools


def test_a_step_waits_for_its_pool_and_another_one_goes_before_it() -> None:
    session = Session(pooled("resources: {gpu: 1}", "resources: {gpu: 1}", "on_failure: fail"), nodes=2)
    first, second = session.nodes
    assert busy(session) == {"gw0": ["1"], "gw1": ["3"]}
    assert session.scheduling.held() == (session.frozen.by_id["2"], "pool gpu: 1 of 1 taken by step_1", 1)
    session.end(second)
    assert busy(session) == {"gw0": ["1"], "gw1": []}, "it waits, and nobody gives up"
    session.end(first)
    assert busy(session) == {"gw0": ["2"], "gw1": []}


def test_a_pool_is_given_out_in_parts() -> None:
    session = Session(pooled(*["resources: {tinker: 2}"] * 3, "resources: {tinker: 1}"), nodes=4)
    assert busy(session) == {"gw0": ["1"], "gw1": ["2"], "gw2": [], "gw3": []}
    session.end(session.nodes[0])
    assert busy(session) == {"gw0": ["3"], "gw1": ["2"], "gw2": [], "gw3": []}


def test_a_failed_step_gives_back_what_it_took() -> None:
    session = Session(pooled("resources: {gpu: 1}", "resources: {gpu: 1}"), nodes=1)
    session.end(session.nodes[0], "failed")
    assert session.running(session.nodes[0]) == ["2"]


def test_an_exclusive_step_runs_when_nothing_else_does_and_nothing_runs_beside_it() -> None:
    session = Session(pooled("on_failure: fail", "exclusive: true", "on_failure: fail"), nodes=2, tests=4)
    first, second = session.nodes
    seen = []
    while not session.scheduling.tests_finished:
        now = [name for names in busy(session).values() for name in names]
        seen.append(now)
        assert "2" not in now or now == ["2"]
        session.end(first if busy(session)["gw0"] else second)
    assert ["2"] in seen


def test_what_a_dead_worker_took_is_free_again() -> None:
    session = Session(pooled("resources: {gpu: 1}", "resources: {gpu: 1}"), nodes=2)
    session.die(session.nodes[0])
    session.join(MockNode("gw2"))
    assert busy(session) == {"gw1": ["2"], "gw2": []}


def test_a_job_keeps_what_its_step_took_until_its_end() -> None:
    texts = (
        "pools: {gpu: 1}\n"
        "step_1: {main: {mode: background, command: 'true'}, resources: {gpu: 1}}\n"
        "step_2: {main: 'true', needs: ['1@started']}\n"
        "step_3: {main: 'true', needs: ['1@started'], resources: {gpu: 1}}\n"
    )
    known = a_session(a_plan(a_list("Train", "Look", "Use"), texts))
    assert known.waiting == {"1@ended"}, "somebody needs what the job has"
    session = Session(known, nodes=2, ids=[f"SPEC.md::step_{name}" for name in ("1", "2", "3", "1@ended")])
    session.end(session.nodes[0], "started")
    assert busy(session) == {"gw0": ["2"], "gw1": ["1@ended"]}
    session.end(session.nodes[0])
    session.verdicts["1"] = "passed"
    session.end(session.nodes[1])
    assert busy(session) == {"gw0": ["3"], "gw1": []}


# -- attempts whose workers died


def test_a_step_whose_worker_died_is_tried_again_by_the_next_that_is_free() -> None:
    session = Session(frozen(3, {1: "", 2: "", 3: "1"}), nodes=2)
    session.tries = {"1": 1}
    first, second = session.nodes
    assert session.die(first) is None
    assert busy(session) == {"gw1": ["2"]}
    session.end(second)
    assert busy(session) == {"gw1": ["1"]}
    session.join(MockNode("gw2"))
    assert busy(session) == {"gw1": ["1"], "gw2": []}
    assert session.running_now == {"1"}


def test_a_worker_that_waits_tries_at_once_what_another_died_in() -> None:
    session = Session(frozen(2), nodes=2)
    session.tries = {"1": 1}
    assert session.die(session.nodes[0]) is None
    assert busy(session) == {"gw1": ["1"]}


def test_a_step_whose_tries_are_used_up_has_failed_and_blocks() -> None:
    session = Session(frozen(2), nodes=1)
    session.tries = {"1": 1}
    session.die(session.nodes[0])
    again = MockNode("gw1")
    session.join(again)
    assert session.running(again) == ["1"]
    assert session.die(again) == "SPEC.md::step_1"
    session.join(MockNode("gw2"))
    assert session.skipped == [("2", "blocked by step_1 (failed)")]
    assert session.scheduling.tests_finished


# -- the queue itself


def test_a_long_queue_behind_a_pool_is_not_gone_through_again_and_again() -> None:
    known = pooled(*["resources: {gpu: 1}"] * 300, *["on_failure: fail"] * 300)
    pools = graph.Pools({"gpu": 1})
    asked = 0
    lacks = pools.lacks

    def counted(step: Any) -> str:
        nonlocal asked
        asked += 1
        return lacks(step)

    pools.lacks = counted  # type: ignore[method-assign]
    queue = graph.ReadyQueue(pools, lambda _: 1.0)
    for step in known.plan.steps:
        queue.add(step)
    taken = []
    while (found := queue.take()) is not None:
        taken.append(found.id)
    assert taken == ["1", *(str(number) for number in range(301, 601))]
    assert asked <= 2 * (len(taken) + 1)
    assert len(queue.clear()) == 299
    assert not queue
