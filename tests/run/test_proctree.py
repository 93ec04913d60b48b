"""Processes are found by marker, session and descent, and ended whatever they do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pytest_tinker_steps.run import proctree

NAME = "TINKER_STEPS_TEST_MARKER"
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")
needs_setsid = pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid(1)")
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(params=["raw", "psutil"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "raw" and not proctree.RAW:
        pytest.skip("no /proc")
    monkeypatch.setattr(proctree, "RAW", request.param == "raw")
    return str(request.param)


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def start(marker: str) -> Iterator[Start]:
    begun = []

    def start(script: str, **more: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, NAME: marker}
        process = subprocess.Popen(
            ["/bin/sh", "-c", script], env=env, start_new_session=True, stdout=subprocess.PIPE
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def soon(condition: Callable[[], object], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def pids(found: list[proctree.Identity]) -> set[int]:
    return {pid for pid, _ in found}


def test_a_process_has_one_start_and_one_that_ended_none(way: str, start: Start) -> None:
    process = start("exec sleep 60")
    began = proctree.started(process.pid)
    assert began is not None
    assert began == proctree.started(process.pid)
    assert proctree.alive(process.pid, began)
    assert not proctree.alive(process.pid, began + 1)
    process.kill()
    assert soon(lambda: not proctree.alive(process.pid, began)), "waits to be reaped, but lives no more"
    process.wait()
    assert proctree.started(process.pid) is None


@needs_setsid
def test_the_marker_finds_also_who_left_the_session(way: str, start: Start, marker: str) -> None:
    process = start("setsid sleep 60 & exec sleep 60")
    assert soon(lambda: len(proctree.find(NAME, marker)) == 2)
    assert process.pid in pids(proctree.find(NAME, marker))
    assert proctree.find(NAME, marker[:-1]) == []
    assert proctree.find(NAME[1:], marker) == []
    proctree.end(lambda: proctree.find(NAME, marker), signals=((signal.SIGKILL, 30),))


@needs_setsid
def test_descendants_are_found_without_the_marker(way: str, start: Start, marker: str) -> None:
    process = start("env -i setsid sleep 60 & wait")
    assert soon(lambda: len(proctree.members([process.pid])[1]) == 2), "one session of its own"
    assert len(proctree.find(NAME, marker)) == 2
    proctree.end(lambda: proctree.find(NAME, marker), signals=((signal.SIGKILL, 30),))


def test_the_group_is_found_without_its_leader(way: str, start: Start, marker: str) -> None:
    process = start("env -i sleep 60 & echo $!")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.wait()
    assert soon(lambda: proctree.find(NAME, marker) == [])
    assert pids(proctree.find(NAME, marker, groups=[process.pid])) == {child}


@needs_setsid
def test_the_leader_of_processes_was_there_first_and_leads_its_session(
    way: str, start: Start, marker: str
) -> None:
    process = start("(setsid sleep 60 &); sh -c 'sleep 60 & echo $$; wait'; true")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert soon(lambda: len(proctree.find(NAME, marker)) == 4)
    leader = (process.pid, proctree.started(process.pid))
    found = proctree.find(NAME, marker)
    assert proctree.leader(found) == (leader, (child, proctree.started(child)))
    assert proctree.leader(reversed(found))[0] == leader
    assert proctree.leader([one for one in found if one == leader]) == (leader, None)
    assert proctree.leader([]) == (None, None)
    stranger = [(pid, began + 1) for pid, began in found]
    assert proctree.leader(stranger) == (None, None)
    proctree.end(lambda: proctree.find(NAME, marker), signals=((signal.SIGKILL, 30),))


@needs_setsid
def test_who_leads_a_session_and_came_later_is_no_leader(way: str, start: Start, marker: str) -> None:
    process = start("sh -c 'sleep 0.1; setsid sleep 60 & echo $$; wait'; true")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert soon(lambda: len(proctree.find(NAME, marker)) == 3)
    found = [one for one in proctree.find(NAME, marker) if one[0] != process.pid]
    assert proctree.leader(found) == (None, (child, proctree.started(child)))
    proctree.end(lambda: proctree.find(NAME, marker), signals=((signal.SIGKILL, 30),))


def test_a_number_given_to_another_process_is_nobodys_group(way: str) -> None:
    ours = os.getpid()
    began = proctree.started(ours)
    assert proctree.still_theirs({ours: began}) == [ours]
    assert proctree.still_theirs({ours: 1.0}) == []
    assert proctree.still_theirs({ours: None}) == []
    assert proctree.still_theirs({2**22 + 1: None, 2**22 + 2: 5.0}) == [2**22 + 1, 2**22 + 2]


def test_we_are_never_found(way: str) -> None:
    assert os.getpid() not in pids(proctree.find("X", "y", groups=[os.getpgrp(), os.getsid(0)]))


@linux
def test_older_processes_are_left_out_when_asked(start: Start, marker: str) -> None:
    old, new = start("exec sleep 60"), start("exec sleep 60")
    assert soon(lambda: len(proctree.find(NAME, marker)) == 2)
    assert pids(proctree.find(NAME, marker, newer_than_pid=old.pid)) == {new.pid}
    assert len(proctree.find(NAME, marker, newer_than_pid=2**30)) == 2, (
        "ids have begun anew: all are looked at"
    )


@linux
def test_a_process_that_comes_out_of_its_exec_while_it_is_asked_is_found(
    start: Start, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("exec sleep 60")
    assert soon(lambda: len(proctree.find(NAME, marker)) == 1)
    read, asked = proctree._environ, []

    def out_of_exec(pid: int) -> bool:
        asked.append(pid)
        return False

    monkeypatch.setattr(proctree, "_in_exec", out_of_exec)
    monkeypatch.setattr(proctree, "_environ", lambda pid: read(pid) if asked else proctree._NO_ENVIRON)
    assert pids(proctree.find(NAME, marker, newer_than_pid=process.pid - 1)) == {process.pid}


def test_a_name_with_brackets_and_spaces_does_not_confuse() -> None:
    row = proctree._parsed(7, b"7 (a) Z 1 (b) S 5 6 8" + b" 0" * 15 + b" 99 0\n")
    assert row == (7, 5, 6, 8, 99.0, False)


def test_ending_counts_and_spares_who_obeys(way: str, start: Start, marker: str) -> None:
    start("exec sleep 60")
    polite = start("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    assert polite.stdout is not None
    polite.stdout.readline()
    told: list[int] = []
    left = lambda: [p for p in proctree.find(NAME, marker) if p[0] == polite.pid]  # noqa: E731
    assert proctree.end(left, on_signal=told.append) == 1
    assert told == [signal.SIGTERM]
    assert polite.wait() == 3
    assert proctree.end(lambda: proctree.find(NAME, marker)) >= 1
    assert proctree.end(lambda: proctree.find(NAME, marker)) == 0


def test_who_ignores_the_first_signal_gets_the_next(start: Start, marker: str) -> None:
    deaf = start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert deaf.stdout is not None
    deaf.stdout.readline()
    told: list[int] = []
    proctree.end(
        lambda: proctree.find(NAME, marker),
        signals=((signal.SIGTERM, 0.1), (signal.SIGKILL, 30)),
        on_signal=told.append,
    )
    assert told == [signal.SIGTERM, signal.SIGKILL]
    assert proctree.find(NAME, marker) == []
    assert deaf.wait() == -signal.SIGKILL


def test_a_process_that_forks_on_and_on_is_caught(start: Start, marker: str) -> None:
    runner = "import os, time\nwhile 1:\n if os.fork(): os._exit(0)\n time.sleep(0.003)"
    start(f'exec {sys.executable} -S -c "$(printf %b {runner!r})"')
    assert soon(lambda: proctree.find(NAME, marker))
    first = pids(proctree.find(NAME, marker))
    assert soon(lambda: (now := pids(proctree.find(NAME, marker))) and not now & first), "it does go on"
    proctree.end(lambda: proctree.find(NAME, marker))
    time.sleep(0.05)
    assert proctree.find(NAME, marker) == []


def test_a_stranger_with_the_same_number_is_not_hit(start: Start) -> None:
    process = start("exec sleep 60")
    proctree.end(lambda: [(process.pid, -1.0)], signals=((signal.SIGKILL, 0.0),))
    time.sleep(0.05)
    assert process.poll() is None


@linux
def test_who_holds_the_writing_end_of_a_pipe_is_found() -> None:
    reading, writing = os.pipe()
    try:
        with subprocess.Popen(["sleep", "60"], stdout=writing, start_new_session=True) as holder:
            with subprocess.Popen(["sleep", "60"], stdin=reading, start_new_session=True) as reader:
                assert proctree.writers(reading) == {holder.pid}
                reader.kill()
            holder.kill()
    finally:
        os.close(reading)
        os.close(writing)


@linux
def test_a_look_reads_two_files_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really = os.open

    def counted(path: str, *args: int) -> int:
        opened.append(path)
        return really(path, *args)

    with monkeypatch.context() as context:
        context.setattr(os, "open", counted)
        proctree.find(NAME, "none")
    of_each = Counter(path.split("/")[2] for path in opened if path.split("/")[2].isdigit())
    # One that is just being started is asked until it shows an environment.
    assert statistics.median(of_each.values()) <= 2
