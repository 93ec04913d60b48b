"""A conversation as tokens: what a model is asked, what it answers, and what it is trained on.

A prompt is what the tokenizer's chat template makes of the messages, up to where the answer begins. An
answer ends with the tokenizer's end token, so that a trained model knows where to stop.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError


@lru_cache(maxsize=4)
def tokenizer_of(name_or_path: str) -> Any:
    """The tokenizer of a model.

    Args:
        name_or_path: a model folder, from which nothing but the folder is read; else a name on the hub.

    Raises:
        DistillationError: there is none, or it has no chat template or no end token.
    """
    transformers = importlib.import_module("transformers")
    is_folder = Path(name_or_path).is_dir()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name_or_path, local_files_only=is_folder)
    except (OSError, ValueError, KeyError) as cause:
        raise DistillationError(
            f"{name_or_path}: no tokenizer can be read there ({type(cause).__name__}); "
            "name a model folder, or a model that the hub has and the network reaches"
        ) from cause
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise DistillationError(
            f"{name_or_path}: its tokenizer has no chat template or no end token; take an instruct model"
        )
    return tokenizer


def prompt_tokens(tokenizer: Any, question: str, system: str | None = None) -> list[int]:
    """The tokens of a question, from the first to where the answer begins.

    Args:
        tokenizer: from ``tokenizer_of``.
        question: the user's words.
        system: the system prompt, or ``None`` for no system message at all.
    """
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": question})
    # Models that can think aloud are asked to answer at once; other templates do not know the switch.
    text = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
    )
    return _encode(tokenizer, text)


def answer_tokens(tokenizer: Any, answer: str) -> list[int]:
    """The tokens of an answer and the end token after it."""
    return [*_encode(tokenizer, answer), int(tokenizer.eos_token_id)]


def answer_text(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The words of a sampled answer, without special tokens and outer blanks."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def datum(tokenizer: Any, question: str, answer: str, system: str | None = None) -> Any:
    """One training example: the loss counts the answer and its end token, never the prompt.

    Returns:
        a ``tinker.types.Datum``. Its input lacks the last token and its targets lack the first, so
        position *i* predicts token *i + 1*; weights are 0 on the prompt and 1 from the answer on.
    """
    types = importlib.import_module("tinker.types")
    prompt, reply = prompt_tokens(tokenizer, question, system), answer_tokens(tokenizer, answer)
    tokens = prompt + reply
    weights = [0.0] * (len(prompt) - 1) + [1.0] * len(reply)
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": weights},
    )


def weighted_tokens(datums: Sequence[Any]) -> float:
    """How many tokens the loss of a batch counts; divide the reported sum by it."""
    return float(sum(sum(one.loss_fn_inputs["weights"].data) for one in datums))


def _encode(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
