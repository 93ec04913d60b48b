"""The file of all answers that were paid for, so that no question is asked twice.

``teacher_memory.jsonl`` in the run folder gets a line as soon as an answer has come, whatever becomes of
the chunk that it belongs to. An answer counts again only when it was asked for in the very same way: by
the same engine, of the same base model, with the same system prompt, settings and seed. A broken line
is named and stays where it is; its question is asked again.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.jsonl import Row, append, read_rows, torn

FILE = "teacher_memory.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came.

    Attributes:
        text: what was said.
        prompt_tokens: of the question with the system prompt.
        cached_tokens: how many of these the service had cached.
        answer_tokens: of the answer, its end token included.
        stop: ``stop`` when the answer came to its end, ``length`` when it was cut off.
        cost_usd: what it cost.
    """

    text: str
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    stop: str
    cost_usd: float

    @property
    def usable(self) -> bool:
        """Whether it is neither empty nor cut off."""
        return self.stop == "stop" and bool(self.text.strip())


Key = tuple[str, str, int]
"""The way of asking, the question, and the seed."""


class Memory:
    """The file, read once and appended to. Close it, or use it in a ``with`` statement.

    Args:
        folder: the run folder.
        name: of the file in it.

    Raises:
        DistillationError: the file cannot be read or written.
    """

    def __init__(self, folder: Path, name: str = FILE) -> None:
        self.path = folder / name
        self._answers: dict[Key, Answer] = {}
        for row in read_rows(self.path) if self.path.is_file() else ():
            try:
                key, answer = _parse(row)
            except ValueError as reason:
                print(f"{self.path}:{row.line}: {reason}; its question is asked again", flush=True)
            else:
                self._answers[key] = answer
        self.spent_usd = sum(answer.cost_usd for answer in self._answers.values())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as cause:
            raise self._refused(cause) from cause
        if torn(self.path):
            self._append("\n")

    def __contains__(self, key: Key) -> bool:
        """Whether this question was asked in this way."""
        return key in self._answers

    def __getitem__(self, key: Key) -> Answer:
        """The answer that was given then."""
        return self._answers[key]

    def add(self, key: Key, answer: Answer) -> None:
        """Record an answer; once this returns it is never paid for again.

        Raises:
            DistillationError: the file cannot be written.
        """
        way, question, seed = key
        row = {"way": way, "question": question, "seed": seed} | asdict(answer)
        self._append(json.dumps(row, ensure_ascii=False) + "\n")
        self._answers[key] = answer
        self.spent_usd += answer.cost_usd

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, text: str) -> None:
        try:
            append(self.path, self._descriptor, text.encode())
        except OSError as cause:
            raise self._refused(cause) from cause

    def _refused(self, cause: OSError) -> DistillationError:
        return DistillationError(
            f"{self.path}: {cause.strerror or cause}; make room or mend it, then run the step again: "
            "what was answered before is kept"
        )


def spent_usd(folder: Path) -> float:
    """What all answers in the memory of a run folder cost together, in US dollars.

    Raises:
        DistillationError: the file is there and cannot be read.
    """
    path = folder / FILE
    spent = 0.0
    for row in read_rows(path) if path.is_file() else ():
        with contextlib.suppress(ValueError):
            spent += _parse(row)[1].cost_usd
    return spent


def _parse(row: Row) -> tuple[Key, Answer]:
    """What a line says.

    Raises:
        ValueError: it holds no answer; why.
    """
    if row.value is None:
        raise ValueError(row.problem)
    value: dict[str, Any] = row.value
    try:
        key = (str(value["way"]), str(value["question"]), int(value["seed"]))
        return key, Answer(
            text=str(value["text"]),
            prompt_tokens=int(value["prompt_tokens"]),
            cached_tokens=int(value["cached_tokens"]),
            answer_tokens=int(value["answer_tokens"]),
            stop=str(value["stop"]),
            cost_usd=float(value["cost_usd"]),
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError("holds no answer") from None
