"""Asking a model through the SDK: many questions are submitted, and the answers collected as they come."""

from __future__ import annotations

import hashlib
import importlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from distillation import chat, client
from distillation.errors import DistillationError

CONNECT_TIMEOUT = 300.0
"""Seconds in which the model must be ready to be sampled from."""

IN_FLIGHT = 256
"""Questions that are with the service at a time. More would only wait there for their turn, and to send them
all at once keeps a processor from those that are worked on."""

_Name = TypeVar("_Name")


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said.

    Attributes:
        text: the answer without its end token.
        tokens: how many were sampled, the end token included.
        stop: ``stop`` when it came to its end, ``length`` when it was cut off.
        cached: prompt tokens that the service had read before.
    """

    text: str
    tokens: int
    stop: str
    cached: int = 0


class Speaker(Protocol):
    """A model that can be asked."""

    def prompt(self, question: str) -> list[int]:
        """The tokens of a question, with the system prompt if there is one."""

    def submit(self, prompt: Sequence[int], seed: int) -> Future[Any]:
        """Ask, without waiting for the answer. The same seed gives the same answer."""

    def read(self, response: Any) -> Said:
        """What the answer to ``submit`` says."""


def seed_of(seed: int, question: str, attempt: int) -> int:
    """The seed for one question: its own, whichever chunk asks it, and another one at each attempt.

    Args:
        seed: the configuration's.
        question: the question's id.
        attempt: 1 for the first.
    """
    digest = hashlib.sha256(f"{seed}:{question}:{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class Sampler:
    """A ``Speaker`` behind the SDK's sampling client."""

    sampling: Any
    tokenizer: Any
    system: str | None
    temperature: float
    top_p: float
    max_tokens: int

    def prompt(self, question: str) -> list[int]:
        return chat.prompt_tokens(self.tokenizer, question, self.system)

    def submit(self, prompt: Sequence[int], seed: int) -> Future[Any]:
        types = importlib.import_module("tinker.types")
        params = types.SamplingParams(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=seed,
            stop=chat.answer_tokens(self.tokenizer, "")[-1:],
        )
        asked = self.sampling.sample(types.ModelInput.from_ints(list(prompt)), 1, params)
        future: Future[Any] = asked.future()
        return future

    def read(self, response: Any) -> Said:
        (sequence,) = response.sequences
        tokens = [int(token) for token in sequence.tokens]
        return Said(
            chat.answer_text(self.tokenizer, tokens),
            len(tokens),
            str(sequence.stop_reason),
            int(response.prompt_cache_hit_tokens or 0),
        )


@contextmanager
def speaking(
    base: str, system: str | None, temperature: float, top_p: float, max_tokens: int
) -> Iterator[Speaker]:
    """A base model that can be asked, on the engine in use.

    Args:
        base: as ``client.base_model`` names it.
        system: the prompt that is put before every question.
        temperature, top_p, max_tokens: how it answers.

    Raises:
        DistillationError: the service cannot be reached, or does not have the model.
    """
    with client.connected(base) as service:
        with explained(
            late=f"{base} was not ready within {CONNECT_TIMEOUT:g} s; run the step again",
            failed=f"{base} cannot be asked",
            advice="see its name",
        ):
            sampling = service.create_sampling_client(base_model=base).result(timeout=CONNECT_TIMEOUT)
        yield Sampler(sampling, chat.tokenizer_of(base), system, temperature, top_p, max_tokens)


def collect(
    asked: Mapping[_Name, Callable[[], Future[Any]]], timeout: float, take: Callable[[_Name, Any], None]
) -> None:
    """Submit questions, ``IN_FLIGHT`` at a time, and hand on every answer as soon as it comes.

    Args:
        asked: what submits each question, by name.
        timeout: seconds in which at least one more answer must come.
        take: called with each name and its answer, in the thread of the caller.

    Raises:
        DistillationError: a question failed, which lets no more be submitted, or no answer came in time. What
            came before, and what was with the service when it failed, was taken.
    """
    arrived: queue.SimpleQueue[tuple[_Name, Future[Any]]] = queue.SimpleQueue()
    waiting = iter(asked.items())
    failed: dict[_Name, str] = {}
    taken = 0

    def submit() -> int:
        if failed or (following := next(waiting, None)) is None:
            return 0
        name, ask = following
        ask().add_done_callback(lambda future: arrived.put((name, future)))
        return 1

    flying = sum(submit() for _ in range(min(IN_FLIGHT, len(asked))))
    while flying:
        try:
            name, future = arrived.get(timeout=timeout)
        except queue.Empty:
            raise DistillationError(
                f"no answer came for {timeout:g} s, and {len(asked) - taken} are missing; what was answered "
                "is kept, run the step again"
            ) from None
        if (cause := future.exception()) is not None:
            failed[name] = in_one_line(cause)
        # The next question first: the service need not wait until this answer is on the disk.
        flying += submit() - 1
        if cause is None:
            take(name, future.result())
            taken += 1
    if failed:
        name, reason = next(iter(failed.items()))
        raise DistillationError(
            f"{name}: {reason}; {len(failed)} of {len(asked)} questions failed, what was answered is kept, "
            "run the step again"
        )


@contextmanager
def explained(late: str, failed: str, advice: str) -> Iterator[None]:
    """Turn whatever the SDK raises into one line.

    Args:
        late: the line when the time is over.
        failed: what to say before any other error, and ``advice`` after it.

    Raises:
        DistillationError: with that line.
    """
    try:
        yield
    except TimeoutError as cause:
        raise DistillationError(late) from cause
    except Exception as cause:
        raise DistillationError(f"{failed}: {in_one_line(cause)}; {advice}") from cause


def in_one_line(cause: BaseException) -> str:
    """An error of the SDK, whose texts have many lines, on one of bounded length."""
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
