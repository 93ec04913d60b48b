"""A step that failed is tried again: what for, how often, and what carries over."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_tinker_steps.run import attempt, recovery
from pytest_tinker_steps.run.budget import Budget
from pytest_tinker_steps.run.process import ATTEMPT, EVENTS, Ended

from .fake_runs import SECRET, TASK, TIMED_OUT, WELL, Act, FakeProcesses, Make, exits


def twice(*ends: Ended) -> Act:
    left = list(ends)
    return lambda _: left.pop(0)


def test_a_second_try_is_an_attempt_of_its_own(make: Make) -> None:
    made = make("main: {command: work, retries: 2}", FakeProcesses(work=twice(exits(1), WELL)))
    assert made.whole() == ""
    assert made.names() == [
        "attempt_started running",
        "phase_started main",
        "phase main failed",
        "retry",
        "attempt_finished failed",
        "attempt_started running",
        "phase_started main",
        "phase main passed",
    ]
    first, second = made.of("attempt_started")
    assert (first["attempt"], second["attempt"], second["previous"]) == (1, 2, TASK)
    assert second["task_id"] == made.of("retry")[0]["next_task_id"] == made.run.task_id != TASK
    (finished,) = made.of("attempt_finished")
    assert (finished["task_id"], finished["message"], finished["final"]) == (
        TASK,
        "main failed: exit code 1",
        False,
    )
    assert [env["ATTEMPT"] for env in made.processes.environs] == ["1", "2"]
    assert [env[ATTEMPT] for env in made.processes.environs] == [TASK, made.run.task_id]
    assert made.processes.swept == [TASK, made.run.task_id], "each attempt ends what it left"


def test_tries_are_used_up(make: Make) -> None:
    made = make("main: {command: work, retries: 2}", FakeProcesses(work=exits(1)))
    assert made.whole().startswith("main failed: exit code 1")
    assert len(made.processes.started) == 3
    assert [event["attempt"] for event in made.of("retry")] == [2, 3]


@pytest.mark.parametrize(
    ("when", "yaml", "end", "tries"),
    [
        ("exit", "main: {command: work, retries: {attempts: 2, when: [exit]}}", exits(1), 2),
        ("exit", "main: {command: work, retries: {attempts: 2, when: [timeout]}}", exits(1), 1),
        ("timeout", "main: {command: work, retries: {attempts: 2, when: [timeout]}}", TIMED_OUT, 2),
        ("timeout", "main: {command: work, retries: {attempts: 2, when: [exit]}}", TIMED_OUT, 1),
        (
            "test",
            "main: {command: done, test_first: {command: work}, retries: {attempts: 2, when: [test]}}",
            exits(1),
            2,
        ),
        (
            "test",
            "main: {command: done, test_first: {command: work}, retries: {attempts: 2, when: [test]}}",
            TIMED_OUT,
            2,
        ),
        (
            "post",
            "main: {command: done, retries: {attempts: 2, when: [post]}}\n"
            "post_validation: [{name: lines, command: work}]",
            exits(1),
            2,
        ),
        (
            "pre",
            "main: {command: done, retries: {attempts: 2, when: [pre]}}\n"
            "pre_flight: [{name: lines, command: work}]",
            exits(1),
            2,
        ),
        (
            "pre",
            "main: {command: done, retries: 1}\npre_flight: [{name: lines, command: work}]",
            exits(1),
            1,
        ),
    ],
)
def test_only_what_the_policy_names_is_tried_again(
    make: Make, when: str, yaml: str, end: Ended, tries: int
) -> None:
    made = make(yaml, FakeProcesses(work=end))
    assert made.whole()
    assert made.processes.started.count("work") == tries
    assert [event["cause"] for event in made.of("retry")] == [when] * (tries - 1)


def test_pauses_grow_and_are_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(attempt.time, "sleep", slept.append)
    monkeypatch.setattr(recovery.random, "random", lambda: 0.5)
    made = make(
        "main: {command: work, retries: {attempts: 4, delay: 2, backoff: 3, jitter: 0.1}}",
        FakeProcesses(work=exits(1)),
    )
    made.whole()
    assert slept == pytest.approx([2.1, 6.3, 18.9])
    assert [event["delay"] for event in made.of("retry")] == slept


def test_outputs_of_an_earlier_try_count(make: Make, tmp_path: Path) -> None:
    def work(env: Mapping[str, str]) -> Ended:
        if env["ATTEMPT"] == "1":
            (tmp_path / "out.txt").write_text("half of the work took an hour")
            return exits(1)
        return WELL

    made = make("outputs: [out.txt]\nmain: {command: work, retries: 1}", FakeProcesses(work=work))
    assert made.whole() == ""


def test_what_one_try_said_is_not_what_the_next_has_met(make: Make) -> None:
    def work(env: Mapping[str, str]) -> Ended:
        if env["ATTEMPT"] == "1":
            Path(env[EVENTS]).write_text('{"criterion": "reads well"}\n')
            return exits(1)
        return WELL

    made = make("main: {command: work, retries: 1, success_criteria: [reads well]}", FakeProcesses(work=work))
    assert made.whole() == ""
    assert made.run.unverified() == ("reads well",)


@pytest.mark.parametrize("retries", [0, 2])
def test_attempts_name_each_other(make: Make, retries: int) -> None:
    made = make(f"main: {{command: work, retries: {retries}}}", FakeProcesses(work=exits(1)))
    made.whole()
    started, tried_again = made.of("attempt_started"), made.of("retry")
    ids = [event["task_id"] for event in started]
    assert len(set(ids)) == retries + 1
    assert [event.get("previous", "") for event in started] == ["", *ids[:-1]]
    named = [(event["task_id"], event["next_task_id"]) for event in tried_again]
    assert named == list(itertools.pairwise(ids))


# -- recovery

RECOVERS = "main: {command: work, retries: 1, recover: mend}"


def test_recovery_runs_between_two_attempts_as_part_of_the_first(make: Make) -> None:
    made = make(RECOVERS, FakeProcesses(work=twice(exits(1), WELL)))
    assert made.whole() == ""
    assert made.processes.started == ["work", "mend", "work"]
    assert made.names() == [
        "attempt_started running",
        "phase_started main",
        "phase main failed",
        "retry",
        "attempt_finished failed",
        "recover passed",
        "attempt_started running",
        "phase_started main",
        "phase main passed",
    ]
    (recovered,) = made.of("recover")
    assert (recovered["task_id"], recovered["command"], recovered["message"]) == (TASK, "mend", "")
    assert recovered["seconds"] == WELL.seconds
    assert made.processes.swept == [TASK, TASK, made.run.task_id], "what it left is ended as well"


def test_recovery_has_the_failure_at_hand(make: Make, tmp_path: Path) -> None:
    said: list[str] = []

    def mend(env: Mapping[str, str]) -> Ended:
        said.append(Path(env["FAILURE_MESSAGE_FILE"]).read_text())
        said.append(Path(env["FAILURE_LOG"]).read_text())
        return WELL

    processes = FakeProcesses(work=twice(exits(1, f"bad key {SECRET}\n"), WELL), mend=mend)
    processes.output["work"] = ["bad key\n"]
    made = make("main: {command: work, retries: 1, recover: mend, timeout: 7, env: {A: b}}", processes)
    made.whole()
    env = processes.environs[1]
    assert (env["FAILURE_CAUSE"], env["TASK_ID"], env["ATTEMPT"], env["A"]) == ("exit", TASK, "1", "b")
    assert said[0].startswith("main failed: exit code 1: bad key [redacted]\ncommand: work\n")
    assert said[1] == "bad key\n"
    assert Path(env["FAILURE_MESSAGE_FILE"]).parent == tmp_path / ".steps" / "exchange"
    assert "FAILURE_CAUSE" not in processes.environs[2]
    assert processes.timeouts[1] == 7


@pytest.mark.parametrize(
    ("cause", "yaml", "log"),
    [
        ("timeout", "main: {command: work, retries: 1, recover: mend}", "main.log"),
        (
            "test",
            "main: {command: done, test_first: {command: work}, retries: 1, recover: mend}",
            "test-first.log",
        ),
        (
            "post",
            "main: {command: done, retries: 1, recover: mend}\n"
            "post_validation: [{name: lines, command: work}]",
            "",
        ),
        (
            "pre",
            "main: {command: done, retries: {attempts: 2, when: [pre]}, recover: mend}\n"
            "pre_flight: [{name: lines, command: work}]",
            "",
        ),
    ],
)
def test_recovery_is_told_what_failed_and_where_its_output_is(
    make: Make, cause: str, yaml: str, log: str
) -> None:
    processes = FakeProcesses(work=TIMED_OUT)
    processes.output["work"] = ["late\n"]
    made = make(yaml, processes)
    made.whole()
    env = processes.environs[processes.started.index("mend")]
    assert env["FAILURE_CAUSE"] == cause
    assert env["FAILURE_LOG"] == (str(made.around.logs(TASK) / log) if log else "")


def test_there_is_no_log_of_what_printed_nothing(make: Make) -> None:
    made = make(RECOVERS, FakeProcesses(work=exits(1)))
    made.whole()
    assert made.processes.environs[1]["FAILURE_LOG"] == ""


def test_a_recovery_that_fails_is_told_and_decides_nothing(make: Make) -> None:
    made = make(RECOVERS, FakeProcesses(work=twice(exits(1), WELL), mend=exits(3, "nothing to mend\n")))
    assert made.whole() == ""
    (recovered,) = made.of("recover")
    assert (recovered["status"], recovered["message"]) == ("failed", "exit code 3: nothing to mend")


@pytest.mark.parametrize(
    "yaml",
    [
        "main: {command: work, recover: mend, retries: {attempts: 2, when: [timeout]}}",
        "main: {command: work, recover: mend, retries: {attempts: 1}}",
    ],
)
def test_without_a_further_attempt_nothing_is_recovered(make: Make, yaml: str) -> None:
    made = make(yaml, FakeProcesses(work=exits(1)))
    assert made.whole()
    assert made.processes.started == ["work"]


# -- budgets


def spends(usd: float, *ends: Ended) -> Act:
    left = list(ends)

    def act(env: Mapping[str, str]) -> Ended:
        with Path(env[EVENTS]).open("a") as file:
            file.write(f'{{"metric": "cost_usd", "value": {usd}}}\n')
        return left.pop(0) if left else exits(1)

    return act


def test_costs_are_entered_in_the_budget_of_the_run(make: Make, tmp_path: Path) -> None:
    budget = Budget(tmp_path / "costs", None)
    made = make("main: {command: work, retries: 1}", FakeProcesses(work=spends(2)), {"budget": budget})
    made.whole()
    made.run.telling.metric("loss", 100.0)
    assert (budget.of("1"), budget.total()) == (4.0, 4.0)


@pytest.mark.parametrize(
    ("limit", "yaml", "before", "attempts", "message"),
    [
        (None, "", 0.0, 6, ""),
        (None, "budget_usd: 3", 0.0, 2, "$4.00 of $3.00 spent by step_1; attempt 3 was not begun"),
        (None, "budget_usd: 3", 1.0, 1, "$3.00 of $3.00 spent by step_1; attempt 2 was not begun"),
        (5.0, "", 1.0, 3, "$6.00 of $5.00 spent by this run; attempt 4 was not begun"),
    ],
)
def test_no_attempt_begins_above_a_budget(
    make: Make, tmp_path: Path, limit: float | None, yaml: str, before: float, attempts: int, message: str
) -> None:
    made = make(
        f"main: {{command: work, retries: 5, recover: mend}}\n{yaml}",
        FakeProcesses(work=spends(2)),
        {"budget": Budget(tmp_path / "costs", limit)},
        spent_before=before,
    )
    assert made.whole().startswith("main failed: exit code 1"), "that is what failed"
    assert made.processes.started.count("work") == attempts
    assert made.processes.started.count("mend") == attempts - 1
    assert [(event["status"], event["message"]) for event in made.of("budget")] == (
        [("failed", message)] if message else []
    )
    assert made.run.over_budget() == message.partition(";")[0]


def test_where_nobody_adds_costs_up_none_is_too_high(make: Make) -> None:
    made = make("main: work\nbudget_usd: 1", FakeProcesses(work=spends(2, WELL)))
    assert made.whole() == ""
    assert made.run.over_budget() == ""
