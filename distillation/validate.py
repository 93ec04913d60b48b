"""Step 4: judge every line of a character's dialogues, and keep the usable ones.

A line that cannot be used is named with its place and kept in ``rejected.jsonl`` with the reason; none
is dropped silently. ``--check`` judges what was kept once more and holds it against the report.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import dataset, events, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.command import execute
from distillation.dialogue import Turn, parse_scene, parse_turns
from distillation.errors import DistillationError
from distillation.jsonl import Row, read_json, read_rows, write_json, write_rows

FOLDER = "validated"
REPORT = "validation_report.json"
REJECTED = "rejected.jsonl"

REQUIRED_KEYS = ("prompt", "output")
OUTPUT_CHARS = (20, 20_000)
"""Shortest and longest output that is taken for a dialogue, in characters."""

SHOWN = 20
"""Rejected lines that are printed; all of them are in ``rejected.jsonl``."""


@dataclass(frozen=True, slots=True)
class Usable:
    """An example that passed, with its turns."""

    line: int
    example: dict[str, Any]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that did not pass: where it stands, why, and as it was."""

    line: int
    reason: str
    text: str


def judge(rows: Sequence[Row], character: Character) -> tuple[list[Usable], list[Rejected]]:
    """Sort the lines of a character's file into usable and rejected ones.

    A usable example has the required keys with text in them, a scene, turns of the known form of which
    the character has at least one, a length within ``OUTPUT_CHARS``, and no double earlier in the file.
    """
    usable: list[Usable] = []
    rejected: list[Rejected] = []
    first: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row.value is None:
            rejected.append(Rejected(row.line, row.problem, row.text))
            continue
        try:
            turns = _turns(row.value, character)
        except ValueError as cause:
            rejected.append(Rejected(row.line, str(cause), row.text))
            continue
        identity = tuple(" ".join(row.value[key].split()) for key in REQUIRED_KEYS)
        if identity in first:
            rejected.append(Rejected(row.line, f"the same as line {first[identity]}", row.text))
            continue
        first[identity] = row.line
        usable.append(Usable(row.line, row.value, turns))
    return usable, rejected


def _turns(example: dict[str, Any], character: Character) -> tuple[Turn, ...]:
    for key in REQUIRED_KEYS:
        if key not in example:
            raise ValueError(f"no key {key!r}")
        if not isinstance(example[key], str) or not example[key].strip():
            raise ValueError(f"{key!r} holds no text")
    parse_scene(example["prompt"])
    shortest, longest = OUTPUT_CHARS
    if not shortest <= len(example["output"]) <= longest:
        raise ValueError(f"the output has {len(example['output'])} characters, not {shortest} to {longest}")
    turns = parse_turns(example["output"])
    if not any(character.plays(turn.role) for turn in turns):
        raise ValueError(f"{character.name} says nothing")
    return turns


def minimum(source: str) -> int:
    """Usable examples that are needed: the shipped sample is small and says so."""
    return settings.MIN_EXAMPLES_SAMPLE if source == "sample" else settings.MIN_EXAMPLES_FULL


def make_report(
    character: Character, source: str, usable: Sequence[Usable], rejected: Sequence[Rejected]
) -> dict[str, Any]:
    """The numbers of a validation; words are those of the character's own turns."""
    words = [len(turn.words.split()) for one in usable for turn in one.turns if character.plays(turn.role)]
    doubles = sum(one.reason.startswith("the same as line") for one in rejected)
    lines = len(usable) + len(rejected)
    return {
        "character": character.name,
        "source": source,
        "lines": lines,
        "usable": len(usable),
        "usable_share": round(len(usable) / lines, 4) if lines else 0.0,
        "minimum": minimum(source),
        "rejected": len(rejected),
        "duplicates": doubles,
        "reasons": dict(Counter(one.reason for one in rejected).most_common(SHOWN)),
        "turns": sum(len(one.turns) for one in usable),
        "character_turns": len(words),
        "words_per_turn": round(statistics.mean(words), 1) if words else 0.0,
        "roles": len({turn.role for one in usable for turn in one.turns}),
    }


def demand_enough(report: dict[str, Any], path: Path) -> None:
    """Refuse a report with too few usable examples, or with too many lines rejected.

    Raises:
        DistillationError: says how many there are and how many are needed.
    """
    name, usable, needed = report["character"], report["usable"], report["minimum"]
    if usable < needed:
        raise DistillationError(
            f"{path}: {usable} usable examples of {name}, and at least {needed} are needed; "
            f"see {REJECTED} for what was rejected and why"
        )
    if report["usable_share"] < settings.MIN_USABLE_SHARE:
        raise DistillationError(
            f"{path}: only {report['usable_share']:.1%} of the lines are usable, and "
            f"{settings.MIN_USABLE_SHARE:.0%} are needed; see {REJECTED}, then run step 3 again"
        )


def validate(character: Character) -> dict[str, Any]:
    """Judge a character's file, keep what is usable, put the rest aside, and write the report.

    Raises:
        DistillationError: step 3 has not run, or too little is usable. The files are written before
            that is said, so that the rejected lines can be looked at.
    """
    folder = settings.run_folder()
    source = read_json(folder / dataset.REPORT).get("source", "")
    path = folder / dataset.FOLDER / f"{character.name}.jsonl"
    usable, rejected = judge(read_rows(path), character)
    for one in rejected[:SHOWN]:
        print(f"{path}:{one.line}: {one.reason}", flush=True)
    if len(rejected) > SHOWN:
        print(f"and {len(rejected) - SHOWN} more, all in {folder / REJECTED}", flush=True)
    write_rows(folder / FOLDER / f"{character.name}.jsonl", (one.example for one in usable))
    write_rows(
        folder / REJECTED,
        ({"file": path.as_posix(), "line": r.line, "reason": r.reason, "text": r.text} for r in rejected),
    )
    report = make_report(character, source, usable, rejected)
    write_json(folder / REPORT, report)
    demand_enough(report, path)
    return report


def check_report(character: Character) -> dict[str, Any]:
    """Judge what was kept once more, and hold kept and rejected lines against the dataset's own.

    Raises:
        DistillationError: the files are not what the report says, or too little is usable.
    """
    folder = settings.run_folder()
    report_path = folder / REPORT
    report = read_json(report_path)
    if report.get("character") != character.name:
        raise DistillationError(f"{report_path}: is about {report.get('character')}; run step 4 again")
    kept = folder / FOLDER / f"{character.name}.jsonl"
    usable, spoilt = judge(read_rows(kept), character)
    if spoilt:
        raise DistillationError(f"{kept}:{spoilt[0].line}: {spoilt[0].reason}; run step 4 again")
    rejected = read_rows(folder / REJECTED)
    lines = len(read_rows(folder / dataset.FOLDER / f"{character.name}.jsonl"))
    counted = {"usable": len(usable), "rejected": len(rejected), "lines": lines}
    for key, value in counted.items():
        if report.get(key) != value:
            raise DistillationError(
                f"{report_path}: says {report.get(key)} {key}, counted {value}; run step 4 again"
            )
    if len(usable) + len(rejected) != lines:
        raise DistillationError(
            f"{report_path}: {len(usable)} usable and {len(rejected)} rejected are not {lines} lines; "
            "run step 4 again"
        )
    share = len(usable) / lines if lines else 0.0
    demand_enough({**report, "minimum": minimum(str(report["source"])), "usable_share": share}, kept)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 4."""
    parser = argparse.ArgumentParser(prog="python -m distillation.validate", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="whose (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="judge what was kept once more")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.check:
        report = check_report(character)
        print(f"usable: {report['usable']}\nminimum: {report['minimum']}\nrejected: {report['rejected']}")
        print(
            f"usable share: {report['usable_share'] * 100:.1f}%\nwords per turn: {report['words_per_turn']}"
        )
        return
    report = validate(character)
    what = "shipped sample" if report["source"] == "sample" else "full dataset"
    events.note(
        f"{report['usable']} of {report['lines']} {character.name} examples usable, "
        f"minimum {report['minimum']} ({what}), {report['rejected']} rejected"
    )
    events.metric("usable_examples", report["usable"])
    events.metric("rejected_lines", report["rejected"])
    events.criterion("Character data judged line by line")


if __name__ == "__main__":
    execute(main)
