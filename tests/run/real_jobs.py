"""Real background jobs for tests, and the proof that none is left that nobody knows."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_tinker_steps.plan.model import Command, Monitor, Where
from pytest_tinker_steps.record import journal
from pytest_tinker_steps.record.jobs import ENDED, FAILED, Job, folder_of
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.background import jobs
from pytest_tinker_steps.run.background.job_spec import ERRORS, LOG, JobSpec, write_spec
from pytest_tinker_steps.run.process import JOB, SUPERVISOR

PATIENCE = 45.0
"""Seconds until a test gives up; less than what a job sleeps that should have been ended."""

UNTIL_GO = "until test -e go; do sleep 0.02; done"
"""What a job does until its test has seen enough, however long that takes."""


class RealJobs:
    """The jobs of one task list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".steps"
        self.journal = folder / ".task_execution.log"
        self.environ = {**os.environ, "MARK": "here"}

    def spec(self, command: Command, **more: Any) -> JobSpec:
        task_id = f"task_13_{uuid.uuid4().hex[:8]}"
        given: dict[str, Any] = {
            "step": "13",
            "task_id": task_id,
            "run_id": "run-1",
            "attempt": 1,
            "command": command,
            "shown": command if isinstance(command, str) else " ".join(command),
            "folder": self.folder,
            "state": self.state,
            "cwd": self.folder,
            "journal": self.journal,
            "events": self.folder / f"{task_id}.events.jsonl",
        }
        return JobSpec(**{**given, **more})

    def unstarted(self, command: Command) -> JobSpec:
        """A job that is written down, and has no supervisor yet."""
        spec = self.spec(command)
        spec.job_folder.mkdir(parents=True)
        write_spec(spec)
        return spec

    def start(self, command: Command, **more: Any) -> Job:
        """Starts a job; returns when it runs."""
        spec = self.spec(command, **more)
        jobs.start(spec, self.environ)
        return self.until(spec.task_id, lambda job: job.state != "starting")

    def go(self) -> None:
        """Lets jobs go on that wait with ``UNTIL_GO``."""
        (self.folder / "go").touch()

    def look(self, job: Job) -> Job:
        found = jobs.look(self.state, job.task_id)
        assert found is not None
        return found

    def until(self, task_id: str, enough: Callable[[Job], bool]) -> Job:
        """Looks again and again until the job is as it should become."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            job = jobs.look(self.state, task_id)
            if job is not None and enough(job):
                return job
            time.sleep(0.01)
        raise AssertionError(f"did not come: {job}\n{self.errors(task_id)}")

    def ended(self, job: Job) -> Job:
        return jobs.wait_end(self.state, job.task_id, lambda _: None, environ=self.environ)

    def log(self, job: Job) -> str:
        return (self.job_folder(job) / LOG).read_text()

    def job_folder(self, job: Job) -> Path:
        return folder_of(self.state, job.task_id)

    def errors(self, task_id: str) -> str:
        path = folder_of(self.state, task_id) / ERRORS
        return path.read_text() if path.exists() else ""

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [record for record in journal.read(self.journal) if not names or record["event"] in names]

    def kill_supervisor(self, job: Job) -> None:
        kill(job.supervisor, job.supervisor_start)

    def left(self, task_id: str) -> list[proctree.Identity]:
        return proctree.find(JOB, task_id)

    def task_ids(self) -> list[str]:
        folder = self.state / "jobs"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def check_honest(self) -> None:
        """Nothing lives of a job that is said to have ended; something lives of every other one."""
        jobs.adopt_all(self.state, environ=self.environ)
        for task_id in self.task_ids():
            job = jobs.look(self.state, task_id)
            if job is None or job.state in ENDED:
                assert self.left(task_id) == [], job
            else:
                lives = self.left(task_id) or proctree.alive(job.supervisor, job.supervisor_start)
                assert lives or self.look(job).state in ENDED, job  # it may have ended since it was looked at

    def close(self) -> None:
        """Ends all jobs; afterwards nothing of them lives, nor of those who looked after them."""
        try:
            self.check_honest()
            for task_id in self.task_ids():
                if jobs.look(self.state, task_id) is not None:
                    assert jobs.stop(self.state, task_id, "the test").state in ENDED
            for task_id in self.task_ids():
                until = time.monotonic() + PATIENCE
                while (left := proctree.find(SUPERVISOR, task_id)) and time.monotonic() < until:
                    time.sleep(0.01)
                assert left == []
                assert self.left(task_id) == []
        finally:
            for task_id in self.task_ids():
                for marker in (SUPERVISOR, JOB):
                    for process in proctree.find(marker, task_id):
                        proctree.send(process, signal.SIGKILL)


@contextmanager
def real_jobs(folder: Path) -> Iterator[RealJobs]:
    made = RealJobs(folder)
    try:
        yield made
    finally:
        made.close()


def kill(pid: int, start: float) -> None:
    """Kills one process; returns when it is gone."""
    proctree.send((pid, start), signal.SIGKILL)
    until_gone(pid, start)


def until_gone(pid: int, start: float) -> None:
    """Returns when a process has ended."""
    until = time.monotonic() + PATIENCE
    while proctree.alive(pid, start):
        assert time.monotonic() < until
        time.sleep(0.002)


def a_monitor(name: str, command: Command | None = None, **more: Any) -> Monitor:
    return Monitor(name, more.pop("kind", "sample"), command, Where("steps.yaml", 1), **more)


def failed(job: Job, reason: str) -> bool:
    return job.state == FAILED and job.reason == reason
