"""A background main is started and waited for until it is ready; a failure says what a person needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import ReadyWhen
from pytest_tinker_steps.record.jobs import FAILED, LOST, PASSED, RUNNING, Job
from pytest_tinker_steps.run.background import jobs
from pytest_tinker_steps.run.background.job_spec import JobSpec
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains.background import failure_of, start_and_wait_ready

from .real_jobs import UNTIL_GO, RealJobs, real_jobs


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealJobs]:
    with real_jobs(tmp_path) as made:
        yield made


def start(real: RealJobs, spec: JobSpec) -> Job:
    return start_and_wait_ready(spec, real.environ, on_poll=lambda _: None)


def test_it_returns_when_the_job_is_ready_and_not_at_its_end(real: RealJobs) -> None:
    command = f"sleep 0.2; echo yes >up; {UNTIL_GO}"
    job = start(real, real.spec(command, ready_when=ReadyWhen(file="up")))
    assert (job.state, job.ready) == (RUNNING, True)
    assert real.look(job).state == RUNNING
    assert (real.folder / "up").read_text() == "yes\n"
    real.go()
    assert real.ended(job).state == PASSED


def test_a_job_that_ends_well_at_once_is_returned_as_passed(real: RealJobs) -> None:
    assert start(real, real.spec("true")).state == PASSED


def test_a_job_that_fails_at_once_shows_its_output(real: RealJobs) -> None:
    with pytest.raises(PhaseFailed) as caught:
        start(real, real.spec("echo some trouble; exit 3"))
    assert caught.value.cause == "exit"
    (task_id,) = real.task_ids()
    assert caught.value.message == (
        "main failed: exit 3: some trouble\n"
        "command: echo some trouble; exit 3\n"
        f"whole output: .steps/jobs/{task_id}/main.log\n"
        "its end:\n"
        "  some trouble"
    )


def test_a_job_that_is_not_ready_in_time_has_timed_out(real: RealJobs) -> None:
    with pytest.raises(PhaseFailed, match=r"^main failed: not ready after 0\.3 s") as caught:
        start(real, real.spec("sleep 60", startup=0.3))
    assert caught.value.cause == "timeout"


def test_a_job_that_somebody_stopped_is_not_tried_again(real: RealJobs) -> None:
    spec = real.spec("echo x; sleep 60")

    def stop(job: Job) -> None:
        if job.state == RUNNING:
            jobs._ask(spec.job_folder, "ann")

    with pytest.raises(PhaseFailed, match=r"^main failed: stopped by ann") as caught:
        start_and_wait_ready(spec, real.environ, on_poll=stop)
    assert caught.value.cause is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interruption_before_it_is_ready_stops_the_job(
    real: RealJobs, interruption: type[BaseException]
) -> None:
    spec = real.spec("sleep 60", ready_when=ReadyWhen(file="never"))

    def interrupt(job: Job) -> None:
        if job.state == RUNNING:
            raise interruption

    with pytest.raises(interruption):
        start_and_wait_ready(spec, real.environ, on_poll=interrupt)
    job = jobs.look(real.state, spec.task_id)
    assert job is not None
    assert (job.state, job.reason) == (FAILED, "stopped by an interrupted session")
    assert real.left(spec.task_id) == []


def test_a_job_that_cannot_be_started_says_so(real: RealJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PROGRAM", "raise SystemExit('no luck')")
    with pytest.raises(PhaseFailed, match=r"^main could not start: its supervisor died: no luck$") as caught:
        start(real, real.spec("true"))
    assert caught.value.cause is None


def test_a_failure_names_its_cause(tmp_path: Path) -> None:
    job = Job("13", "t", state=FAILED, reason="no end after 24 h: ended with SIGTERM", log="none.log")
    assert failure_of(job, tmp_path).cause == "timeout"
    lost = failure_of(replace(job, state=LOST, reason="its end is not known"), tmp_path)
    assert (lost.cause, lost.message.partition("\n")[0]) == ("exit", "main failed: its end is not known")
    (tmp_path / "none.log").write_text("x" * 9000 + "\nlast line\n")
    assert "  last line" in failure_of(job, tmp_path).message
    assert "xxx" not in failure_of(job, tmp_path).message
