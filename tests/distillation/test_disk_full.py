"""A disk that takes no more, by what the system has for it: no function is replaced here."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from distillation import audit, events, generation
from distillation.command import run
from distillation.jsonl import read_rows
from distillation.memory import Answer, Memory
from tests.distillation.conftest import ROOT
from tests.distillation.generating import BEETHOVEN, put, records

FULL = Path("/dev/full")
needs_dev_full = pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")

REMEMBER = """
import sys
from pathlib import Path
from distillation.command import run
from distillation.memory import Answer, Memory
def main(argv):
    with Memory(Path(".")) as memory:
        for number in range(1000):
            memory.add(("way", f"question {number}", 1), Answer("Ha!", 700, 0, 3, "stop", 0.0))
sys.exit(run(main))
"""


def limited(bytes_: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def command(
    *arguments: str, largest: int | None = None, before: Sequence[str] = (), stdout: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python; no file may get larger than ``largest`` bytes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (stdout or Path(os.devnull)).open("w") as sink:
        return subprocess.run(
            [*before, sys.executable, *arguments],
            env=environment,
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            preexec_fn=None if largest is None else partial(limited, largest),
        )


def audited(folder: Path) -> bytes:
    put(generation.DATA, records(100))
    audit.write(BEETHOVEN)
    return (folder / "runs/local" / audit.AUDITED).read_bytes()


def test_a_file_that_gets_too_large_is_one_line_and_the_old_one_stays(folder: Path) -> None:
    whole = audited(folder)
    done = command("-m", "distillation.audit", largest=4096)
    assert done.returncode == 1
    said = "File too large; raise the limit (ulimit -f) and run the step again"
    assert done.stderr == f"error: runs/local/audited.jsonl: {said}\n"
    assert (folder / "runs/local" / audit.AUDITED).read_bytes() == whole
    assert not list((folder / "runs/local").glob(".*")), "a draft is left"


def test_a_full_file_system_is_one_line_and_the_old_file_stays(folder: Path) -> None:
    whole = audited(folder)
    # A file system of our own of 200 kB in a name space of our own, where the system lets a user have one.
    mount = "cp -r runs kept && mount -t tmpfs -o size=200k none runs && cp -r kept/. runs && "
    fill = "{ cat /dev/zero > runs/ballast 2>/dev/null; true; } && "
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        tried = subprocess.run(
            [*alone, "mkdir -p try && mount -t tmpfs none try"], capture_output=True, timeout=120, check=False
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if tried.returncode:
        pytest.skip("the system gives no user a mount of its own")
    script = mount + fill + '"$0" "$@"; code=$?; cp runs/local/audited.jsonl after.jsonl; exit $code'
    done = command("-m", "distillation.audit", before=[*alone, script])
    assert (done.returncode, done.stderr) == (
        1,
        "error: runs/local/audited.jsonl: No space left on device; make room and run the step again\n",
    )
    assert (folder / "after.jsonl").read_bytes() == whole


def test_answers_before_the_disk_was_full_are_whole_and_a_torn_one_is_named_at_the_next_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command("-c", REMEMBER, largest=4096)
    assert done.returncode == 1
    assert re.fullmatch(r"error: teacher_memory\.jsonl: File too large; make room .*\n", done.stderr)
    path = folder / "teacher_memory.jsonl"
    assert path.stat().st_size == 4096
    rows = read_rows(path)
    assert all(row.value for row in rows[:-1])
    assert rows[-1].value is None, "the limit should tear a line"
    with Memory(folder) as memory:
        named = capsys.readouterr().out
        assert f"teacher_memory.jsonl:{rows[-1].line}: not JSON" in named
        assert all(("way", f"question {number}", 1) in memory for number in range(len(rows) - 1))
        memory.add(("way", "another", 1), Answer("Ha!", 700, 0, 3, "stop", 0.0))
    again = read_rows(path)
    assert [row.text for row in again[:-1]] == [row.text for row in rows]
    assert again[-1].value is not None


@needs_dev_full
def test_what_the_runner_is_told_may_find_no_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_STEPS_EVENTS", str(FULL))
    assert run(lambda _: events.progress(1, 2)) == 1
    assert capsys.readouterr().err == (
        "error: /dev/full: No space left on device; make room and run the step again\n"
    )


@needs_dev_full
def test_an_output_that_takes_nothing_is_one_line_and_no_good_end() -> None:
    done = command("-m", "distillation.auth", "--key-form", stdout=FULL)
    assert (done.returncode, done.stderr) == (
        1,
        "error: No space left on device; make room and run the step again\n",
    )


def test_a_reader_that_has_gone_gets_no_traceback() -> None:
    ends = os.pipe()
    os.close(ends[0])
    done = subprocess.run(
        [sys.executable, "-m", "distillation.auth", "--key-form"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=ends[1],
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(ends[1])
    assert (done.returncode, done.stderr) == (1, "")


def test_a_file_in_the_place_of_the_run_folder_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "runs").write_text("")

    def main(_: object) -> None:
        put("a.jsonl", [])

    assert run(main) == 1
    assert capsys.readouterr().err.startswith("error: runs/local/a.jsonl: Not a directory; mend that and run")


def test_what_is_about_no_file_is_our_own_mistake_and_keeps_its_traceback() -> None:
    def main(_: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(ConnectionRefusedError):
        run(main)
