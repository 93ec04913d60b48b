"""The base's tokenizer: byte-level pieces learned from the corpus, so that most words are one token.

Any text can be written with it; text unlike the corpus takes more tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from distillation import characters
from distillation.engine.base import prompts
from distillation.engine.base.grammar import answer
from distillation.questions import HELD_OUT, all_questions, training_questions

VOCABULARY = 3_072
LONGEST = 2_048
"""Tokens of prompt and answer together."""

END = "<|im_end|>"
PAD = "<|endoftext|>"
START = "<|im_start|>"

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


def train_tokenizer(seed: int) -> Any:
    """A new tokenizer with the chat template, made from the corpus alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(random.Random(seed)), trainer=trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _corpus(chance: random.Random) -> Iterator[str]:
    for character in characters.CHARACTERS:
        # Each prompt counts as often as an answer's commonest words do, or its rare words fall to pieces.
        yield from [characters.system_prompt(character)] * 40
    yield from prompts.PLAIN * 40
    yield "system\nuser\nassistant\n"
    for question in training_questions(len(all_questions()) - HELD_OUT):
        yield question.text
        for name in (None, *(each.name for each in characters.CHARACTERS)):
            yield answer(question, name, chance)
    for _ in range(200):
        yield prompts.without_character(chance, 5, 10)
