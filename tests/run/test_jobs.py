"""A background job outlives who started it, and its state is told truthfully at every moment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tinker_steps.record import jobs as states
from pytest_tinker_steps.record.jobs import FAILED, LOST, PASSED, RUNNING, UNSUPERVISED, Job, folder_of
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.background import jobs
from pytest_tinker_steps.run.background.job_spec import EXIT, LOG, SPEC, STOP, JobSpec, read_spec, write_spec
from pytest_tinker_steps.run.process import ATTEMPT, EVENTS, JOB, SESSION, SUPERVISOR

from .real_jobs import PATIENCE, UNTIL_GO, RealJobs, failed, real_jobs


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealJobs]:
    with real_jobs(tmp_path) as made:
        yield made


# ---------------------------------------------------------------- start and end


def test_a_job_runs_and_ends_well(real: RealJobs) -> None:
    job = real.start("echo hello; echo oops >&2")
    ended = real.ended(job)
    assert (ended.state, ended.exit, ended.reason, ended.ready) == (PASSED, 0, "", True)
    assert 0 < ended.seconds < 60
    assert ended.began < ended.ended
    assert real.log(job) == "hello\noops\n"
    assert ended.log == f".steps/jobs/{job.task_id}/main.log"
    assert real.errors(job.task_id) == ""
    assert [record["event"] for record in real.events()] == ["job_started", "job_ended"]
    (record,) = real.events("job_ended")
    assert record["run_id"] == "run-1"
    assert record["task_id"] == job.task_id
    assert (record["status"], record["exit"], record["reason"]) == ("passed", 0, "")


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("exit 3", 3, "exit 3"),
        ("kill -9 $$", -9, "killed by SIGKILL"),
        ("kill -SEGV $$", -11, "killed by SIGSEGV"),
        (("no-such-program",), 127, "exit 127"),
        ((sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"), -15, "killed by SIGTERM"),
    ],
)
def test_a_job_that_fails_says_why(real: RealJobs, command: str, code: int, reason: str) -> None:
    ended = real.ended(real.start(command))
    assert (ended.state, ended.exit, ended.reason) == (FAILED, code, reason)
    assert not ended.ready


def test_a_job_whose_folder_is_missing_is_not_started(real: RealJobs, tmp_path: Path) -> None:
    spec = real.spec("true", cwd=tmp_path / "gone")
    jobs.start(spec, real.environ)
    ended = jobs.wait_end(real.state, spec.task_id, lambda _: None)
    assert failed(ended, f"not started: its folder does not exist: '{tmp_path}/gone'")


def test_the_environment_is_the_given_one_and_the_marker_of_the_job(real: RealJobs) -> None:
    of_session = {
        ATTEMPT: "task_1_x",
        SESSION: "token",
        EVENTS: "elsewhere",
        JOB: "outer",
        SUPERVISOR: "outer",
    }
    real.environ = {"PATH": os.defpath, "A": "1", **of_session}
    spec = real.spec(("/usr/bin/env",))
    jobs.start(spec, real.environ)
    job = jobs.wait_end(real.state, spec.task_id, lambda _: None, environ=real.environ)
    lines = [line for line in real.log(job).splitlines() if not re.match("PWD|OLDPWD|SHLVL|_=", line)]
    assert sorted(lines) == sorted(
        ["A=1", f"PATH={os.defpath}", f"{EVENTS}={spec.events}", f"{JOB}={spec.task_id}"]
    )


def test_a_job_has_a_session_of_its_own_and_ordinary_signals(real: RealJobs) -> None:
    script = (
        "import os, signal; print(os.getsid(0), os.getpid());"
        "print([name for name in ('SIGINT', 'SIGHUP', 'SIGTERM', 'SIGQUIT', 'SIGCHLD')"
        " if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN])"
    )
    job = real.ended(real.start((sys.executable, "-c", script)))
    assert real.log(job) == f"{job.session} {job.pid}\n[]\n"
    assert job.session not in (0, os.getsid(0))


def test_a_job_and_its_supervisor_are_no_children_of_ours(real: RealJobs) -> None:
    job = real.start("sleep 60")
    for pid in (job.supervisor, job.session):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) != os.getpid()
        assert int(fields[3]) == pid, "leads its session"


def test_nothing_secret_is_written_down(real: RealJobs) -> None:
    secret = "tml-0123456789abcdef"
    real.environ["MY_API_KEY"] = secret
    real.environ["PLAIN"] = "hide-me-please"
    command = (
        'echo "$MY_API_KEY $PLAIN"; echo "{\\"note\\": \\"$MY_API_KEY\\"}" >>$TINKER_STEPS_EVENTS; sleep 0.1'
    )
    job = real.ended(real.start(command, secrets=("PLAIN",)))
    assert real.log(job) == "[redacted] [redacted]\n"
    assert job.notes == ("[redacted]",)
    folder = real.job_folder(job)
    for path in [*folder.iterdir(), real.journal]:
        if path.is_file():
            assert secret not in path.read_text(), path
            assert "hide-me-please" not in path.read_text(), path
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == EXIT, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_task_id_is_used_once(real: RealJobs) -> None:
    spec = real.spec("true")
    jobs.start(spec, real.environ)
    with pytest.raises(jobs.JobError, match="File exists"):
        jobs.start(spec, real.environ)


def test_a_spec_comes_back_from_the_disk(real: RealJobs) -> None:
    spec = real.spec(("a", "b"), progress=r"(\d+)", criteria=("done",))
    spec.job_folder.mkdir(parents=True)
    write_spec(spec)
    assert read_spec(spec.job_folder) == spec
    shutil.rmtree(spec.job_folder)


def test_a_supervisor_that_cannot_start_is_an_error_of_one_line(
    real: RealJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROGRAM", "raise SystemExit('out of luck')")
    with pytest.raises(jobs.JobError, match=r"^its supervisor died: out of luck$"):
        jobs.start(real.spec("true"), real.environ)
    assert jobs.look_all(real.state) == []


def test_a_job_that_forks_and_exits_has_ended_and_leaves_nothing(real: RealJobs) -> None:
    job = real.start("(while :; do sleep 0.05; done) & setsid sh -c 'sleep 60' & exit 0")
    ended = real.ended(job)
    assert ended.state == PASSED
    assert real.left(job.task_id) == []
    (record,) = real.events("left_behind")
    assert record["count"] >= 2


# ---------------------------------------------------------------- waiting


def test_a_wait_is_told_the_job_again_and_again(real: RealJobs) -> None:
    told: list[Job] = []

    def tell(job: Job) -> None:
        told.append(job)
        if len(told) == 4:
            real.go()

    spec = real.spec(UNTIL_GO)
    jobs.start(spec, real.environ)
    ended = jobs.wait_end(real.state, spec.task_id, tell)
    assert len(told) > 3
    assert {job.state for job in told[:-1]} <= {"starting", RUNNING}
    assert told[-1] == ended


def test_a_wait_for_a_job_that_is_gone_is_an_error(real: RealJobs) -> None:
    for wait in (jobs.wait_end, jobs.wait_ready):
        with pytest.raises(jobs.JobError, match="task_none"):
            wait(real.state, "task_none", lambda _: None)
    assert jobs.look(real.state, "task_none") is None
    with pytest.raises(jobs.JobError, match="no job task_none"):
        jobs.stop(real.state, "task_none", "me")
    with pytest.raises(jobs.JobError, match="no job task_none"):
        jobs.adopt(real.state, "task_none", environ={})


def test_a_wait_gives_an_orphan_a_new_supervisor(real: RealJobs) -> None:
    job = real.start(f"{UNTIL_GO}; exit 4")
    real.kill_supervisor(job)

    def tell(now: Job) -> None:
        if now.supervisor != job.supervisor:
            real.go()

    ended = jobs.wait_end(real.state, job.task_id, tell, environ=real.environ)
    assert failed(ended, "exit 4")
    assert ended.supervisor != job.supervisor
    assert [record["reason"] for record in real.events("job_ended")] == ["exit 4"]


# ---------------------------------------------------------------- stopping


def until_it_says_ready(real: RealJobs, job: Job) -> None:
    log = real.job_folder(job) / LOG
    real.until(job.task_id, lambda _: log.exists() and "ready" in log.read_text())


def test_a_job_is_stopped_in_order_and_remembers_by_whom(real: RealJobs) -> None:
    job = real.start("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    until_it_says_ready(real, job)
    stopped = jobs.stop(real.state, job.task_id, "ann on host")
    assert (stopped.state, stopped.stopped_by) == (FAILED, "ann on host")
    assert (stopped.reason, stopped.exit) == ("stopped by ann on host", 0)
    assert real.log(job).endswith("saved\n")
    assert [record["event"] for record in real.events()][-2:] == ["job_stopped", "job_ended"]
    assert real.events("job_stopped")[0]["by"] == "ann on host"
    assert real.look(job) == stopped
    assert jobs.stop(real.state, job.task_id, "somebody else") == stopped


def test_a_job_that_has_ended_well_cannot_be_stopped_any_more(real: RealJobs) -> None:
    ended = real.ended(real.start("true"))
    assert jobs.stop(real.state, ended.task_id, "me") == ended
    assert not (real.job_folder(ended) / STOP).exists()


def test_a_supervisor_that_is_told_to_end_ends_its_job(real: RealJobs) -> None:
    job = real.start("sleep 60")
    os.kill(job.supervisor, signal.SIGTERM)
    assert failed(real.ended(job), "stopped by SIGTERM to its supervisor")


@pytest.mark.slow
def test_a_job_that_ignores_sigterm_is_killed(real: RealJobs) -> None:
    job = real.start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until_it_says_ready(real, job)
    stopped = jobs.stop(real.state, job.task_id, "me")
    assert (stopped.state, stopped.exit, stopped.reason) == (FAILED, -9, "stopped by me")


def test_a_job_without_a_supervisor_is_stopped(real: RealJobs) -> None:
    job = real.start("sleep 60")
    real.kill_supervisor(job)
    assert failed(jobs.stop(real.state, job.task_id, "me"), "stopped by me")
    assert real.left(job.task_id) == []
    assert len(real.events("job_ended")) == 1


def test_a_job_without_a_supervisor_that_gets_none_is_stopped_all_the_same(real: RealJobs) -> None:
    job = real.start("sleep 60")
    real.kill_supervisor(job)
    (real.job_folder(job) / SPEC).unlink()
    with pytest.raises(jobs.JobError, match="supervisor died"):
        jobs.adopt(real.state, job.task_id, environ=real.environ)
    assert failed(jobs.stop(real.state, job.task_id, "me"), "stopped by me")
    assert failed(real.look(job), "stopped by me")


# ---------------------------------------------------------------- the truth without a supervisor


def test_a_job_without_a_supervisor_is_told_as_such_until_it_has_one_again(real: RealJobs) -> None:
    job = real.start(f"echo one; {UNTIL_GO}; echo two")
    real.until(job.task_id, lambda _: (real.job_folder(job) / "main.log").exists())
    real.kill_supervisor(job)
    assert real.look(job).state == UNSUPERVISED
    adopted = jobs.adopt(real.state, job.task_id, environ=real.environ)
    assert (adopted.pid, adopted.state) == (job.pid, RUNNING)
    assert adopted.supervisor != job.supervisor
    time.sleep(0.5)
    real.go()
    ended = real.ended(job)
    assert ended.state == PASSED
    assert real.log(job) == "one\ntwo\n"
    assert 0.5 < ended.seconds < 60


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [("exit 0", PASSED, ""), ("exit 5", FAILED, "exit 5"), ("kill -9 $$", FAILED, "killed by SIGKILL")],
)
def test_a_job_that_ended_without_a_supervisor_has_the_exit_code_that_its_shell_wrote(
    real: RealJobs, end: str, state: str, reason: str
) -> None:
    job = real.start(f"{UNTIL_GO}; {end}")
    real.kill_supervisor(job)
    real.go()
    ended = real.until(job.task_id, lambda job: not job.live)
    assert (ended.state, ended.reason) == (state, reason)
    assert ended.ended
    assert 0 <= ended.seconds < 60
    assert real.events("job_ended") == []
    time.sleep(0.05)
    (written,) = jobs.adopt_all(real.state, environ=real.environ)
    assert written == states.read(folder_of(real.state, job.task_id))
    assert len(real.events("job_ended")) == 1
    assert (written.state, written.reason) == (state, reason)
    assert (written.ended, written.seconds) == (ended.ended, ended.seconds), "not when it was noticed"


def test_a_job_that_died_with_its_shell_and_its_supervisor_is_lost(real: RealJobs) -> None:
    job = real.start("sleep 60")
    real.kill_supervisor(job)
    os.killpg(job.session, signal.SIGKILL)
    lost = real.until(job.task_id, lambda job: not job.live)
    assert (lost.state, lost.exit) == (LOST, None)
    assert lost.reason == "its end is not known: nobody saw its exit code"
    settled = real.ended(job)
    assert settled.state in (LOST, FAILED)
    assert settled.reason == lost.reason


def test_a_number_that_was_given_to_another_process_is_not_the_job(real: RealJobs) -> None:
    foreign = subprocess.Popen(["sleep", "60"])
    try:
        task_id = "task_13_reused00"
        folder = folder_of(real.state, task_id)
        folder.mkdir(parents=True)
        start = proctree.started(foreign.pid)
        assert start is not None
        job = Job(
            "13",
            task_id,
            pid=foreign.pid,
            start=start - 1,
            session=foreign.pid,
            session_start=start - 1,
            supervisor=foreign.pid,
            supervisor_start=start - 1,
            boot=proctree.boot(),
            state=RUNNING,
        )
        states.write(folder, job)
        assert real.look(job).state == LOST
        assert jobs.stop(real.state, task_id, "me").state == LOST
        # The same numbers from before the machine was started anew are not the job either.
        states.write(
            folder, replace(job, start=start, session_start=start, supervisor_start=start, boot="other")
        )
        assert real.look(job).state == LOST
        assert jobs.stop(real.state, task_id, "me").state == LOST
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_the_code_of_half_an_exit_file_is_not_believed(real: RealJobs) -> None:
    folder = folder_of(real.state, "task_13_half0000")
    folder.mkdir(parents=True)
    states.write(folder, Job("13", "task_13_half0000", state=RUNNING, boot="other"))
    for text, state in (("", LOST), ("0", LOST), ("x\n", LOST), ("0\n", PASSED)):
        (folder / EXIT).write_text(text)
        found = jobs.look(real.state, "task_13_half0000")
        assert found is not None
        assert found.state == state, text
    shutil.rmtree(folder)


@pytest.mark.slow
def test_two_supervisors_never_look_after_one_job(real: RealJobs) -> None:
    job = real.start("sleep 60")
    assert jobs.adopt(real.state, job.task_id, environ=real.environ).supervisor == job.supervisor
    real.kill_supervisor(job)
    both = [jobs._start_supervisor(real.job_folder(job), job.task_id, real.environ) for _ in range(2)]
    until = time.monotonic() + PATIENCE
    while all(proctree.alive(*one) for one in both):
        assert time.monotonic() < until
        time.sleep(0.02)
    (left,) = proctree.find(SUPERVISOR, job.task_id)
    assert left in both
    assert real.look(job).supervisor == left[0]


def test_all_jobs_of_a_list_are_looked_at(real: RealJobs) -> None:
    first = real.start("sleep 60")
    second = real.ended(real.start("exit 1"))
    real.kill_supervisor(first)
    assert [(job.task_id, job.state) for job in jobs.look_all(real.state)] == [
        (first.task_id, UNSUPERVISED),
        (second.task_id, FAILED),
    ]


def test_the_spec_holds_no_value_of_the_environment(real: RealJobs) -> None:
    real.environ["UNIQUE"] = "value-of-the-environment"
    job = real.ended(real.start("true"))
    said = json.loads((real.job_folder(job) / SPEC).read_text())
    assert set(said) == set(JobSpec.__dataclass_fields__)
    assert "value-of-the-environment" not in json.dumps(said)
