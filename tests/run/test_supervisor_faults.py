"""Whatever is killed, full or wrong: no lie about a job, and no process of one that nobody knows."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import Metric, ReadyWhen
from pytest_tinker_steps.record import jobs as states
from pytest_tinker_steps.record.jobs import ENDED, FAILED, LOST, PASSED, RUNNING, UNSUPERVISED, Job, folder_of
from pytest_tinker_steps.record.journal import Journal
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.background import job_process, jobs
from pytest_tinker_steps.run.background.job_output import JobOutput
from pytest_tinker_steps.run.background.job_record import JobRecord
from pytest_tinker_steps.run.process import JOB, SUPERVISOR, Child
from pytest_tinker_steps.run.redaction import Redactor
from pytest_tinker_steps.run.telling import Telling

from .real_jobs import PATIENCE, UNTIL_GO, RealJobs, a_monitor, failed, kill, real_jobs, until_gone

slow = pytest.mark.slow

STARTER = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from tests.run.real_jobs import RealJobs
from pytest_tinker_steps.run.background import jobs
real = RealJobs(Path({folder!r}))
print("go", flush=True)
jobs.start(real.spec({command!r}), real.environ)
print("started", flush=True)
import time
time.sleep(60)
"""


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealJobs]:
    with real_jobs(tmp_path) as made:
        yield made


@contextlib.contextmanager
def starter(real: RealJobs, command: str) -> Iterator[subprocess.Popen[str]]:
    """A process, in the place of pytest, that is about to start a job."""
    root = str(Path(__file__).parents[2])
    script = STARTER.format(paths=[root], folder=str(real.folder), command=command)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        yield process
        process.kill()


def no_half_started(real: RealJobs) -> None:
    """Everything that was begun has become a known job, or nothing."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pending = [
            task_id
            for task_id in real.task_ids()
            if proctree.find(SUPERVISOR, task_id) and jobs.look(real.state, task_id) is None
        ]
        if not pending:
            break
        time.sleep(0.02)
    for task_id in real.task_ids():
        if jobs.look(real.state, task_id) is None:
            assert real.left(task_id) == []


# ---------------------------------------------------------------- kill -9


def test_a_job_outlives_who_started_it(real: RealJobs) -> None:
    with starter(real, f"echo one; {UNTIL_GO}; echo two") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (job,) = jobs.look_all(real.state)
        assert job.live
    real.go()
    ended = real.ended(job)
    assert ended.state == PASSED
    assert real.log(job) == "one\ntwo\n"
    assert len(real.events("job_ended")) == 1


@slow
@pytest.mark.parametrize("seed", range(12))
def test_who_starts_a_job_is_killed_at_any_moment(real: RealJobs, seed: int) -> None:
    with starter(real, "echo one; sleep 0.5; echo two") as process:
        time.sleep(random.Random(seed).uniform(0, 0.25))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    no_half_started(real)
    for job in jobs.look_all(real.state):
        assert real.ended(job).state == PASSED
    real.check_honest()


@slow
@pytest.mark.parametrize("seed", range(20))
def test_a_supervisor_is_killed_at_any_moment(real: RealJobs, seed: int) -> None:
    chance = random.Random(seed)
    code = chance.choice([0, 3])
    spec = real.spec(f"echo one; sleep 0.3; echo two; exit {code}")
    started = time.monotonic()
    try:
        # From before it takes over until after the end of the job.
        delay = chance.choice([chance.uniform(0, 0.1), chance.uniform(0.1, 0.7)])
        supervisor = _start_without_waiting(real, spec.task_id, lambda: jobs.start(spec, real.environ), delay)
        proctree.send(supervisor, signal.SIGKILL)
    except AssertionError:
        assert time.monotonic() - started > 0.3
    no_half_started(real)
    job = jobs.look(real.state, spec.task_id)
    if job is None:
        assert real.left(spec.task_id) == []
        return
    if job.live:
        assert job.state in (RUNNING, UNSUPERVISED, "starting")
    ended = real.ended(job)
    assert ended.state in ENDED
    if code:
        assert ended.state != PASSED
    # What a supervisor has in its hands when it is killed, or leaves in the pipe of a job that has ended just
    # before, is gone: a line may be missing, and is never torn or there twice.
    log = real.job_folder(job) / "main.log"
    assert (log.read_text() if log.exists() else "") in ("", "one\n", "two\n", "one\ntwo\n")
    if ended.exit is not None:
        assert ended.exit == code
    real.check_honest()
    assert len(real.events("job_ended")) <= 1 + 1


def _start_without_waiting(
    real: RealJobs, task_id: str, start: Callable[[], Job], delay: float
) -> proctree.Identity:
    """The identity of the supervisor, so long after its start was asked for."""

    def begin() -> None:
        with contextlib.suppress(jobs.JobError):
            start()

    thread = threading.Thread(target=begin, daemon=True)
    began = time.monotonic()
    thread.start()
    found: list[proctree.Identity] = []
    while not found and time.monotonic() < began + 60:
        found = proctree.find(SUPERVISOR, task_id)
        if not found and not thread.is_alive():
            break
    assert found, "it has ended already"
    time.sleep(max(0.0, began + delay - time.monotonic()))
    return found[0]


def test_a_job_is_begun_also_when_its_supervisor_dies_before_it_is_told_of_it(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(child: Child) -> int:
        assert child.stdout is not None
        child.stdout.close()
        return 0

    monkeypatch.setattr(job_process, "_told_pid", die)
    spec = real.unstarted("echo one; exit 3")
    reading = JobOutput(spec.job_folder, spec, Redactor(()), lambda _: None, Telling(spec.events, print))
    process = job_process.start_job(spec, spec.job_folder, real.environ)
    until = time.monotonic() + 60
    while not process.ended() and time.monotonic() < until:
        time.sleep(0.01)
    reading.close()
    assert job_process.read_exit(spec.job_folder) == 3
    assert (spec.job_folder / "main.log").read_text() == "one\n"


def test_a_job_that_is_killed_has_failed(real: RealJobs) -> None:
    job = real.start(("sleep", "60"))
    kill(job.pid, job.start)
    assert failed(real.ended(job), "killed by SIGKILL")


def test_a_job_that_is_killed_with_its_shell_has_not_passed(real: RealJobs) -> None:
    job = real.start("sleep 60")
    os.killpg(job.session, signal.SIGKILL)
    ended = real.ended(job)
    assert ended.state in (FAILED, LOST)
    assert ended.exit in (None, -9)


def test_a_job_goes_on_when_only_its_shell_is_killed(real: RealJobs) -> None:
    job = real.start(("sh", "-c", f"echo one; {UNTIL_GO}; echo two; exec sleep 0.2"))
    kill(job.session, job.session_start)
    assert real.look(job).state == RUNNING
    real.go()
    ended = real.ended(job)
    # Nobody was there to take its exit code, so nobody says that it was good.
    assert (ended.state, ended.exit) == (FAILED, None)
    assert ended.reason == "its end is not known: nobody saw its exit code"
    assert real.log(job) == "one\ntwo\n"


def test_a_monitor_that_is_killed_harms_neither_job_nor_supervisor(real: RealJobs) -> None:
    monitor = a_monitor("slow", "echo $$ >pid; sleep 60", interval=0.2)
    job = real.start("sleep 60", monitors=(monitor,))
    until = time.monotonic() + PATIENCE
    while not (real.folder / "pid").exists() or not (real.folder / "pid").read_text().strip():
        assert time.monotonic() < until
        time.sleep(0.01)
    pid = int((real.folder / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    assert real.look(job).state == RUNNING
    stopped = jobs.stop(real.state, job.task_id, "me")
    assert failed(stopped, "stopped by me")


def test_the_monitors_of_a_supervisor_that_is_killed_end_with_it(real: RealJobs) -> None:
    monitor = a_monitor("slow", "echo $$ >pid; exec sleep 60", interval=60.0)
    job = real.start("sleep 60", monitors=(monitor,))
    until = time.monotonic() + PATIENCE
    while not (real.folder / "pid").exists() or not (real.folder / "pid").read_text().strip():
        assert time.monotonic() < until
        time.sleep(0.01)
    pid = int((real.folder / "pid").read_text())
    start = proctree.started(pid)
    assert start is not None
    real.kill_supervisor(job)
    while proctree.alive(pid, start):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert real.look(job).state == UNSUPERVISED


def test_a_job_that_nobody_listens_to_waits_and_goes_on(real: RealJobs) -> None:
    script = "import sys\nfor n in range(20_000): print(f'line {n:06}')\nprint('end')"
    job = real.start(("sh", "-c", f'{UNTIL_GO}; exec {sys.executable} -c "{script}"'))
    real.kill_supervisor(job)
    real.go()
    time.sleep(0.5)
    assert real.look(job).state == UNSUPERVISED, "it hangs at a full pipe, and lives"
    ended = real.ended(job)
    assert ended.state == PASSED
    lines = real.log(job).splitlines()
    assert lines == [*(f"line {n:06}" for n in range(20_000)), "end"]


def test_an_adopted_job_keeps_its_deadline(real: RealJobs) -> None:
    job = real.start("sleep 60", max_runtime=1.0)
    real.kill_supervisor(job)
    ended = real.ended(job)
    assert failed(ended, "no end after 1 s: ended with SIGTERM")
    assert 1.0 <= ended.seconds < 20


def test_a_ready_line_that_was_printed_before_the_supervisor_died_counts(real: RealJobs) -> None:
    job = real.start("echo up and running; sleep 60", ready_when=ReadyWhen(line="up and.*running$"))
    real.until(job.task_id, lambda job: job.ready)
    real.kill_supervisor(job)
    folder = real.job_folder(job)
    known = states.read(folder)
    assert known is not None
    states.write(folder, replace(known, ready=False))
    adopted = jobs.wait_ready(real.state, job.task_id, lambda _: None, environ=real.environ)
    assert (adopted.ready, adopted.state) == (True, RUNNING)


def test_a_job_that_was_started_and_never_written_down_is_found(real: RealJobs) -> None:
    job = real.start(f"{UNTIL_GO}; exit 3")
    real.kill_supervisor(job)
    forget_processes(real, job)
    assert real.look(job).state == UNSUPERVISED
    real.go()
    assert failed(real.ended(job), "exit 3")


def test_a_job_that_is_found_is_known_by_its_own_process_and_its_shell(real: RealJobs) -> None:
    # The short-lived processes carry the marker as well; none of them is the job.
    job = real.start("until test -e go; do (sleep 0.05); done; exit 3")
    real.kill_supervisor(job)
    forget_processes(real, job)
    adopted = real.until(
        jobs.adopt(real.state, job.task_id, environ=real.environ).task_id, lambda job: job.pid > 0
    )
    assert (adopted.state, adopted.pid, adopted.start) == (RUNNING, job.pid, job.start)
    assert (adopted.session, adopted.session_start) == (job.session, job.session_start)
    real.go()
    assert failed(real.ended(job), "exit 3")


def test_a_job_that_is_found_without_its_shell_runs_to_its_end(real: RealJobs) -> None:
    job = real.start(("sh", "-c", f"{UNTIL_GO}; echo late"))
    real.kill_supervisor(job)
    kill(job.session, job.session_start)
    forget_processes(real, job)
    jobs.adopt(real.state, job.task_id, environ=real.environ)
    real.until(job.task_id, lambda job: job.pid > 0)
    real.go()
    ended = real.ended(job)
    assert (ended.state, ended.exit, ended.pid) == (FAILED, None, job.pid)
    assert real.log(job) == "late\n"


def test_a_job_is_written_down_with_its_beginning_before_it_is_begun(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever adopts it then has to keep the deadlines.
    dies = (
        "import os; from pytest_tinker_steps.run.background import supervisor; "
        "supervisor.start_job = lambda *_: os.kill(os.getpid(), 9); "
    )
    monkeypatch.setattr(jobs, "PROGRAM", jobs.PROGRAM.replace("main(", dies + "main("))
    spec = real.unstarted("echo one")
    before = time.monotonic()
    until_gone(*jobs._start_supervisor(spec.job_folder, spec.task_id, real.environ))
    job = states.read(spec.job_folder)
    assert job is not None
    assert (job.state, job.pid) == ("starting", 0)
    assert before <= job.began_clock <= time.monotonic()
    assert job.began


def forget_processes(real: RealJobs, job: Job) -> None:
    """As if the supervisor had been killed before it could write down which processes are the job's."""
    blank = replace(job, state="starting", pid=0, start=0.0, session=0, session_start=0.0)
    states.write(real.job_folder(job), blank)


def test_what_a_job_printed_is_kept_when_it_ends_and_nobody_is_there(real: RealJobs) -> None:
    real.environ["MY_TOKEN"] = "abcdefgh-secret"
    command = f"echo one; {UNTIL_GO}; echo two $MY_TOKEN; echo three >&2; exit 3"
    job = real.start(command, criteria=("one", "three", "four"))
    real.until(job.task_id, lambda _: (real.job_folder(job) / "main.log").exists())
    real.kill_supervisor(job)
    real.go()
    ended = real.until(job.task_id, lambda job: not job.live)
    assert failed(ended, "exit 3")
    assert real.log(job) == "one\ntwo [redacted]\nthree\n", "before anybody has come by"
    assert real.left(job.task_id) == []
    assert real.errors(job.task_id) == ""
    written = real.ended(job)
    assert failed(written, "exit 3")
    assert set(written.met) == {"one", "three"}
    assert real.log(job) == "one\ntwo [redacted]\nthree\n"


def test_what_cannot_be_kept_changes_no_exit_code(real: RealJobs) -> None:
    job = real.start(f"{UNTIL_GO}; echo one; exit 3")
    real.kill_supervisor(job)
    (real.job_folder(job) / "spec.json").write_text("{")
    real.go()
    assert failed(real.until(job.task_id, lambda job: not job.live), "exit 3")
    assert not (real.job_folder(job) / "main.log").exists()


def test_a_job_that_is_just_being_started_is_waited_for(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if whoever started it had been killed at once, and the supervisor were slow.
    monkeypatch.setattr(jobs, "PROGRAM", "import time; time.sleep(0.3); " + jobs.PROGRAM)
    spec = real.unstarted("sleep 60")
    assert jobs.look_all(real.state) == [], "nobody is about to start it"
    jobs._start_supervisor(spec.job_folder, spec.task_id, real.environ)
    (job,) = jobs.look_all(real.state)
    assert (job.task_id, job.live) == (spec.task_id, True)


def test_a_request_to_stop_is_not_lost_with_the_supervisor(real: RealJobs) -> None:
    job = real.start("sleep 60")
    os.kill(job.supervisor, signal.SIGSTOP)
    jobs._ask(real.job_folder(job), "ann")
    real.kill_supervisor(job)
    assert failed(real.ended(job), "stopped by ann")
    assert real.events("job_stopped")[0]["by"] == "ann"


@slow
def test_a_supervisor_that_hangs_does_not_keep_a_job_from_being_stopped(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_STOPS_WITHIN", 1.0)
    job = real.start("sleep 60")
    os.kill(job.supervisor, signal.SIGSTOP)
    assert failed(jobs.stop(real.state, job.task_id, "me"), "stopped by me")
    assert real.left(job.task_id) == []


def test_a_starter_that_is_interrupted_leaves_no_job(real: RealJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, supervisor: proctree.Identity, **more: bool) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_taken_over", interrupted)
    spec = real.spec("sleep 60")
    with pytest.raises(KeyboardInterrupt):
        jobs.start(spec, real.environ)
    job = jobs.look(real.state, spec.task_id)
    assert job is not None
    assert failed(job, "stopped by an interrupted session")
    assert real.left(spec.task_id) == []


# ---------------------------------------------------------------- full disks, missing files


def test_a_job_record_on_a_full_disk_drops_and_says_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    write = os.write

    def maybe(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", maybe)
    record = JobRecord(tmp_path, Job("13", "task_13_1a2b3c4d"), journal=tmp_path / "journal")
    record.watched([{"event": "sample", "monitor": "m", "text": "1"}])
    record.watched([{"event": "alert", "monitor": "m", "text": "bad"}])
    assert not record.save()
    assert record.due() is not None
    full = False
    assert record.event("job_ended")
    assert record.save()
    assert record.due() is None
    record.close()
    text = (tmp_path / "journal").read_text()
    assert "2 records of the job could not be written" in text
    found = states.read(tmp_path)
    assert found is not None
    assert found.samples == {"m": "1"}
    assert found.alert_count == 1


def test_a_journal_that_cannot_be_opened_keeps_no_job_from_running(real: RealJobs) -> None:
    real.journal.mkdir()
    ended = real.ended(real.start("echo hello; sleep 0.2"))
    assert ended.state == PASSED
    real.journal.rmdir()
    until = time.monotonic() + 60
    while not real.events("job_ended"):
        assert time.monotonic() < until
        time.sleep(0.02)
    (note,) = real.events("ignored")
    assert note["text"] == "1 records of the job could not be written"


@slow
def test_files_that_may_not_grow_neither_kill_the_supervisor_nor_make_it_lie(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Byte code would be cut as well, and stay.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    Journal(real.journal, "run-1").append("filler", text="x" * 6000)
    monitor = a_monitor("m", "date +%s%N", interval=0.05, metric=Metric("t", r"(\d+)"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        job = real.start(
            f"ulimit -f unlimited; {sys.executable} -c \"print('x' * 100_000)\"; sleep 1; exit 3",
            monitors=(monitor,),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    ended = real.ended(job)
    assert failed(ended, "exit 3")
    assert real.errors(job.task_id) == ""
    assert real.journal.stat().st_size <= 8192


@slow
def test_a_job_whose_folder_is_removed_is_known_again(real: RealJobs) -> None:
    job = real.start(f"{UNTIL_GO}; echo late; exit 3")
    shutil.rmtree(real.job_folder(job))
    again = real.until(job.task_id, lambda job: job.live)
    assert again.pid == job.pid
    real.go()
    assert failed(real.ended(job), "exit 3")
    assert real.log(job) == "late\n"


# ---------------------------------------------------------------- many


@slow
def test_twenty_jobs_at_once(real: RealJobs) -> None:
    specs = [real.spec(f"echo {number}; sleep 1; exit {number % 2}") for number in range(20)]
    for spec in specs:
        jobs.start(spec, real.environ)
    for number, spec in enumerate(specs):
        ended = jobs.wait_end(real.state, spec.task_id, lambda _: None, environ=real.environ)
        assert ended.exit == number % 2
        assert (folder_of(real.state, spec.task_id) / "main.log").read_text() == f"{number}\n"
    assert len(real.events("job_ended")) == 20
    assert proctree.find(JOB, specs[0].task_id) == []
