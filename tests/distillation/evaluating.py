"""An evaluation with voices that are fakes, and a plain chrF to hold the library's against."""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distillation import checkpoints, evaluate, generation_config, settings
from distillation.characters import find
from distillation.config import TrainingConfig
from distillation.jsonl import write_rows
from distillation.sampling import Said, Speaker
from distillation.split import TRAIN, VALIDATION
from distillation.teacher import Asking
from tests.distillation.conftest import ROOT
from tests.distillation.generating import FakeSpeaker, in_character
from tests.distillation.training_fakes import BASE, CONFIG, PRICE

BEETHOVEN = find("Beethoven")
SYSTEM = "Be Beethoven."


@functools.cache
def plain_chrf(answer: str, reference: str) -> float:
    """chrF2 of one sentence as its authors define it: n-grams of 1 to 6 characters, blanks aside."""
    ours, theirs = ("".join(text.split()) for text in (answer, reference))
    precisions, recalls = [], []
    for size in range(1, 7):
        mine = Counter(ours[at : at + size] for at in range(len(ours) - size + 1))
        wanted = Counter(theirs[at : at + size] for at in range(len(theirs) - size + 1))
        if mine and wanted:
            common = (mine & wanted).total()
            precisions.append(common / mine.total())
            recalls.append(common / wanted.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0


@dataclasses.dataclass(frozen=True)
class PlainChrf:
    """In place of ``sacrebleu.metrics.CHRF``, so that these tests need no library."""

    def sentence_score(self, answer: str, references: list[str]) -> Any:
        return SimpleNamespace(score=100 * plain_chrf(answer, references[0]))


def teacher_says(question: str, seed: int) -> Said:
    """Two samples of the teacher share their manner and differ in their words."""
    return Said(in_character(question, seed), 30, "stop")


def base_says(question: str, seed: int) -> Said:
    """Out of character."""
    draw = random.Random(f"{question}{seed}")
    return Said("It is " + " ".join(draw.choices(("fine", "small", "usual", "there"), k=6)) + ".", 9, "stop")


def student_says(share: float) -> Callable[[str, int], Said]:
    """Like the teacher in this share of the answers, like the base in the others."""

    def answering(question: str, seed: int) -> Said:
        as_teacher = random.Random(f"student{question}").random() < share
        return (teacher_says if as_teacher else base_says)(question, seed + 1)

    return answering


class Voices:
    """The speakers of an evaluation; they remember what they were asked."""

    def __init__(self, share: float = 0.95) -> None:
        self.teacher = Fake(teacher_says, 700)
        self.base = Fake(base_says, 12)
        self.student = Fake(student_says(share), 12)

    def speakers(self, *_: object) -> dict[str, Speaker]:
        teacher = self.teacher
        return {"teacher": teacher, "second_teacher": teacher, "base": self.base, "student": self.student}

    @property
    def asked(self) -> int:
        return sum(len(one.asked) for one in (self.teacher, self.base, self.student))


class Fake(FakeSpeaker):
    """Has a prompt of so many tokens."""

    def __init__(self, answering: Callable[[str, int], Said], size: int) -> None:
        super().__init__(answering)
        self._size = size

    def prompt(self, question: str) -> list[int]:
        return super().prompt(question)[-1:] * self._size


def connect(
    monkeypatch: pytest.MonkeyPatch, voices: Voices, config: TrainingConfig = CONFIG, system: str = SYSTEM
) -> Path:
    """Have the commands of the evaluation ask the fakes; a trained student is there.

    Returns:
        the run folder.
    """
    folder = settings.run_folder()
    shutil.copy(ROOT / "data_generation_config.yaml", Path.cwd())
    how = generation_config.load()

    @contextmanager
    def connected(model: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr("distillation.similarity._chrf", PlainChrf)
    monkeypatch.setattr("distillation.client.connected", connected)
    monkeypatch.setattr("distillation.client.base_model", lambda *_: BASE)
    monkeypatch.setattr("distillation.config.current", lambda: config)
    monkeypatch.setattr(evaluate, "prepare", lambda character: Asking(character, BASE, system, how, PRICE))
    monkeypatch.setattr(evaluate, "speakers", voices.speakers)
    for name in (TRAIN, VALIDATION):
        write_rows(folder / name, [{"id": name, "question": f"Is {name} a file?", "answer": "Ha!"}])
    trained(folder, 4, 0.5)
    return folder


def trained(folder: Path, step: int, loss: float) -> None:
    """Record a checkpoint."""
    checkpoints.record(
        folder, checkpoints.Checkpoint(step, step + 1, f"state-{step}", f"sampler-{step}", loss, "f", "now")
    )
