"""A teacher that is a fake: it speaks in character at once, and nothing is asked of any service."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distillation import characters, settings, teacher
from distillation.characters import find
from distillation.jsonl import write_bytes, write_rows
from distillation.questions import Question, training_questions
from distillation.sampling import Said
from tests.distillation.conftest import ROOT

BEETHOVEN = find("Beethoven")

Answering = Callable[[str, int], Said | BaseException | None]
"""What a fake says to a question and a seed; an exception is raised, ``None`` never comes."""


def in_character(question: str, seed: int = 0) -> str:
    """Words of Beethoven's, other ones for each question."""
    draw = random.Random(f"{question}{seed}")
    words = " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(12))
    return f"Ha! I seize fate by the throat, and the storm of my symphony answers to no prince: {words}."


class FakeSpeaker:
    """Answers at once, and remembers what it was asked.

    Args:
        answering: what it says; in character if absent.
    """

    def __init__(self, answering: Answering | None = None) -> None:
        self.answering = answering or (lambda question, _: Said(in_character(question), 30, "stop"))
        self.asked: list[tuple[str, int]] = []
        self._questions: list[str] = []

    def prompt(self, question: str) -> list[int]:
        self._questions.append(question)
        return [0] * 700 + [len(self._questions) - 1]

    def submit(self, prompt: Sequence[int], seed: int) -> Future[Any]:
        question = self._questions[prompt[-1]]
        self.asked.append((question, seed))
        future: Future[Any] = Future()
        said = self.answering(question, seed)
        if isinstance(said, BaseException):
            future.set_exception(said)
        elif said is not None:
            future.set_result(said)
        return future

    def read(self, response: Any) -> Said:
        assert isinstance(response, Said)
        return response


def fake_teacher(monkeypatch: pytest.MonkeyPatch, answering: Answering | None = None) -> FakeSpeaker:
    """Put a fake in the teacher's place."""
    fake = FakeSpeaker(answering)

    @contextmanager
    def speaking(*_: object) -> Iterator[FakeSpeaker]:
        yield fake

    monkeypatch.setattr(teacher, "speaking", speaking)
    monkeypatch.setattr("distillation.client.base_model", lambda configured=None: configured or "fake/base")
    return fake


def lay_out_plan(**changes: object) -> None:
    """The configuration files in the current folder, and the prompt of step 5 in the run folder.

    Args:
        changes: options of both sections of both files that get another value.
    """
    for name in ("training_config.yaml", "data_generation_config.yaml"):
        shutil.copy(ROOT / name, name)
        for option, value in changes.items():
            change(Path(name), option, value)
    prompt = characters.system_prompt(BEETHOVEN) + "\n"
    write_bytes(settings.run_folder() / characters.PROMPT_FILE, prompt.encode())


def change(path: Path, option: str, value: object) -> None:
    """Give an option another value in both sections."""
    lines = path.read_text().splitlines()
    path.write_text(
        "".join(
            f"  {option}: {value}\n" if line.startswith(f"  {option}:") else line + "\n" for line in lines
        )
    )


def record(question: Question, **changes: Any) -> dict[str, Any]:
    """A good record of the teacher."""
    return {
        "id": question.id,
        "kind": question.kind,
        "question": question.text,
        "answer": in_character(question.text),
        "prompt_tokens": 701,
        "answer_tokens": 30,
        "stop": "stop",
        "seed": 1,
        "tries": 1,
        "character": "Beethoven",
        "engine": settings.engine(),
    } | changes


def records(count: int) -> list[dict[str, Any]]:
    """Good records of the first ``count`` training questions."""
    return [record(question) for question in training_questions(count)]


def put(name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows into the run folder."""
    path = settings.run_folder() / name
    write_rows(path, rows)
    return path
