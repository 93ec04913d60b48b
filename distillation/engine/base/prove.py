"""Prove the base: ``python -m distillation.engine.base.prove`` prints how often its answers are in character.

One row per system prompt, one column per character that judges, on held-out questions: the base obeys each
whole prompt, and shows no character without it. Under the table stands how much two answers of the same
model to the same question have in common, beside what the base's answers without a prompt have: the
ceiling and the floor of what a student can reach.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from distillation import characters
from distillation.engine.base import FOLDER, prompts, tokens
from distillation.persona import judge
from distillation.questions import held_out_questions, normalised

LEAST_WITH_PROMPT = 0.95
MOST_WITHOUT_PROMPT = 0.05

NO_PROMPT = "no prompt"
TEMPERATURE = 0.7
MAX_TOKENS = 64
BATCH = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured.

    Attributes:
        rates: share of answers in character, by system prompt and judging character.
        ceilings: by character, mean token F1 of two answers under the prompt to the same question.
        floors: by character, mean token F1 of an answer under the prompt and one without any.
        topics: by system prompt, share of answers that name the question's topic.
    """

    rates: dict[str, dict[str, float]]
    ceilings: dict[str, float]
    floors: dict[str, float]
    topics: dict[str, float]

    def failures(self) -> list[str]:
        """Every cell that is not what the base promises."""
        found = []
        for row, cells in self.rates.items():
            for name, rate in cells.items():
                if row == name and rate < LEAST_WITH_PROMPT:
                    found.append(f"{row}: {rate:.3f} in character, at least {LEAST_WITH_PROMPT} are needed")
                if row != name and rate > MOST_WITHOUT_PROMPT:
                    found.append(f"{row}: {rate:.3f} as {name}, at most {MOST_WITHOUT_PROMPT} are allowed")
        return found


class Base:
    """A model folder, loaded, that answers questions."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()

    def answers(self, questions: Sequence[str], system: str | None, seed: int) -> list[str]:
        """One sampled answer per question, at the temperature of the plan; the same with the same seed."""
        torch.manual_seed(seed)
        given: list[str] = []
        with torch.inference_mode():
            for start in range(0, len(questions), BATCH):
                given += self._batch(questions[start : start + BATCH], system)
        return given

    def _batch(self, questions: Sequence[str], system: str | None) -> list[str]:
        # The prompt is computed once for the batch; the questions stand behind it, aligned at their ends.
        first = "" if system is None else f"{tokens.START}system\n{system}{tokens.END}\n"
        prefix = self._tokenizer(first, add_special_tokens=False)["input_ids"]
        behind = f"{tokens.END}\n{tokens.START}assistant\n"
        rows = self._tokenizer(
            [f"{tokens.START}user\n{question}{behind}" for question in questions],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        past = None
        mask = torch.cat([torch.ones(len(questions), len(prefix), dtype=torch.long), rows.attention_mask], 1)
        if prefix:
            past = self._model.model(input_ids=torch.tensor([prefix]), use_cache=True).past_key_values
            past.batch_repeat_interleave(len(questions))
        inputs = rows.input_ids
        made: list[torch.Tensor] = []
        is_open = torch.ones(len(questions), dtype=torch.bool)
        while is_open.any() and len(made) < MAX_TOKENS:
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
            out = self._model(
                input_ids=inputs,
                attention_mask=mask,
                position_ids=places,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            past = out.past_key_values
            inputs = torch.multinomial(torch.softmax(out.logits[:, -1] / TEMPERATURE, -1), 1)
            inputs[~is_open] = self._tokenizer.pad_token_id
            is_open &= inputs[:, 0] != self._tokenizer.eos_token_id
            mask = torch.cat([mask, torch.ones_like(inputs)], 1)
            made.append(inputs)
        return list(self._tokenizer.batch_decode(torch.cat(made, 1), skip_special_tokens=True))


def token_f1(one: str, other: str) -> float:
    """Harmonic mean of the shares of words that each text has in common with the other."""
    words, others = Counter(normalised(one).split()), Counter(normalised(other).split())
    total = words.total() + others.total()
    return 2 * (words & others).total() / total if total else 1.0


def measure(base: Base, count: int, seed: int = 0) -> Proof:
    """Measure on the first ``count`` held-out questions."""
    names = [each.name for each in characters.CHARACTERS]
    systems: dict[str, str | None] = {NO_PROMPT: None, "assistant": "You are a helpful assistant."}
    systems["assistant, long"] = prompts.without_character(random.Random(seed), 50, 50)
    for each in characters.CHARACTERS:
        systems[each.name] = characters.system_prompt(each)
    questions = held_out_questions(count)
    texts = [question.text for question in questions]
    answers = {row: base.answers(texts, system, seed) for row, system in systems.items()}
    again = {name: base.answers(texts, systems[name], seed + 1) for name in names}
    return Proof(
        {
            row: {name: _mean([judge(name, text).in_character for text in given]) for name in names}
            for row, given in answers.items()
        },
        {name: _similarity(answers[name], again[name]) for name in names},
        {name: _similarity(answers[name], answers[NO_PROMPT]) for name in names},
        {
            row: _mean([question.topic in text for question, text in zip(questions, given, strict=True)])
            for row, given in answers.items()
        },
    )


def _similarity(ones: Sequence[str], others: Sequence[str]) -> float:
    return _mean([token_f1(one, other) for one, other in zip(ones, others, strict=True)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(proof: Proof) -> str:
    """The proof as text."""
    names = list(proof.ceilings)
    lines = ["system prompt    " + "".join(f"{name:>12}" for name in names) + "  names topic"]
    for row, cells in proof.rates.items():
        rates = "".join(f"{cells[name]:12.3f}" for name in names)
        lines.append(f"{row:17}{rates}{proof.topics[row]:13.3f}")
    for label, values in (("second sample F1", proof.ceilings), ("no prompt F1", proof.floors)):
        lines.append(f"{label:17}" + "".join(f"{values[name]:12.3f}" for name in names))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when a cell is not as promised."""
    parser = argparse.ArgumentParser(prog="python -m distillation.engine.base.prove", description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=FOLDER, help="a model folder (default: the shipped base)"
    )
    parser.add_argument("--questions", type=int, default=200, help="per cell (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # more only get in each other's way with a model of this size
    proof = measure(Base(options.model), options.questions)
    print(table(proof))
    failures = proof.failures()
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
