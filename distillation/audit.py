"""Step 9: measure the teacher's answers before they are trained on, and take out what would spoil it.

Every line of ``teacher_data_5000.jsonl`` goes to one of three files: ``audited.jsonl`` when it is good,
``audit_flagged.jsonl`` with its reasons when it is not, ``audit_rejected.jsonl`` with its place when it is
no record at all. None is dropped. ``--check`` counts again.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import events, generation, nearly, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import Row, read_json, read_rows, write_json, write_rows
from distillation.persona import OUT_OF_PART, judge
from distillation.questions import KINDS, normalised

AUDITED = "audited.jsonl"
FLAGGED = "audit_flagged.jsonl"
REJECTED = "audit_rejected.jsonl"
REPORT = "audit_report.json"

WORDS = (3, 400)
"""Shortest and longest answer that is taken for one, in words."""

NEAR_DUPLICATE = 0.9
"""Question and answer together share so much of their words and pairs of words: they are the same twice."""

MAX_EXACT = 0.01
MAX_DUPLICATES = 0.05
"""Largest share of duplicates: of equal ones, and of equal and near ones together."""

MAX_OUT_OF_PART = 0.02
MIN_IN_CHARACTER = 0.95
MIN_OF_A_KIND = 0.10

SHOWN = 20
"""Rejected lines that are printed; all of them are in ``audit_rejected.jsonl``."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason against a record: of which sort, and in words."""

    sort: str
    reason: str


def exact_text(record: dict[str, Any]) -> str:
    """Question and answer together, without what makes no difference. Answers alone may well repeat."""
    return f"{normalised(record['question'])} / {normalised(record['answer'])}"


def steps_out(answer: str) -> str:
    """The words by which an answer steps out of the part; empty when it does not."""
    padded = f" {normalised(answer)} "
    return next((phrase for phrase in OUT_OF_PART if f" {phrase} " in padded), "")


def flags_of(record: dict[str, Any], character: Character) -> list[Flag]:
    """What speaks against a record by itself."""
    found = []
    answer = record["answer"]
    length = len(answer.split())
    shortest, longest = WORDS
    if not answer.strip():
        found.append(Flag("empty", "empty"))
    elif not shortest <= length <= longest:
        found.append(Flag("length", f"{length} words, not {shortest} to {longest}"))
    if record["stop"] != "stop":
        found.append(Flag("cut off", "cut off"))
    if phrase := steps_out(answer):
        found.append(Flag("out of part", f"steps out of the part: '{phrase}'"))
    verdict = judge(character.name, answer)
    if not verdict.in_character:
        found.append(Flag("not in character", f"not in character (score {verdict.score:.2f})"))
    return found


def duplicates(records: Sequence[dict[str, Any]]) -> dict[int, Flag]:
    """The later ones of records that are the same, or nearly so, by their places."""
    found: dict[int, Flag] = {}
    first: dict[str, int] = {}
    for place, record in enumerate(records):
        earlier = first.setdefault(exact_text(record), place)
        if earlier != place:
            found[place] = Flag("duplicate", f"the same as {records[earlier]['id']}")
    sets = [nearly.shingles(f"{record['question']} {record['answer']}") for record in records]
    for pair in nearly.near_pairs(sets, NEAR_DUPLICATE):
        # What is taken out for an earlier one cannot make a third one a duplicate.
        if pair.first not in found and pair.second not in found:
            reason = f"nearly the same as {records[pair.first]['id']} ({pair.similarity:.2f})"
            found[pair.second] = Flag("near duplicate", reason)
    return found


@dataclass(frozen=True, slots=True)
class Audit:
    """Where every line of the data went.

    Attributes:
        good: records, as they are.
        flagged: records with their line and the flags against them.
        rejected: lines that are no record, with the reason.
    """

    good: tuple[dict[str, Any], ...]
    flagged: tuple[tuple[int, dict[str, Any], tuple[Flag, ...]], ...]
    rejected: tuple[tuple[Row, str], ...]


def audit(rows: Sequence[Row], character: Character) -> Audit:
    """Judge every line."""
    rejected = tuple((row, reason) for row in rows if (reason := flaw(row, character)))
    spoilt = {row.line for row, _ in rejected}
    kept = [(row.line, row.value) for row in rows if row.line not in spoilt and row.value is not None]
    records = [record for _, record in kept]
    twice = duplicates(records)
    good = []
    flagged = []
    for place, (line, record) in enumerate(kept):
        flags = flags_of(record, character)
        if place in twice:
            flags.append(twice[place])
        if flags:
            flagged.append((line, record, tuple(flags)))
        else:
            good.append(record)
    return Audit(tuple(good), tuple(flagged), rejected)


def flaw(row: Row, character: Character) -> str:
    """Why a line is no record of this engine's teacher in this part; empty when it is one."""
    if reason := generation.flaw(row):
        return reason
    assert row.value is not None
    for key, wanted in (("engine", settings.engine()), ("character", character.name)):
        if row.value[key] != wanted:
            return f"of {key} {row.value[key]}, not {wanted}"
    return ""


def make_report(result: Audit, character: Character) -> dict[str, Any]:
    """The numbers of an audit. Shares are of all lines; those of the kinds are of the good records."""
    lines = len(result.good) + len(result.flagged) + len(result.rejected)
    sorts = Counter(flag.sort for _, _, flags in result.flagged for flag in flags)
    kinds = Counter(record["kind"] for record in result.good)
    words = sorted(len(record["answer"].split()) for record in result.good)
    records = lines - len(result.rejected)

    def share(count: int, of: int) -> float:
        return round(count / of, 6) if of else 0.0

    return {
        "character": character.name,
        "lines": lines,
        "audited": len(result.good),
        "flagged": len(result.flagged),
        "rejected": len(result.rejected),
        "flags": dict(sorts.most_common()),
        "exact_duplicate_share": share(sorts["duplicate"], records),
        "duplicate_share": share(sorts["duplicate"] + sorts["near duplicate"], records),
        "out_of_part_share": share(sorts["out of part"], records),
        "in_character_share": share(records - sorts["not in character"], records),
        "empty": sorts["empty"],
        "cut_off": sorts["cut off"],
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "least_kind_share": share(min(kinds[kind] for kind in KINDS), len(result.good)),
        "answer_words": {
            "min": words[0] if words else 0,
            "median": words[len(words) // 2] if words else 0,
            "max": words[-1] if words else 0,
        },
    }


def demand_quality(report: dict[str, Any], path: Path) -> None:
    """Refuse data that should not be trained on.

    Raises:
        DistillationError: the first limit that is passed, and by what.
    """
    limits = (
        (
            "in_character_share",
            report["in_character_share"] >= MIN_IN_CHARACTER,
            f"at least {MIN_IN_CHARACTER:.0%}",
        ),
        ("exact_duplicate_share", report["exact_duplicate_share"] <= MAX_EXACT, f"at most {MAX_EXACT:.0%}"),
        ("duplicate_share", report["duplicate_share"] < MAX_DUPLICATES, f"less than {MAX_DUPLICATES:.0%}"),
        (
            "out_of_part_share",
            report["out_of_part_share"] <= MAX_OUT_OF_PART,
            f"at most {MAX_OUT_OF_PART:.0%}",
        ),
        ("least_kind_share", report["least_kind_share"] >= MIN_OF_A_KIND, f"at least {MIN_OF_A_KIND:.0%}"),
    )
    for key, holds, wanted in limits:
        if not holds:
            raise DistillationError(
                f"{path}: {key.replace('_', ' ')} is {report[key]:.2%}, and {wanted} is needed; "
                f"read {FLAGGED}, then mend the system prompt and do step 8 again"
            )


def write(character: Character) -> dict[str, Any]:
    """Audit the data of the run folder and write the four files.

    Returns:
        the report.

    Raises:
        DistillationError: step 8 has not run, or a limit is passed. The files are written before that is
            said, so that the flagged answers can be read.
    """
    folder, began = settings.run_folder(), time.monotonic()
    path = folder / generation.DATA
    result = audit(read_rows(path), character)
    for row, reason in result.rejected[:SHOWN]:
        print(f"{path}:{row.line}: {reason}", flush=True)
    if len(result.rejected) > SHOWN:
        print(f"and {len(result.rejected) - SHOWN} more, all in {folder / REJECTED}", flush=True)
    write_rows(folder / AUDITED, result.good)
    write_rows(
        folder / FLAGGED,
        (
            {"line": line, "reasons": [flag.reason for flag in flags], **record}
            for line, record, flags in result.flagged
        ),
    )
    write_rows(
        folder / REJECTED,
        (
            {"file": path.as_posix(), "line": row.line, "reason": reason, "text": row.text}
            for row, reason in result.rejected
        ),
    )
    report = make_report(result, character) | {"seconds": round(time.monotonic() - began, 2)}
    write_json(folder / REPORT, report)
    demand_quality(report, folder / REPORT)
    return report


def check(character: Character) -> list[str]:
    """Hold the three files against the data, line by line, and judge the good ones once more.

    Returns:
        ``name: value`` lines.

    Raises:
        DistillationError: a line is nowhere or twice, a good record is not good, or the report is wrong.
    """
    folder = settings.run_folder()
    data = read_rows(folder / generation.DATA)
    files = {name: read_rows(folder / name) for name in (AUDITED, FLAGGED, REJECTED)}
    report = read_json(folder / REPORT)
    for key, name in (("audited", AUDITED), ("flagged", FLAGGED), ("rejected", REJECTED)):
        if report.get(key) != len(files[name]):
            raise DistillationError(
                f"{folder / REPORT}: says {report.get(key)} {key}, counted {len(files[name])}; "
                "run step 9 again"
            )
        for row in files[name]:
            if row.value is None:
                raise DistillationError(f"{folder / name}:{row.line}: {row.problem}; run step 9 again")
    aside = {(row.value or {}).get("line") for name in (FLAGGED, REJECTED) for row in files[name]}
    expected = [row.value for row in data if row.line not in aside]
    if [row.value for row in files[AUDITED]] != expected or len(aside) != len(data) - len(expected):
        raise DistillationError(
            f"{folder / AUDITED}: is not the data without what was flagged and rejected; run step 9 again"
        )
    for row in files[AUDITED]:
        assert row.value is not None, "equal to records of the data"
        if reason := flaw(row, character) or ", ".join(f.reason for f in flags_of(row.value, character)):
            raise DistillationError(f"{folder / AUDITED}:{row.line}: {reason}; run step 9 again")
    texts = Counter(exact_text(row.value) for row in files[AUDITED] if row.value is not None)
    if left := [text for text, count in texts.items() if count > 1]:
        raise DistillationError(f"{folder / AUDITED}: has '{left[0]}' twice; run step 9 again")
    demand_quality(report, folder / REPORT)
    return [
        f"lines: {len(data)}",
        f"audited: {len(files[AUDITED])}",
        f"flagged: {len(files[FLAGGED])}",
        f"rejected: {len(files[REJECTED])}",
        f"in character: {report['in_character_share'] * 100:.2f}%",
        f"exact duplicates: {report['exact_duplicate_share'] * 100:.2f}%",
        f"duplicates: {report['duplicate_share'] * 100:.2f}%",
        f"out of part: {report['out_of_part_share'] * 100:.2f}%",
        f"empty: {report['empty']}",
        f"least kind: {report['least_kind_share'] * 100:.2f}%",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 9."""
    parser = argparse.ArgumentParser(prog="python -m distillation.audit", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="judge what was kept once more")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.check:
        print("\n".join(check(character)))
        return
    report = write(character)
    events.note(
        f"{report['audited']} of {report['lines']} answers are good, {report['in_character_share']:.1%} in "
        f"character, {report['duplicate_share']:.1%} duplicates, {report['rejected']} broken lines"
    )
    events.metric("audited", report["audited"])
    events.metric("in_character_percent", round(report["in_character_share"] * 100, 2))
    events.metric("duplicate_percent", round(report["duplicate_share"] * 100, 2))
    events.criterion("Answers audited")


if __name__ == "__main__":
    execute(main)
