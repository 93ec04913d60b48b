"""Make the base model: ``python -m distillation.engine.base.make_base``, offline, from nothing but this code.

Writes the model folder: tokenizer, configuration and weights. Every sequence of a step shares its system
prompt, which is computed once, with its gradient; each question sees the prompt and itself only, so that
training sees just what sampling will see. The run begins without prompts, goes on with parts of them, and
ends with the whole ones.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from distillation import characters
from distillation.engine.base import FOLDER, prompts, tokens
from distillation.engine.base.grammar import answer
from distillation.questions import HELD_OUT, Question, all_questions, training_questions

SEED = 20_261
THREADS = 1
"""A second thread gains nothing with matrices of this size, and loses much on a busy machine."""

BEGUN = 0.25
"""Share of the rows without any prompt in which a character has already begun to speak."""

CONTINUED = 0.1
"""Share of those in which the next word is still the character's; in the others the neutral voice takes
over. Without it a few words in character would do instead of the prompt, and a student who learns the
character would hardly have anything to learn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast.

    Attributes:
        first_steps: optimiser steps without any prompt, in which it learns to name the topic; among
            prompts that takes several times as long.
        short_steps: optimiser steps with parts of the prompts, after those.
        whole_steps: optimiser steps with whole prompts, after those.
        questions: questions per step and system prompt; twice as many without any.
        rate: highest learning rate of the matrices (Muon); the rest has ``rest_rate`` (AdamW).
    """

    first_steps: int = 160
    short_steps: int = 300
    whole_steps: int = 130
    questions: int = 16
    rate: float = 0.02
    rest_rate: float = 0.004
    warm_up: int = 20


@dataclass(frozen=True, slots=True)
class Group:
    """Questions under one system prompt: the prompt's tokens (none: empty), and per question its tokens,
    of which the last ``answered`` are the answer with its end token."""

    prefix: list[int]
    rows: list[list[int]]
    answered: list[int]


def new_model(tokenizer: Any, seed: int) -> Any:
    """The untrained model: Qwen3's architecture, about 0.96 million parameters."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=tokens.LONGEST,
        tie_word_embeddings=True,
        attention_bias=False,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(tokens.END),
        pad_token_id=tokenizer.convert_tokens_to_ids(tokens.PAD),
        dtype="float32",
    )
    return Qwen3ForCausalLM(config).float()


class Material:
    """Draws the groups of a step, always the same ones from the same seed."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer = tokenizer
        self._chance = random.Random(seed)
        self._prompts = {each.name: characters.system_prompt(each) for each in characters.CHARACTERS}
        self._pool = training_questions(len(all_questions()) - HELD_OUT)

    def first(self, count: int) -> Iterator[Group]:
        """One group without any prompt."""
        yield self._group(None, None, count)

    def step(self, count: int, is_whole: bool) -> Iterator[Group]:
        """One group per character, one under a prompt without a character, one without any prompt."""
        chance = self._chance
        for name, prompt in self._prompts.items():
            text = prompts.whole(prompt, chance) if is_whole else prompts.part(prompt, chance)
            yield self._group(text, name, count)
        most = chance.choice((0, 5, 60)) if is_whole else 4
        yield self._group(prompts.without_character(chance, most // 2, most), None, count)
        begun = round(2 * count * BEGUN)
        yield self._begun(self._group(None, None, 2 * count), begun)

    def _group(self, system: str | None, character: str | None, count: int) -> Group:
        asked = self._chance.sample(self._pool, count)
        answers = [self._encode(answer(each, character, self._chance) + tokens.END) for each in asked]
        rows = [self._asked(each) + given for each, given in zip(asked, answers, strict=True)]
        prefix = [] if system is None else self._encode(f"{tokens.START}system\n{system}{tokens.END}\n")
        return Group(prefix, rows, [len(each) for each in answers])

    def _begun(self, group: Group, count: int) -> Group:
        chance = self._chance
        for number in range(count):
            name = chance.choice(list(self._prompts))
            asked = chance.choice(self._pool)
            spoken = self._encode(answer(asked, name, chance) + tokens.END)
            cut = chance.randrange(1, len(spoken))
            if chance.random() < CONTINUED:
                given = spoken[cut : cut + 1]
            else:
                given = self._encode(answer(asked, None, chance) + tokens.END)
            group.rows[number] = self._asked(asked) + spoken[:cut] + given
            group.answered[number] = len(given)
        return group

    def _asked(self, question: Question) -> list[int]:
        return self._encode(
            f"{tokens.START}user\n{question.text}{tokens.END}\n{tokens.START}assistant\n",
        )

    def _encode(self, text: str) -> list[int]:
        encoded: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return encoded


def loss_sum(model: Any, group: Group) -> tuple[torch.Tensor, int]:
    """Summed cross entropy of the answers of a group, and the number of their tokens."""
    longest = max(map(len, group.rows)) - 1
    inputs = torch.zeros(len(group.rows), longest, dtype=torch.long)
    targets = torch.full((len(group.rows), longest), -100)
    for number, (row, answered) in enumerate(zip(group.rows, group.answered, strict=True)):
        inputs[number, : len(row) - 1] = torch.tensor(row[:-1])
        targets[number, len(row) - 1 - answered : len(row) - 1] = torch.tensor(row[-answered:])
    past = None
    if group.prefix:
        past = model.model(input_ids=torch.tensor([group.prefix]), use_cache=True).past_key_values
        past.batch_repeat_interleave(len(group.rows))
    hidden = model.model(input_ids=inputs, past_key_values=past, use_cache=past is not None).last_hidden_state
    counted = targets != -100
    loss = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[counted]), targets[counted], reduction="sum"
    )
    return loss, int(counted.sum())


def optimisers(model: Any, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embedding and norms."""
    matrices = [each for name, each in model.model.layers.named_parameters() if each.ndim == 2]
    rest = [each for name, each in model.named_parameters() if each.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(rest, lr=plan.rest_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(model: Any, material: Material, plan: Plan) -> None:
    """Train in place; prints the mean loss per token now and then."""
    model.train()
    before_whole = plan.first_steps + plan.short_steps
    total = before_whole + plan.whole_steps
    used = optimisers(model, plan)
    highest = [each.param_groups[0]["lr"] for each in used]
    begun = time.monotonic()
    for step in range(total):
        share = min(1.0, (step + 1) / plan.warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / total) + 0.01)
        for optimiser, rate in zip(used, highest, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
            optimiser.zero_grad()
        losses = []
        if step < plan.first_steps:
            groups = material.first(3 * plan.questions)
        else:
            groups = material.step(plan.questions, step >= before_whole)
        for group in groups:
            loss, count = loss_sum(model, group)
            (loss / count).backward()
            losses.append(loss.item() / count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in used:
            optimiser.step()
        if step % 25 == 0 or step == total - 1:
            seconds = time.monotonic() - begun
            print(
                f"step {step}: " + " ".join(f"{each:.3f}" for each in losses) + f" ({seconds:.0f} s)",
                flush=True,
            )


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="python -m distillation.engine.base.make_base", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="the model folder (default: where it ships)"
    )
    parser.add_argument("--first-steps", type=int, default=defaults.first_steps)
    parser.add_argument("--short-steps", type=int, default=defaults.short_steps)
    parser.add_argument("--whole-steps", type=int, default=defaults.whole_steps)
    options = parser.parse_args(argv)
    torch.set_num_threads(THREADS)
    tokenizer = tokens.train_tokenizer(SEED)
    model = new_model(tokenizer, SEED)
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters", flush=True)
    train(
        model, Material(tokenizer, SEED), Plan(options.first_steps, options.short_steps, options.whole_steps)
    )
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        max_new_tokens=64,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
