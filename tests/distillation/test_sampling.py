from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from distillation import chat, sampling
from distillation.errors import DistillationError
from tests.distillation.test_student import FakeTokenizer


class FakeService:
    """Looks like the SDK's service client as far as sampling goes."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.sampled: list[tuple[Any, int, Any]] = []

    def create_sampling_client(self, base_model: str) -> Any:
        assert base_model == "fake/base"
        future: Future[Any] = Future()
        if self.failure:
            future.set_exception(self.failure)
        else:
            future.set_result(self)
        return future

    def sample(self, prompt: Any, number: int, params: Any) -> Any:
        self.sampled.append((prompt, number, params))
        future: Future[Any] = Future()
        sequence = SimpleNamespace(tokens=[5, 6, 0], stop_reason="stop")
        future.set_result(SimpleNamespace(sequences=[sequence], prompt_cache_hit_tokens=None))
        return SimpleNamespace(future=lambda: future)


def connect(monkeypatch: pytest.MonkeyPatch, service: FakeService) -> None:
    @contextmanager
    def connected(model: str) -> Iterator[FakeService]:
        assert model == "fake/base"
        yield service

    monkeypatch.setattr("distillation.client.connected", connected)
    monkeypatch.setattr(chat, "tokenizer_of", lambda _: FakeTokenizer())
    monkeypatch.setattr(chat, "answer_text", lambda _tokenizer, tokens: f"{len(tokens)} tokens")


def test_a_question_goes_to_the_sdk_with_prompt_seed_and_end_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tinker")
    service = FakeService()
    connect(monkeypatch, service)
    with sampling.speaking("fake/base", "You are somebody.", 0.7, 0.9, 64) as speaker:
        prompt = speaker.prompt("Who?")
        said = speaker.read(speaker.submit(prompt, 7).result(timeout=60))
    assert said == sampling.Said("3 tokens", 3, "stop", 0)
    ((sent, number, params),) = service.sampled
    assert sent.to_ints() == prompt
    assert number == 1
    assert (params.seed, params.max_tokens, params.temperature, params.top_p) == (7, 64, 0.7, 0.9)
    assert list(params.stop) == [FakeTokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (TimeoutError(), "fake/base was not ready within 300 s; run the step again"),
        (ValueError("no such\nmodel"), "fake/base cannot be asked: ValueError: no such model"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, complaint: str
) -> None:
    connect(monkeypatch, FakeService(failure))
    with (
        pytest.raises(DistillationError, match=complaint),
        sampling.speaking("fake/base", None, 1, 1, 8),
    ):
        pytest.fail("it must not be ready")


def submitted(pending: dict[str, Future[Any]]) -> dict[str, Callable[[], Future[Any]]]:
    return {name: lambda future=future: future for name, future in pending.items()}  # type: ignore[misc]


def test_answers_are_taken_in_the_order_in_which_they_come_in_the_callers_thread() -> None:
    pending: dict[str, Future[Any]] = {name: Future() for name in "abc"}
    later = iter("ab")
    taken: list[tuple[str, str]] = []

    def take(name: str, said: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        taken.append((name, said))
        if (following := next(later, None)) is not None:
            threading.Thread(target=pending[following].set_result, args=[f"said {following}"]).start()

    pending["c"].set_result("said c")
    sampling.collect(submitted(pending), 5, take)
    assert taken == [("c", "said c"), ("a", "said a"), ("b", "said b")]


def test_a_failure_is_raised_only_after_everything_else_was_taken() -> None:
    pending: dict[str, Future[Any]] = {name: Future() for name in "ab"}
    pending["a"].set_exception(KeyError("gone"))
    pending["b"].set_result(1)
    taken: list[str] = []
    with pytest.raises(DistillationError, match="a: KeyError: 'gone'; 1 of 2 questions failed"):
        sampling.collect(submitted(pending), 5, lambda name, _: taken.append(name))
    assert taken == ["b"]


def test_a_long_silence_ends_the_waiting() -> None:
    with pytest.raises(DistillationError, match=r"no answer came for 0\.01 s, and 1 are missing"):
        sampling.collect({"a": Future}, 0.01, lambda *_: None)


def test_so_many_are_in_flight_and_one_more_for_each_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "IN_FLIGHT", 2)
    flying: list[Future[Any]] = []
    most: list[int] = []

    def ask() -> Future[Any]:
        future: Future[Any] = Future()
        flying.append(future)
        most.append(len(flying))
        if len(most) == 2:
            flying.pop(0).set_result("said")
        return future

    def take(*_: object) -> None:
        if flying:
            flying.pop(0).set_result("said")

    sampling.collect(dict.fromkeys("abcde", ask), 5, take)
    assert most == [1, 2, 2, 2, 2]


def test_after_a_failure_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "IN_FLIGHT", 2)
    pending: dict[str, Future[Any]] = {name: Future() for name in "ab"}
    pending["a"].set_exception(KeyError("gone"))
    pending["b"].set_result(1)
    asked = submitted(pending) | {"c": lambda: pytest.fail("it is asked all the same")}
    with pytest.raises(DistillationError, match="1 of 3 questions failed"):
        sampling.collect(asked, 5, lambda *_: None)
