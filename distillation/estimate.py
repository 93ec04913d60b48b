"""What the plan costs, before it is paid for: tokens of every step times the prices.

Token numbers are measured where the run folder has something to measure, else assumed on the safe side;
the estimate says which. It needs no network and no key, and can be asked for at any time:
``python -m distillation.estimate``, or ``--step 8`` for one step. Step 11 writes ``cost_estimate.json``.
On the local engine everything is free, and what it would cost at the hosted service stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation import characters, config, generation, generation_config, prices, settings, student
from distillation.client import HOSTED_MODEL
from distillation.command import execute
from distillation.config import TrainingConfig
from distillation.errors import DistillationError
from distillation.generation_config import GenerationConfig
from distillation.jsonl import read_json, read_rows, write_json
from distillation.memory import spent_usd
from distillation.prices import Price

REPORT = "cost_estimate.json"

TOKENS_PER_WORD = 1.5
"""Assumed for a system prompt; English has about 1.3, so this errs on the dear side."""

QUESTION_TOKENS = 40
"""Assumed for a question with the chat template around it."""

EVALUATION_TRIAL = 5
TRAINING_TRIAL_STEPS = 5
"""Questions and steps of the trials; the training's includes what its resume does again."""

DEMO_QUESTIONS = 6


@dataclass(frozen=True, slots=True)
class Sizes:
    """Mean tokens per question, and where each number comes from.

    Attributes:
        teacher_prompt: of a question with the system prompt.
        student_prompt: of a question alone.
        answer: of an answer with its end token.
        assumptions: a sentence for each.
    """

    teacher_prompt: float
    student_prompt: float
    answer: float
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """The tokens of one step.

    Attributes:
        step: its number in the plan.
        what: what is done, in words.
        prefill: prompt tokens.
        cached: how many of them the service may have cached: the system prompt, from the second question on.
        sample: tokens of answers.
        train: tokens trained on.
    """

    step: int
    what: str
    prefill: int = 0
    cached: int = 0
    sample: int = 0
    train: int = 0

    def usd(self, price: Price, with_cache: bool = False) -> float:
        """US dollars, without the discount on cached tokens unless asked for."""
        cached = self.cached if with_cache else 0
        return price.cost(prefill=self.prefill, cached=cached, sample=self.sample, train=self.train)


def measure_sizes(how: GenerationConfig, folder: Path) -> Sizes:
    """Token numbers from the run folder as far as there are any, else assumed ones."""
    said = []
    records = _teacher_records(folder)
    if records:
        path, rows = records
        teacher = sum(row["prompt_tokens"] for row in rows) / len(rows)
        answer = sum(row["answer_tokens"] for row in rows) / len(rows)
        said.append(
            f"prompt with system prompt {teacher:.1f} and answer {answer:.1f} tokens: measured in {path.name}"
        )
    else:
        longest = max(
            characters.word_count(characters.system_prompt(character)) for character in characters.CHARACTERS
        )
        teacher, answer = longest * TOKENS_PER_WORD + QUESTION_TOKENS, float(how.max_tokens)
        said.append(f"system prompt {longest} words at {TOKENS_PER_WORD} tokens: assumed until step 6")
        said.append(f"answer {how.max_tokens} tokens, the most that is allowed: assumed until step 6")
    report = folder / student.REPORT
    if report.is_file():
        alone = float(read_json(report)["student_prompt_tokens"])
        said.append(f"question alone {alone:.1f} tokens: measured in {student.REPORT}")
    else:
        alone = float(QUESTION_TOKENS)
        said.append(f"question alone {QUESTION_TOKENS} tokens: assumed until step 7")
    return Sizes(teacher, alone, answer, tuple(said))


def _teacher_records(folder: Path) -> tuple[Path, list[dict[str, Any]]] | None:
    for name in (generation.DATA, generation.TRIAL):
        path = folder / name
        if path.is_file():
            rows = [
                row.value for row in read_rows(path) if row.value is not None and not generation.flaw(row)
            ]
            if rows:
                return path, rows
    return None


def lines(sizes: Sizes, training: TrainingConfig, how: GenerationConfig) -> list[Line]:
    """The tokens of every step that asks or trains a model."""
    example = sizes.student_prompt + sizes.answer
    batch = training.batch_size * example
    validations = 1 + training.steps // training.checkpoint_every

    def asked(step: int, what: str, questions: int, teachers: int, alone: int) -> Line:
        """``teachers`` answers with the prompt and ``alone`` answers without, to each question."""
        system = sizes.teacher_prompt - sizes.student_prompt
        return Line(
            step,
            what,
            prefill=round(questions * (teachers * sizes.teacher_prompt + alone * sizes.student_prompt)),
            cached=round(max(0, questions * teachers - 1) * system),
            sample=round(questions * (teachers + alone) * sizes.answer),
        )

    return [
        asked(6, f"{how.trial} answers of the teacher", how.trial, 1, 0),
        asked(8, f"{how.examples - how.trial} more answers of the teacher", how.examples - how.trial, 1, 0),
        Line(12, f"{TRAINING_TRIAL_STEPS} steps", train=round(TRAINING_TRIAL_STEPS * batch)),
        Line(
            13,
            f"{training.steps} steps of {training.batch_size} examples, {validations} validations of "
            f"{training.validation_examples}",
            prefill=round(validations * training.validation_examples * example),
            train=round(training.steps * batch),
        ),
        asked(14, f"{EVALUATION_TRIAL} questions to four models", EVALUATION_TRIAL, 2, 2),
        asked(
            15,
            f"{training.evaluation_questions} questions to four models",
            training.evaluation_questions,
            2,
            2,
        ),
        asked(17, f"{DEMO_QUESTIONS} questions to student and teacher", DEMO_QUESTIONS, 1, 1),
    ]


def estimate() -> dict[str, Any]:
    """The estimate for the engine in use, as it is written.

    Raises:
        DistillationError: a configuration has a mistake, or a price is missing.
    """
    used_file = settings.run_folder() / config.USED
    training = config.current() if used_file.is_file() else config.load()
    how = generation_config.load()
    sizes = measure_sizes(how, settings.run_folder())
    steps = lines(sizes, training, how)
    hosted = prices.hosted_price(
        training.base_model if settings.engine() == "tinker" and training.base_model else HOSTED_MODEL
    )
    price = hosted if settings.engine() == "tinker" else prices.free("local")
    return {
        "engine": settings.engine(),
        "price": _as_json(price),
        "hosted_price": _as_json(hosted),
        "assumptions": [
            *sizes.assumptions,
            f"prices of {hosted.model} of {hosted.date}, USD per million tokens, from {hosted.source}",
            "no answer is asked for again; every question is evaluated; the prompt is never cached",
            "a validation is paid for like prefill; storage of checkpoints is not counted",
            *_of_a_rehearsal(),
        ],
        "steps": [
            {
                "step": line.step,
                "what": line.what,
                "prefill_tokens": line.prefill,
                "cached_tokens": line.cached,
                "sample_tokens": line.sample,
                "train_tokens": line.train,
                "usd": round(line.usd(price), 6),
                "usd_with_cache": round(line.usd(price, with_cache=True), 6),
                "hosted_usd": round(line.usd(hosted), 6),
            }
            for line in steps
        ],
        "usd": round(sum(line.usd(price) for line in steps), 6),
        "usd_with_cache": round(sum(line.usd(price, with_cache=True) for line in steps), 6),
        "hosted_usd": round(sum(line.usd(hosted) for line in steps), 6),
        "budget_usd": training.budget_usd,
        "spent_on_generation_usd": round(spent_usd(settings.run_folder()), 6),
    }


def _of_a_rehearsal() -> list[str]:
    if settings.engine() == "tinker":
        return []
    return ["hosted prices are of the local engine's tokens; the hosted model has others, and longer answers"]


def _as_json(price: Price) -> dict[str, Any]:
    return {name: getattr(price, name) for name in Price.__dataclass_fields__}


def demand_budget(cost: dict[str, Any], where: Path) -> None:
    """Refuse an estimate above the budget.

    Raises:
        DistillationError: says by how much.
    """
    if cost["usd"] > cost["budget_usd"]:
        raise DistillationError(
            f"{where}: ${cost['usd']:.2f} are estimated, and the budget is ${cost['budget_usd']:.2f}; raise "
            f"'budget_usd' in {config.CONFIG}, or train fewer steps"
        )


def write() -> dict[str, Any]:
    """Write ``cost_estimate.json``.

    Returns:
        what it says.

    Raises:
        DistillationError: as ``estimate``, or it is above the budget. The file is written before that.
    """
    path = settings.run_folder() / REPORT
    cost = estimate()
    write_json(path, cost)
    demand_budget(cost, path)
    return cost


def in_words(cost: dict[str, Any]) -> str:
    """The estimate in a few words."""
    if cost["engine"] == "local":
        return f"free here, ${cost['hosted_usd']:.2f} at the hosted service"
    return f"${cost['usd']:.2f} estimated, budget ${cost['budget_usd']:.2f}"


def check() -> list[str]:
    """Multiply the tokens of ``cost_estimate.json`` by its prices once more.

    Returns:
        ``name: value`` lines.

    Raises:
        DistillationError: a product or the sum is wrong, or above the budget.
    """
    path = settings.run_folder() / REPORT
    cost = read_json(path)
    total = 0.0
    for line in cost["steps"]:
        usd = (
            sum(line[f"{kind}_tokens"] * cost["price"][kind] for kind in ("prefill", "sample", "train"))
            / prices.MILLION
        )
        if abs(usd - line["usd"]) > 1e-5:
            raise DistillationError(
                f"{path}: step {line['step']} costs {usd:.6f}, not {line['usd']}; run step 11 again"
            )
        total += usd
    if abs(total - cost["usd"]) > 1e-4:
        raise DistillationError(f"{path}: the steps cost {total:.6f}, not {cost['usd']}; run step 11 again")
    demand_budget(cost, path)
    return [
        f"estimated usd: {cost['usd']:.4f}",
        f"hosted usd: {cost['hosted_usd']:.4f}",
        f"budget usd: {cost['budget_usd']:.2f}",
        f"assumptions: {len(cost['assumptions'])}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Show the estimate, of all steps or of one."""
    parser = argparse.ArgumentParser(prog="python -m distillation.estimate", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--step", type=int, help="only this step")
    mode.add_argument("--check", action="store_true", help="calculate what was written again")
    options = parser.parse_args(argv)
    if options.check:
        print("\n".join(check()))
        return
    cost = estimate()
    for line in cost["steps"]:
        if options.step in (None, line["step"]):
            tokens = ", ".join(
                f"{line[f'{kind}_tokens']:,} {kind}"
                for kind in ("prefill", "sample", "train")
                if line[f"{kind}_tokens"]
            )
            print(
                f"step {line['step']}: ${line['usd']:.2f} (hosted ${line['hosted_usd']:.2f}) "
                f"for {line['what']}: {tokens} tokens"
            )
    print("\n".join(f"assumption: {text}" for text in cost["assumptions"]))
    print(f"usd: {cost['usd']:.2f}\nhosted usd: {cost['hosted_usd']:.2f}")


if __name__ == "__main__":
    execute(main)
