"""A step that failed is tried again: what for, how often, and what carries over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_tinker_steps.run import attempt
from pytest_tinker_steps.run.process import ATTEMPT, EVENTS, Ended

from .fake_runs import TASK, TIMED_OUT, WELL, Act, FakeProcesses, Make, exits


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
    monkeypatch.setattr(attempt.random, "random", lambda: 0.5)
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
