"""What the answers of the evaluation say: ``evaluation_results.json``, and the count that checks it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillation import checkpoints, settings
from distillation.config import TrainingConfig
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, COMPARED, MEASURES, VOICES, read, scores
from distillation.jsonl import read_json, read_rows, write_json
from distillation.persona import judge
from distillation.similarity import Estimate, normalised, share
from distillation.split import TRAIN, VALIDATION, shared
from distillation.work_time import EVALUATION, in_report

RESULTS = "evaluation_results.json"

MIN_QUESTIONS = 100
"""Questions that an evaluation needs, however narrow its interval."""


Scored = dict[str, dict[str, float]]
"""The scores of one question, by voice and measure."""


def score(records: Sequence[dict[str, Any]]) -> list[Scored]:
    """Score all answers anew; what the records say of their scores is not asked."""
    return [scores({voice: one[voice]["answer"] for voice in VOICES}) for one in records]


def similarities(scored: Sequence[Scored]) -> dict[str, Estimate]:
    """The student's normalised similarity by measure.

    Raises:
        DistillationError: fewer than two questions, or floor and ceiling do not differ.
    """
    return {
        name: normalised(
            *([one[voice][name] for one in scored] for voice in ("student", "base", "second_teacher"))
        )
        for name in MEASURES
    }


def is_enough(found: dict[str, Estimate], config: TrainingConfig) -> bool:
    """Whether there are questions enough, and the interval of every measure is narrow enough."""
    return all(
        one.samples >= MIN_QUESTIONS and one.half_width <= config.evaluation_interval
        for one in found.values()
    )


def suspiciously_high(found: dict[str, Estimate], config: TrainingConfig) -> bool:
    """Whether the student is nearer to the teacher than chance explains, by every measure.

    An estimate somewhat above the limit says nothing: of a student that is exactly as near as the limit
    every second one lies above it. So the whole interval must, and as the similarity is the lower of the
    measures, the intervals of all. Under that limit it happens to at most one evaluation of forty.
    """
    return all(one.low > config.similarity_max for one in found.values())


def in_character(records: Sequence[dict[str, Any]], voice: str) -> Estimate:
    """The share of a voice's answers that speak as the character, judged anew."""
    hits = sum(judge(one["character"], one[voice]["answer"]).in_character for one in records)
    return share(hits, len(records))


def overlap(folder: Path, records: Sequence[dict[str, Any]]) -> int:
    """How many questions of the training and validation data are, or are nearly, evaluated ones."""
    seen = [
        str(row.value.get("question", ""))
        for name in (TRAIN, VALIDATION)
        for row in read_rows(folder / name)
        if row.value
    ]
    return shared(seen, [one["question"] for one in records])


def results(folder: Path, records: Sequence[dict[str, Any]], config: TrainingConfig) -> dict[str, Any]:
    """The content of ``evaluation_results.json``.

    Raises:
        DistillationError: there are too few answers for an interval.
    """
    scored = score(records)
    found = similarities(scored)
    lowest = min(one.value for one in found.values())
    enough = is_enough(found, config)
    return {
        "engine": settings.engine(),
        "character": records[0]["character"],
        "checkpoint": records[0]["checkpoint"],
        "sampler": records[0]["sampler"],
        "questions": len(records),
        "ended": "interval" if enough else "questions" if _all_asked(records, config) else "not yet",
        "interval_wanted": config.evaluation_interval,
        "similarity": round(lowest, 4),
        "similarity_min": config.similarity_min,
        "similarity_max": config.similarity_max,
        "reached": lowest >= config.similarity_min,
        "suspiciously_high": suspiciously_high(found, config),
        "normalised": {name: one.as_json() for name, one in found.items()},
        "raw": {
            voice: {name: round(statistics.fmean(one[voice][name] for one in scored), 4) for name in MEASURES}
            for voice in COMPARED
        },
        "floor": "base",
        "ceiling": "second_teacher",
        "in_character": {voice: in_character(records, voice).as_json() for voice in VOICES},
        "empty": {voice: sum(not one[voice]["answer"].strip() for one in records) for voice in VOICES},
        "cut_off": {voice: sum(one[voice].get("stop") != "stop" for one in records) for voice in VOICES},
        "in_training_data": overlap(folder, records),
        "cost_usd": sum(float(one[voice].get("cost_usd", 0)) for one in records for voice in VOICES),
    }


def _all_asked(records: Sequence[dict[str, Any]], config: TrainingConfig) -> bool:
    return len(records) >= config.evaluation_questions


def write(folder: Path, records: Sequence[dict[str, Any]], config: TrainingConfig) -> dict[str, Any]:
    """Write ``evaluation_results.json``: see ``results``, and how long the asking took."""
    found = results(folder, records, config) | in_report(folder, EVALUATION)
    write_json(folder / RESULTS, found)
    return found


def check(folder: Path, config: TrainingConfig) -> list[str]:
    """Score all answers again and hold them against results and thresholds, in lines for the checks.

    Raises:
        DistillationError: the evaluation is not finished, is of another student, was trained on, or the
            student is not near enough. The numbers are printed before that is said.
    """
    path = folder / ANSWERS
    records = read(path)
    if not records:
        raise DistillationError(f"{path}: is empty; run step 15")
    counted = results(folder, records, config)
    lines = _lines(counted)
    said = read_json(folder / RESULTS)
    for key, value in counted.items():
        if said.get(key) != value:
            raise _with(
                lines,
                f"{folder / RESULTS}: says {said.get(key)} for {key}, counted {value}; run step 15 again",
            )
    best = checkpoints.best(folder)
    if {one["sampler"] for one in records} != {best.sampler}:
        raise _with(lines, f"{path}: not of the best checkpoint, that of step {best.step}; run step 15 again")
    if len({one["id"] for one in records}) != len(records):
        raise _with(lines, f"{path}: a question stands there twice; run step 15 again")
    if counted["in_training_data"]:
        raise _with(
            lines, f"{path}: {counted['in_training_data']} questions were trained on; run step 10 again"
        )
    if len(records) < MIN_QUESTIONS or counted["ended"] == "not yet":
        raise _with(
            lines,
            f"{path}: {len(records)} questions, and the interval is wider than "
            f"+-{config.evaluation_interval:g}; run step 15 again, it goes on",
        )
    if not counted["reached"]:
        raise _with(
            lines,
            f"{path}: the similarity is {counted['similarity']:.1%}, and {config.similarity_min:.0%} "
            "are needed; look at the validation loss, then at steps 9 and 11",
        )
    return lines


def _with(lines: Sequence[str], problem: str) -> DistillationError:
    print("\n".join(lines), flush=True)
    return DistillationError(problem)


def _lines(counted: dict[str, Any]) -> list[str]:
    widest = max((one["high"] - one["low"]) / 2 for one in counted["normalised"].values())
    return [
        f"questions: {counted['questions']}",
        f"checkpoint: {counted['checkpoint']}",
        f"similarity: {counted['similarity'] * 100:.2f}%",
        *(f"similarity {name}: {one['value'] * 100:.2f}%" for name, one in counted["normalised"].items()),
        f"similarity needed: {counted['similarity_min'] * 100:.2f}%",
        f"interval: {widest:.4f}",
        *(
            f"raw {name} {voice}: {value:.4f}"
            for voice, values in counted["raw"].items()
            for name, value in values.items()
        ),
        *(
            f"in character {voice}: {one['value'] * 100:.2f}%"
            for voice, one in counted["in_character"].items()
        ),
        f"in training data: {counted['in_training_data']}",
        f"suspiciously high: {int(counted['suspiciously_high'])}",
        f"ended: {counted['ended']}",
    ]
