"""Which work goes to which worker, and when; workers are replaced by what was sent to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_tinker_steps.distribution import skip_reports
from pytest_tinker_steps.plan import forecast, graph
from pytest_tinker_steps.plan.model import Need, Step
from pytest_tinker_steps.record.frozen import Frozen, Wishes
from pytest_tinker_steps.scheduling import CHUNKS_PER_NODE, END_OF_TURN, UNHURRIED, StepScheduling

from .counting import calls_of
from .record.sessions import a_list, a_plan, a_session, decide, true_steps


class Gateway:
    def __init__(self, name: str) -> None:
        self.id = name


class MockNode:
    """A worker that remembers what it was sent."""

    def __init__(self, name: str = "gw0") -> None:
        self.gateway = Gateway(name)
        self.sent: list[list[int]] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.sent.append(list(indices))

    def shutdown(self) -> None:
        self.shutting_down = True


class Around:
    """What a scheduler asks of its session, answered by a test's."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def started(self) -> set[str]:
        return set()

    def verdicts(self) -> dict[str, str]:
        found: dict[str, str] = self.session.verdicts
        return found

    def report(self, nodeid: str, step: Step, reason: str) -> None:
        self.session._report(nodeid, step, reason)

    def settle(self) -> None:
        ended: dict[str, str] = getattr(self.session, "ended", {})
        self.session.verdicts.update(ended)
        ended.clear()

    def turn_ends_later(self, node: Any, seconds: float) -> bool:
        assert node in self.session.scheduling.nodes
        turns: list[float] = getattr(self.session, "turns", [])
        turns.append(seconds)
        return bool(seconds) or getattr(self.session, "later", False)

    def stopped(self) -> str:
        return getattr(self.session, "stopped", "")

    def concluded(self, step: Step) -> bool:
        return bool(self.session._concluded(step)) if hasattr(self.session, "_concluded") else False

    def crashed(self, step: Step, worker: str) -> bool:
        assert worker not in [node.gateway.id for node in self.session.scheduling.nodes], "it is gone"
        tries: dict[str, int] = getattr(self.session, "tries", {})
        if not tries.get(step.id):
            return False
        tries[step.id] -= 1
        return True

    def given(self, step: Step, node: Any) -> None:
        assert self.session.scheduling.running[step.id] == (step, node.gateway.id)

    def changed(self) -> None:
        self.session.running_now = set(self.session.scheduling.running)


class Session:
    """A scheduler with what a session has around it: verdicts, reports, workers that finish items."""

    def __init__(self, frozen: Frozen, nodes: int = 2, tests: int = 0, ids: list[str] | None = None) -> None:
        self.frozen = frozen
        steps = [f"SPEC.md::step_{name}" for name in frozen.selection.ids]
        self.ids = [*[f"test_own.py::test_{n}" for n in range(tests)], *steps] if ids is None else ids
        self.verdicts: dict[str, str] = {}
        self.ended: dict[str, str] = {}  # verdicts that do not stand yet
        self.turns: list[float] = []  # in how many seconds the ends of turns were asked for
        self.later = False  # whether more has happened that comes before the end of the turn
        self.skipped: list[tuple[str, str]] = []
        self.stopped = ""
        self.tries: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.running_now: set[str] = set()
        self.scheduling = StepScheduling(
            frozen, nodes, Around(self), lambda step: self.seconds.get(step.id, 0.0)
        )
        self.nodes = [MockNode(f"gw{number}") for number in range(nodes)]
        for node in self.nodes:
            self.join(node)

    def join(self, node: MockNode, ids: list[str] | None = None) -> None:
        """A worker starts and collects; once all have, work is given."""
        scheduling: Any = self.scheduling
        scheduling.add_node(node)
        scheduling.add_node_collection(node, self.ids if ids is None else ids)
        if scheduling.collection_is_completed:
            scheduling.schedule()

    def _report(self, nodeid: str, step: Step, reason: str) -> None:
        assert nodeid == f"SPEC.md::step_{step.id}"
        self.skipped.append((step.id, reason))
        self.verdicts[step.id] = "blocked"

    def running(self, node: MockNode) -> list[str]:
        """What a worker was sent last, without the idle item behind it."""
        assert node.sent[-1][-1] == len(self.ids), "an idle item follows each chunk"
        return [self.ids[index].removeprefix("SPEC.md::step_") for index in node.sent[-1][:-1]]

    def end(self, node: MockNode, verdict: str = "passed") -> None:
        """The worker finishes all that it was sent."""
        scheduling: Any = self.scheduling
        for index in node.sent[-1][:-1]:
            step = self.frozen.step_of(self.ids[index])
            if step is not None:
                self.ended[step.id] = verdict
            scheduling.mark_test_complete(node, index, 0.1)

    def die(self, node: MockNode) -> str | None:
        """The worker dies in its first item; the session settles that one after it has asked."""
        crashed = self.scheduling.remove_node(node)  # type: ignore[arg-type]
        step = self.frozen.step_of(crashed) if crashed else None
        if step is not None:
            self.verdicts[step.id] = "failed"
        return crashed


def frozen(
    count: int, needs: dict[int, str] | None = None, wishes: Wishes | None = None, **more: Any
) -> Frozen:
    """A session over steps that follow one another, but for those with needs of their own."""
    given = {number: f"  needs: [{text}]\n" for number, text in (needs or {}).items()}
    return defined(count, given, wishes, **more)


def defined(count: int, lines: dict[int, str], wishes: Wishes | None = None, **more: Any) -> Frozen:
    """A session over steps whose definitions have further lines."""
    ticked = more.pop("ticked", ())
    plan = a_plan(
        a_list(*(f"Work {n}" for n in range(1, count + 1)), ticked=ticked), true_steps(count, lines)
    )
    return a_session(plan, decide(plan, wishes), **more)


def side_by_side(count: int) -> Frozen:
    return frozen(count, dict.fromkeys(range(1, count + 1), ""))


# -- begin


def test_nothing_is_given_before_every_worker_has_collected() -> None:
    session = Session(side_by_side(2), nodes=0)
    scheduling: Any = StepScheduling(session.frozen, 2, Around(session))
    session.scheduling = scheduling
    first, second = MockNode("gw0"), MockNode("gw1")
    scheduling.add_node(first)
    scheduling.add_node(second)
    scheduling.add_node_collection(first, session.ids)
    assert not scheduling.collection_is_completed
    scheduling.add_node_collection(second, session.ids)
    assert scheduling.collection_is_completed
    assert scheduling.nodes == [first, second]
    scheduling.schedule()
    assert (first.sent, second.sent) == ([[0, 2]], [[1, 2]])


def test_workers_that_collected_different_items_are_named() -> None:
    session = Session(side_by_side(2), nodes=0)
    scheduling: Any = StepScheduling(session.frozen, 2, Around(session))
    for node, ids in ((MockNode("gw0"), ["a"]), (MockNode("gw1"), ["b"])):
        scheduling.add_node(node)
        scheduling.add_node_collection(node, ids)
    with pytest.raises(RuntimeError, match="different items than gw0: gw1"):
        scheduling.schedule()


def test_an_empty_session_is_finished_at_once() -> None:
    session = Session(side_by_side(1), ids=[])
    assert session.scheduling.tests_finished
    assert not session.scheduling.has_pending
    assert [node.sent for node in session.nodes] == [[], []]


# -- order


def test_one_step_at_a_time_with_an_idle_item_behind_it() -> None:
    session = Session(side_by_side(5))
    first, second = session.nodes
    assert (first.sent, second.sent) == ([[0, 5]], [[1, 5]])
    session.end(second)
    assert second.sent == [[1, 5], [2, 5]]
    session.end(second)
    session.end(first)
    assert (first.sent, second.sent) == ([[0, 5], [4, 5]], [[1, 5], [2, 5], [3, 5]])
    session.end(first)
    assert not session.scheduling.tests_finished
    session.end(second)
    assert session.scheduling.tests_finished


def test_steps_in_a_row_run_one_after_the_other() -> None:
    session = Session(frozen(3))
    first, second = session.nodes
    assert (first.sent, second.sent) == ([[0, 3]], [])
    session.end(first)
    session.end(first)
    assert first.sent == [[0, 3], [1, 3], [2, 3]]
    assert second.sent == []
    session.end(first)
    assert session.scheduling.tests_finished


def test_what_becomes_ready_goes_to_every_idle_worker_in_list_order() -> None:
    session = Session(frozen(5, {2: "1", 3: "1", 4: "1", 5: ""}), nodes=3)
    first, second, third = session.nodes
    assert (session.running(first), session.running(second), third.sent) == (["1"], ["5"], [])
    session.end(first)
    assert [session.running(node) for node in (first, third)] == [["2"], ["3"]]
    session.end(second)
    assert session.running(second) == ["4"]


def test_of_two_ready_steps_the_earlier_goes_first_whenever_it_became_ready() -> None:
    session = Session(frozen(4, {1: "", 2: "1", 3: "", 4: ""}), nodes=2)
    first, second = session.nodes
    assert (session.running(first), session.running(second)) == (["1"], ["3"])
    session.end(first)
    assert session.running(first) == ["2"]


def test_a_need_that_points_forward_is_waited_for() -> None:
    session = Session(frozen(3, {1: "3", 2: "", 3: ""}), nodes=1)
    (node,) = session.nodes
    order = []
    while not session.scheduling.tests_finished:
        order += session.running(node)
        session.end(node)
    assert order == ["3", "1", "2"], "and the longer chain begins first"


def test_a_need_that_is_not_in_the_session_is_not_waited_for() -> None:
    session = Session(frozen(3, ticked=(1, 2), wishes=Wishes("3")))
    assert session.running(session.nodes[0]) == ["3"]


def test_a_step_that_was_done_before_is_given_to_say_so() -> None:
    session = Session(frozen(2, ticked=(1,)))
    assert session.running(session.nodes[0]) == ["1"]
    session.end(session.nodes[0], "done")
    assert session.running(session.nodes[0]) == ["2"]
    assert session.skipped == []


# -- blocked


def test_everything_behind_a_failure_is_blocked_at_once_and_the_rest_goes_on() -> None:
    session = Session(frozen(6, {2: "1", 3: "2", 4: "3, 5", 5: "", 6: ""}))
    first, second = session.nodes
    session.end(first, "failed")
    assert session.skipped == [
        ("2", "blocked by step_1 (failed)"),
        ("3", "blocked by step_2 (blocked)"),
    ]
    assert (session.running(first), session.running(second)) == (["6"], ["5"])
    session.end(second)
    assert session.skipped[2:] == [("4", "blocked by step_3 (blocked)")]
    session.end(first)
    assert session.scheduling.tests_finished


@pytest.mark.parametrize(
    ("verdict", "need", "blocked"),
    [
        ("passed", "1", False),
        ("done", "1", False),
        ("warned", "1", True),
        ("skipped", "1", True),
        ("interrupted", "1", True),
        ("started", '"1@started"', False),
        ("failed", '"1@started"', True),
    ],
)
def test_what_a_need_accepts(verdict: str, need: str, blocked: bool) -> None:
    session = Session(frozen(2, {2: need}), nodes=1)
    session.end(session.nodes[0], verdict)
    assert bool(session.skipped) == blocked


def test_an_item_that_ends_without_a_verdict_blocks() -> None:
    session = Session(frozen(2), nodes=1)
    scheduling: Any = session.scheduling
    scheduling.mark_test_complete(session.nodes[0], 0)
    assert session.skipped == [("2", "blocked by step_1 (not run)")]
    assert scheduling.tests_finished


def test_a_verification_blocks_nothing() -> None:
    session = Session(frozen(2, ticked=(1, 2), wishes=Wishes(verify=True), mode="verify"), nodes=1)
    session.end(session.nodes[0], "failed")
    assert session.running(session.nodes[0]) == ["2"]


def test_what_is_refused_fails_itself_and_is_not_blocked() -> None:
    session = Session(frozen(3, wishes=Wishes("2,3")), nodes=1)
    (node,) = session.nodes
    assert session.running(node) == ["2"]
    session.end(node, "failed")
    assert session.skipped == [("3", "blocked by step_2 (failed)")]


def test_a_blocked_step_is_reported_as_a_worker_would() -> None:
    step = side_by_side(1).by_id["1"]
    setup, teardown = skip_reports("SPEC.md::step_1", step, "SPEC.md", "blocked by step_0 (failed)")
    assert (setup.when, setup.outcome, teardown.when, teardown.outcome) == (
        "setup",
        "skipped",
        "teardown",
        "passed",
    )
    assert setup.longrepr == ("SPEC.md", 3, "Skipped: blocked by step_0 (failed)")
    assert setup.location == ("SPEC.md", 2, "step_1 Work 1")


def test_a_need_that_was_done_but_is_not_in_the_session_does_not_block() -> None:
    session = frozen(2, ticked=(1,))
    assert session.blocker(session.by_id["2"], {}) is None
    assert session.blocker(session.by_id["2"], {"1": "done"}) is None
    assert session.blocker(session.by_id["2"], {"1": "failed"}) == "step_1 (failed)"


# -- a worker that tidies up


def tidy(session: Session, node: MockNode) -> None:
    """The worker has done the work of what it was sent last, and tears down."""
    scheduling: Any = session.scheduling
    scheduling.tidying_up(node, session.ids[node.sent[-1][0]])


def test_a_worker_that_tidies_up_is_told_what_it_would_get_anyway() -> None:
    session = Session(side_by_side(4))
    first, second = session.nodes
    tidy(session, first)
    assert first.sent == [[0, 4], [2, 4]]
    tidy(session, first)
    assert first.sent == [[0, 4], [2, 4]], "one is enough"
    complete(session, first, 0)
    assert (first.sent, second.sent) == ([[0, 4], [2, 4]], [[1, 4]])
    complete(session, first, 2)
    assert (first.sent, second.sent) == ([[0, 4], [2, 4], [3, 4]], [[1, 4]])


def complete(session: Session, node: MockNode, index: int, verdict: str = "passed") -> None:
    scheduling: Any = session.scheduling
    step = session.frozen.step_of(session.ids[index])
    assert step is not None
    session.ended[step.id] = verdict
    scheduling.mark_test_complete(node, index, 0.1)


def test_what_waits_for_the_step_goes_first_when_it_is_as_urgent() -> None:
    # 3 and 4 wait for 1; 2 is as urgent as they are, 5 heads a longer chain.
    session = Session(frozen(6, {1: "", 2: "", 3: "1", 4: "1", 5: "", 6: "5"}), nodes=1)
    (node,) = session.nodes
    assert session.running(node) == ["1"]
    tidy(session, node)
    assert session.running(node) == ["5"], "it goes before 3 and 4"
    complete(session, node, 0)
    tidy(session, node)
    assert len(node.sent) == 2, "2 is no more urgent than 6, which waits for 5"
    complete(session, node, 4)
    assert session.running(node) == ["2"]


@pytest.mark.parametrize("takes", ["  resources: {gpu: 1}\n", "  exclusive: true\n"])
def test_what_waits_for_something_that_the_step_has_taken_may_go_first(takes: str) -> None:
    given = {1: f"  needs: []\n{takes}", 2: f"  needs: []\n{takes}", 3: "  needs: []\n"}
    pools = "pools: {gpu: 1}\n" if "gpu" in takes else ""
    plan = a_plan(a_list("One", "Two", "Three"), pools + true_steps(3, given))
    session = Session(a_session(plan, decide(plan, None)), nodes=1)
    (node,) = session.nodes
    tidy(session, node)
    assert node.sent == [[0, 3]]
    complete(session, node, 0)
    assert session.running(node) == ["2"]


def test_a_session_that_is_stopped_tells_nobody_what_comes_next() -> None:
    session = Session(side_by_side(4))
    session.stopped = "the disk is full"
    tidy(session, session.nodes[0])
    assert session.nodes[0].sent == [[0, 4]]


def test_a_worker_that_dies_while_it_tidies_up_leaves_the_next_step_to_others() -> None:
    session = Session(side_by_side(3))
    first, second = session.nodes
    tidy(session, first)
    assert session.die(first) == "SPEC.md::step_1"
    session.end(second)
    assert session.running(second) == ["3"]
    session.end(second)
    assert session.verdicts == {"1": "failed", "2": "passed", "3": "passed"}
    assert session.scheduling.tests_finished


def test_a_worker_that_dies_after_it_has_tidied_up_died_in_the_next_step() -> None:
    session = Session(side_by_side(3))
    first, _ = session.nodes
    tidy(session, first)
    session.ended["1"] = "passed"
    assert session.die(first) == "SPEC.md::step_3"
    assert session.verdicts == {"1": "passed", "3": "failed"}


# -- turns


def test_while_more_has_happened_nothing_is_settled_and_nothing_that_waits_is_given() -> None:
    session = Session(frozen(4, {1: "", 2: "", 3: "1, 2"}))
    first, second = session.nodes
    scheduling: Any = session.scheduling
    session.later = True
    session.end(first)
    session.end(second)
    assert (session.verdicts, len(first.sent)) == ({}, 1)
    scheduling.mark_test_complete(first, END_OF_TURN, 0.0)
    assert session.verdicts == {"1": "passed", "2": "passed"}
    assert session.running(first) == ["3"]
    assert session.turns == [0.0], "one end of a turn is enough"


def test_while_every_worker_has_work_ends_are_settled_together_in_a_moment() -> None:
    session = Session(side_by_side(6))
    first, second = session.nodes
    tidy(session, first)
    tidy(session, second)
    complete(session, first, 0)
    complete(session, second, 1)
    assert (session.turns, session.verdicts) == ([UNHURRIED], {})
    complete(session, first, 2)
    assert session.turns == [UNHURRIED, 0.0], "a worker waits"
    assert session.verdicts == {"1": "passed", "2": "passed", "3": "passed"}
    assert session.running(first) == ["5"]


def test_a_death_ends_the_turn() -> None:
    session = Session(frozen(3, {1: "", 2: "", 3: "1"}))
    first, second = session.nodes
    session.later = True
    session.end(first)
    assert session.die(second) == "SPEC.md::step_2"
    assert session.verdicts == {"1": "passed", "2": "failed"}


# -- workers that die


def test_the_step_of_a_dead_worker_is_its_attempt_and_blocks_what_waits_for_it() -> None:
    session = Session(frozen(4, {2: "1", 3: "", 4: ""}))
    first, second = session.nodes
    assert session.die(first) == "SPEC.md::step_1"
    session.end(second)
    assert session.skipped == [("2", "blocked by step_1 (failed)")]
    assert session.running(second) == ["4"]
    session.end(second)
    assert session.scheduling.tests_finished


def test_a_replacement_goes_on_where_the_last_worker_died() -> None:
    session = Session(frozen(3, {2: "1", 3: ""}), nodes=1)
    session.die(session.nodes[0])
    replacement = MockNode("gw1")
    session.join(replacement)
    assert session.skipped == [("2", "blocked by step_1 (failed)")]
    assert session.running(replacement) == ["3"]


def test_a_worker_that_dies_after_its_verdict_is_no_second_one() -> None:
    session = Session(frozen(2))
    first, second = session.nodes
    session.verdicts["1"] = "passed"  # its report came, the end of the item did not
    assert session.scheduling.remove_node(first) is None  # type: ignore[arg-type]
    session.join(MockNode("gw2"))
    assert session.running(second) == ["2"]


def test_an_idle_worker_that_dies_took_nothing_along() -> None:
    session = Session(frozen(2))
    assert session.scheduling.remove_node(session.nodes[1]) is None  # type: ignore[arg-type]
    assert session.scheduling.remove_node(session.nodes[1]) is None  # type: ignore[arg-type]
    assert session.scheduling.nodes == [session.nodes[0]]


def test_the_tests_that_a_dead_worker_had_left_are_given_to_others() -> None:
    session = Session(side_by_side(1), nodes=1, tests=20)
    (node,) = session.nodes
    session.end(node)
    chunk = session.running(node)
    assert len(chunk) == 20 // CHUNKS_PER_NODE
    assert session.die(node) == chunk[0]
    replacement = MockNode("gw1")
    session.join(replacement)
    seen = []
    while not session.scheduling.tests_finished:
        seen += session.running(replacement)
        session.end(replacement)
    assert sorted(seen) == sorted(session.ids[1:20])


def test_a_dead_test_may_be_asked_for_again_a_step_never() -> None:
    session = Session(side_by_side(2), nodes=1, tests=1)
    (node,) = session.nodes
    crashed = session.die(node)
    assert crashed == "SPEC.md::step_1"
    session.scheduling.mark_test_pending(crashed)
    session.scheduling.mark_test_pending("test_own.py::test_0")
    replacement = MockNode("gw1")
    session.join(replacement)
    seen = []
    while not session.scheduling.tests_finished:
        seen += session.running(replacement)
        session.end(replacement)
    assert seen == ["2", "test_own.py::test_0", "test_own.py::test_0"]


def test_a_replacement_that_collected_something_else_is_sent_home() -> None:
    session = Session(frozen(3, {2: "1", 3: ""}))
    first, second = session.nodes
    session.die(first)
    replacement = MockNode("gw2")
    session.join(replacement, ids=[])
    assert replacement.shutting_down
    assert replacement.sent == []
    assert session.scheduling.nodes == [second]
    session.end(second)
    assert session.scheduling.tests_finished


def test_with_no_worker_left_that_knows_the_plan_the_rest_is_told() -> None:
    session = Session(frozen(3, {2: "1", 3: ""}), nodes=1, tests=4)
    session.die(session.nodes[0])
    replacement = MockNode("gw1")
    session.join(replacement, ids=["other"])
    why = "not run: no worker is left that has collected this plan"
    assert session.skipped == [("2", "blocked by step_1 (failed)"), ("3", why)]
    assert session.scheduling.tests_finished


def test_a_worker_that_is_shutting_down_gets_nothing_more() -> None:
    session = Session(side_by_side(3))
    first, second = session.nodes
    first.shutdown()
    session.end(first)
    session.end(second)
    assert (len(first.sent), session.running(second)) == (1, ["3"])


def test_when_nothing_runs_and_nothing_is_ready_it_is_said_and_over() -> None:
    # A plan refuses circles; this one came to be behind its back.
    plan = a_plan(a_list("First", "Second"), true_steps(2))
    circle = a_plan(a_list("First", "Second"), true_steps(2, {1: "  needs: []\n", 2: "  needs: ['1']\n"}))
    one, two = circle.steps
    steps = (Step("1", 0, one.box, one.definition, (Need("2"),)), two)
    made = a_session(type(plan)(plan.tasklist, plan.definitions, steps), decide(circle))
    session = Session(made)
    why = "not run: nothing is running and nothing is ready"
    assert session.skipped == [("1", why), ("2", why)]
    assert session.scheduling.tests_finished


def test_when_the_session_is_stopped_nothing_more_is_started_and_the_rest_is_told() -> None:
    session = Session(frozen(3))
    (first, *_) = session.nodes
    assert session.running(first) == ["1"]
    session.stopped = "the disk is full"
    session.end(first)
    assert session.skipped == [(name, "not run: the disk is full") for name in ("2", "3")]
    assert session.scheduling.tests_finished


# -- tests beside steps


def test_tests_come_in_chunks_behind_the_steps_that_are_ready() -> None:
    session = Session(frozen(2), tests=40)
    first, second = session.nodes
    assert session.running(first) == ["1"]
    chunk = session.running(second)
    assert chunk == [f"test_own.py::test_{n}" for n in range(40 // (2 * CHUNKS_PER_NODE))]
    session.end(second)
    assert session.running(second)[0] == "test_own.py::test_5"
    session.end(first)
    assert session.running(first) == ["2"], "a step that became ready comes before more tests"


def test_every_test_and_every_step_runs_once() -> None:
    session = Session(frozen(7, {3: "1", 5: "2", 6: ""}), nodes=3, tests=53)
    seen: list[str] = []
    busy = True
    while busy:
        busy = False
        for node in session.nodes:
            if node.sent and getattr(node, "read", 0) != len(node.sent):
                node.read = len(node.sent)  # type: ignore[attr-defined]
                seen += session.running(node)
                session.end(node)
                busy = True
    assert session.scheduling.tests_finished
    assert sorted(seen) == sorted(nodeid.removeprefix("SPEC.md::step_") for nodeid in session.ids)


def test_work_that_cannot_be_taken_back_is_not_pretended_to_be() -> None:
    session = Session(side_by_side(1))
    with pytest.raises(NotImplementedError):
        session.scheduling.remove_pending_tests_from_node(session.nodes[0], [0])  # type: ignore[arg-type]


def test_the_idle_item_completes_nothing() -> None:
    session = Session(side_by_side(3))
    session.scheduling.mark_test_complete(session.nodes[0], 3)  # type: ignore[arg-type]
    assert session.nodes[0].sent == [[0, 3]]


# -- long lists


def calls_for(session_frozen: Frozen) -> int:
    """How many functions are called while a session runs; a number that no busy machine changes."""
    session = Session(session_frozen, nodes=4)

    def run() -> None:
        while not session.scheduling.tests_finished:
            for node in session.nodes:
                if session.scheduling._given[node]:  # type: ignore[index]
                    session.end(node)

    return calls_of(run)


def a_chain(count: int) -> Frozen:
    return frozen(count)


def a_fan(count: int) -> Frozen:
    return frozen(count, {1: "", **dict.fromkeys(range(2, count + 1), "1")})


def two_layers(count: int) -> Frozen:
    """Half of the steps wait for each of the other half."""
    return defined(count, {n: f"  layer: L{2 * (n - 1) // count}\n" for n in range(1, count + 1)})


@pytest.mark.parametrize("shape", [a_chain, a_fan, two_layers])
def test_a_dispatch_does_not_cost_more_in_a_longer_list(shape: Callable[[int], Frozen]) -> None:
    assert calls_for(shape(2000)) < calls_for(shape(250)) * 8 * 1.2


def test_to_plan_two_layers_costs_what_their_steps_cost_and_not_their_pairs() -> None:
    def calls(count: int) -> int:
        plan = two_layers(count).plan

        def work_out() -> None:
            assert [len(wave) for wave in graph.waves(plan.steps, lambda _: False)] == [count // 2] * 2
            assert set(graph.ranks(plan.steps, lambda _: 1.0).values()) == {1.0, 2.0}
            assert len(forecast.critical_path(plan.steps, lambda _: None)) == 2
            assert forecast.simulate(plan.steps, lambda _: 1.0, count, {}).seconds == 2.0

        return calls_of(work_out)

    assert calls(1200) < calls(150) * 8 * 1.2


def test_a_long_list_behind_a_failure_is_blocked_at_once() -> None:
    def calls(count: int) -> int:
        session = Session(frozen(count), nodes=2)
        made = calls_of(lambda: session.end(session.nodes[0], "failed"))
        assert len(session.skipped) == count - 1
        return made

    assert calls(2000) < calls(500) * 4 * 1.2


# -- the pure part


def test_a_frontier_frees_each_step_once_when_all_it_waits_for_is_over() -> None:
    steps = a_plan(
        a_list("a", "b", "c", "d"),
        true_steps(4, {2: "  needs: []\n", 3: "  needs: [1, 2]\n", 4: "  needs: [1]\n"}),
    ).steps
    frontier = graph.Frontier(steps)
    assert [step.id for step in frontier.ready] == ["1", "2"]
    assert [step.id for step in frontier.complete("1")] == ["4"]
    assert frontier.complete("1") == []
    assert [step.id for step in frontier.complete("2")] == ["3"]
    assert frontier.complete("unknown") == []


def test_steps_freed_together_come_in_list_order() -> None:
    steps = a_plan(
        a_list("a", "b", "c", "d"),
        true_steps(4, {2: "  needs: []\n", 3: "  needs: [2]\n", 4: "  needs: [1]\n"}),
    ).steps
    assert [step.id for step in graph.Frontier(steps).complete("1", "2")] == ["3", "4"]
