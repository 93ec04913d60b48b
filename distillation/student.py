"""Step 7: from a record of the teacher to what the student learns from: question and answer, no prompt.

``--trial`` converts the teacher's trial to ``student_trial.jsonl`` and counts tokens with and without the
system prompt into ``student_report.json``; ``--check`` and ``--check-tokens`` count again. The loss weights
are those of ``chat.datum``: 0 on the question, 1 on the answer and on its end token.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillation import chat, client, config, events, generation, settings
from distillation.characters import DEFAULT_CHARACTER, PROMPT_FILE, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json, read_rows, write_json, write_rows
from distillation.questions import normalised

TRIAL = "student_trial.jsonl"
REPORT = "student_report.json"

KEYS = ("id", "question", "answer")
"""What a training record holds, and all it holds."""

MIN_SENTENCE_WORDS = 5
"""Shorter sentences of a prompt, such as its headings, may occur in any text."""

MIN_SAVED = 0.95
"""Share of the prompt tokens that must be saved."""


def convert(record: Mapping[str, Any]) -> dict[str, Any]:
    """The training record of a teacher's record: question and answer as they are, and nothing else."""
    return {key: record[key] for key in KEYS}


def flaw(value: Mapping[str, Any] | None, problem: str = "") -> str:
    """Why a line is no training record; empty when it is one."""
    if value is None:
        return problem
    if set(value) != set(KEYS):
        return f"has the keys {', '.join(sorted(value))}, not {', '.join(KEYS)}"
    if empty := [key for key in KEYS if not isinstance(value[key], str) or not value[key].strip()]:
        return f"'{empty[0]}' holds no text"
    return ""


def sentences(prompt: str) -> list[str]:
    """The sentences of a system prompt, normalised; headings and other short ones are left out."""
    pieces = (normalised(piece) for piece in re.split(r"[.!?:;]\s|\n", prompt))
    return [piece for piece in pieces if len(piece.split()) >= MIN_SENTENCE_WORDS]


def left_in(texts: Sequence[str], prompt: str) -> int:
    """How many of ``texts`` hold a sentence of the prompt."""
    wanted = [f" {sentence} " for sentence in sentences(prompt)]
    return sum(any(sentence in f" {normalised(text)} " for sentence in wanted) for text in texts)


def system_prompt() -> str:
    """The system prompt that the teacher was given.

    Raises:
        DistillationError: step 5 has not run.
    """
    path = settings.run_folder() / PROMPT_FILE
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run step 5") from cause


def count(records: Sequence[Mapping[str, Any]], prompt: str, base: str) -> dict[str, Any]:
    """Tokens of the same questions with and without the system prompt, by the base model's tokenizer."""
    tokenizer = chat.tokenizer_of(base)
    with_prompt = [len(chat.prompt_tokens(tokenizer, record["question"], prompt)) for record in records]
    without = [len(chat.prompt_tokens(tokenizer, record["question"], None)) for record in records]
    answers = [len(chat.answer_tokens(tokenizer, record["answer"])) for record in records]
    return {
        "base_model": base,
        "records": len(records),
        "teacher_prompt_tokens": round(sum(with_prompt) / len(records), 2),
        "student_prompt_tokens": round(sum(without) / len(records), 2),
        "answer_tokens": round(sum(answers) / len(records), 2),
        "saved_share": round(1 - sum(without) / sum(with_prompt), 6),
    }


def trial(character: str) -> dict[str, Any]:
    """Convert the teacher's trial.

    Returns:
        the report.

    Raises:
        DistillationError: step 6 has not run, or too few tokens are saved.
    """
    folder = settings.run_folder()
    records = generation.read_records(folder / generation.TRIAL, find(character))
    if not records:
        raise DistillationError(f"{folder / generation.TRIAL}: holds no answer; run step 6 again")
    converted = [convert(record) for record in records]
    report = count(converted, system_prompt(), client.base_model(config.load().base_model))
    write_rows(folder / TRIAL, converted)
    write_json(folder / REPORT, report)
    demand_saving(report, folder / REPORT)
    return report


def demand_saving(report: Mapping[str, Any], path: Path) -> None:
    """Refuse a conversion that saves too little.

    Raises:
        DistillationError: says how much it saves.
    """
    if report["saved_share"] < MIN_SAVED:
        raise DistillationError(
            f"{path}: only {report['saved_share']:.1%} of the prompt tokens are saved, and {MIN_SAVED:.0%} "
            "are needed; a longer system prompt is worth distilling, a short one is not"
        )


def wrong_weights(records: Sequence[Mapping[str, Any]], base: str) -> int:
    """How many records have other loss weights than 0 on the prompt and 1 on answer and end token."""
    tokenizer = chat.tokenizer_of(base)
    wrong = 0
    for record in records:
        datum = chat.datum(tokenizer, record["question"], record["answer"])
        weights = [float(weight) for weight in datum.loss_fn_inputs["weights"].data]
        prompt = len(chat.prompt_tokens(tokenizer, record["question"], None))
        answer = len(chat.answer_tokens(tokenizer, record["answer"]))
        wrong += weights != [0.0] * (prompt - 1) + [1.0] * answer
    return wrong


def check(character: str) -> list[str]:
    """Hold the converted trial against the teacher's, and look for sentences of the prompt.

    Returns:
        ``name: value`` lines.

    Raises:
        DistillationError: a record is missing, changed, or of the wrong form.
    """
    records = _converted(character)
    prompt = system_prompt()
    return [
        f"converted: {len(records)}",
        f"prompt sentences left: {left_in([record['question'] for record in records], prompt)}",
        f"answers that quote the prompt: {left_in([record['answer'] for record in records], prompt)}",
    ]


def check_tokens(character: str) -> list[str]:
    """Count the tokens of the converted trial again, and look at its loss weights.

    Returns:
        ``name: value`` lines.

    Raises:
        DistillationError: the report is wrong, too few tokens are saved, or a loss weight is wrong.
    """
    records = _converted(character)
    path = settings.run_folder() / REPORT
    report = read_json(path)
    counted = count(records, system_prompt(), str(report.get("base_model")))
    if counted != report:
        raise DistillationError(f"{path}: is not what the records say; run step 7 again")
    demand_saving(report, path)
    if wrong := wrong_weights(records, counted["base_model"]):
        raise DistillationError(f"{settings.run_folder() / TRIAL}: {wrong} records have wrong loss weights")
    return [f"prompt tokens saved: {report['saved_share'] * 100:.2f}%", f"weights right: {len(records)}"]


def _converted(character: str) -> list[Mapping[str, Any]]:
    folder = settings.run_folder()
    path = folder / TRIAL
    given = generation.read_records(folder / generation.TRIAL, find(character))
    teachers = {record["id"]: record for record in given}
    records: list[Mapping[str, Any]] = []
    for row in read_rows(path):
        reason = flaw(row.value, row.problem)
        value = row.value or {}
        original = teachers.pop(str(value.get("id")), None)
        if not reason and (original is None or any(value[key] != original[key] for key in KEYS)):
            reason = "is not what the teacher's record says"
        if reason:
            raise DistillationError(f"{path}:{row.line}: {reason}; run step 7 again")
        records.append(value)
    if teachers or not records:
        raise DistillationError(f"{path}: {len(teachers)} records are missing; run step 7 again")
    return records


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 7."""
    parser = argparse.ArgumentParser(prog="python -m distillation.student", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--trial", action="store_true", help="convert the teacher's trial")
    mode.add_argument("--check", action="store_true", help="count the converted trial again")
    mode.add_argument("--check-tokens", action="store_true", help="count its tokens again")
    options = parser.parse_args(argv)
    if options.check or options.check_tokens:
        print("\n".join((check if options.check else check_tokens)(options.character)))
        return
    report = trial(options.character)
    events.note(
        f"{report['records']} records converted, {report['teacher_prompt_tokens']:.0f} prompt tokens became "
        f"{report['student_prompt_tokens']:.0f}: {report['saved_share']:.1%} saved"
    )
    events.metric("prompt_tokens_saved_percent", round(report["saved_share"] * 100, 2))
    events.criterion("Trial converted")


if __name__ == "__main__":
    execute(main)
