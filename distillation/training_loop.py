"""The training itself: which examples a step sees, at which rate, and how steps are kept in flight.

Nothing here writes a file. Batch and rate are functions of the step's number, so that a training that
was stopped goes on as if it had not been.
"""

from __future__ import annotations

import importlib
import math
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from distillation.checkpoints import Recovery, factor_at
from distillation.errors import DistillationError
from distillation.prices import Price
from distillation.training_log import Step, Validation

LOSS_FUNCTION = "cross_entropy"

LOSS_SUM = "loss:sum"
"""Under this name the service reports the loss of a batch: a sum over its weighted tokens."""

ADAM_BETA2 = 0.95
ADAM_EPSILON = 1e-8

VALIDATION_ROWS = 64
"""Validation examples in one request."""

REMINDER = 60.0
"""Seconds without an answer after which the screen says what is waited for."""

_T = TypeVar("_T")
_Result = TypeVar("_Result", covariant=True)


class Future(Protocol[_Result]):
    """What the SDK answers a request with."""

    def result(self, timeout: float | None = None) -> _Result:
        """Wait for the answer; raises what the service raised, or ``TimeoutError``."""


class TrainingClient(Protocol):
    """The part of the SDK's training client that is used."""

    def forward_backward(self, data: list[Any], loss_fn: Any) -> Future[Any]:
        """Compute loss and gradients."""

    def forward(self, data: list[Any], loss_fn: Any) -> Future[Any]:
        """Compute the loss alone."""

    def optim_step(self, optim_params: Any) -> Future[Any]:
        """Change the weights by the gradients."""

    def save_state(self, name: str, ttl_seconds: int | None = None) -> Future[Any]:
        """Save weights and optimizer."""

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> Future[Any]:
        """Save weights for sampling."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples as the service takes them, with their lengths in tokens and what the loss counts of them."""

    datums: tuple[Any, ...]
    tokens: tuple[int, ...]
    weighted: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.datums)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the steps are made.

    Attributes:
        steps: in all.
        batch_size: examples per step.
        in_flight: steps that are submitted and not awaited.
        learning_rate: of the first step.
        shape: ``linear`` (down to nothing after the last step) or ``constant``.
        seed: of the order of the examples.
        lowered: where the rate was lowered after a loss that was not a number.
        price: of the model's tokens.
        patience: seconds in which a request must be answered.
    """

    steps: int
    batch_size: int
    in_flight: int
    learning_rate: float
    shape: str
    seed: int
    lowered: tuple[Recovery, ...]
    price: Price
    patience: float

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        falling = 1 - (step - 1) / self.steps if self.shape == "linear" else 1.0
        return self.learning_rate * falling * factor_at(step, self.lowered)


def batch(seed: int, step: int, examples: int, size: int) -> list[int]:
    """Which examples a step sees: a function of seed and step, and of nothing that happened before.

    The examples are gone through in epochs, in each in another order, so that none is seen again before
    all have been seen.

    Args:
        seed: of the training.
        step: counted from 1.
        examples: how many there are.
        size: examples per step.
    """
    places = range((step - 1) * size, step * size)
    return [_order(seed, place // examples, examples)[place % examples] for place in places]


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, examples: int) -> list[int]:
    order = list(range(examples))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return order


def awaited(future: Future[_T], what: str, patience: float) -> _T:
    """Wait for the service's answer and turn whatever it raises into one line.

    Args:
        future: what is waited for.
        what: its name, for people.
        patience: seconds.

    Raises:
        DistillationError: the service refused, failed, or did not answer in time.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return future.result(timeout=min(REMINDER, max(0.0, deadline - time.monotonic())))
        except TimeoutError as cause:
            if time.monotonic() >= deadline:
                raise DistillationError(
                    f"{what}: no answer within {patience:g} s; run the step again, it goes on where it was"
                ) from cause
            print(f"{what}: still waiting; a service may pause, for billing up to an hour", flush=True)
        except Exception as cause:
            # What the SDK adds on its own request says nothing to a user.
            text = " ".join(str(cause).split(" for self.request_id=")[0].split())[:300]
            raise DistillationError(f"{what}: {type(cause).__name__}: {text}") from cause


def pipelined(
    client: TrainingClient, schedule: Schedule, examples: Examples, first: int, last: int
) -> Iterator[Step]:
    """Train from step ``first`` to ``last``, both included, and give each step when it has ended.

    While a step is awaited, the ones behind it are with the service already. When the last one was
    given, nothing is in flight.

    Raises:
        DistillationError: the service failed, or reported no loss.
    """
    flying: deque[_Submitted] = deque()
    before = time.monotonic()
    for step in range(first, last + 1):
        flying.append(_submit(client, schedule, examples, step))
        while len(flying) >= (1 if step == last else schedule.in_flight):
            done = _finish(flying.popleft(), schedule, examples, before)
            before = time.monotonic()
            yield done


@dataclass(frozen=True, slots=True)
class _Submitted:
    step: int
    rows: list[int]
    gradients: Future[Any]
    update: Future[Any]


def _submit(client: TrainingClient, schedule: Schedule, examples: Examples, step: int) -> _Submitted:
    rows = batch(schedule.seed, step, len(examples), schedule.batch_size)
    gradients = client.forward_backward([examples.datums[row] for row in rows], LOSS_FUNCTION)
    return _Submitted(step, rows, gradients, client.optim_step(_adam(schedule.rate(step))))


def _adam(rate: float) -> Any:
    types = importlib.import_module("tinker.types")
    return types.AdamParams(learning_rate=rate, beta2=ADAM_BETA2, eps=ADAM_EPSILON)


def _finish(flown: _Submitted, schedule: Schedule, examples: Examples, before: float) -> Step:
    what = f"step {flown.step}"
    answer = awaited(flown.gradients, what, schedule.patience)
    tokens = sum(examples.tokens[row] for row in flown.rows)
    weighted = sum(examples.weighted[row] for row in flown.rows)
    loss = loss_sum(answer, what) / weighted
    try:
        awaited(flown.update, what, schedule.patience)
    except DistillationError:
        # A service may refuse to step by gradients that are not numbers: what must be told is the loss.
        if math.isfinite(loss):
            raise
    return Step(
        step=flown.step,
        loss=loss,
        tokens=tokens,
        weighted_tokens=weighted,
        seconds=round(time.monotonic() - before, 4),
        learning_rate=schedule.rate(flown.step),
        cost_usd=schedule.price.cost(train=tokens),
    )


def loss_sum(answer: Any, what: str) -> float:
    """The loss that a service reports for a batch: a sum over its weighted tokens.

    Raises:
        DistillationError: it reports none under that name.
    """
    if LOSS_SUM not in answer.metrics:
        raise DistillationError(
            f"{what}: the service reports no {LOSS_SUM}, only {', '.join(sorted(answer.metrics))}; "
            "install the tested SDK with step 2"
        )
    return float(answer.metrics[LOSS_SUM])


def validate(client: TrainingClient, schedule: Schedule, examples: Examples, step: int) -> Validation:
    """The loss on the validation examples after ``step`` steps; the weights stay as they are.

    Raises:
        DistillationError: the service failed.
    """
    rows = range(0, len(examples), VALIDATION_ROWS)
    asked = [client.forward(list(examples.datums[at : at + VALIDATION_ROWS]), LOSS_FUNCTION) for at in rows]
    what = f"validation after step {step}"
    total = math.fsum(loss_sum(awaited(one, what, schedule.patience), what) for one in asked)
    tokens = sum(examples.tokens)
    return Validation(step, total / sum(examples.weighted), tokens, schedule.price.cost(prefill=tokens))


def save(client: TrainingClient, schedule: Schedule, name: str, ttl_seconds: int | None) -> tuple[str, str]:
    """Save the state for a resume and the weights for sampling; the addresses, once both are saved.

    Raises:
        DistillationError: the service failed.
    """
    state = client.save_state(name, ttl_seconds=ttl_seconds)
    sampler = client.save_weights_for_sampler(name, ttl_seconds=ttl_seconds)
    what = f"checkpoint {name}"
    return (
        str(awaited(state, what, schedule.patience).path),
        str(awaited(sampler, what, schedule.patience).path),
    )


def examples_of(datums: Sequence[Any]) -> Examples:
    """Count the tokens of examples as the service does.

    Raises:
        DistillationError: the loss would count nothing of an example.
    """
    tokens = tuple(int(one.model_input.length) for one in datums)
    weighted = tuple(round(sum(one.loss_fn_inputs["weights"].data)) for one in datums)
    if not all(weighted):
        raise DistillationError(f"example {weighted.index(0) + 1} has no answer to learn; run step 10 again")
    return Examples(tuple(datums), tokens, weighted)
