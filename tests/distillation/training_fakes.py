"""A stand-in for a training service, named as one: a student of one number, trained by real Adam.

Its loss depends on everything it was trained on so far, so a batch that was trained twice, left out or
trained at another rate shows in every later loss. Like the service it executes requests in order, and
only when somebody waits for one; its checkpoints lie in a folder and outlive it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from distillation import checkpoints, settings, train, training_log, training_report
from distillation.config import TrainingConfig
from distillation.jsonl import write_rows
from distillation.prices import Price
from distillation.split import TRAIN, VALIDATION
from distillation.training_job import Job, fingerprint_of
from distillation.training_loop import Schedule, examples_of
from distillation.work_time import TRAINING, Clock

CONFIG = TrainingConfig(
    base_model=None,
    rank=4,
    learning_rate=0.05,
    schedule="linear",
    batch_size=3,
    steps=12,
    checkpoint_every=4,
    in_flight=3,
    validation_examples=5,
    checkpoint_days=30,
    seed=7,
    loss_first=2,
    loss_last=3,
    loss_ratio_max=0.9,
    evaluation_questions=120,
    evaluation_interval=0.1,
    similarity_min=0.85,
    similarity_max=0.95,
    budget_usd=0.0,
)
PRICE = Price("small", 1.0, 0.2, 2.0, 10.0, "2026-10-07", "a test")
BASE = "base"


@dataclasses.dataclass(frozen=True)
class Datum:
    """An example that wants the student to be ``target``."""

    target: float
    length: int

    @property
    def model_input(self) -> Any:
        return SimpleNamespace(length=self.length)

    @property
    def loss_fn_inputs(self) -> dict[str, Any]:
        return {"weights": SimpleNamespace(data=[0.0] * (self.length - 2) + [1.0] * 2)}


@dataclasses.dataclass
class State:
    """A student and its optimizer."""

    value: float = 0.4
    first: float = 0.0
    second: float = 0.0
    updates: int = 0
    gradient: float = 0.0

    def loss(self, data: list[Datum], learn: bool) -> float:
        if learn:
            self.gradient += sum(2 * 2 * (self.value - one.target) for one in data)
        return sum(2 * (self.value - one.target) ** 2 for one in data)

    def update(self, rate: float) -> None:
        self.updates += 1
        self.first = 0.9 * self.first + 0.1 * self.gradient
        self.second = 0.95 * self.second + 0.05 * self.gradient**2
        scale = math.sqrt(self.second / (1 - 0.95**self.updates)) + 1e-8
        self.value -= rate * self.first / (1 - 0.9**self.updates) / scale
        self.gradient = 0.0


class FakeService:
    """The service; ``tick`` is called wherever a process could be killed."""

    def __init__(self, root: Path, tick: Callable[[], None] = lambda: None, delay: float = 0.0) -> None:
        self.root = root
        self.tick = tick
        self.delay = delay
        self.diverges_at: Callable[[int, float], bool] = lambda *_: False
        self.happened: list[str] = []
        self._models = itertools.count(len(list(root.glob("*"))) if root.exists() else 0)

    def create_lora_training_client(self, *_: Any, **__: Any) -> Any:
        return Done(FakeClient(self, State(), next(self._models)))

    def create_training_client_from_state_with_optimizer(self, path: str) -> Any:
        file = self.root / path.removeprefix("fake://")
        if not file.exists():
            return Failed(LookupError(f"Checkpoint not found:\n {path}"))
        return Done(FakeClient(self, State(**json.loads(file.read_text())), next(self._models)))


class Done:
    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, **_: Any) -> Any:
        return self._value


class Failed:
    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def result(self, **_: Any) -> Any:
        raise self._cause


class Request:
    """A future whose request is executed, after those before it, when it is waited for."""

    def __init__(self, client: FakeClient, name: str, work: Callable[[], Any]) -> None:
        self.client, self.name, self.work = client, name, work
        client.service.happened.append(f"submit {name}")
        client.waiting.append(self)

    def result(self, **_: Any) -> Any:
        service = self.client.service
        service.tick()
        time.sleep(service.delay)
        while self in self.client.waiting:
            first = self.client.waiting.pop(0)
            first.answer = first.work()
        service.happened.append(f"await {self.name}")
        service.tick()
        return self.answer

    answer: Any = None


class FakeClient:
    """A training client."""

    def __init__(self, service: FakeService, state: State, number: int) -> None:
        self.service, self.state, self.number = service, state, number
        self.waiting: list[Request] = []
        (service.root / str(number)).mkdir(parents=True)

    def forward_backward(self, data: list[Datum], _: str) -> Request:
        return self._request("gradients", lambda: self._loss(data, True))

    def forward(self, data: list[Datum], _: str) -> Request:
        return self._request("forward", lambda: self._loss(data, False))

    def optim_step(self, optim_params: Any) -> Request:
        def update() -> None:
            self.state.update(optim_params.learning_rate)
            if self.service.diverges_at(self.state.updates, optim_params.learning_rate):
                self.state.value = math.nan

        return self._request("update", update)

    def save_state(self, name: str, **_: Any) -> Request:
        return self._request(f"save {name}", lambda: self._save(f"weights-{name}"))

    def save_weights_for_sampler(self, name: str, **_: Any) -> Request:
        return self._request(f"save {name}", lambda: self._save(f"sampler-{name}"))

    def _request(self, name: str, work: Callable[[], Any]) -> Request:
        self.service.tick()
        return Request(self, name, work)

    def _loss(self, data: list[Datum], learn: bool) -> Any:
        return SimpleNamespace(metrics={"loss:sum": self.state.loss(data, learn)})

    def _save(self, name: str) -> Any:
        (self.service.root / str(self.number) / name).write_text(json.dumps(dataclasses.asdict(self.state)))
        return SimpleNamespace(path=f"fake://{self.number}/{name}")


def lay_out(folder: Path) -> None:
    """The data of a run folder. The numbers of the examples come from ``job``."""
    for name, count in ((TRAIN, 10), (VALIDATION, 6)):
        write_rows(
            folder / name,
            (
                {"id": f"{name}-{n}", "question": f"What of {name} {n}?", "answer": "Ha!"}
                for n in range(count)
            ),
        )


def job(folder: Path, config: TrainingConfig = CONFIG) -> Job:
    """A training on the data of ``lay_out``."""
    examples = [Datum(math.sin(n) / 20, 5 + n % 4) for n in range(10)]
    return Job(
        folder=folder,
        base_model=BASE,
        config=config,
        schedule=Schedule(
            steps=config.steps,
            batch_size=config.batch_size,
            in_flight=config.in_flight,
            learning_rate=config.learning_rate,
            shape=config.schedule,
            seed=config.seed,
            lowered=tuple(checkpoints.recoveries(folder)),
            price=PRICE,
            patience=60.0,
        ),
        examples=examples_of(examples),
        validation=examples_of([Datum(math.cos(n) / 20, 6) for n in range(config.validation_examples)]),
        fingerprint=fingerprint_of(folder, config, BASE),
    )


def attempt(service: FakeService, folder: Path, config: TrainingConfig = CONFIG) -> dict[str, Any]:
    """One run of the training program: it goes on from wherever the files say."""
    last = train.prepare(folder, config, fingerprint_of(folder, config, BASE))
    work = job(folder, config)
    if last is None or last.step < config.steps:
        with Clock(folder, TRAINING) as clock:
            train.train(service, work, last, clock)
    return training_report.write(folder, config, BASE)


def fake_types() -> ModuleType:
    """The only name of the SDK's types that training needs."""
    module = ModuleType("tinker.types")
    module.AdamParams = SimpleNamespace  # type: ignore[attr-defined]
    return module


def connect(monkeypatch: pytest.MonkeyPatch, service: FakeService, config: TrainingConfig = CONFIG) -> Path:
    """Have the commands of the training work on the fake, in the current folder."""
    folder = settings.run_folder()

    @contextmanager
    def connected(model: str) -> Iterator[FakeService]:
        yield service

    monkeypatch.setattr("distillation.client.connected", connected)
    monkeypatch.setattr("distillation.client.base_model", lambda *_: BASE)
    monkeypatch.setattr("distillation.config.current", lambda: config)
    monkeypatch.setattr(train, "load_job", lambda: job(folder, config))
    lay_out(folder)
    return folder


def laid_out(folder: Path) -> Path:
    """A new run folder with its data."""
    folder.mkdir()
    lay_out(folder)
    return folder


def outcome(folder: Path) -> dict[str, Any]:
    """What a training leaves behind, without clock times and addresses."""
    steps = [json.loads(line) for line in (folder / training_log.METRICS).read_text().splitlines()]
    for step in steps:
        del step["seconds"]
    saved = [(one.step, one.next_step, one.validation_loss) for one in checkpoints.read(folder)]
    return {
        "loss.txt": (folder / training_log.LOSS).read_text(),
        "metrics": steps,
        "validation": (folder / training_log.VALIDATION).read_text(),
        "checkpoints": saved,
    }


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def killed_attempt(ticks: int, service: FakeService, folder: Path) -> bool:
    """A run that dies at the ``ticks``-th place: a request, an answer, or a change of a file.

    Returns:
        Whether it came to that.
    """
    left = [ticks]

    def tick() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    write, replace = os.write, Path.replace

    def torn_write(descriptor: int, data: bytes) -> int:
        try:
            tick()
        except Killed:
            write(descriptor, data[: len(data) // 2])
            raise
        return write(descriptor, data)

    def late_replace(self: Path, target: Path) -> Path:
        tick()
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "tick", tick)
        patch.setattr(os, "write", torn_write)
        patch.setattr(Path, "replace", late_replace)
        try:
            attempt(service, folder)
        except Killed:
            return True
    return False


if __name__ == "__main__":
    # A process of its own, to be killed: python -m tests.distillation.training_fakes FOLDER
    sys.modules["tinker.types"] = fake_types()
    here = Path(sys.argv[1])
    attempt(FakeService(here / "service", delay=0.002), here)
