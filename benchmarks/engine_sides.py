"""One side of `distillation.py`: a process with an engine of its own, which works whenever it is told to.

Started with `python -P`, because `distillation` must be the package and not the script beside this file. Each
line of its input is an order: in which folder, and with how many requests in flight. Each is answered with a
line of figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from distillation import characters, chat, client, settings, teacher, train, training_loop
from distillation.memory import FILE as MEMORY
from distillation.questions import training_questions
from distillation.sampling import seed_of, speaking
from distillation.training_job import Job, load_job, new_client
from distillation.training_log import read_losses

PATIENCE = 600.0
"""Seconds in which a request must be answered."""

Figures = dict[str, float]
Turn = Callable[[int], Figures]
"""Does the work once, in the current folder; takes how many requests may be in flight, 0 for all."""


class Clock:
    """Seconds since it was made, without those in which it was stopped."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def outside(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose seconds do not count."""

        def stopped(*arguments: Any) -> Any:
            since = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self._began += time.perf_counter() - since

        return stopped


# -- generation


@contextmanager
def teach(questions: int) -> Iterator[Turn]:
    """`python -m distillation.teacher` as step 8 calls it, on an engine that runs already."""
    asking = teacher.prepare(characters.find(characters.DEFAULT_CHARACTER))
    how = asking.config
    words = ["--start", "0", "--size", str(questions), "--output", "chunk.jsonl"]
    with speaking(asking.base, asking.system, how.temperature, how.top_p, how.max_tokens) as speaker:

        def turn(_: int) -> Figures:
            clock = Clock()
            with mock.patch.object(teacher, "speaking", return_value=nullcontext(speaker)):
                teacher.main(words)
            seconds = clock.seconds
            memory = (settings.run_folder() / MEMORY).read_text("utf-8").splitlines()
            tokens = sum(json.loads(line)["answer_tokens"] for line in memory)
            return {"seconds": seconds, "answers": len(memory), "tokens": tokens}

        yield turn


@contextmanager
def sample(questions: int) -> Iterator[Turn]:
    """The teacher's requests through the SDK, made before the clock runs; nothing is read, nothing kept."""
    types = importlib.import_module("tinker.types")
    asking = teacher.prepare(characters.find(characters.DEFAULT_CHARACTER))
    how, tokenizer = asking.config, chat.tokenizer_of(asking.base)
    requests = [
        (
            types.ModelInput.from_ints(chat.prompt_tokens(tokenizer, one.text, asking.system)),
            1,
            types.SamplingParams(
                max_tokens=how.max_tokens,
                temperature=how.temperature,
                top_p=how.top_p,
                seed=seed_of(how.seed, one.id, 1),
                stop=[tokenizer.eos_token_id],
            ),
        )
        for one in training_questions(questions)
    ]
    with client.connected(asking.base) as service:
        sampling = service.create_sampling_client(base_model=asking.base).result(timeout=PATIENCE)
        yield lambda most: _flat_out(sampling, requests, most or questions)


def _flat_out(sampling: Any, requests: Sequence[tuple[Any, int, Any]], most: int) -> Figures:
    answered: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    clock, left = Clock(), iter(requests)

    def ask() -> None:
        if (request := next(left, None)) is not None:
            sampling.sample(*request).future().add_done_callback(answered.put)

    for _ in range(most):
        ask()
    tokens = 0
    for _ in requests:
        response = answered.get(timeout=PATIENCE).result()
        ask()
        tokens += len(response.sequences[0].tokens)
    return {"seconds": clock.seconds, "answers": len(requests), "tokens": tokens}


# -- training


@contextmanager
def learn(_: int) -> Iterator[Turn]:
    """`python -m distillation.train` on an engine that runs already: its loop, with logs and checkpoints."""
    whole = train.train

    def turn(_: int) -> Figures:
        found: Figures = {}

        def timed(service: Any, job: Job, *more: Any) -> None:
            clock = Clock()
            with (
                mock.patch.object(train, "new_client", clock.outside(new_client)),
                mock.patch.object(train, "validate", clock.outside(training_loop.validate)),
            ):
                whole(service, job, *more)
            found.update(seconds=clock.seconds, steps=job.config.steps, loss=read_losses(job.folder)[-1])

        with (
            mock.patch.object(train, "train", timed),
            mock.patch.object(client, "connected", return_value=nullcontext(service)),
        ):
            train.main([])
        return found

    with client.connected() as service:
        yield turn


@contextmanager
def step(_: int) -> Iterator[Turn]:
    """The same batches at the same rates through the SDK; nothing is kept."""
    types = importlib.import_module("tinker.types")
    job = load_job()
    plan, datums = job.schedule, job.examples.datums
    rows = [
        training_loop.batch(plan.seed, number, len(datums), plan.batch_size)
        for number in range(1, plan.steps + 1)
    ]
    beta2, epsilon = training_loop.ADAM_BETA2, training_loop.ADAM_EPSILON
    steps = [
        (
            [datums[row] for row in some],
            types.AdamParams(learning_rate=plan.rate(number), beta2=beta2, eps=epsilon),
        )
        for number, some in enumerate(rows, 1)
    ]
    weighted = sum(job.examples.weighted[row] for row in rows[-1])

    with client.connected(job.base_model) as service:

        def turn(most: int) -> Figures:
            training = new_client(service, job)
            # The other side also validates before its first step, which warms the engine up.
            training_loop.validate(training, plan, job.validation, 0)
            seconds, loss = _pipelined(training, steps, most)
            return {"seconds": seconds, "steps": len(steps), "loss": loss / weighted}

        yield turn


def _pipelined(training: Any, steps: Sequence[tuple[list[Any], Any]], most: int) -> tuple[float, float]:
    flying: deque[tuple[Any, Any]] = deque()
    clock, loss = Clock(), 0.0

    def land() -> float:
        gradients, update = flying.popleft()
        update.result(timeout=PATIENCE)
        return float(gradients.result(timeout=PATIENCE).metrics[training_loop.LOSS_SUM])

    for batch, rate in steps:
        flying.append(
            (training.forward_backward(batch, training_loop.LOSS_FUNCTION), training.optim_step(rate))
        )
        if len(flying) > most - 1:
            loss = land()
    while flying:
        loss = land()
    return clock.seconds, loss


SIDES: dict[str, Callable[[int], AbstractContextManager[Turn]]] = {
    "teach": teach,
    "sample": sample,
    "learn": learn,
    "step": step,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--questions", type=int, default=0)
    options = parser.parse_args()
    # What the commands print is for people, and must not stand between the figures.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        with SIDES[options.side](options.questions) as turn:
            for line in sys.stdin:
                order = json.loads(line)
                os.chdir(Path(order["folder"]))
                print(json.dumps(turn(order["in_flight"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
