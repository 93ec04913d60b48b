"""The teacher's answers by numbers: of a trial, of a chunk, of all of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillation import settings
from distillation.characters import Character
from distillation.errors import DistillationError
from distillation.generation_config import GenerationConfig
from distillation.jsonl import Row, read_json, read_rows, write_bytes, write_json
from distillation.memory import spent_usd
from distillation.persona import judge
from distillation.questions import KINDS, normalised, training_questions
from distillation.work_time import GENERATION, in_report

TRIAL = "teacher_trial.jsonl"
DATA = "teacher_data_5000.jsonl"
REPORT = "generation_report.json"

FORM = {
    "id": str,
    "kind": str,
    "question": str,
    "answer": str,
    "prompt_tokens": int,
    "answer_tokens": int,
    "stop": str,
    "seed": int,
    "character": str,
    "engine": str,
}
"""What a record of the teacher holds."""


def flaw(row: Row) -> str:
    """Why a line is no record of the teacher; empty when it is one."""
    if row.value is None:
        return row.problem
    for key, kind in FORM.items():
        if key not in row.value:
            return f"no key '{key}'"
        if not isinstance(row.value[key], kind) or isinstance(row.value[key], bool):
            return f"'{key}' is not {'a text' if kind is str else 'a number'}"
    return ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What was counted in records of the teacher.

    Attributes:
        records: how many.
        questions: different ones, case and punctuation aside.
        in_character: answers that speak as the character.
        empty: answers without a word.
        cut_off: answers that reached the largest number of tokens.
        asked_again: records whose first answer was empty or cut off.
        prompt_tokens, answer_tokens: of all records together.
        kinds: records by kind of question.
    """

    records: int
    questions: int
    in_character: int
    empty: int
    cut_off: int
    asked_again: int
    prompt_tokens: int
    answer_tokens: int
    kinds: dict[str, int]

    @property
    def in_character_share(self) -> float:
        """From 0 to 1."""
        return self.in_character / self.records if self.records else 0.0

    def lines(self) -> list[str]:
        """For the checks of the plan."""
        fewest = min((self.kinds.get(kind, 0) for kind in KINDS), default=0)
        return [
            f"records: {self.records}",
            f"questions: {self.questions}",
            f"in character: {self.in_character_share * 100:.2f}%",
            f"empty: {self.empty}",
            f"cut off: {self.cut_off}",
            f"asked again: {self.asked_again}",
            f"fewest of a kind: {fewest}",
            f"prompt tokens: {self.prompt_tokens}",
            f"answer tokens: {self.answer_tokens}",
        ]


def measure(records: Sequence[dict[str, Any]], character: Character) -> Numbers:
    """Count records of the known form."""
    return Numbers(
        records=len(records),
        questions=len({normalised(record["question"]) for record in records}),
        in_character=sum(judge(character.name, record["answer"]).in_character for record in records),
        empty=sum(not record["answer"].strip() for record in records),
        cut_off=sum(record["stop"] != "stop" for record in records),
        asked_again=sum(record.get("tries", 1) > 1 for record in records),
        prompt_tokens=sum(record["prompt_tokens"] for record in records),
        answer_tokens=sum(record["answer_tokens"] for record in records),
        kinds=dict(sorted(Counter(record["kind"] for record in records).items())),
    )


def read_records(path: Path, character: Character) -> list[dict[str, Any]]:
    """The records of a file that must be without a flaw.

    Raises:
        DistillationError: the first line that is no record, or one of another engine or character.
    """
    records = []
    for row in read_rows(path):
        if reason := flaw(row):
            raise DistillationError(f"{path}:{row.line}: {reason}; run the step that writes it again")
        assert row.value is not None
        for key, wanted in (("engine", settings.engine()), ("character", character.name)):
            if row.value[key] != wanted:
                raise DistillationError(
                    f"{path}:{row.line}: of {key} {row.value[key]}, not {wanted}; run the step again"
                )
        records.append(row.value)
    return records


def demand_whole(found: Numbers, path: Path) -> None:
    """Refuse empty answers and those that were cut off.

    Raises:
        DistillationError: says how many.
    """
    if not found.records or found.empty or found.cut_off:
        raise DistillationError(
            f"{path}: {found.records} answers, {found.empty} empty and {found.cut_off} cut off; raise "
            "'max_tokens' in data_generation_config.yaml, or mend the system prompt"
        )


def judge_chunk(path: Path, character: Character, start: int, size: int | None, least: float) -> None:
    """Judge one chunk and print its numbers.

    Args:
        path: the chunk's file.
        character: whom the teacher plays.
        start: training questions before the chunk.
        size: questions in the chunk; ``None`` takes the chunk's own number of records.
        least: share of answers that must be in character.

    Raises:
        DistillationError: a line is broken, a question is missing or out of its place, an answer is
            empty or cut off, or too few are in character.
    """
    records = read_records(path, character)
    expected = training_questions(start + (len(records) if size is None else size))[start:]
    found = measure(records, character)
    there = {record["id"] for record in records}
    missing = [question.id for question in expected if question.id not in there]
    print("\n".join([*found.lines(), f"missing: {len(missing)}"]))
    if missing:
        raise DistillationError(f"{path}: {len(missing)} questions have no answer, first {missing[0]}")
    if [record["id"] for record in records] != [question.id for question in expected]:
        raise DistillationError(f"{path}: holds other questions than {start} to {start + len(expected) - 1}")
    demand_whole(found, path)
    if found.in_character_share < least:
        raise DistillationError(
            f"{path}: {found.in_character_share:.1%} of the answers are in character, and {least:.0%} are "
            "needed; read some, and mend the system prompt before more are paid for"
        )


def take_joined(joined: Path, target: Path, character: Character) -> None:
    """Bring the joined chunks into the run folder, when they are this engine's.

    Raises:
        DistillationError: they are not, and the run folder has nothing of its own.
    """
    try:
        read_records(joined, character)
    except DistillationError:
        if not target.is_file():
            raise
        print(f"{joined}: not of this run; {target} stays as it is", flush=True)
        return
    write_bytes(target, joined.read_bytes())


def report(character: Character, config: GenerationConfig, joined: Path | None) -> None:
    """Write ``generation_report.json``, taking the joined chunks into the run folder before.

    Raises:
        DistillationError: as ``take_joined`` and ``read_records``.
    """
    folder = settings.run_folder()
    path = folder / DATA
    if joined is not None:
        take_joined(joined, path, character)
    found = measure(read_records(path, character), character)
    spent = spent_usd(folder)
    write_json(
        folder / REPORT,
        {
            "engine": settings.engine(),
            "character": character.name,
            "settings": asdict(config),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **asdict(found),
            "in_character_share": round(found.in_character_share, 4),
            "spent_usd": round(spent, 6),
            **in_report(folder, GENERATION),
        },
    )
    print("\n".join([*found.lines(), f"spent usd: {spent:.4f}"]))


def check(character: Character, config: GenerationConfig) -> None:
    """Count all answers again, hold them against report and questions, and print the numbers.

    Raises:
        DistillationError: they are not what the report says, or not the questions that were to be asked.
    """
    folder = settings.run_folder()
    path, report_path = folder / DATA, folder / REPORT
    records = read_records(path, character)
    found = measure(records, character)
    said = read_json(report_path)
    print("\n".join(found.lines()))
    if said.get("sha256") != hashlib.sha256(path.read_bytes()).hexdigest():
        raise DistillationError(f"{report_path}: is about another {path.name}; run step 8 again")
    for key, value in asdict(found).items():
        if said.get(key) != value:
            raise DistillationError(
                f"{report_path}: says {said.get(key)} {key}, counted {value}; run step 8 again"
            )
    asked = [question.id for question in training_questions(config.examples)]
    if [record["id"] for record in records] != asked:
        raise DistillationError(f"{path}: are not the {config.examples} training questions; run step 8 again")
    demand_whole(found, path)


def check_trial(character: Character) -> None:
    """Count the trial's answers again, and print the numbers.

    Raises:
        DistillationError: a line is broken, or an answer is empty or cut off.
    """
    path = settings.run_folder() / TRIAL
    records = read_records(path, character)
    found = measure(records, character)
    uncounted = sum(not record["answer_tokens"] for record in records)
    print("\n".join([*found.lines(), f"uncounted: {uncounted}"]))
    demand_whole(found, path)
