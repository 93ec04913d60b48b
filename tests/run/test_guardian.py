"""Whatever ends pytest, its foreground processes end too, and the lock is free only then."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_tinker_steps.run import guardian, proctree
from pytest_tinker_steps.run.process import ATTEMPT, EVENTS, SESSION, Processes
from pytest_tinker_steps.run.redaction import Redactor

SCRIPT = Path(guardian.__file__)
Start = Callable[..., subprocess.Popen[bytes]]
needs_setsid = pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid(1)")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

# Stands for pytest: holds a lock, runs one main to its end, and says so.
PYTEST = """
import os, sys
from pathlib import Path
from pytest_tinker_steps.run.process import ATTEMPT, Processes
from pytest_tinker_steps.run.redaction import Redactor

lock = os.open("lock", os.O_RDWR | os.O_CREAT)
polls = os.open("polls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
import fcntl
fcntl.flock(lock, fcntl.LOCK_EX)
with Processes(redactor=Redactor([]), lock_fds=[lock]) as processes:
    {before}
    processes.run(
        {main!r}, cwd=Path.cwd(), env={{**os.environ, ATTEMPT: "task_1_guarded"}}, timeout=60, log=None,
        on_poll=lambda: os.write(polls, b"x"),
    )
"""

# A main with a child, a grandchild that left the session twice over, and one that dropped its environment.
MAIN = """
sleep 60 & echo $! >>pids
setsid sh -c 'setsid sh -c "trap \\"\\" TERM; echo \\$\\$ >>pids; while :; do sleep 0.05; done" &' &
env -i setsid sleep 60 & echo $! >>pids
echo $$ >>pids
wait
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start() -> Iterator[Start]:
    begun = []

    def start(main: str, before: str = "pass") -> subprocess.Popen[bytes]:
        root = str(SCRIPT.parents[2])
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", PYTEST.format(main=main, before=before)],
                env={**os.environ, "PYTHONPATH": root},
                start_new_session=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def soon(condition: Callable[[], object], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def pids(path: str, count: int) -> list[proctree.Identity]:
    assert soon(lambda: Path(path).exists() and len(Path(path).read_text().split()) == count)
    found = [int(word) for word in Path(path).read_text().split()]
    return [(pid, started) for pid in found if (started := proctree.started(pid)) is not None]


def living(processes: list[proctree.Identity]) -> list[proctree.Identity]:
    return [process for process in processes if proctree.alive(*process)]


def lock_is_free() -> bool:
    with Path("lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def guardian_of(pid: int) -> proctree.Identity:
    """The guardian that a process has started; one listing of /proc may miss it while others come and go."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for name in os.listdir("/proc"):
            if name.isdigit():
                words = proctree._read(f"/proc/{name}/cmdline", 4096).split(b"\0")
                if os.fsencode(SCRIPT) in words and str(pid).encode() in words:
                    start = proctree.started(int(name))
                    assert start is not None
                    return int(name), start
    raise AssertionError(f"{pid} has no guardian")


@needs_setsid
@linux
def test_a_killed_pytest_leaves_nothing_and_its_lock_is_held_until_then(start: Start) -> None:
    pytest_process = start(MAIN)
    mains = pids("pids", 4)
    assert len(living(mains)) == 4
    # Until its main's runner has looked: nothing else tells of who dropped both session and environment.
    looked = Path("polls").stat().st_size
    assert soon(lambda: Path("polls").stat().st_size >= looked + 2)
    watcher = guardian_of(pytest_process.pid)
    pytest_process.kill()
    pytest_process.wait()
    held = 0
    while living(mains):
        if not lock_is_free():
            held += 1
        elif living(mains):
            pytest.fail("the lock was free while a main lived")
        time.sleep(0.01)
        assert held < 5000, living(mains)
    assert held
    assert soon(lock_is_free)
    assert soon(lambda: not proctree.alive(*watcher))


@needs_setsid
def test_a_pytest_killed_at_once_leaves_nothing(start: Start) -> None:
    # Before the guardian can have looked at its pipe even once.
    start("echo $$ >>pids; setsid sleep 60 & echo $! >>pids; kill -9 $PPID; wait")
    assert soon(lambda: Path("pids").exists() and len(Path("pids").read_text().split()) == 2)
    assert soon(lambda: not living(pids("pids", 2)))
    assert soon(lock_is_free)


@needs_setsid
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_however_pytest_is_ended_nothing_is_left(start: Start, number: int) -> None:
    process = start("echo $$ >>pids; setsid sleep 60 & echo $! >>pids; wait")
    mains = pids("pids", 2)
    os.kill(process.pid, number)
    process.wait()
    assert soon(lambda: not living(mains))
    assert soon(lock_is_free)


@linux
def test_a_forked_child_that_holds_the_pipe_does_not_blind_the_guardian(start: Start) -> None:
    fork = "import time, threading; processes.run('true', cwd=Path.cwd(), env={}, timeout=60, log=None)"
    process = start(
        "echo $$ >>pids; exec sleep 60",
        before=f"{fork}; os.close(lock) if os.fork() else (time.sleep(90), os._exit(0))",
    )
    mains = pids("pids", 1)
    process.kill()
    process.wait()
    try:
        assert soon(lambda: not living(mains))
    finally:
        os.killpg(process.pid, signal.SIGKILL)


@linux
def test_another_guardian_takes_over_from_a_dead_one(start: Start) -> None:
    before = (
        "processes.run('sleep 60 & echo $! >>early', cwd=Path.cwd(), env=os.environ, timeout=60, log=None)"
    )
    kill = "processes._guardian._process.kill(); processes._guardian._process.wait()"
    process = start("echo $$ >>pids; exec sleep 60", before=f"{before}; {kill}")
    mains = pids("pids", 1) + pids("early", 1)
    assert len(living(mains)) == 2
    process.kill()
    process.wait()
    assert soon(lambda: not living(mains))
    assert soon(lock_is_free)


@linux
def test_a_hanging_guardian_is_replaced_before_it_holds_us_up(tmp_path: Path) -> None:
    with Processes(redactor=Redactor([])) as processes:
        env = {"PATH": os.environ["PATH"], ATTEMPT: "task_1_hanging"}
        processes.run("true", cwd=tmp_path, env=env, timeout=60, log=None)
        first = guardian_of(os.getpid())
        os.kill(first[0], signal.SIGSTOP)
        for number in range(5000):
            processes._guardian.add(2**22 + number, None)
        assert not proctree.alive(*first)
        processes._guardian.remove(range(2**22, 2**22 + 5000))
        assert guardian_of(os.getpid()) != first
        processes.sweep("task_1_hanging")


@linux
def test_a_pytest_that_ends_well_waits_for_no_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Processes(redactor=Redactor([])) as processes:
        monkeypatch.setattr(sys.modules[type(processes._guardian).__module__], "_BYE", 60.0)
        env = {"PATH": os.environ["PATH"], ATTEMPT: "task_1_well"}
        processes.run("true", cwd=tmp_path, env=env, timeout=60, log=None)
        watcher = guardian_of(os.getpid())
        processes.sweep("task_1_well")
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert not proctree.alive(*watcher)
    processes.close()


@needs_setsid
def test_an_attempt_that_nobody_swept_is_ended_with_the_session(tmp_path: Path) -> None:
    with Processes(redactor=Redactor([])) as processes:
        env = {"PATH": os.environ["PATH"], ATTEMPT: "task_1_unswept"}
        processes.run(
            "setsid sleep 60 >/dev/null 2>&1 & sleep 0.1", cwd=tmp_path, env=env, timeout=60, log=None
        )
        assert proctree.find(ATTEMPT, "task_1_unswept")
    assert proctree.find(ATTEMPT, "task_1_unswept") == []


def test_without_a_process_there_is_no_guardian() -> None:
    Processes(redactor=Redactor([])).close()


@linux
def test_the_guardian_is_not_woken_for_each_of_many_short_processes(tmp_path: Path) -> None:
    began = time.monotonic()
    with Processes(redactor=Redactor([])) as processes:
        for _ in range(100):
            processes.run(("true",), cwd=tmp_path, env=dict(os.environ), timeout=60, log=None)
        pid, _ = guardian_of(os.getpid())
        status = Path(f"/proc/{pid}/status").read_text()
    (switches,) = re.findall(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.MULTILINE)
    naps = (time.monotonic() - began) / 0.2
    assert int(switches) < 50 + naps, "else it was woken about once for each"


@linux
def test_the_guardian_carries_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ATTEMPT, SESSION, EVENTS):
        monkeypatch.setenv(name, "of an outer session")
    with Processes(redactor=Redactor([])) as processes:
        processes.run("true", cwd=tmp_path, env={}, timeout=60, log=None)
        watcher = guardian_of(os.getpid())
        environ = Path(f"/proc/{watcher[0]}/environ").read_bytes()
        assert os.getsid(watcher[0]) == watcher[0]
    assert b"TINKER_STEPS" not in environ


def test_the_marker_is_the_one_that_processes_carry() -> None:
    assert guardian.MARKER == SESSION


def test_lines_of_the_pipe_may_arrive_in_pieces() -> None:
    register = guardian.Register()
    register.take(b"+ 12 3.5\n+ 1")
    register.take(b"3 4.0\n+ 14 gone\n- 12\nnonsense\nby")
    assert register.sessions == {13: 4.0, 14: None}
    assert not register.bye
    register.take(b"e\n")
    assert register.bye
