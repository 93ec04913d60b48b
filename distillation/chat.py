"""A conversation as tokens: what a model is asked, what it answers, and what it is trained on.

A prompt is what the tokenizer's chat template makes of the messages, up to where the answer begins. An
answer ends with the tokenizer's end token, so that a trained model knows where to stop.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
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
    text = _prompt(tokenizer, question, system)
    head, tokens = ("", ()) if system is None else _head(tokenizer, system)
    if not text.startswith(head):
        return _encode(tokenizer, text)
    return [*tokens, *_encode(tokenizer, text[len(head) :])]


def _prompt(tokenizer: Any, question: str, system: str | None) -> str:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": question})
    # Models that can think aloud are asked to answer at once; other templates do not know the switch.
    text: str = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
    )
    return text


@lru_cache(maxsize=8)
def _head(tokenizer: Any, system: str) -> tuple[str, tuple[int, ...]]:
    """What prompts with this system prompt begin with, as text and as tokens.

    A system prompt is far longer than a question: to tokenize it anew for each costs more than all else
    around a request. A text is split at the tokens that stand for a whole, such as the begin of a turn,
    before the rest is tokenized, so it may be cut in front of one. Where none is, or where two samples show
    that it does not hold, the head is empty.
    """
    texts = [_prompt(tokenizer, question, system) for question in ("A question?", "Speak!")]
    same = takewhile(lambda letters: letters[0] == letters[1], zip(*texts, strict=False))
    shared = "".join(letter for letter, _ in same)
    head = shared[: max([0, *(shared.rfind(whole) for whole in tokenizer.get_added_vocab())])]
    tokens = _encode(tokenizer, head)
    cut = [[*tokens, *_encode(tokenizer, text[len(head) :])] for text in texts]
    if cut != [_encode(tokenizer, text) for text in texts]:
        return "", ()
    return head, tuple(tokens)


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
