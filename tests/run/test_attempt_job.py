"""A background main inside an attempt: started, gone on with, waited for, judged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.plan.model import ReadyWhen
from pytest_tinker_steps.record.jobs import Job, read_all
from pytest_tinker_steps.record.plain import from_plain
from pytest_tinker_steps.run.background import jobs
from pytest_tinker_steps.run.budget import Budget
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains import step_job
from pytest_tinker_steps.run.process import ATTEMPT, Processes
from pytest_tinker_steps.run.redaction import Redactor

from .fake_runs import TASK, FakeProcesses, Made, Make

YAML = """
env: {LEVEL: step}
budget_usd: 5
background: [{name: gpu, command: nvidia-smi}]
main:
  mode: background
  command: train
  timeout: 7
  max_runtime: 70
  log_size: 1000
  progress: 'step (\\d+)'
  ready_when: {line: ready}
  success_criteria: [trained well]
"""
RUNNING = Job("1", TASK, pid=4711, state="running", ready=True, log=f".steps/jobs/{TASK}/main.log")
PASSED = Job("1", TASK, pid=4711, state="passed", ready=True, exit=0, seconds=9.0, met=("trained well",))
FAILED = Job("1", TASK, pid=4711, state="failed", reason="exit 3", exit=3, seconds=9.0, command="train")


@pytest.fixture
def job_of(make: Make, tmp_path: Path) -> Callable[..., Made]:
    def made(yaml: str = YAML, processes: Any = None, **more: Any) -> Made:
        around = {
            "environ": dict(os.environ),
            "run_id": "run_1",
            "journal": tmp_path / ".task_execution.log",
            "secrets": ("PIN",),
            "budget": Budget(tmp_path / "costs", None),
        }
        return make(yaml, processes or FakeProcesses(), around=around, **more)

    return made


@pytest.fixture
def becomes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Lets the job of every main become the given ones; returns what was asked for."""

    def become(*found: Job | PhaseFailed) -> list[Any]:
        asked: list[Any] = []
        left = list(found)

        def start(spec: Any, environ: Any, *, on_poll: Callable[[Job], None]) -> Job:
            asked.append((spec, environ))
            on_poll(RUNNING)
            job = left.pop(0)
            if isinstance(job, PhaseFailed):
                raise job
            return replace(job, task_id=spec.task_id, attempt=spec.attempt)

        monkeypatch.setattr(step_job, "start_and_wait_ready", start)
        return asked

    return become


# -- the start


def test_the_supervisor_is_told_all_that_the_definition_says(
    job_of: Callable[..., Made], becomes: Callable[..., list[Any]], tmp_path: Path
) -> None:
    made, asked = job_of(), becomes(RUNNING)
    made.run.begin()
    made.run.main(made.never)
    ((spec, environ),) = asked
    assert (spec.step, spec.task_id, spec.run_id, spec.attempt) == ("1", TASK, "run_1", 1)
    assert (spec.command, spec.shown, spec.cwd) == ("train", "train", tmp_path)
    assert (spec.startup, spec.max_runtime, spec.log_size) == (7, 70, 1000)
    assert (spec.progress, spec.criteria, spec.secrets) == ("step (\\d+)", ("trained well",), ("PIN",))
    assert spec.ready_when == ReadyWhen(line="ready")
    assert [monitor.name for monitor in spec.monitors] == ["gpu"]
    assert spec.journal == tmp_path / ".task_execution.log"
    assert spec.ledger == tmp_path / "costs"
    assert spec.events == tmp_path / ".steps" / "exchange" / f"{TASK}.events.jsonl"
    assert (environ["LEVEL"], environ["TASK_ID"], environ[ATTEMPT]) == ("step", TASK, TASK)


def test_a_job_that_is_ready_is_shown_and_goes_on(
    job_of: Callable[..., Made], becomes: Callable[..., list[Any]]
) -> None:
    made = job_of()
    becomes(RUNNING)
    made.run.begin()
    made.run.main(made.never)
    assert made.run.started == RUNNING
    (ready,) = made.of("job_ready")
    assert (ready["pid"], ready["log"], ready["shown"]) == (4711, RUNNING.log, True), "recorded by others"
    assert made.names() == ["attempt_started running", "phase_started main", "job_ready running"]
    assert made.of("attempt_started")[0]["started_ns"] > 0


def test_a_job_that_has_ended_well_before_it_was_ready_is_a_main_that_passed(
    job_of: Callable[..., Made], becomes: Callable[..., list[Any]]
) -> None:
    made = job_of()
    becomes(PASSED)
    assert made.whole() == ""
    assert made.run.started is None
    assert made.of("phase")[0]["seconds"] == 9.0
    assert from_plain(Job, made.of("job")[0]["job"]) == PASSED, "its notes and numbers belong to the step"
    assert made.run.unverified() == ()


def test_a_job_that_fails_before_it_is_ready_is_tried_again(
    job_of: Callable[..., Made], becomes: Callable[..., list[Any]]
) -> None:
    made = job_of(YAML + "  retries: 1\n")
    asked = becomes(PhaseFailed("exit", "main failed: exit 3: no data\ncommand: train"), PASSED)
    assert made.whole() == ""
    first, second = (spec for spec, _ in asked)
    assert first.task_id == TASK != second.task_id == made.run.task_id
    assert (first.attempt, second.attempt) == (1, 2)
    failed = made.of("phase")[0]
    assert (failed["status"], failed["message"]) == ("failed", "exit 3: no data")


def test_the_log_of_a_job_that_failed_is_at_hand_for_its_recovery(
    job_of: Callable[..., Made], becomes: Callable[..., list[Any]], tmp_path: Path
) -> None:
    made = job_of(YAML + "  retries: 1\n  recover: mend\n")
    becomes(PhaseFailed("exit", "main failed: exit 3"), PASSED)
    log = tmp_path / ".steps" / "jobs" / TASK / "main.log"
    log.parent.mkdir(parents=True)
    log.write_text("no data\n")
    assert made.whole() == ""
    assert made.processes.environs[0]["FAILURE_LOG"] == str(log)


def test_a_wait_shows_where_the_job_is_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr(step_job.time, "monotonic", lambda: moment[0])
    said: list[dict[str, Any]] = []
    waiting = step_job.Waiting(lambda event, **more: said.append({"event": event, **more}))
    job = Job("1", TASK, state="running", began_clock=990.0, progress=(5.0, 10.0, 0.5))
    for _ in range(25):
        waiting(job)
        moment[0] += 0.1
    waiting(PASSED)
    assert [round(event["seconds"]) for event in said] == [11, 12]
    assert said[0] | {"event": "waiting", "shown": True, "job": "1", "progress": [5.0, 10.0, 0.5]} == said[0]


# -- going on with a job


def test_a_resumed_attempt_has_no_second_record_and_repeats_nothing(
    job_of: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = job_of(YAML + "post_validation: [{name: lines, command: count}]\n")
    events = tmp_path / ".steps" / "exchange" / f"{TASK}.events.jsonl"
    events.parent.mkdir(parents=True)
    events.write_text('{"criterion": "trained well"}\n{"note": "said to the supervisor"}\n')
    ended = Job(
        "1", TASK, state="passed", met=("trained well",), events_read=events.stat().st_size, attempt=2
    )
    monkeypatch.setattr(jobs, "wait_end", lambda *_, **__: ended)
    made.run.task_id = "task_1_ffffffff"
    made.run.resume(RUNNING)
    assert made.run.wait_for_end(RUNNING) == ended
    made.run.judge(ended)
    made.run.post_validation()
    made.run.end()
    assert (made.run.task_id, made.run.attempt) == (TASK, 2)
    assert made.names() == [
        "job_ended passed",
        "phase_started post_validation",
        "check post_validation lines passed",
        "phase post_validation passed",
    ]
    assert made.of("job_ended")[0]["shown"]
    assert made.processes.environs[0]["TASK_ID"] == TASK
    assert made.processes.swept == []


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        (FAILED, "exit"),
        (Job("1", TASK, state="failed", reason="no end after 24 h: ended with SIGTERM"), "timeout"),
        (Job("1", TASK, state="failed", reason="stopped by ada", stopped_by="ada"), None),
    ],
)
def test_a_job_that_has_not_ended_well_is_a_main_that_failed(
    job_of: Callable[..., Made], job: Job, cause: str | None
) -> None:
    made = job_of()
    made.run.resume(job)
    with pytest.raises(PhaseFailed) as caught:
        made.run.judge(job)
    assert caught.value.cause == cause
    assert caught.value.message.startswith(f"main failed: {job.reason}")


def test_a_job_whose_folder_is_gone_is_a_main_that_failed(job_of: Callable[..., Made]) -> None:
    made = job_of()
    made.run.resume(RUNNING)
    with pytest.raises(PhaseFailed, match="is gone: its folder was removed"):
        made.run.wait_for_end(RUNNING)


# -- with a real supervisor


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(redactor=Redactor([])) as made:
        yield made


def test_a_real_job_outlives_its_attempt_and_is_validated_by_another(
    job_of: Callable[..., Made], processes: Processes, tmp_path: Path
) -> None:
    yaml = """
outputs: [model]
main:
  mode: background
  command: >-
    echo ready; echo '{"note": "5 layers"}' >> $TINKER_STEPS_EVENTS;
    until test -e go; do sleep 0.02; done; echo weights > model
  ready_when: {line: ready}
"""
    first = job_of(yaml, processes)
    first.run.begin()
    first.run.main(first.never)
    started = first.run.started
    assert started is not None
    first.run.end()
    assert jobs.look(tmp_path / ".steps", TASK).live, "ending the attempt leaves its job"  # type: ignore[union-attr]
    (tmp_path / "go").touch()
    since = first.of("attempt_started")[0]["started_ns"]
    second = job_of(yaml, processes, open_since_ns=since)
    second.run.resume(started)
    ended = second.run.wait_for_end(started)
    second.run.judge(ended)
    second.run.post_validation()
    assert ended.notes == ("5 layers",)
    assert second.names()[-1] == "phase post_validation passed"
    assert second.of("note") == []
    recorded = [
        json.loads(line)["event"] for line in (tmp_path / ".task_execution.log").read_text().splitlines()
    ]
    assert {"job_started", "job_ready", "note", "job_ended"} <= set(recorded)


def test_a_real_job_that_fails_says_why(job_of: Callable[..., Made], processes: Processes) -> None:
    made = job_of(
        "main: {mode: background, command: 'echo bad key; exit 3', ready_when: {line: ready}}", processes
    )
    said = made.whole()
    assert said.startswith("main failed: exit 3: bad key\n")
    assert f"whole output: .steps/jobs/{TASK}/main.log" in said
    assert made.run.started is None
    until = time.monotonic() + 60
    while any(job.live for job in read_all(made.around.state)) and time.monotonic() < until:
        time.sleep(0.02)
