"""Scripts that the guardian runs when the process that would have run the commands is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tinker_steps.run import guardian
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
    monkeypatch.setattr(guardian, "_SCRIPT_WITHIN", 0.2)
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
