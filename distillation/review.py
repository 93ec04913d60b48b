"""Step 18: a person judges answers without knowing whose they are.

``python -m distillation.review`` writes ``review_sheet.md``: 50 answers, in each of the five kinds of
questions five of the student and five of the teacher to the same questions, in an order drawn by lot.
``review_sheet.json`` is the key to it, with scores that need no person. Fill in the numbers, then ``--read``
takes them into ``review_result.json``. A sheet without numbers is "not reviewed yet", which is no mistake;
numbers are never overwritten. ``--check`` reads and counts everything again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillation import events, settings
from distillation.characters import DEFAULT_CHARACTER, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, read
from distillation.jsonl import read_json, write_bytes, write_json
from distillation.persona import judge
from distillation.questions import KINDS
from distillation.review_sheet import CRITERIA, Marks, read_marks, render

SHEET = "review_sheet.md"
KEY = "review_sheet.json"
RESULT = "review_result.json"

QUESTIONS_PER_KIND = 5
"""Each with two answers: ten answers of every kind."""

VOICES = ("student", "teacher")

NOT_YET, PARTLY, REVIEWED = "not reviewed yet", "partly reviewed", "reviewed"


def draw(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to be judged, numbered in the order of the sheet.

    The lot is a function of the evaluation, so that the same answers give the same sheet.

    Args:
        records: of the evaluation.

    Raises:
        DistillationError: there are too few of a kind.
    """
    lot = random.Random(f"review {records[0]['ways']}" if records else 0)
    answers: list[dict[str, Any]] = []
    for kind in KINDS:
        mine = [record for record in records if record["kind"] == kind]
        if len(mine) < QUESTIONS_PER_KIND:
            raise DistillationError(
                f"{len(mine)} evaluated questions of the kind '{kind}', {QUESTIONS_PER_KIND} are needed; "
                "run step 15"
            )
        for record in lot.sample(mine, QUESTIONS_PER_KIND):
            for voice in lot.sample(VOICES, len(VOICES)):
                answers.append(_entry(len(answers) + 1, record, voice))
    return answers


def _entry(number: int, record: Mapping[str, Any], voice: str) -> dict[str, Any]:
    answer = record[voice]["answer"]
    verdict = judge(record["character"], answer)
    # The teacher's answer is the reference itself: it is held against the teacher's second one.
    scored = record["scores"]["student" if voice == "student" else "second_teacher"]
    return {
        "number": number,
        "kind": record["kind"],
        "id": record["id"],
        "question": record["question"],
        "voice": voice,
        "answer": answer,
        "scores": {
            "traits": list(verdict.traits),
            "persona": round(verdict.score, 4),
            "in_character": verdict.in_character,
            "chrf": scored["chrf"],
            "f1": scored["f1"],
            "words": len(answer.split()),
        },
    }


def _fingerprint(answers: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:12]


def write(character: str) -> dict[str, Any]:
    """Write sheet and key; a sheet with numbers stays, one of other answers is put aside.

    Returns:
        the key.

    Raises:
        DistillationError: the evaluation has too few answers, or the sheet there is has a mistake.
    """
    folder = settings.run_folder()
    key = _key(folder, character)
    sheet = folder / SHEET
    if sheet.is_file():
        known, marks = read_marks(sheet)
        if known == key["sheet"]:
            print(f"{sheet}: stays as it is, with {len(marks)} answers judged", flush=True)
            write_json(folder / KEY, key)
            return key
        if marks:
            aside = sheet.with_name(f"review_sheet.{known}.md")
            sheet.replace(aside)
            print(f"{aside}: {len(marks)} judged answers of another evaluation", flush=True)
    write_bytes(sheet, render(key).encode())
    write_json(folder / KEY, key)
    return key


def _key(folder: Path, character: str) -> dict[str, Any]:
    records = [one for one in read(folder / ANSWERS) if one["character"] == character]
    answers = draw(records)
    return {
        "engine": settings.engine(),
        "character": character,
        "sheet": _fingerprint(answers),
        "pre_scores": {voice: _pre_scores(answers, voice) for voice in VOICES},
        "answers": answers,
    }


def _pre_scores(answers: Sequence[Mapping[str, Any]], voice: str) -> dict[str, float]:
    mine = [answer["scores"] for answer in answers if answer["voice"] == voice]
    return {
        name: round(statistics.fmean(float(scores[name]) for scores in mine), 4)
        for name in ("persona", "in_character", "chrf", "f1", "words")
    }


def result(folder: Path) -> dict[str, Any]:
    """What the sheet says, with the names uncovered.

    Raises:
        DistillationError: a number of the sheet is none from 1 to 5, or sheet and key do not belong together.
    """
    key = read_json(folder / KEY)
    sheet, marks = read_marks(folder / SHEET)
    if key.get("sheet") != sheet or key.get("engine") != settings.engine():
        raise DistillationError(f"{folder / SHEET}: does not belong to {KEY}; run step 18 again")
    answers = {answer["number"]: answer for answer in key["answers"]}
    if unknown := sorted(set(marks) - set(answers)):
        raise DistillationError(f"{folder / SHEET}: has no answer {unknown[0]}; it ends with {len(answers)}")
    status = REVIEWED if len(marks) == len(answers) else PARTLY if marks else NOT_YET
    return {
        "engine": settings.engine(),
        "character": key["character"],
        "sheet": sheet,
        "status": status,
        "answers": len(answers),
        "judged": len(marks),
        "means": {
            voice: _means([marks[number] for number in marks if answers[number]["voice"] == voice])
            for voice in VOICES
        },
        "pairs": _pairs(answers, marks),
        "marks": {str(number): dict(marks[number].values) for number in sorted(marks)},
    }


def _means(marks: Sequence[Marks]) -> dict[str, float] | None:
    if not marks:
        return None
    means = {name: statistics.fmean(one.values[name] for one in marks) for name in CRITERIA}
    return {name: round(value, 4) for name, value in means.items()} | {
        "all": round(statistics.fmean(means.values()), 4)
    }


def _pairs(answers: Mapping[int, Mapping[str, Any]], marks: Mapping[int, Marks]) -> dict[str, int]:
    """How often one was judged better than the other on the same question."""
    totals: dict[str, dict[str, int]] = {}
    for number, one in marks.items():
        answer = answers[number]
        totals.setdefault(answer["id"], {})[answer["voice"]] = sum(one.values.values())
    both = [pair for pair in totals.values() if len(pair) == len(VOICES)]
    better = Counter(
        (pair["student"] > pair["teacher"]) - (pair["student"] < pair["teacher"]) for pair in both
    )
    return {
        "judged": len(both),
        "student_better": better[1],
        "equal": better[0],
        "teacher_better": better[-1],
    }


def read_in() -> dict[str, Any]:
    """Take the numbers of the sheet into ``review_result.json``.

    Raises:
        DistillationError: as ``result``.
    """
    folder = settings.run_folder()
    found = result(folder)
    write_json(folder / RESULT, found)
    return found


def check(character: str) -> list[str]:
    """Draw, score and read everything again, in lines for the checks.

    Raises:
        DistillationError: key or result are not what the evaluation and the sheet say.
    """
    folder = settings.run_folder()
    key = _key(folder, character)
    if read_json(folder / KEY) != key:
        raise DistillationError(f"{folder / KEY}: is not of the answers in {ANSWERS}; run step 18 again")
    found = result(folder)
    if read_json(folder / RESULT) != found:
        raise DistillationError(
            f"{folder / RESULT}: is not what {SHEET} says; run python -m distillation.review --read"
        )
    kinds = Counter(answer["kind"] for answer in key["answers"])
    return [
        f"answers: {len(key['answers'])}",
        f"categories: {len(kinds)}",
        f"fewest of a category: {min(kinds.values())}",
        f"of the student: {sum(answer['voice'] == 'student' for answer in key['answers'])}",
        f"judged: {found['judged']}",
        f"status: {found['status']}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 18."""
    parser = argparse.ArgumentParser(prog="python -m distillation.review", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--read", action="store_true", help="take the numbers of the sheet in")
    mode.add_argument("--check", action="store_true", help="read and count everything again")
    options = parser.parse_args(argv)
    character = find(options.character).name
    if options.check:
        print("\n".join(check(character)))
        return
    if not options.read:
        write(character)
    found = read_in()
    said = f"{found['answers']} answers, {found['judged']} judged: {found['status']}"
    if found["status"] != REVIEWED:
        said += f"; fill in {settings.run_folder() / SHEET}, then: python -m distillation.review --read"
    events.note(said)
    events.metric("judged", found["judged"])
    events.criterion("Sheet of blind answers ready")


if __name__ == "__main__":
    execute(main)
