"""A supervisor knows when its job is ready, ends it when it must, and tells what it and its monitors say."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.plan.model import Metric, ReadyWhen, Stall, Threshold
from pytest_tinker_steps.record.jobs import FAILED, PASSED, RUNNING, Job
from pytest_tinker_steps.run.background import jobs
from pytest_tinker_steps.run.background import readiness as readiness_module
from pytest_tinker_steps.run.background.job_log import JobLog
from pytest_tinker_steps.run.background.job_spec import SERIES
from pytest_tinker_steps.run.background.readiness import ALIVE, Readiness, stamp

from .real_jobs import UNTIL_GO, RealJobs, a_monitor, failed, real_jobs
from .real_runs import a_check


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealJobs]:
    with real_jobs(tmp_path) as made:
        yield made


def wait_ready(real: RealJobs, job: Job) -> Job:
    return jobs.wait_ready(real.state, job.task_id, lambda _: None, environ=real.environ)


# ---------------------------------------------------------------- ready


def test_a_job_is_ready_when_its_file_is_written(real: RealJobs) -> None:
    (real.folder / "old.flag").write_text("from another attempt")
    os.utime(real.folder / "old.flag", (time.time() - 60,) * 2)
    command = f": >ready.flag; {UNTIL_GO}; echo yes >ready.flag; sleep 60"
    job = real.start(command, ready_when=ReadyWhen(file="ready.flag"))
    time.sleep(0.3)
    assert not real.look(job).ready
    real.go()
    ready = wait_ready(real, job)
    assert (ready.state, ready.ready) == (RUNNING, True)
    (record,) = real.events("job_ready")
    assert record["pid"] == job.pid
    assert record["log"] == job.log
    assert 0.2 < record["seconds"] < 60


def test_a_file_of_an_earlier_attempt_makes_no_job_ready(real: RealJobs) -> None:
    (real.folder / "ready.flag").write_text("old")
    job = real.start("sleep 60", ready_when=ReadyWhen(file="ready.flag"), startup=0.5)
    assert failed(wait_ready(real, job), "not ready after 0.5 s")
    assert real.left(job.task_id) == []


def test_a_job_is_ready_when_it_prints_a_line(real: RealJobs) -> None:
    command = "printf 'Server '; sleep 0.1; printf 'up on 80'; sleep 0.3; echo 80; sleep 60"
    began = time.monotonic()
    job = real.start(command, ready_when=ReadyWhen(line=r"^Server up on \d+$"))
    assert wait_ready(real, job).ready
    assert time.monotonic() - began >= 0.4, "only a whole line counts"


def test_a_job_is_ready_when_a_check_passes(real: RealJobs) -> None:
    check = a_check("up", command='test -e up && test "$MARK" = here', timeout=30.0)
    job = real.start("sleep 0.2; : >up; sleep 60", ready_when=ReadyWhen(check=check))
    assert wait_ready(real, job).ready


def test_a_probe_of_ready_when_needs_no_command(real: RealJobs) -> None:
    check = a_check(
        "data", "yaml", probe={"path": "up.yaml", "required": ["a"], "min_rows": None}, timeout=30.0
    )
    job = real.start("echo 'a: 1' >up.yaml; sleep 60", ready_when=ReadyWhen(check=check))
    assert wait_ready(real, job).ready
    assert real.errors(job.task_id) == ""


def test_without_ready_when_a_job_is_ready_once_it_printed_and_stays_alive(real: RealJobs) -> None:
    job = real.start("echo hello; sleep 60")
    ready = wait_ready(real, job)
    assert ALIVE <= time.monotonic() - ready.began_clock < ALIVE + 20


def test_a_good_end_is_as_good_as_ready_and_a_bad_one_is_not(real: RealJobs) -> None:
    never = ReadyWhen(line="never")
    assert wait_ready(real, real.start("true", ready_when=never)).state == PASSED
    bad = wait_ready(real, real.start("echo no; exit 2", ready_when=never))
    assert (bad.state, bad.reason, bad.ready) == (FAILED, "exit 2", False)


def test_readiness_by_output_needs_both_output_and_life() -> None:
    readiness = Readiness(None, cwd=Path("/"), began=100.0, since_ns=0)
    assert not readiness.look(103.0)
    assert readiness.due(103.0) is None
    readiness.output("x")
    assert not readiness.look(101.9)
    assert readiness.due(101.0) == 102.0
    assert readiness.look(102.0)


def test_a_ready_line_is_found_however_it_arrives_and_stays_found() -> None:
    for pieces in (["re", "ady\n"], ["no\nready\r"], ["x\n", "ready", "\n"]):
        readiness = Readiness(ReadyWhen(line="^ready$"), cwd=Path("/"), began=0.0, since_ns=0)
        for piece in pieces:
            assert not readiness.look(1.0)
            readiness.output(piece)
        assert readiness.look(1.0)
        readiness.output("more\n")
        assert readiness.look(1.0)


def test_the_stamp_is_not_older_than_a_file_written_before_it(tmp_path: Path) -> None:
    (tmp_path / "before").write_text("x")
    now = stamp(tmp_path / "clock")
    assert (tmp_path / "before").stat().st_mtime_ns <= now
    (tmp_path / "after").write_text("x")
    assert (tmp_path / "after").stat().st_mtime_ns >= now


# ---------------------------------------------------------------- deadlines


def test_a_job_that_runs_too_long_is_ended(real: RealJobs) -> None:
    job = real.start("sleep 60", ready_when=ReadyWhen(line="never"), max_runtime=0.4)
    ended = real.ended(job)
    assert failed(ended, "no end after 0.4 s: ended with SIGTERM")
    assert 0.4 <= ended.seconds < 20


def test_a_clock_that_is_set_changes_no_deadline(real: RealJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = (
        "import time, itertools; jumps = itertools.cycle([-7200.0, 86400.0, 0.0]); real = time.time; "
        "time.time = lambda: real() + next(jumps); "
    )
    monkeypatch.setattr(jobs, "PROGRAM", jumps + jobs.PROGRAM)
    job = real.start("echo hi; sleep 60", max_runtime=0.6)
    ended = real.ended(job)
    assert failed(ended, "no end after 0.6 s: ended with SIGTERM")
    assert 0.6 <= ended.seconds < 20


def test_nothing_of_a_job_asks_what_time_it_is_to_decide() -> None:
    folder = Path(jobs.__file__).parent
    for name in ("supervisor", "jobs", "job_process", "job_output", "job_lock", "readiness", "job_record"):
        assert "time.time" not in (folder / f"{name}.py").read_text(), name


# ---------------------------------------------------------------- what is said


def say(*events: dict[str, Any]) -> str:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return f"cat >>$TINKER_STEPS_EVENTS <<'END'\n{lines}END\n"


def test_what_a_job_reports_is_in_its_state_and_in_the_journal(real: RealJobs) -> None:
    command = say(
        {"progress": [5, 10]},
        {"metric": "loss", "value": 0.5},
        {"metric": "cost_usd", "value": 1.5},
        {"metric": "cost_usd", "value": 0.25},
        {"note": "5000\nexamples"},
        {"criterion": "keys validated"},
        {"odd": 1},
    )
    ledger = real.folder / "costs" / "run-1.jsonl"
    job = real.ended(real.start(command + "echo all fine; sleep 0.1", ledger=ledger, criteria=("all fine",)))
    assert job.progress is not None
    assert job.progress[:2] == (5, 10)
    assert job.metrics == {"loss": 0.5, "cost_usd": 1.75}
    assert job.notes == ("5000 examples",)
    assert set(job.met) == {"keys validated", "all fine"}
    costs = [json.loads(line)["usd"] for line in ledger.read_text().splitlines() if line]
    assert costs == [1.5, 0.25]
    names = [record["event"] for record in real.events()]
    assert names.count("metric") == 3
    assert {"progress", "note", "criterion", "ignored"} <= set(names)
    assert all(record["task_id"] == job.task_id for record in real.events())


def test_an_adopted_job_counts_nothing_twice(real: RealJobs) -> None:
    first, second = ({"metric": "cost_usd", "value": value} for value in (1.0, 2.0))
    crit = {"criterion": "once"}
    job = real.start(say(first, crit) + "while ! [ -e go ]; do sleep 0.02; done\n" + say(second, crit))
    real.until(job.task_id, lambda job: job.metrics == {"cost_usd": 1.0} and job.events_read > 0)
    real.until(job.task_id, lambda _: len(real.events("metric", "criterion")) == 2)
    real.kill_supervisor(job)
    (real.folder / "go").touch()
    ended = real.ended(job)
    assert ended.metrics == {"cost_usd": 3.0}
    assert ended.met == ("once",)
    assert len(real.events("metric")) == 2
    assert len(real.events("criterion")) == 1


def test_progress_in_the_output_is_told(real: RealJobs) -> None:
    job = real.start("printf '\\r 3/9 [00:01<00:02,  3it/s]'; sleep 60")
    assert real.until(job.task_id, lambda job: job.progress is not None).progress[:2] == (3, 9)  # type: ignore[index]


def test_samples_and_alerts_are_in_the_state_and_in_the_journal(real: RealJobs) -> None:
    monitors = (
        a_monitor("disk", "echo 12 GB; echo $MARK", interval=60.0),
        a_monitor("errors", "tail -1 there.log", interval=0.3, alert_on="error"),
        a_monitor("loss", metric=Metric("loss", r"loss (\S+)"), threshold=Threshold("loss", ">", 10.0)),
    )
    (real.folder / "there.log").write_text("fine\n")
    job = real.start("echo loss 3.5; sleep 0.5; echo loss 12; sleep 60", monitors=monitors)
    real.until(job.task_id, lambda job: job.samples.get("disk") == "12 GB\nhere")
    with (real.folder / "there.log").open("a") as file:
        file.write("RuntimeError: no\n")
    alerted = real.until(job.task_id, lambda job: any(alert.monitor == "errors" for alert in job.alerts))
    assert "RuntimeError: no" in alerted.alerts[-1].text or "RuntimeError: no" in alerted.alerts[0].text
    both = real.until(job.task_id, lambda job: {alert.monitor for alert in job.alerts} == {"errors", "loss"})
    assert both.alert_count == len(both.alerts) == len(real.events("alert"))
    assert both.state == RUNNING
    assert "12" in (real.job_folder(job) / SERIES).read_text()
    assert {record["monitor"] for record in real.events("sample")} >= {"disk", "errors"}


def test_a_monitor_may_end_the_job(real: RealJobs) -> None:
    monitor = a_monitor("quiet", stall=Stall(0.3), on_alert="stop", interval=0.1)
    ended = real.ended(real.start("echo hello; sleep 60", monitors=(monitor,)))
    assert ended.state == FAILED
    assert ended.reason.startswith("monitor quiet: ")
    assert ended.alert_count == 1


# ---------------------------------------------------------------- the log


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("main.log*")}


def test_a_job_that_prints_all_the_time_fills_three_logs_and_no_more(real: RealJobs) -> None:
    script = "import sys\nfor n in range(60_000): print(f'line {n:06}')"
    job = real.ended(real.start((sys.executable, "-c", script), log_size=64 * 1024))
    assert job.state == PASSED
    found = sizes(real.job_folder(job))
    assert set(found) == {"main.log", "main.log.1", "main.log.2"}
    assert all(size <= 64 * 1024 for size in found.values())
    folder = real.job_folder(job)
    texts = [(folder / name).read_text() for name in ("main.log.2", "main.log.1", "main.log")]
    lines = "".join(texts).splitlines()
    assert lines[-1] == "line 059999"
    assert lines == [f"line {n:06}" for n in range(60_000 - len(lines), 60_000)]


@pytest.mark.parametrize("piece", [1, 7, 10, 1000])
def test_a_log_is_cut_between_lines(tmp_path: Path, piece: int) -> None:
    data = b"".join(b"%04d\n" % number for number in range(10))
    log = JobLog(tmp_path / "main.log", 23)
    for start in range(0, len(data), piece):
        log.write(data[start : start + piece])
    log.close()
    texts = [(tmp_path / name).read_bytes() for name in ("main.log.2", "main.log.1", "main.log")]
    assert b"".join(texts) == data
    if piece >= 10:
        assert [len(text) for text in texts] == [20, 20, 10]
    assert all(len(text) <= 23 for text in texts)


def test_a_line_longer_than_a_log_is_cut(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "main.log", 10)
    log.write(b"x" * 25)
    log.close()
    assert sizes(tmp_path) == {"main.log": 5, "main.log.1": 10, "main.log.2": 10}


def test_a_log_on_a_full_disk_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JobLog(tmp_path / "main.log", 1000)
    write: Callable[..., int] = os.write

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log.write(b"one\n")
    monkeypatch.setattr(os, "write", full)
    log.write(b"two\n")
    log.write(b"three\n")
    monkeypatch.setattr(os, "write", write)
    log.write(b"four\n")
    log.close()
    assert (tmp_path / "main.log").read_text() == "one\n\n[... 10 bytes could not be written ...]\nfour\n"


def test_readiness_stops_asking_when_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "_CHECK_EVERY", 0.05)
    asked = threading.Semaphore(0)

    def check() -> bool:
        asked.release()
        return False

    when = ReadyWhen(check=a_check("x", command="true"))
    readiness = Readiness(when, cwd=tmp_path, began=0.0, since_ns=0, check=check)
    readiness.start()
    assert asked.acquire(timeout=60)
    assert asked.acquire(timeout=60), "again and again"
    readiness.stop()
    assert not asked.acquire(timeout=0.2)
    assert not readiness.look(10.0)
