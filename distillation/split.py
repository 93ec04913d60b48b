"""Step 10: divide the audited answers into what is learned from and what the student must not have seen.

Questions that are the same or nearly so form a group, and a group stays on one side. Which groups
validate is decided by a hash of seed and question, so the same data and seed give the same split. What
comes too near to a question that is held out for the evaluation goes to ``split_left_out.jsonl`` instead.
``--check`` holds the files against the audited data and looks for near duplicates in another way.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import audit, events, nearly, settings, student
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json, read_rows, write_json, write_rows
from distillation.questions import HELD_OUT, NEAR_DUPLICATE, held_out_questions, normalised

TRAIN = "train.jsonl"
VALIDATION = "val.jsonl"
LEFT_OUT = "split_left_out.jsonl"
REPORT = "split_report.json"

VALIDATION_SHARE = 0.1
SEED = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Training records by where they went, in the order of the audited data.

    Attributes:
        train: to learn from.
        validation: to measure the loss on.
        left_out: near to a question of the evaluation, each with the question that it is near to.
        groups: of questions that belong together.
    """

    train: tuple[dict[str, Any], ...]
    validation: tuple[dict[str, Any], ...]
    left_out: tuple[tuple[dict[str, Any], str], ...]
    groups: int


def split(records: Sequence[dict[str, Any]], held_out: Sequence[str], seed: int) -> Split:
    """Divide training records.

    Args:
        records: with ``id``, ``question`` and ``answer``.
        held_out: questions of the evaluation.
        seed: decides which groups validate.
    """
    near = _near_held_out([record["question"] for record in records], held_out)
    left_out = tuple((record, near[place]) for place, record in enumerate(records) if place in near)
    kept = [record for place, record in enumerate(records) if place not in near]
    words = [nearly.words(record["question"]) for record in kept]
    groups = nearly.groups(len(kept), nearly.near_pairs(words, NEAR_DUPLICATE))
    by_chance = sorted(groups, key=lambda group: _draw(seed, kept[group[0]]["question"]))
    room = round(len(kept) * VALIDATION_SHARE)
    validating: set[int] = set()
    for group in by_chance:
        if len(validating) + len(group) <= room:
            validating.update(group)
    return Split(
        tuple(record for place, record in enumerate(kept) if place not in validating),
        tuple(record for place, record in enumerate(kept) if place in validating),
        left_out,
        len(groups),
    )


def _near_held_out(questions: Sequence[str], held_out: Sequence[str]) -> dict[int, str]:
    """The places of questions that are near to a held-out one, and which."""
    sets = [nearly.words(question) for question in (*questions, *held_out)]
    near: dict[int, str] = {}
    for pair in nearly.near_pairs(sets, NEAR_DUPLICATE):
        if pair.first < len(questions) <= pair.second:
            near.setdefault(pair.first, held_out[pair.second - len(questions)])
    return near


def _draw(seed: int, question: str) -> str:
    return hashlib.sha256(f"{seed}:{normalised(question)}".encode()).hexdigest()


def _audited() -> list[dict[str, Any]]:
    path = settings.run_folder() / audit.AUDITED
    records = []
    for row in read_rows(path):
        if row.value is None or not set(student.KEYS) <= set(row.value):
            raise DistillationError(f"{path}:{row.line}: {row.problem or 'no record'}; run step 9 again")
        records.append(student.convert(row.value))
    return records


def _held_out() -> list[str]:
    return [question.text for question in held_out_questions(HELD_OUT)]


def write() -> dict[str, Any]:
    """Split the audited data of the run folder.

    Returns:
        the report.

    Raises:
        DistillationError: step 9 has not run, or there is too little to split.
    """
    folder, began = settings.run_folder(), time.monotonic()
    parts = split(_audited(), _held_out(), SEED)
    if not parts.train or not parts.validation:
        raise DistillationError(
            f"{folder / audit.AUDITED}: {len(parts.train)} to train and {len(parts.validation)} to validate "
            "with; step 8 must make more"
        )
    write_rows(folder / TRAIN, parts.train)
    write_rows(folder / VALIDATION, parts.validation)
    write_rows(folder / LEFT_OUT, ({**record, "near": near} for record, near in parts.left_out))
    report = {
        "seed": SEED,
        "train": len(parts.train),
        "validation": len(parts.validation),
        "left_out": len(parts.left_out),
        "groups": parts.groups,
        "near_duplicate": NEAR_DUPLICATE,
        "held_out": HELD_OUT,
        "sha256": {name: _sha256(folder / name) for name in (TRAIN, VALIDATION)},
        "seconds": round(time.monotonic() - began, 2),
    }
    write_json(folder / REPORT, report)
    return report


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check() -> list[str]:
    """Hold the files against the audited data, the report and the held-out questions.

    Returns:
        ``name: value`` lines.

    Raises:
        DistillationError: a record is missing, twice or of the wrong form, or a checksum is wrong.
    """
    folder = settings.run_folder()
    report = read_json(folder / REPORT)
    parts: dict[str, list[dict[str, Any]]] = {}
    for name in (TRAIN, VALIDATION):
        parts[name] = []
        for row in read_rows(folder / name):
            if reason := student.flaw(row.value, row.problem):
                raise DistillationError(f"{folder / name}:{row.line}: {reason}; run step 10 again")
            parts[name].append(row.value or {})
        if report.get("sha256", {}).get(name) != _sha256(folder / name):
            raise DistillationError(
                f"{folder / name}: is not what {REPORT} has the checksum of; run step 10 again"
            )
    left_out = [student.convert(row.value or {}) for row in read_rows(folder / LEFT_OUT)]
    there = sorted(record["id"] for record in (*parts[TRAIN], *parts[VALIDATION], *left_out))
    audited = _audited()
    if there != sorted(record["id"] for record in audited):
        raise DistillationError(
            f"{folder}: the split has other records than {audit.AUDITED}; run step 10 again"
        )
    again = split(audited, _held_out(), int(report["seed"]))
    same = list(again.train) == parts[TRAIN] and list(again.validation) == parts[VALIDATION]
    train, validation = ([record["question"] for record in parts[name]] for name in (TRAIN, VALIDATION))
    evaluated = _held_out()
    return [
        f"train: {len(train)}",
        f"validation: {len(validation)}",
        f"train share: {len(train) / (len(train) + len(validation)) * 100:.2f}%",
        f"left out: {len(left_out)}",
        f"on both sides: {shared(train, validation)}",
        f"in the evaluation: {shared([*train, *validation], evaluated)}",
        f"same again: {int(same)}",
    ]


def shared(questions: Sequence[str], others: Sequence[str]) -> int:
    """How many of ``questions`` are the same as, or near to, one of ``others``, by counting shared words.

    It finds what ``nearly.near_pairs`` finds without its filter, so that a mistake there shows here.
    """
    holders: dict[str, list[int]] = {}
    sizes = []
    for place, other in enumerate(others):
        words = set(normalised(other).split())
        sizes.append(len(words))
        for word in words:
            holders.setdefault(word, []).append(place)
    found = 0
    for question in questions:
        words = set(normalised(question).split())
        common = [0] * len(others)
        for word in words:
            for place in holders.get(word, ()):
                common[place] += 1
        found += any(
            count and count / (len(words) + size - count) >= NEAR_DUPLICATE
            for count, size in zip(common, sizes, strict=True)
        )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 10."""
    parser = argparse.ArgumentParser(prog="python -m distillation.split", description=__doc__)
    parser.add_argument("--check", action="store_true", help="hold the two files against the audited data")
    options = parser.parse_args(argv)
    if options.check:
        print("\n".join(check()))
        return
    report = write()
    events.note(
        f"{report['train']} to train, {report['validation']} to validate, {report['left_out']} left out, "
        f"seed {report['seed']}"
    )
    events.metric("train_examples", report["train"])
    events.metric("validation_examples", report["validation"])
    events.criterion("Data split")


if __name__ == "__main__":
    execute(main)
