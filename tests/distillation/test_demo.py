from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distillation import conversation, demo
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json
from distillation.prices import free
from tests.distillation.conftest import ROOT, Events
from tests.distillation.evaluating import Voices
from tests.distillation.fake_demo import answering
from tests.distillation.finished import finished

PATIENCE = 60.0


class Terminal:
    """A person at a terminal: types, and reads what comes."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._unread = ""
        self.process = process

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def read_until(self, wanted: str) -> str:
        seen, deadline = self._unread, time.monotonic() + PATIENCE
        while wanted not in seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} never came, only {seen!r}"
            if select.select([self._descriptor], [], [], left)[0]:
                try:
                    seen += os.read(self._descriptor, 4096).decode(errors="replace")
                except OSError as closed:
                    raise AssertionError(f"the terminal closed before {wanted!r}: {seen!r}") from closed
        end = seen.index(wanted) + len(wanted)
        self._unread = seen[end:]
        return seen[:end]


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.distillation.fake_demo", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"},
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.distillation.fake_demo", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_at_a_terminal_one_talks_to_the_student_and_calls_the_teacher_in() -> None:
    with terminal() as person:
        assert "/teacher on|off" in person.read_until("you> ")
        person.type("music\n")
        said = person.read_until("you> ")
        assert "student> student on music" in said
        assert re.search(r"\(5 tokens in \d+\.\d\d s; 701 prompt tokens\)", said)
        assert "teacher" not in said
        person.type("/teacher on\n")
        assert "the teacher answers too" in person.read_until("you> ")
        person.type("fate\n")
        said = person.read_until("you> ")
        assert said.index("student on fate") < said.index("teacher on fate")
        person.type("/teacher off\n")
        person.read_until("you> ")
        person.type("/nonsense\n")
        assert "/quit or Ctrl-D" in person.read_until("you> ")
        person.type("\n")
        assert "student>" not in person.read_until("you> ")
        person.type("/quit\n")
        assert person.process.wait(PATIENCE) == 0


def test_ctrl_c_gives_an_answer_up_and_at_the_prompt_ends() -> None:
    with terminal() as person:
        person.read_until("you> ")
        person.type("slowly\n")
        person.read_until("(asked)")
        time.sleep(0.3)  # until the answer is waited for: nothing on the screen says so
        person.type("\x03")
        assert "(given up)" in person.read_until("you> ")
        person.type("music\n")
        person.read_until("student on music")
        person.read_until("you> ")
        assert interrupted(person) == 0


def interrupted(person: Terminal) -> int:
    """The exit code after Ctrl-C, typed as often as it takes.

    One that comes between the prompt and the read behind it is only seen by Python when the read ends.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        person.type("\x03")
        with contextlib.suppress(subprocess.TimeoutExpired):
            return person.process.wait(1)
    raise AssertionError("it goes on")


def test_ctrl_d_ends_and_a_failed_answer_does_not() -> None:
    with terminal("--compare") as person:
        person.read_until("you> ")
        person.type("broken\n")
        said = person.read_until("you> ")
        assert "error: the student gave no answer: ConnectionError: the line is dead; ask again" in said
        person.type("music\n")
        assert "teacher on music" in person.read_until("you> ")
        person.type("\x04")
        assert person.process.wait(PATIENCE) == 0


def test_standard_input_that_is_no_terminal_is_a_script() -> None:
    done = script("music\n\n/teacher on\nfate\n/quit\nnever asked\n")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(?:you|student|teacher)> .*", done.stdout, re.MULTILINE) == [
        "you> music",
        "student> student on music",
        "you> fate",
        "student> student on fate",
        "teacher> teacher on fate",
    ]


def test_a_script_is_a_file_too_and_ends_at_the_first_failure() -> None:
    Path("questions.txt").write_text("music\nbroken\nfate\n")
    done = script("", "--script", "questions.txt", "--compare")
    assert done.returncode == 1
    assert "teacher on music" in done.stdout
    assert "fate" not in done.stdout
    assert done.stderr.startswith("error: the student gave no answer")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\n/teacher on\n", "holds no question"), (b"\xff\xfe\n", "not UTF-8"), (None, "No such file")],
)
def test_a_script_without_questions_is_refused(
    content: bytes | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("questions.txt").write_bytes(content)
    assert run(demo.main, ["--script", "questions.txt"]) == 1
    assert f"error: questions.txt: {reason}" in capsys.readouterr().err


def test_the_trial_writes_a_transcript_and_the_check_asks_again(
    monkeypatch: pytest.MonkeyPatch, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(monkeypatch)
    assert run(demo.main, ["--trial"]) == 0
    assert {"criterion": "Student talks without the prompt"} in said()
    report = read_json(folder / "demo_report.json")
    assert [len(turn["replies"]) for turn in report["turns"]] == [2, 2, 2]
    text = (folder / "demo_transcript.md").read_text()
    assert text.count("Student (") == text.count("Teacher (") == 3
    assert report["turns"][0]["replies"][0]["text"] in text
    capsys.readouterr()
    assert run(demo.main, ["--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["transcript answers: 3", "answers: 3", "in character: 6"]
    assert float(lines[3].removeprefix("slowest seconds: ")) < 1
    assert lines[4:] == ["seconds allowed: 1", "longest prompt tokens: 12"]
    (folder / "demo_transcript.md").write_text(text.replace("Student (", "Student( ", 1))
    with pytest.raises(DistillationError, match=r"is not what demo_report\.json says"):
        demo.main(["--check"])


def test_a_student_who_is_too_slow_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(monkeypatch)
    assert run(demo.main, ["--trial"]) == 0
    monkeypatch.setitem(demo.SLOWEST_SECONDS, "local", 0.0)
    capsys.readouterr()
    assert run(demo.main, ["--check"]) == 1
    shown = capsys.readouterr()
    assert "slowest seconds: " in shown.out
    assert "the slowest answer took" in shown.err


def test_a_student_out_of_character_fails_the_trial_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(monkeypatch)
    monkeypatch.setattr(conversation, "speakers", Voices(0.0).speakers)
    with pytest.raises(DistillationError, match="only 0 of 3 answers are in character"):
        demo.main(["--trial"])
    assert "It is " in (folder / "demo_transcript.md").read_text()


def test_every_question_has_a_seed_of_its_own() -> None:
    student = answering("student")
    talk = conversation.Conversation({"student": student}, free("fake"), 1, 5.0)
    for _ in range(3):
        list(talk.ask("again"))
    assert len({seed for _, seed in student.asked}) == 3


def test_an_answer_that_never_comes_is_given_up_after_the_time_of_the_configuration() -> None:
    talk = conversation.Conversation({"student": answering("student")}, free("fake"), 1, 0.05)
    with pytest.raises(DistillationError, match=r"gave no answer in 0\.05 s; ask again"):
        list(talk.ask("slowly"))
