"""Sampling in batches with a shared prefix, held against the plain model token by token."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from distillation.engine.attention import Slots  # noqa: E402 - it needs torch, which may not be there
from distillation.engine.batch import Batch, Job, Outcome  # noqa: E402
from distillation.engine.choose import choose  # noqa: E402
from distillation.engine.protocol import SampleRequest, SampleResult, Sampling  # noqa: E402
from distillation.engine.sampling import Sampler, shared_length  # noqa: E402
from tests.distillation.engine.tiny import END  # noqa: E402

SYSTEM = tuple(random.Random(7).choices(range(3, 259), k=90))
BASE: Mapping[str, Any] = {}


def prompts(count: int, system: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    numbers = random.Random(count)
    return [(*system, *numbers.choices(range(3, 259), k=numbers.randint(4, 12))) for _ in range(count)]


def sample(backend: Any, requests: list[SampleRequest]) -> list[SampleResult]:
    sampler = Sampler(backend)
    outcomes: dict[int, Outcome] = {}
    for number, request in enumerate(requests):
        sampler.add(Job(request, BASE, partial(outcomes.__setitem__, number)))
    while sampler.busy:
        sampler.step()
    results = [outcomes[number] for number in range(len(requests))]
    assert all(isinstance(result, SampleResult) for result in results), results
    return results  # type: ignore[return-value]


def cached_one_by_one(backend: Any, asked: list[tuple[int, ...]]) -> list[int]:
    """Tokens of each prompt that were read already, when each comes a token of its forerunners later."""
    sampler = Sampler(backend)
    outcomes: dict[int, Outcome] = {}
    for number, prompt in enumerate(asked):
        done = partial(outcomes.__setitem__, number)
        sampler.add(Job(SampleRequest(prompt, 1, Sampling(40, ends=False)), BASE, done, arrived=0))
        sampler.step()
    while sampler.busy:
        sampler.step()
    return [one.cached for _, one in sorted(outcomes.items()) if isinstance(one, SampleResult)]


def greedy(plain: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(plain(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("system", [(), SYSTEM], ids=["no prefix", "shared prefix"])
def test_greedy_is_the_argmax_of_the_plain_model(backend: Any, plain: Any, system: tuple[int, ...]) -> None:
    asked = prompts(9, system)
    found = sample(
        backend,
        [SampleRequest(p, 1, Sampling(n + 3, temperature=0, ends=False)) for n, p in enumerate(asked)],
    )
    for number, (prompt, result) in enumerate(zip(asked, found, strict=True)):
        answer = result.sequences[0]
        assert list(answer.tokens) == greedy(plain, prompt, number + 3)
        assert answer.stop == "length"
        assert result.cached == len(system)


def test_log_probabilities_are_those_of_the_plain_model(backend: Any, plain: Any) -> None:
    for prompt, result in zip(
        asked := prompts(5, SYSTEM),
        sample(backend, [SampleRequest(p, 1, Sampling(8, seed=1, ends=False), True) for p in asked]),
        strict=True,
    ):
        answer = result.sequences[0]
        tokens = torch.tensor([*prompt, *answer.tokens])
        logprobs = torch.log_softmax(plain(input_ids=tokens[None]).logits[0], -1).detach()
        wanted = logprobs[torch.arange(tokens.numel() - 1), tokens[1:]]
        assert result.prompt_logprobs is not None
        torch.testing.assert_close(
            torch.tensor(result.prompt_logprobs[1:]), wanted[: len(prompt) - 1], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            torch.tensor(answer.logprobs), wanted[len(prompt) - 1 :], atol=1e-4, rtol=1e-4
        )


def test_the_same_seed_gives_the_same_tokens_whatever_else_is_sampled(backend: Any) -> None:
    wanted = SampleRequest(prompts(1)[0], 3, Sampling(10, seed=42))
    alone = sample(backend, [wanted])[0]
    crowded = sample(backend, [SampleRequest(p, 1, Sampling(9)) for p in prompts(6, SYSTEM)] + [wanted])[-1]
    assert [list(one.tokens) for one in alone.sequences] == [list(one.tokens) for one in crowded.sequences]
    assert len({tuple(one.tokens) for one in alone.sequences}) == 3
    other = sample(backend, [SampleRequest(wanted.prompt, 3, Sampling(10, seed=43))])[0]
    assert [list(one.tokens) for one in other.sequences] != [list(one.tokens) for one in alone.sequences]


def test_a_common_beginning_is_shared_by_what_comes_one_by_one(backend: Any) -> None:
    assert cached_one_by_one(backend, prompts(12, SYSTEM)) == [0, *[len(SYSTEM)] * 11]


def test_what_more_the_first_share_does_not_keep_them_apart_from_the_rest(backend: Any) -> None:
    begun_alike = [(*SYSTEM, 5, 6, 7, *prompt) for prompt in prompts(5)]
    asked = [*begun_alike[:2], *prompts(3, SYSTEM), *begun_alike[2:]]
    assert cached_one_by_one(backend, asked) == [0, len(SYSTEM) + 3, *[len(SYSTEM)] * 6]


def test_a_common_beginning_is_shared_behind_a_job_of_another_kind(backend: Any) -> None:
    stranger = SampleRequest(prompts(1)[0], 1, Sampling(6))
    found = sample(backend, [stranger, *(SampleRequest(p, 1, Sampling(6)) for p in prompts(9, SYSTEM))])
    assert [one.cached for one in found] == [0, *[len(SYSTEM)] * 9]


def test_more_answers_than_slots_are_all_made(backend: Any) -> None:
    batch = Batch(backend, BASE, count=3)
    done: list[Outcome] = []
    job = Job(SampleRequest(prompts(1)[0], 10, Sampling(4, seed=0, ends=False)), BASE, done.append)
    batch.add(job)
    with torch.inference_mode():
        while batch.jobs:
            batch.step()
    assert isinstance(done[0], SampleResult)
    many = sample(backend, [job.request])[0]
    assert [list(a.tokens) for a in done[0].sequences] == [list(a.tokens) for a in many.sequences]


def test_one_long_prompt_takes_the_room_of_one() -> None:
    slots = Slots(192)
    for begin in (0, 500):
        slots.step(torch.tensor([0]), torch.tensor([begin]), 500)
        slots.attend(0, *torch.zeros(3, 1, 2, 500, 4), 1.0)
    assert slots.room == 1024
    slots.step(torch.tensor([2]), torch.tensor([0]), 1)
    slots.attend(0, *torch.zeros(3, 1, 2, 1, 4), 1.0)
    assert slots.room == 4 * 1024


def test_a_stop_token_a_stop_text_and_the_end_token_end_an_answer(backend: Any, plain: Any) -> None:
    prompt = prompts(1)[0]
    free = greedy(plain, prompt, 12)
    assert END not in free
    text = backend.tokenizer.decode(free[2:4])
    for stop in (
        Sampling(12, temperature=0, stop_tokens=frozenset({free[3]})),
        Sampling(12, temperature=0, stop_strings=(text,)),
    ):
        answer = sample(backend, [SampleRequest(prompt, 1, stop)])[0].sequences[0]
        assert answer.stop == "stop"
        assert list(answer.tokens) == free[: len(answer.tokens)]
        assert len(answer.tokens) <= 4


def test_a_failing_job_is_told_and_the_next_is_done(backend: Any) -> None:
    sampler = Sampler(backend)
    outcomes: list[Outcome] = []
    sampler.add(
        Job(SampleRequest(prompts(1)[0], 1, Sampling(3)), {"no.such.layer": torch.ones(1)}, outcomes.append)
    )
    sampler.add(Job(SampleRequest(prompts(1)[0], 1, Sampling(3)), BASE, outcomes.append))
    while sampler.busy:
        sampler.step()
    assert sorted(isinstance(outcome, SampleResult) for outcome in outcomes) == [False, True]


def test_a_job_of_a_dead_client_is_dropped_silently(backend: Any) -> None:
    sampler = Sampler(backend)
    outcomes: list[Outcome] = []
    sampler.add(Job(SampleRequest(prompts(1)[0], 1, Sampling(3)), BASE, outcomes.append, lambda: False))
    while sampler.busy:
        sampler.step()
    assert outcomes == []


def test_the_shared_beginning_is_the_one_that_saves_most() -> None:
    long, short = tuple(range(100)), tuple(range(40))
    assert shared_length((*long, 1), [(*long, 1), (*long, 2), (*short, 3, 4)]) == 100
    assert shared_length((*long, 1), [(*long, 1)]) == 0
    assert shared_length(long, [long, long]) == 99


def test_top_k_and_top_p_leave_out_the_unlikely() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    high = [0.9999]
    assert choose(logits, [Sampling(1)], high)[0] == [3]
    assert choose(logits, [Sampling(1, top_k=2)], high)[0] == [1]
    assert choose(logits, [Sampling(1, top_p=0.7)], high)[0] == [1]
    assert choose(logits, [Sampling(1, top_p=0.1)], high)[0] == [0]
    assert choose(logits, [Sampling(1)], [0.0])[0] == [0]
    assert choose(logits, [Sampling(1)], [0.6])[1] == pytest.approx([-1.20397], abs=1e-4)


def test_tokens_come_as_often_as_their_probability_says() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(3000, 1)
    numbers = random.Random(0)
    tokens, _ = choose(logits, [Sampling(1)] * 3000, [numbers.random() for _ in range(3000)])
    assert [tokens.count(token) / 3000 for token in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
