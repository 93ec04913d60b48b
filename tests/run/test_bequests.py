"""Scripts that the guardian runs when the process that would have run the commands is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import Runner
from pytest_tinker_steps.run import guardian, handover
from pytest_tinker_steps.run.guardian import Register
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor

from .test_guardian import soon

DIES = """
import os, sys
from pathlib import Path
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor
processes = Processes(redactor=Redactor([]))
kept, back = Path("it's kept.sh").absolute(), Path("back.sh").absolute()
with processes.bequeathed(kept):
    with processes.bequeathed(back):
        pass
    if sys.argv[1] == "guardian":
        processes._guardian._process.kill()
        processes._guardian._process.wait()
    main = "echo $$ >pid; trap '' TERM; touch running; while :; do echo >>alive; sleep 0.02; done"
    if sys.argv[1] == "dies":
        main = f"echo $$ >pid; kill -9 {os.getpid()}; exec sleep 60"
    processes.run(main, cwd=Path.cwd(), env=dict(os.environ), timeout=60, log=None)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("how", ["killed", "guardian", "dies"])
def test_it_is_run_once_all_is_ended_and_removed(folder: Path, how: str) -> None:
    look = "wc -l <alive; sleep 0.2; wc -l <alive" if how != "dies" else "echo 0; echo 0"
    (folder / "it's kept.sh").write_text(f"cd {folder}; ({look}; echo $MINE) >seen; mv seen done\n")
    (folder / "back.sh").write_text(f"touch {folder}/taken-back\n")
    (folder / "dies.py").write_text(DIES)
    environ = {**os.environ, "MINE": "of the session", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "dies.py", how], env=environ) as process:
        if how != "dies":
            assert soon((folder / "running").exists)
            process.kill()
    assert soon((folder / "done").exists)
    before, after, mine = (folder / "done").read_text().splitlines()
    assert before == after, "what was started had ended"
    assert mine == "of the session"
    assert soon(lambda: not (folder / "it's kept.sh").exists())
    assert not (folder / "taken-back").exists()
    assert (folder / "back.sh").exists()


def test_it_is_not_run_by_who_lives(folder: Path) -> None:
    script = folder / "not.sh"
    script.write_text(f"touch {folder}/was-run\n")
    with Processes(redactor=Redactor([])) as processes:
        with processes.bequeathed(script):
            assert processes.run("true", cwd=folder, env={}, timeout=60, log=None).exit == 0
        with contextlib.suppress(KeyboardInterrupt), processes.bequeathed(script):
            raise KeyboardInterrupt
    assert not (folder / "was-run").exists()


def test_one_that_does_not_end_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "SCRIPT_WITHIN", 0.2)
    script = folder / "endless.sh"
    script.write_text("echo $$ >pid; exec sleep 60\n")
    guardian._run(os.fsencode(script))
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert not script.exists()


def test_one_that_is_gone_is_nobodys_trouble(folder: Path) -> None:
    guardian._run(os.fsencode(folder / "gone.sh"))


def test_its_lines_may_arrive_in_pieces_and_name_any_path() -> None:
    register, path = Register(), b"/a b\n\xff/c.sh"
    for byte in b"! %s\n! 61\n~ 61\n~ 62\n" % path.hex().encode():
        register.take(bytes([byte]))
    assert list(register.scripts) == [path]


# -- who runs it, and who waits

TASK = "task_1_1a2b3c4d"
HERE, ELSEWHERE = os.uname().nodename, "another.example"
RUNNER = Runner("cluster", ("engine", "{run}"), ("engine", "stop", "{run}"))


def bequest(folder: Path, name: str, task_id: str = TASK, host: str = HERE) -> Path:
    """A script that says in ``ran`` that it was run."""
    path = folder / f"{name}.end.sh"
    path.write_text(f"# {task_id} {host}\necho {name} | tee -a {folder}/ran\n")
    return path


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split() if (folder / "ran").exists() else []


def settle(folder: Path) -> list[str]:
    """What is told."""
    told: list[str] = []
    with Processes(redactor=Redactor([])) as processes:
        env, log = dict(os.environ), folder / "stop.log"
        handover.settle(RUNNER, TASK, folder, processes, env=env, log=log, tell=told.append)
    return told


def guarded(script: Path) -> None:
    """A guardian from its start to its end, whose parent has bequeathed a script and died."""
    subprocess.run(
        [sys.executable, "-I", "-S", guardian.__file__, "no-such-token", str(os.getpid())],
        input=b"! %s\n" % os.fsencode(script).hex().encode(),
        timeout=60,
        check=True,
    )


def test_a_guardian_runs_what_nobody_else_has_taken(folder: Path) -> None:
    free, taken = bequest(folder, "free"), bequest(folder, "taken")
    claim = guardian.claimed(os.fsencode(taken))
    assert claim is not None
    guarded(free)
    guarded(taken)
    os.close(claim)
    assert ran(folder) == ["free"]
    assert not free.exists()
    assert taken.exists(), "whoever has taken it removes it"


def test_what_was_run_and_removed_is_nobodys_any_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bequest(folder, "late")
    opened = os.open

    def removed_meanwhile(name: bytes, flags: int) -> int:
        fd = opened(name, flags)
        path.unlink()
        return fd

    monkeypatch.setattr(os, "open", removed_meanwhile)
    assert guardian.claimed(os.fsencode(path)) is None


def test_another_attempt_waits_until_the_guardian_has_run_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps = bequest(folder, "work"), []
    claim = guardian.claimed(os.fsencode(path))
    assert claim is not None
    waits, pause = threading.Event(), time.sleep

    def sleep(seconds: float) -> None:
        waits.set()
        pause(seconds)

    def ends() -> None:
        assert waits.wait(60)
        steps.append("guardian")
        path.unlink()
        os.close(claim)

    monkeypatch.setattr(time, "sleep", sleep)
    thread = threading.Thread(target=ends)
    thread.start()
    assert settle(folder) == []
    steps.append("next")
    thread.join()
    assert steps == ["guardian", "next"]
    assert ran(folder) == []


def test_where_the_guardian_is_gone_it_is_run_by_who_waits(folder: Path) -> None:
    bequest(folder, "one")
    failing = bequest(folder, "two")
    failing.write_text(failing.read_text() + "exit 4\n")
    other = bequest(folder, "other", task_id="task_1_1a2b3c4d5")
    (folder / "torn.end.sh").write_text("")
    first, second = sorted(settle(folder))
    assert sorted(ran(folder)) == ["one", "two"]
    assert first == "runner cluster: engine stop {run}"
    assert second == f"{first}: exit 4: two"
    assert sorted((folder / "stop.log").read_text().split()) == ["one", "two"]
    assert sorted(folder.glob("*.end.sh")) == [other, folder / "torn.end.sh"]


def test_that_of_another_machine_is_waited_for_and_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_BEFORE_SCRIPTS", 0.2)
    monkeypatch.setattr(guardian, "SCRIPT_WITHIN", 0.1)
    path = bequest(folder, "work", host=ELSEWHERE)
    assert settle(folder) == [f"runner cluster: what ends the work of {TASK} has not ended within 0.3 s"]
    assert ran(folder) == []
    monkeypatch.setattr(time, "sleep", lambda _: path.unlink())
    assert settle(folder) == [], "its guardian has removed it"
    assert ran(folder) == []
