"""The sheet that a person fills in: written as Markdown, and read back with the line of every mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError

CRITERIA = {
    "voice": (
        "does it speak as the character would?",
        "could be anybody",
        "the manner comes and goes",
        "unmistakable",
    ),
    "facts": (
        "does it fit what is known of the character and the time?",
        "says what is plainly wrong",
        "vague, or one slip",
        "nothing to object to",
    ),
    "usefulness": (
        "does it answer the question?",
        "does not take it up",
        "takes it up in part",
        "a full answer",
    ),
}
"""What is judged: the question to ask oneself, and what 1, 3 and 5 mean."""

LOWEST, HIGHEST = 1, 5

_SHEET = re.compile(r"^Sheet `([0-9a-f]{12})`")
_ANSWER = re.compile(r"^#{2,6}\s*Answer\s+(\d+)\b", re.IGNORECASE)
_CRITERION = re.compile(rf"^[\s*+_-]*({'|'.join(CRITERIA)})[\s*_`]*[:=–-](.*)$", re.IGNORECASE)
_EMPTY = re.compile(r"[\s_.?…*`-]*")
_MARK = re.compile(
    rf"([+-]?\d+(?:[.,]\d+)?)\s*(?:/\s*{HIGHEST}|(?:of|out of)\s+{HIGHEST})?\s*(?:[(;,#–-].*)?"
)


@dataclass(frozen=True, slots=True)
class Marks:
    """What a person says of one answer: a number from 1 to 5 for each criterion."""

    values: Mapping[str, int]


def render(key: Mapping[str, Any]) -> str:
    """The sheet: rubric and answers, without anything that tells whose they are.

    Args:
        key: as in ``review_sheet.json``.
    """
    parts = [
        f"# Who speaks as {key['character']}?\n\nSheet `{key['sheet']}`, engine {key['engine']}.",
        "Each question has two answers, one of them by a model that was given the long system prompt. Judge "
        f"each by itself: a whole number from {LOWEST} to {HIGHEST} behind every colon. Leave out what you "
        "do not want to judge. Then run `python -m distillation.review --read`; look into "
        "`review_sheet.json`, which says whose answers these are, only afterwards.",
        "\n".join(
            [
                "| criterion | ask yourself | 1 | 3 | 5 |",
                "|---|---|---|---|---|",
                *(f"| {name} | {' | '.join(texts)} |" for name, texts in CRITERIA.items()),
            ]
        ),
    ]
    kind = question = None
    for answer in key["answers"]:
        if answer["kind"] != kind:
            kind = answer["kind"]
            parts.append(f"## Category: {kind}")
        if answer["question"] != question:
            question = answer["question"]
            parts.append(f"### {question}")
        quoted = "\n".join(f"> {line}".rstrip() for line in answer["answer"].splitlines())
        blanks = "\n".join(f"- {name}: " for name in CRITERIA)
        parts.append(f"#### Answer {answer['number']}\n\n{quoted}\n\n{blanks}")
    return "\n\n".join(parts) + "\n"


def read_marks(path: Path) -> tuple[str, dict[int, Marks]]:
    """The numbers that stand in a sheet.

    Blanks, bullets, bold type, ``4/5`` and a remark in parentheses behind the number do not matter. An
    answer without any number was not judged.

    Returns:
        the fingerprint of the sheet, and the marks by the answers' numbers.

    Raises:
        DistillationError: ``file:line:``, what is wrong and what to do, for the first mistake.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run step 18") from cause
    except UnicodeDecodeError as cause:
        raise DistillationError(f"{path}: not UTF-8; save it as such") from cause
    sheet = next((found[1] for line in lines if (found := _SHEET.match(line))), "")
    if not sheet:
        raise DistillationError(f"{path}:3: the line 'Sheet `...`' is gone; bring it back")
    marks: dict[int, dict[str, int]] = {}
    begins: dict[int, int] = {}
    number: int | None = None
    for at, line in enumerate(lines, 1):
        where = f"{path}:{at}"
        if found := _ANSWER.match(line):
            number = int(found[1])
            if number in begins:
                raise DistillationError(
                    f"{where}: answer {number} stands on line {begins[number]} too; keep one"
                )
            begins[number], marks[number] = at, {}
        elif number is not None and (found := _CRITERION.match(line)):
            name = found[1].casefold()
            if name in marks[number]:
                raise DistillationError(f"{where}: a second '{name}' of answer {number}; keep one")
            if (mark := _mark(found[2], name, where)) is not None:
                marks[number][name] = mark
    for number, values in marks.items():
        if values and (lacking := [name for name in CRITERIA if name not in values]):
            raise DistillationError(
                f"{path}:{begins[number]}: answer {number} lacks {', '.join(lacking)}; judge it whole or not "
                "at all"
            )
    return sheet, {number: Marks(values) for number, values in marks.items() if values}


def _mark(text: str, name: str, where: str) -> int | None:
    if _EMPTY.fullmatch(text):
        return None
    found = _MARK.fullmatch(text.strip(" \t*_`"))
    value = found[1].replace(",", ".") if found else ""
    if not found or not float(value).is_integer() or not LOWEST <= float(value) <= HIGHEST:
        raise DistillationError(
            f"{where}: '{name}' must be a whole number from {LOWEST} to {HIGHEST}, not '{text.strip()}'; "
            "correct it, or leave it empty"
        )
    return int(float(value))
