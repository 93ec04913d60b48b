"""Step 16: the few numbers that decide: similarity, tokens saved, what thousand answers cost, payback.

Tokens are counted with the chat template on the held-out questions of the evaluation. Costs come from
the dated price table; on the local engine, which costs nothing, they are those of the hosted model, and
say so. ``--check`` counts again from what was sent during the evaluation.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillation import (
    chat,
    client,
    config,
    evaluation_results,
    events,
    generation,
    settings,
    training_report,
)
from distillation.characters import DEFAULT_CHARACTER, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, VOICES, read
from distillation.jsonl import read_json, write_json
from distillation.prices import Price, hosted_price, price_of
from distillation.student import MIN_SAVED, system_prompt

METRICS = "metrics.json"

GUIDE_RATIO = (30.0, 40.0)
"""How many times cheaper the guide expects prompts to become."""

THOUSAND = 1_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Mean tokens of a question and its answer.

    Attributes:
        teacher_prompt: with the system prompt, by the chat template.
        student_prompt: without it.
        teacher_answer: of the teacher's answer, its end token included.
        student_answer: of the student's.
        questions: how many were counted.
    """

    teacher_prompt: float
    student_prompt: float
    teacher_answer: float
    student_answer: float
    questions: int

    @property
    def saved(self) -> float:
        """Share of the prompt tokens that the student does without."""
        return 1 - self.student_prompt / self.teacher_prompt


def tokens_by_template(records: Sequence[dict[str, Any]], base: str, system: str) -> Tokens:
    """Count the prompts of the evaluated questions with the base model's chat template."""
    tokenizer = chat.tokenizer_of(base)
    asked = [one["question"] for one in records]
    return Tokens(
        teacher_prompt=statistics.fmean(len(chat.prompt_tokens(tokenizer, one, system)) for one in asked),
        student_prompt=statistics.fmean(len(chat.prompt_tokens(tokenizer, one)) for one in asked),
        teacher_answer=_mean(records, "teacher", "answer_tokens"),
        student_answer=_mean(records, "student", "answer_tokens"),
        questions=len(records),
    )


def tokens_as_sent(records: Sequence[dict[str, Any]]) -> Tokens:
    """The same from what the evaluation recorded when it asked."""
    return Tokens(
        teacher_prompt=_mean(records, "teacher", "prompt_tokens"),
        student_prompt=_mean(records, "student", "prompt_tokens"),
        teacher_answer=_mean(records, "teacher", "answer_tokens"),
        student_answer=_mean(records, "student", "answer_tokens"),
        questions=len(records),
    )


def _mean(records: Sequence[dict[str, Any]], voice: str, what: str) -> float:
    return statistics.fmean(one[voice][what] for one in records)


def costs(tokens: Tokens, price: Price) -> dict[str, Any]:
    """What thousand answers cost, before and after.

    A service that remembers a prompt's beginning charges less for it: the teacher's system prompt is
    cached then, all but the tokens that the student's prompt has as well.
    """
    shared = tokens.teacher_prompt - tokens.student_prompt
    before = {
        "prompt": price.cost(prefill=tokens.teacher_prompt) * THOUSAND,
        "prompt_cached": price.cost(prefill=tokens.teacher_prompt, cached=shared) * THOUSAND,
        "answer": price.cost(sample=tokens.teacher_answer) * THOUSAND,
    }
    after = {
        "prompt": price.cost(prefill=tokens.student_prompt) * THOUSAND,
        "answer": price.cost(sample=tokens.student_answer) * THOUSAND,
    }
    total = {
        "teacher": before["prompt"] + before["answer"],
        "teacher_cached": before["prompt_cached"] + before["answer"],
        "student": after["prompt"] + after["answer"],
    }
    return {
        "teacher": before,
        "student": after,
        "total": total,
        "prompt_ratio": before["prompt"] / after["prompt"],
        "prompt_ratio_cached": before["prompt_cached"] / after["prompt"],
        "total_ratio": total["teacher"] / total["student"],
        "total_ratio_cached": total["teacher_cached"] / total["student"],
    }


def distillation_cost(folder: Path, records: Sequence[dict[str, Any]], price: Price) -> dict[str, float]:
    """What the plan's sampling and training cost at a price, from the tokens that its reports count.

    Raises:
        DistillationError: the report of step 8 or 13 is missing.
    """
    generated = read_json(folder / generation.REPORT)
    trained = read_json(folder / training_report.REPORT)
    asked = [one[voice] for one in records for voice in VOICES]
    spent = {
        "generation": price.cost(
            prefill=float(generated["prompt_tokens"]), sample=float(generated["answer_tokens"])
        ),
        "training": price.cost(
            train=float(trained["tokens"]) + float(trained["tokens_lost"]),
            prefill=float(trained["validation_tokens"]),
        ),
        "evaluation": price.cost(
            prefill=sum(one["prompt_tokens"] for one in asked),
            sample=sum(one["answer_tokens"] for one in asked),
        ),
    }
    return spent | {"total": sum(spent.values())}


def payback(spent: float, before: float, after: float) -> int | None:
    """Answers after which the distillation has paid for itself; ``None`` when it never does.

    Args:
        spent: on the distillation, in US dollars.
        before: for thousand answers of the teacher.
        after: for thousand answers of the student.
    """
    return round(spent / (before - after) * THOUSAND) if before > after else None


def measure(folder: Path, records: Sequence[dict[str, Any]], tokens: Tokens, price: Price) -> dict[str, Any]:
    """The content of ``metrics.json``.

    Args:
        folder: the run folder.
        records: the evaluation's.
        tokens: of prompts and answers.
        price: of the model that would be paid for.

    Raises:
        DistillationError: a report of an earlier step is missing, or there are too few answers.
    """
    found = evaluation_results.similarities(evaluation_results.score(records))
    cost = costs(tokens, price)
    spent = distillation_cost(folder, records, price)
    total, low, high = cost["total"], *GUIDE_RATIO
    return {
        "engine": settings.engine(),
        "character": records[0]["character"],
        "checkpoint": records[0]["checkpoint"],
        "questions": len(records),
        "similarity": {name: one.as_json() for name, one in found.items()},
        "in_character": {
            voice: evaluation_results.in_character(records, voice).as_json() for voice in VOICES
        },
        "tokens": {name: round(value, 4) for name, value in asdict(tokens).items()},
        "prompt_tokens_saved": round(tokens.saved, 4),
        "price": asdict(price),
        "as_if_hosted": settings.engine() == "local",
        "usd_per_thousand_answers": _rounded({key: cost[key] for key in ("teacher", "student", "total")}),
        **{key: round(value, 2) for key, value in cost.items() if key.endswith(("_ratio", "_cached"))},
        "guide_ratio": list(GUIDE_RATIO),
        "guide_ratio_reached": cost["prompt_ratio"] >= low,
        "guide_ratio_exceeded": cost["prompt_ratio"] > high,
        "distillation_usd": _rounded(spent),
        "payback_answers": payback(spent["total"], total["teacher"], total["student"]),
        "payback_answers_cached": payback(spent["total"], total["teacher_cached"], total["student"]),
    }


def _rounded(value: Any) -> Any:
    return {key: _rounded(one) for key, one in value.items()} if isinstance(value, dict) else round(value, 6)


def price_for(base: str) -> Price:
    """The price of the engine's model; on the local engine that of the hosted default."""
    return price_of(base) if settings.engine() == "tinker" else hosted_price()


def write(character: str) -> dict[str, Any]:
    """Write ``metrics.json``.

    Raises:
        DistillationError: an earlier step has not run, or too few prompt tokens are saved.
    """
    folder, base = settings.run_folder(), client.base_model(config.current().base_model)
    records = _records(folder, character)
    tokens = tokens_by_template(records, base, system_prompt())
    found = measure(folder, records, tokens, price_for(base))
    write_json(folder / METRICS, found)
    _demand_saving(tokens, folder / METRICS)
    return found


def _records(folder: Path, character: str) -> list[dict[str, Any]]:
    records = read(folder / ANSWERS)
    others = {one["character"] for one in records} - {character}
    if others or not records:
        raise DistillationError(f"{folder / ANSWERS}: no answers as {character}; run step 15")
    return records


def _demand_saving(tokens: Tokens, path: Path) -> None:
    if tokens.saved < MIN_SAVED:
        raise DistillationError(
            f"{path}: only {tokens.saved:.1%} of the prompt tokens are saved, {MIN_SAVED:.0%} are needed; "
            "a longer system prompt is worth distilling, a short one is not"
        )


def check(character: str) -> list[str]:
    """Count again, with the tokens that the evaluation has sent, and hold the result against the file.

    Raises:
        DistillationError: a number is another one, or too few prompt tokens are saved.
    """
    folder, base = settings.run_folder(), client.base_model(config.current().base_model)
    records = _records(folder, character)
    tokens = tokens_as_sent(records)
    counted = measure(folder, records, tokens, price_for(base))
    said = read_json(folder / METRICS)
    for key, value in counted.items():
        if said.get(key) != value:
            raise DistillationError(
                f"{folder / METRICS}: says {said.get(key)} for {key}, counted {value}; run step 16 again"
            )
    _demand_saving(tokens, folder / METRICS)
    total = counted["usd_per_thousand_answers"]["total"]
    return [
        f"questions: {len(records)}",
        f"teacher prompt tokens: {tokens.teacher_prompt:.1f}",
        f"student prompt tokens: {tokens.student_prompt:.1f}",
        f"prompt tokens saved: {tokens.saved * 100:.2f}%",
        *(f"usd per thousand answers {name}: {value:.4f}" for name, value in total.items()),
        f"prompt cost ratio: {counted['prompt_ratio']:.1f}",
        f"prompt cost ratio cached: {counted['prompt_ratio_cached']:.1f}",
        f"total cost ratio: {counted['total_ratio']:.1f}",
        f"guide ratio reached: {int(counted['guide_ratio_reached'])}",
        f"payback answers: {counted['payback_answers']}",
        *(f"in character {name}: {one['value'] * 100:.2f}%" for name, one in counted["in_character"].items()),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 16."""
    parser = argparse.ArgumentParser(prog="python -m distillation.metrics", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="count again from what was sent")
    options = parser.parse_args(argv)
    character = find(options.character).name
    if options.check:
        print("\n".join(check(character)))
        return
    found = write(character)
    low, high = GUIDE_RATIO
    events.metric("prompt_tokens_saved", found["prompt_tokens_saved"])
    events.metric("prompt_cost_ratio", found["prompt_ratio"])
    events.note(
        f"{found['prompt_tokens_saved']:.1%} of the prompt tokens saved, prompts {found['prompt_ratio']:.1f} "
        f"times cheaper (guide: {low:g} to {high:g}; {found['prompt_ratio_cached']:.1f} with a cached "
        f"prompt), paid back after {found['payback_answers']} answers"
    )
    events.criterion("Similarity, tokens and costs stated with their samples")


if __name__ == "__main__":
    execute(main)
