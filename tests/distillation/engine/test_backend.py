"""The model's side of the engine, held against plain transformers, autograd and PEFT."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")
pytest.importorskip("peft")

from distillation.engine.backend import LoraShape, micro_batches  # noqa: E402
from distillation.engine.protocol import Example  # noqa: E402
from distillation.engine.refusals import Failed  # noqa: E402
from tests.distillation.engine.tiny import make_model  # noqa: E402

SHAPE = LoraShape(rank=4, seed=1)
STEP = {"learning_rate": 1e-2}


def examples(count: int = 5, seed: int = 0) -> list[Example]:
    numbers = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        tokens = numbers.integers(3, 259, numbers.integers(6, 20))
        weights = (numbers.random(tokens.size - 1) > 0.3).astype(np.float32)
        made.append(Example(tokens[:-1], tokens[1:], weights))
    return made


def plain_loss(model: Any, batch: list[Example]) -> Any:
    total = torch.zeros(())
    for one in batch:
        logits = model(input_ids=torch.tensor(one.tokens)[None]).logits[0]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(one.targets), reduction="none")
        total = total + (losses * torch.tensor(one.weights)).sum()
    return total


def test_loss_and_log_probabilities_are_those_of_the_plain_model(backend: Any, plain: Any) -> None:
    batch = examples()
    result = backend.forward_backward(backend.create(SHAPE), batch, False)
    assert result.metrics["loss:sum"] == pytest.approx(float(plain_loss(plain, batch).detach()), rel=1e-5)
    for one, logprobs, losses in zip(batch, result.logprobs, result.losses, strict=True):
        logits = plain(input_ids=torch.tensor(one.tokens)[None]).logits[0].detach()
        wanted = torch.log_softmax(logits, -1)[torch.arange(one.tokens.size), one.targets]
        np.testing.assert_allclose(logprobs, wanted, atol=1e-4)
        np.testing.assert_allclose(losses, -wanted.numpy() * one.weights, atol=1e-4)


def test_gradients_are_those_of_autograd_through_the_plain_model(backend: Any, model: str) -> None:
    batch = examples()
    adapter = backend.create(SHAPE)
    with torch.no_grad():
        for parameter in adapter.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.05)
    backend.forward_backward(adapter, batch, True)
    names = [name for name, _ in backend._model.named_parameters() if f".{adapter.name}." in name]
    found = {name: p.grad for name, p in zip(names, adapter.parameters, strict=True)}

    transformers = importlib.import_module("transformers")
    plain = transformers.AutoModelForCausalLM.from_pretrained(model)
    weights = {name: p.detach() for name, p in plain.named_parameters()}
    factors = {
        name: p.detach().clone().requires_grad_() for name, p in zip(names, adapter.parameters, strict=True)
    }
    for name in names:
        if ".lora_A." in name:
            layer = name.split("base_model.model.")[1].split(".lora_A.")[0] + ".weight"
            up = factors[name.replace(".lora_A.", ".lora_B.")]
            weights[layer] = weights[layer] + 32 / SHAPE.rank * (up @ factors[name])

    def forward(**inputs: Any) -> Any:
        return torch.func.functional_call(plain, weights, kwargs=inputs)

    plain_loss(forward, batch).backward()
    assert len(found) == 2 * (2 * 7 + 1)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, factors[name].grad, atol=1e-4, rtol=1e-3)


def test_gradients_add_up_over_batches_until_the_step(backend: Any) -> None:
    batch = examples(6)
    whole, halves = backend.create(SHAPE), backend.create(SHAPE)
    backend.forward_backward(whole, batch, True)
    backend.forward_backward(halves, batch[:3], True)
    backend.forward_backward(halves, batch[3:], True)
    backend.forward_backward(halves, batch, False)
    for one, other in zip(whole.parameters, halves.parameters, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_an_adapter_with_the_same_seed_is_the_same_and_the_global_seed_is_left_alone(backend: Any) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other = backend.create(SHAPE), backend.create(SHAPE)
    for mine, yours in zip(one.parameters, other.parameters, strict=True):
        assert torch.equal(mine, yours)
    assert torch.equal(before, torch.random.get_rng_state())


def test_gradient_norm_is_reported_and_clipped(backend: Any) -> None:
    adapter = backend.create(SHAPE)
    backend.forward_backward(adapter, examples(), True)
    metrics = backend.optim_step(adapter, STEP | {"grad_clip_norm": 1e-3})
    assert metrics["grad_norm:mean"] > 1
    assert all(parameter.grad is None for parameter in adapter.parameters)


def test_a_saved_adapter_goes_on_exactly_as_if_it_had_never_stopped(backend: Any, tmp_path: Path) -> None:
    batch = examples()
    adapter = backend.create(SHAPE)
    losses = []
    for step in range(6):
        if step == 3:
            backend.save(adapter, tmp_path, optimizer=True)
        losses.append(backend.forward_backward(adapter, batch, True).metrics["loss:sum"])
        backend.optim_step(adapter, STEP)
    resumed = backend.load(tmp_path, backend.describe(SHAPE), optimizer=True)
    again = []
    for _ in range(3):
        again.append(backend.forward_backward(resumed, batch, True).metrics["loss:sum"])
        backend.optim_step(resumed, STEP)
    assert again == losses[3:]


def test_merged_weights_say_what_the_trained_adapter_says(backend: Any, tmp_path: Path, plain: Any) -> None:
    adapter = trained(backend, tmp_path)
    tokens = torch.tensor([[5, 9, 200, 33, 7]])
    backend._use(adapter)
    wanted = backend._model(input_ids=tokens, use_cache=False).logits.detach()
    weights = dict(plain.named_parameters())
    merged = backend.merged(tmp_path, backend.describe(SHAPE))
    weights |= {f"{name}.weight": value for name, value in merged.items()}
    found = torch.func.functional_call(plain, weights, kwargs={"input_ids": tokens}).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_saved_adapter_loads_in_peft_and_says_the_same(backend: Any, tmp_path: Path, model: str) -> None:
    adapter = trained(backend, tmp_path)
    tokens = torch.tensor([[5, 9, 200, 33, 7]])
    backend._use(adapter)
    wanted = backend._model(input_ids=tokens, use_cache=False).logits.detach()
    peft, transformers = importlib.import_module("peft"), importlib.import_module("transformers")
    plain = transformers.AutoModelForCausalLM.from_pretrained(model)
    before = plain(input_ids=tokens).logits.detach()
    found = peft.PeftModel.from_pretrained(plain, str(tmp_path))(input_ids=tokens).logits.detach()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert float((found - before).abs().max()) > 0.1


def trained(backend: Any, folder: Path) -> Any:
    adapter = backend.create(SHAPE)
    for _ in range(3):
        backend.forward_backward(adapter, examples(), True)
        backend.optim_step(adapter, STEP)
    backend.save(adapter, folder, optimizer=False)
    return adapter


def test_training_leaves_the_sampler_and_its_base_weights_alone(backend: Any, plain: Any) -> None:
    adapter = backend.create(SHAPE)
    backend.forward_backward(adapter, examples(), True)
    backend.optim_step(adapter, STEP)
    for name, parameter in backend.sampler_model.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name)), name


def test_an_adapter_of_another_base_is_refused(backend: Any, tmp_path: Path) -> None:
    from distillation.engine.backend import Backend

    other = Backend(make_model(tmp_path / "other", seed=1))
    backend.save(backend.create(SHAPE), tmp_path, optimizer=False)
    with pytest.raises(Failed, match="another base model"):
        other.load(tmp_path, backend.describe(SHAPE), optimizer=False)


def test_tied_weights_get_no_adapter_on_the_head(tmp_path: Path) -> None:
    from distillation.engine.backend import Backend

    tied = Backend(make_model(tmp_path, tie=True))
    assert len(tied.create(SHAPE).parameters) == 2 * 2 * 7
    with pytest.raises(Failed, match="no layer"):
        tied.create(LoraShape(rank=4, train_mlp=False, train_attn=False))


@pytest.mark.parametrize(
    ("change", "reason"), [({"tokens": 300}, "a token is not"), ({"targets": -1}, "a target is not")]
)
def test_tokens_that_the_model_does_not_know_are_named(
    backend: Any, change: dict[str, int], reason: str
) -> None:
    good = examples(2)
    fields = {"tokens": good[1].tokens, "targets": good[1].targets, "weights": good[1].weights}
    for name, token in change.items():
        fields[name] = np.full_like(fields[name], token)
    with pytest.raises(Failed, match=f"datum 1: {reason}"):
        backend.forward_backward(backend.create(SHAPE), [good[0], Example(**fields)], True)


def test_micro_batches_hold_every_row_once_and_never_too_much() -> None:
    lengths = [7, 3, 50, 3, 12, 100, 1]
    groups = list(micro_batches(lengths, 40))
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(g) == 1 or len(g) * max(lengths[row] for row in g) <= 40 for g in groups)
    assert list(micro_batches([], 40)) == []
