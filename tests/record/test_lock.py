"""One run at a time on one list, with real processes that hold, die, and leave children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.record import lock

HOLDS = """
import sys, time
from pathlib import Path
from pytest_tinker_steps.record import lock
held = lock.{take}
{then}
print("holding", flush=True)
time.sleep(300)
"""
ACQUIRE = "acquire(Path(sys.argv[1]), 'SPEC.md', 'pytest --steps 1')"
HOLD = "hold(Path(sys.argv[1]), 'run_1')"

CHILD = """
import os, subprocess
child = subprocess.Popen(["sleep", "300"], pass_fds=[held.fd], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


class Others:
    """Processes that use the lock, ended after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.children: list[int] = []

    def start(self, take: str, *, child: bool = False) -> subprocess.Popen[str]:
        code = HOLDS.format(take=take, then=CHILD if child else "")
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.folder)], stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        assert process.stdout is not None
        if child:
            self.children.append(int(process.stdout.readline()))
        assert process.stdout.readline() == "holding\n"
        return process

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait(timeout=60)

    def end(self) -> None:
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            self.kill(process)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "GRACE", 0.3)
    return tmp_path / ".steps"


@pytest.fixture
def others(folder: Path) -> Iterator[Others]:
    made = Others(folder)
    yield made
    made.end()


def acquire(folder: Path) -> lock.Lock:
    return lock.acquire(folder, "SPEC.md", "pytest --steps 2")


def refused(folder: Path) -> str:
    with pytest.raises(PlanError) as caught:
        acquire(folder)
    (problem,) = caught.value.problems
    return problem


def test_a_free_lock_is_taken_and_says_by_whom(folder: Path) -> None:
    held = acquire(folder)
    told = json.loads((folder / "lock").read_text())
    assert (told["pid"], told["command"]) == (os.getpid(), "pytest --steps 2")
    held.release()
    assert (folder / "lock").read_text() == ""


def test_what_was_released_can_be_taken_again(folder: Path) -> None:
    for _ in range(3):
        held = acquire(folder)
        held.release()
        held.release()


def test_whoever_comes_second_is_told_who_was_first_and_at_once(
    folder: Path, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "GRACE", 120)
    first = others.start(ACQUIRE)
    began = time.monotonic()
    problem = refused(folder)
    assert time.monotonic() - began < 40, "a live run is not waited for"
    assert problem.startswith(f"SPEC.md: another run holds this list: pid {first.pid} since 20")
    assert problem.endswith("(pytest --steps 1); wait for it, or end it")


def test_who_was_refused_leaves_no_trace(folder: Path, others: Others) -> None:
    others.start(ACQUIRE)
    before, open_before = (folder / "lock").read_bytes(), len(os.listdir("/dev/fd"))
    refused(folder)
    assert (folder / "lock").read_bytes() == before
    assert len(os.listdir("/dev/fd")) == open_before


def test_a_killed_holder_frees_the_lock(folder: Path, others: Others) -> None:
    others.kill(others.start(ACQUIRE))
    acquire(folder).release()


def test_a_child_that_inherited_the_descriptor_holds_on_after_its_parent(
    folder: Path, others: Others
) -> None:
    first = others.start(ACQUIRE, child=True)
    others.kill(first)
    problem = refused(folder)
    assert problem.startswith(f"SPEC.md: a run that died (pid {first.pid} since 20")
    assert problem.endswith("still has live processes; try again when they are gone")
    os.kill(others.children[0], signal.SIGKILL)
    acquire(folder).release()


def test_the_lock_waits_for_what_a_dead_run_is_still_ending(
    folder: Path, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "GRACE", 60)
    others.kill(others.start(ACQUIRE, child=True))
    ending = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -9 {others.children[0]}"])
    acquire(folder).release()
    ending.wait()


def test_a_worker_that_outlives_its_controller_holds_on(folder: Path, others: Others) -> None:
    controller, worker = others.start(ACQUIRE), others.start(HOLD)
    others.kill(controller)
    assert refused(folder).startswith(f"SPEC.md: a run that died (pid {controller.pid}")
    others.kill(worker)
    acquire(folder).release()


def test_a_worker_that_outlives_a_controller_that_ended_well(folder: Path, others: Others) -> None:
    acquire(folder).release()
    others.start(HOLD)
    assert refused(folder) == (
        "SPEC.md: an earlier run still has live processes; try again when they are gone"
    )


def test_files_that_no_worker_holds_are_removed(folder: Path, others: Others) -> None:
    others.kill(others.start(HOLD))
    (folder / "holders" / "run_0-1").write_text("left by a crash")
    assert len(list((folder / "holders").iterdir())) == 2
    acquire(folder).release()
    assert list((folder / "holders").iterdir()) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[1]",
        b'{"pid": null}',
        b'{"pid": "1"}',
        b'{"pid": -1}',
        b'{"pid": 0}',
        b'{"pid": 99999999999999999999999}',
        b"[" * 60_000,
    ],
)
def test_garbage_in_the_lock_file_stops_nobody(folder: Path, garbage: bytes, others: Others) -> None:
    folder.mkdir()
    (folder / "lock").write_bytes(garbage)
    acquire(folder).release()


@pytest.mark.parametrize("garbage", [b"", b'{"pid": 0}', b'{"pid": 99999999999999999999999}'])
def test_garbage_in_a_held_lock_file_is_not_taken_for_a_live_run(
    folder: Path, garbage: bytes, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "GRACE", 0.0)
    others.start(ACQUIRE)
    (folder / "lock").write_bytes(garbage)
    assert "an earlier run still has live processes" in refused(folder)


def test_a_run_on_another_machine_is_told_as_such_whatever_runs_here_under_its_number(
    folder: Path, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "GRACE", 30)
    others.start(ACQUIRE)
    (folder / "lock").write_text('{"pid": 99999999, "host": "node7", "since": 2026, "command": "pytest"}')
    assert refused(folder).startswith(
        "SPEC.md: another run holds this list: pid 99999999 on node7 since 2026"
    )


def test_a_command_line_of_any_length_leaves_the_file_readable(folder: Path, others: Others) -> None:
    held = lock.acquire(folder, "SPEC.md", "pytest " + "-k \udce9 " * 20_000)
    assert "another run holds this list: pid" in refused(folder)
    held.release()


def test_the_folder_and_its_files_are_the_owners_alone(folder: Path) -> None:
    held, worker = acquire(folder), lock.hold(folder, "run_1")
    modes = {path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")]}
    assert modes == {0}
    assert not os.get_inheritable(held.fd)
    worker.release()
    held.release()


def test_a_lock_that_cannot_be_made_is_one_line(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    assert refused(folder) == f"SPEC.md: {folder}: File exists; it has to be yours to write"
    folder.unlink()
    (folder / "lock").mkdir(parents=True)
    assert refused(folder) == f"SPEC.md: {folder / 'lock'}: Is a directory; it has to be yours to write"
