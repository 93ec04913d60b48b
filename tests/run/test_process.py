"""A process is run to its end, whatever it does, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.run import process as process_module
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.process import ATTEMPT, SESSION, Ended, Processes
from pytest_tinker_steps.run.redaction import REPLACEMENT, Redactor

SECRET = "tml-0123456789abcdef"
QUICK = ((signal.SIGTERM, 0.2), (signal.SIGKILL, 30.0))
needs_setsid = pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid(1)")
Run = Callable[..., Ended]

# Its first process ends when the last one is alone.
DAEMON = """
import os, signal, time
reading, writing = os.pipe()
if os.fork():
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
os.setsid()
middle = os.getpid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for fd in range(3): os.close(fd)
while os.getppid() == middle: time.sleep(0.001)
os.close(writing)
time.sleep(60)
"""


@pytest.fixture
def task_id() -> str:
    return f"task_1_{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(redactor=Redactor([SECRET])) as made:
        yield made


@pytest.fixture
def run(processes: Processes, task_id: str, tmp_path: Path) -> Iterator[Run]:
    def run(command: Any, timeout: float = 20, env: dict[str, str] | None = None, **more: Any) -> Ended:
        return processes.run(
            command,
            cwd=tmp_path,
            env={**os.environ, ATTEMPT: task_id, **(env or {})},
            timeout=timeout,
            **{"log": tmp_path / "log", **more},
        )

    yield run
    processes.sweep(task_id)


def alive(pid: int) -> bool:
    began = proctree.started(pid)
    return began is not None and proctree.alive(pid, began)


def marked(task_id: str) -> list[proctree.Identity]:
    return proctree.find(ATTEMPT, task_id)


def read_pid(path: Path) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            if (text := path.read_text()).endswith("\n"):
                return int(text)
        time.sleep(0.005)
    raise AssertionError(f"no process id in {path}")


# ---------------------------------------------------------------- ends


def test_a_string_runs_in_a_shell_and_a_tuple_without_one(run: Run) -> None:
    assert run("echo a; echo $((1 + 1)) >&2").tail == "a\n2\n"
    assert run(("echo", "$HOME; x")).tail == "$HOME; x\n"


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("true", 0, ""),
        ("exit 3", 3, "exit 3"),
        ("kill -9 $$", -9, "killed by SIGKILL"),
        ("kill -40 $$", -40, "killed by signal 40"),
    ],
)
def test_the_end_is_told_in_plain_words(run: Run, command: str, code: int, error: str) -> None:
    ended = run(command)
    assert replace(ended, seconds=0) == Ended(code, "exit", 0, "", error)
    assert 0 < ended.seconds < 60


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("no-such-program",), "No such file or directory: 'no-such-program'"),
        (("/",), "Permission denied: '/'"),
        ((), "the command is empty"),
        (("echo", "a\0b"), "embedded null byte"),
    ],
)
def test_what_cannot_be_started_says_why(run: Run, command: tuple[str, ...], error: str) -> None:
    ended = run(command)
    assert (ended.exit, ended.reason, ended.error) == (None, "not started", error)


def test_a_missing_folder_is_named(run: Run, processes: Processes, tmp_path: Path) -> None:
    ended = processes.run("true", cwd=tmp_path / "gone", env={}, timeout=5, log=None)
    assert ended.error == f"No such file or directory: '{tmp_path}/gone'"


def test_an_exit_code_that_something_else_took_is_not_a_success(run: Run) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ended = run("exit 3")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ended.exit is None
    assert ended.reason == "exit"
    assert "unknown" in ended.error


def test_the_environment_is_the_given_one_and_the_marker(processes: Processes, tmp_path: Path) -> None:
    ended = processes.run(("/usr/bin/env",), cwd=tmp_path, env={"A": "1"}, timeout=5, log=None)
    assert sorted(ended.tail.split()) == ["A=1", f"{SESSION}={processes.token}"]


def test_input_is_empty_and_the_session_its_own(run: Run) -> None:
    script = "import os, sys; print(repr(sys.stdin.read()), os.getsid(0) == os.getpid())"
    assert run((sys.executable, "-c", script)).tail == "'' True\n"


def test_secrets_reach_neither_log_nor_tail_nor_listener(run: Run, tmp_path: Path) -> None:
    heard: list[str] = []
    script = f"printf {SECRET[:9]}; sleep 0.05; echo {SECRET[9:]} done; printf {SECRET[:8]}"
    ended = run(script, on_output=heard.append)
    expected = f"{REPLACEMENT} done\n{REPLACEMENT}"
    assert ended.tail == "".join(heard) == (tmp_path / "log").read_text() == expected


def test_a_log_that_cannot_be_written_does_not_cost_the_process(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("echo out", log=tmp_path / "file" / "log")
    assert (ended.exit, ended.tail) == (0, "out\n")
    assert ended.error.startswith("the log could not be written: Not a directory: ")


def test_the_folder_of_a_log_is_made_with_its_first_line(run: Run, tmp_path: Path) -> None:
    run("true", log=tmp_path / "later" / "log")
    assert not (tmp_path / "later").exists()
    run("echo out", log=tmp_path / "later" / "log")
    assert (tmp_path / "later" / "log").read_text() == "out\n"


def test_the_listener_is_polled_while_nothing_happens_and_once_after(run: Run, tmp_path: Path) -> None:
    polls = 0

    def polled() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            (tmp_path / "enough").touch()

    ended = run("until test -e enough; do sleep 0.01; done", timeout=60, on_poll=polled)
    assert ended.exit == 0
    assert polls >= 4, "the last one after the end"
    assert polls <= ended.seconds / 0.2 + 2, "and not without a pause"
    polls = 10
    ended = run("true", on_poll=polled)
    assert 11 <= polls <= 11 + ended.seconds / 0.2


# ---------------------------------------------------------------- nothing is left


def cancelled_once_ready(run: Run, script: str, signals: proctree.Signals) -> Ended:
    """A script that has set its traps, and says so, is ended in this way."""
    cancel = threading.Event()
    return run(script, on_output=lambda _: cancel.set(), cancel=cancel, signals=signals)


@needs_setsid
def test_the_deadline_ends_the_process_and_its_descendants(run: Run, task_id: str) -> None:
    ended = run("sleep 60 & setsid sleep 60 & wait", timeout=0.2)
    assert (ended.reason, ended.error) == ("timeout", "no end after 0.2 s: ended with SIGTERM")
    assert ended.exit == -signal.SIGTERM
    assert ended.seconds < 20
    assert marked(task_id) == []


def test_who_ignores_term_is_killed(run: Run, task_id: str) -> None:
    ended = cancelled_once_ready(run, "trap '' TERM; echo ready; while :; do sleep 0.05; done", QUICK)
    assert ended.error == "cancelled: ended with SIGKILL"
    assert marked(task_id) == []


def test_the_order_of_signals_is_the_callers(run: Run) -> None:
    script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    ended = cancelled_once_ready(run, script, ((signal.SIGINT, 30), *QUICK))
    assert (ended.exit, ended.tail) == (5, "ready\ninterrupted\n")
    assert ended.error == "cancelled: ended with SIGINT"


def test_a_flood_is_ended_at_its_deadline(run: Run, task_id: str) -> None:
    ended = run("yes", timeout=0.3)
    assert ended.reason == "timeout"
    assert ended.seconds < 20
    assert ended.tail.endswith("y\n")
    assert marked(task_id) == []


def test_what_it_says_while_it_ends_is_heard_however_much(run: Run) -> None:
    last_words = (
        "trap 'yes | head -c 1000000; echo goodbye; exit 4' TERM; echo ready; while :; do sleep 0.01; done"
    )
    ended = cancelled_once_ready(run, last_words, ((signal.SIGTERM, 60), (signal.SIGKILL, 30)))
    assert ended.exit == 4
    assert ended.tail.endswith("goodbye\n")


def test_closed_output_is_waited_for_without_spinning(run: Run, task_id: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    ended = run("exec >&- 2>&-; exec sleep 60", timeout=0.6)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert ended.reason == "timeout"
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.3
    assert marked(task_id) == []


def test_an_end_is_not_held_up_by_who_holds_the_pipe(run: Run, processes: Processes, task_id: str) -> None:
    ended = run("sleep 60 & echo done")
    assert (ended.exit, ended.tail) == (0, "done\n")
    assert ended.seconds < 20
    assert processes.sweep(task_id) == 1
    assert marked(task_id) == []


def test_all_that_the_process_wrote_is_read_although_others_flood(run: Run) -> None:
    ended = run(
        "head -c 60000 /dev/zero | tr '\\0' x; echo; echo mine; sleep 60 &",
        on_output=lambda _: time.sleep(0.2),
    )
    assert ended.tail.endswith("mine\n")


def test_a_daemon_is_swept(run: Run, processes: Processes, task_id: str) -> None:
    assert run((sys.executable, "-S", "-c", DAEMON)).exit == 0
    assert len(marked(task_id)) == 1
    assert processes.sweep(task_id) == 1
    assert marked(task_id) == []
    assert processes.sweep(task_id) == 0


@needs_setsid
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("env -i sleep 60 >/dev/null 2>&1 & echo $! >pid", id="in the group"),
        pytest.param("env -i setsid sleep 60 & echo $! >pid", id="holding the pipe"),
        pytest.param(
            "env -i setsid sleep 60 >/dev/null 2>&1 & echo $! >pid; until test -e seen; do sleep 0.01; done",
            id="seen as a child",
        ),
    ],
)
def test_who_dropped_the_marker_is_swept_all_the_same(
    run: Run, processes: Processes, task_id: str, tmp_path: Path, script: str
) -> None:
    polls = 0

    def polled() -> None:
        nonlocal polls
        polls += (tmp_path / "pid").exists()
        if polls == 3:  # it looks at its children right before
            (tmp_path / "seen").touch()

    run(script, timeout=60, on_poll=polled)
    pid = read_pid(tmp_path / "pid")
    assert alive(pid)
    assert processes.sweep(task_id) == 1
    assert not alive(pid)


def test_sweeping_spares_the_other_attempts(run: Run, processes: Processes, task_id: str) -> None:
    run("sleep 60 &", env={ATTEMPT: task_id + "_other"})
    assert processes.sweep(task_id) == 0
    assert len(marked(task_id + "_other")) == 1
    assert processes.sweep(task_id + "_other") == 1


def test_sweeping_looks_at_no_process_when_none_was_started_since(
    run: Run, processes: Processes, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("true")
    latest = processes._attempts[task_id].first_pid
    with monkeypatch.context() as context:
        context.setattr(process_module, "_SHORT_ATTEMPT", 1e9)
        context.setattr(proctree, "last_pid", lambda: latest)
        context.setattr(proctree, "_rows", pytest.fail)
        context.setattr(proctree, "_environ", pytest.fail)
        assert processes.sweep(task_id) == 0


def test_sweeping_asks_each_of_a_few_and_makes_no_list_of_all(
    run: Run, processes: Processes, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("true")
    first = processes._attempts[task_id].first_pid
    asked: list[int] = []

    def environ(pid: int) -> bytes:
        asked.append(pid)
        return b"\0A=1\0"

    with monkeypatch.context() as context:
        context.setattr(process_module, "_SHORT_ATTEMPT", 1e9)
        context.setattr(proctree, "last_pid", lambda: first + 5)
        context.setattr(proctree, "_environ", environ)
        context.setattr(proctree, "_rows", pytest.fail)
        assert processes.sweep(task_id) == 0
    assert asked == list(range(first, first + 6))


def test_the_deadline_of_one_spares_the_others_of_its_attempt(run: Run) -> None:
    ended: list[Ended] = []
    other = threading.Thread(target=lambda: ended.append(run("sleep 0.6; echo well")))
    other.start()
    assert run("sleep 60", timeout=0.2).reason == "timeout"
    other.join()
    assert ended[0].tail == "well\n"


def test_cancelling_ends_it_soon(run: Run, task_id: str, tmp_path: Path) -> None:
    cancel = threading.Event()

    def later() -> None:
        read_pid(tmp_path / "pid")
        cancel.set()

    thread = threading.Thread(target=later)
    thread.start()
    ended = run("echo $$ >pid; exec sleep 60", timeout=60, cancel=cancel)
    thread.join()
    assert (ended.reason, ended.error) == ("cancelled", "cancelled: ended with SIGTERM")
    assert ended.seconds < 40
    assert marked(task_id) == []
    ended = run("echo started >>started", cancel=cancel)
    assert (ended.exit, ended.reason) == (None, "cancelled")


def test_many_threads_do_not_mix_their_processes(run: Run, tmp_path: Path) -> None:
    ended: dict[int, Ended] = {}

    def one(number: int) -> None:
        ended[number] = run(f"echo {number}; exit {number}", log=tmp_path / f"log{number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: (e.exit, e.tail) for n, e in ended.items()} == {n: (n, f"{n}\n") for n in range(20)}


def test_descriptors_are_all_given_back(run: Run) -> None:
    run("true")
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    before = len(os.listdir(folder))
    run("echo x")
    run(("no-such-program",))
    run("sleep 60", timeout=0.05)
    with pytest.raises(ZeroDivisionError):
        run("echo x", on_output=lambda _: 1 / 0)
    assert len(os.listdir(folder)) == before


# ---------------------------------------------------------------- interruptions


def interrupt_when(*moments: list[Path]) -> threading.Thread:
    """Interrupts this process each time when all of some files are there."""

    def interrupt() -> None:
        for paths in moments:
            until = time.monotonic() + 30
            while not all(path.exists() for path in paths) and time.monotonic() < until:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@needs_setsid
def test_ctrl_c_ends_it_before_it_goes_on(run: Run, task_id: str, tmp_path: Path) -> None:
    thread = interrupt_when([tmp_path / "pid", tmp_path / "waited for"])
    with pytest.raises(KeyboardInterrupt):
        run("setsid sleep 60 & echo $! >pid; wait", timeout=60, on_poll=(tmp_path / "waited for").touch)
    thread.join()
    assert marked(task_id) == []


def test_a_second_ctrl_c_kills_at_once(run: Run, task_id: str, tmp_path: Path) -> None:
    thread = interrupt_when([tmp_path / "pid", tmp_path / "waited for"], [tmp_path / "told"])
    began = time.monotonic()
    command = "trap 'echo >told' TERM; echo $$ >pid; while :; do sleep 0.05; done"
    polled = (tmp_path / "waited for").touch

    def deaf() -> None:
        try:
            run(command, timeout=120, on_poll=polled, signals=((signal.SIGTERM, 120),))
        finally:
            thread.join()  # an interrupt that comes late still comes in here

    with pytest.raises(KeyboardInterrupt):
        deaf()
    assert time.monotonic() - began < 90
    assert marked(task_id) == []


def test_an_interrupt_in_the_middle_of_a_start_leaves_nothing(
    processes: Processes, task_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, hidden = subprocess.Popen, []

    def interrupted(*args: Any, **kwargs: Any) -> None:
        """Starts the process and is interrupted before anybody can learn of it."""
        hidden.append(real(*args, **kwargs))
        raise KeyboardInterrupt

    env = {**os.environ, "MARK": task_id}
    processes.run("true", cwd=tmp_path, env=env, timeout=5, log=None)  # starts the guardian
    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        processes.run("echo $$ >pid; exec sleep 60", cwd=tmp_path, env=env, timeout=5, log=None)
    monkeypatch.undo()
    processes.sweep("")  # what is known has ended; only the unknown is left
    processes.close()
    assert proctree.find("MARK", task_id) == []
    hidden[0].communicate()


@pytest.mark.parametrize("listener", ["on_output", "on_poll"])
def test_a_listener_that_fails_leaves_nothing(run: Run, task_id: str, listener: str) -> None:
    def fail(*_: object) -> None:
        raise LookupError("of ours")

    with pytest.raises(LookupError):
        run("echo x; sleep 60", **{listener: fail})
    assert marked(task_id) == []


@needs_setsid
def test_all_holds_without_process_descriptors_and_without_proc(
    run: Run, processes: Processes, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("true")  # starts the guardian, a program of its own, which looks at the system as it is
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(proctree, "RAW", False)
    assert run("exit 3").exit == 3
    assert run("sleep 60 & setsid sleep 60 & wait", timeout=0.2).reason == "timeout"
    assert marked(task_id) == []
    assert run((sys.executable, "-S", "-c", DAEMON.replace("SIG_IGN", "SIG_DFL"))).exit == 0
    assert processes.sweep(task_id) == 1
    assert marked(task_id) == []
