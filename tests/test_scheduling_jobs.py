"""When the end of a background job is given to a worker: after all other work, and not for nothing."""

from __future__ import annotations

from typing import Any

from pytest_tinker_steps.plan.model import Step
from pytest_tinker_steps.record.frozen import Frozen, Wishes
from pytest_tinker_steps.scheduling import StepScheduling

from .record.sessions import a_list, a_plan, a_session, decide
from .test_scheduling import Around, MockNode


class Session:
    """A scheduler, its workers, and jobs that are over when the test says so."""

    def __init__(self, frozen: Frozen, nodes: int) -> None:
        self.frozen = frozen
        names = [*frozen.selection.ids, *(end.id for end in frozen.ends)]
        self.ids = [f"SPEC.md::step_{name}" for name in names]
        self.verdicts: dict[str, str] = {}
        self.over: set[str] = set()
        self.reported: list[str] = []
        self.scheduling: Any = StepScheduling(frozen, nodes, Around(self))
        self.nodes = [MockNode(f"gw{number}") for number in range(nodes)]
        for node in self.nodes:
            self.scheduling.add_node(node)
            self.scheduling.add_node_collection(node, self.ids)
        self.scheduling.schedule()

    def _report(self, nodeid: str, step: Step, reason: str) -> None:  # noqa: ARG002 - the scheduler's
        self.reported.append(f"{step.id}: {reason}")
        self.verdicts[step.id] = "blocked"

    def _concluded(self, end: Step) -> bool:
        if self.verdicts.get(end.ends) == "started" and (
            end.id in self.frozen.waiting or end.ends in self.over
        ):
            return False
        self.verdicts[end.id] = self.verdicts[end.ends]
        return True

    def running(self, number: int) -> list[str]:
        sent = self.nodes[number].sent
        return [self.ids[index].removeprefix("SPEC.md::step_") for index in sent[-1][:-1]] if sent else []

    def end(self, number: int, verdict: str = "passed") -> None:
        for index in self.nodes[number].sent[-1][:-1]:
            step = self.frozen.step_of(self.ids[index])
            assert step is not None
            self.verdicts[step.id] = verdict
            self.scheduling.mark_test_complete(self.nodes[number], index, 0.1)


def training(*, last_needs: str = "[2]", wait: bool = False) -> Frozen:
    """1, then the job 2, then 3 and 4 one after the other; 5 needs what is given."""
    texts = [
        "step_1: {main: 'true'}\n",
        "step_2: {main: {mode: background, command: 'true'}}\n",
        "step_3: {main: 'true'}\n",
        "step_4: {main: 'true'}\n",
        f"step_5: {{main: 'true', needs: {last_needs}}}\n",
    ]
    plan = a_plan(a_list("One", "Train", "Three", "Four", "Five"), "".join(texts))
    return a_session(plan, decide(plan, Wishes("all", wait=wait)))


def test_other_steps_come_before_the_wait_for_a_job() -> None:
    session = Session(training(), nodes=1)
    session.end(0)
    session.end(0, "started")
    assert session.running(0) == ["3"], "and not the wait, though both are ready"
    session.end(0)
    assert session.running(0) == ["4"]
    session.end(0)
    assert session.running(0) == ["2@ended"]
    session.end(0)
    assert session.running(0) == ["5"]
    session.end(0)
    assert session.scheduling.tests_finished


def test_a_free_worker_waits_while_others_work() -> None:
    session = Session(training(), nodes=2)
    session.end(0)
    session.end(0, "started")
    assert session.running(0) == ["3"]
    assert session.running(1) == ["2@ended"]


def test_a_job_that_nobody_waits_for_is_looked_at_when_all_else_is_over() -> None:
    session = Session(training(last_needs="[4]"), nodes=2)
    session.end(0)
    session.end(0, "started")
    for step in ("3", "4", "5"):
        assert session.running(0) == [step]
        assert session.running(1) == []
        if step == "5":
            session.over.add("2")
        session.end(0)
    assert session.running(0) == ["2@ended"]
    session.end(0)
    assert session.scheduling.tests_finished


def test_a_job_that_goes_on_needs_no_worker() -> None:
    session = Session(training(last_needs="[4]"), nodes=1)
    session.end(0)
    session.end(0, "started")
    for _ in ("3", "4", "5"):
        session.end(0)
    assert session.running(0) == ["5"]
    assert session.verdicts["2@ended"] == "started"
    assert session.reported == []
    assert session.scheduling.tests_finished


def test_the_end_of_a_job_that_never_started_is_no_wait_and_blocks_who_needs_it() -> None:
    session = Session(training(), nodes=1)
    session.end(0)
    session.end(0, "failed")
    assert session.verdicts["2@ended"] == "failed"
    assert "5: blocked by step_2 (failed)" in session.reported


def test_a_job_over_before_its_step_was_ready_needs_no_end() -> None:
    session = Session(training(), nodes=1)
    session.end(0)
    session.end(0, "passed")
    assert session.running(0) == ["3"]
    assert session.verdicts["2@ended"] == "passed"
