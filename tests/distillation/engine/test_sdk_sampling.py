"""The real SDK samples from the engine."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
tinker = pytest.importorskip("tinker")

from distillation import chat  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

TIME = 60


@pytest.fixture(scope="module")
def sampler(service: Any, model: str) -> Any:
    return service.create_sampling_client(base_model=model).result(timeout=TIME)


def prompt(model: str, question: str, system: str | None = None) -> Any:
    return tinker.ModelInput.from_ints(chat.prompt_tokens(chat.tokenizer_of(model), question, system))


def ask(sampler: Any, asked: Any, count: int = 1, **how: Any) -> Any:
    return sampler.sample(asked, count, tinker.SamplingParams(**how)).result(timeout=TIME)


def test_greedy_is_the_argmax_of_the_plain_model(sampler: Any, model: str, plain: Any) -> None:
    asked = prompt(model, "Who are you?")
    found = ask(sampler, asked, max_tokens=10, temperature=0.0, stop=[]).sequences[0]
    tokens = asked.to_ints()
    for _ in range(10):
        tokens.append(int(plain(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    assert list(found.tokens) == tokens[-10:]
    assert found.stop_reason == "length"


def test_the_same_seed_gives_the_same_tokens(sampler: Any, model: str) -> None:
    asked = prompt(model, "Who are you?")
    one, again, other = (ask(sampler, asked, 2, max_tokens=12, seed=seed) for seed in (1, 1, 2))
    assert [list(s.tokens) for s in one.sequences] == [list(s.tokens) for s in again.sequences]
    assert [list(s.tokens) for s in one.sequences] != [list(s.tokens) for s in other.sequences]


def test_stop_tokens_and_stop_texts_end_an_answer(sampler: Any, model: str) -> None:
    tokenizer = chat.tokenizer_of(model)
    asked = prompt(model, "Who are you?")
    free = list(ask(sampler, asked, max_tokens=12, temperature=0.0, stop=[]).sequences[0].tokens)
    for stop in ([free[4]], [tokenizer.decode(free[3:5])], tokenizer.decode(free[3:5])):
        found = ask(sampler, asked, max_tokens=12, temperature=0.0, stop=stop).sequences[0]
        assert found.stop_reason == "stop"
        assert list(found.tokens) == free[: len(found.tokens)]
        assert len(found.tokens) <= 5


def test_prompt_log_probabilities_are_those_of_the_plain_model(sampler: Any, model: str, plain: Any) -> None:
    asked = prompt(model, "Who?", "Be brief.")
    found = sampler.compute_logprobs(asked).result(timeout=TIME)
    tokens = torch.tensor(asked.to_ints())
    logprobs = torch.log_softmax(plain(input_ids=tokens[None]).logits[0], -1).detach()
    wanted = logprobs[torch.arange(tokens.numel() - 1), tokens[1:]]
    assert found[0] is None
    torch.testing.assert_close(torch.tensor(found[1:]), wanted, atol=1e-4, rtol=1e-4)


def test_many_requests_with_one_system_prompt_share_it(sampler: Any, model: str) -> None:
    asked = [prompt(model, f"{n}?", "Be brief. " * 20) for n in range(300)]
    pending = [sampler.sample(a, 1, tinker.SamplingParams(max_tokens=8, seed=1)) for a in asked]
    answers = [one.result(timeout=TIME) for one in pending]
    assert sum(one.prompt_cache_hit_tokens > 200 for one in answers) > 250


def test_a_trained_student_is_sampled_from_its_checkpoint(service: Any, model: str) -> None:
    tokenizer = chat.tokenizer_of(model)
    training = service.create_lora_training_client(model, rank=8, seed=0).result(timeout=TIME)
    batch = [chat.datum(tokenizer, f"Question {n}?", "Fate!") for n in range(8)]
    for _ in range(40):
        training.forward_backward(batch, "cross_entropy")
        last = training.optim_step(tinker.AdamParams(learning_rate=1e-2))
    last.result(timeout=TIME)
    path = training.save_weights_for_sampler("student").result(timeout=TIME).path
    named = service.create_sampling_client(model_path=path).result(timeout=TIME)
    passing = training.save_weights_and_get_sampling_client().result(timeout=TIME)
    base = service.create_sampling_client(base_model=model).result(timeout=TIME)
    asked = prompt(model, "Question 3?")
    said = [
        chat.answer_text(tokenizer, ask(one, asked, max_tokens=12, temperature=0.0).sequences[0].tokens)
        for one in (named, passing, base)
    ]
    assert said[0] == said[1] == "Fate!"
    assert said[2] != "Fate!"
