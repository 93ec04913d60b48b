"""The real SDK trains on the engine: loss falls, resuming goes on exactly, checkpoints come and go."""

from __future__ import annotations

import importlib
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
tinker = pytest.importorskip("tinker")

from distillation import chat  # noqa: E402
from distillation.client import rest_client  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

TIME = 60
RATE = tinker.AdamParams(learning_rate=1e-2)


@pytest.fixture(scope="module")
def batch(model: str) -> list[Any]:
    tokenizer = chat.tokenizer_of(model)
    return [chat.datum(tokenizer, f"Question {n}?", f"It is {n}, Sir!") for n in range(8)]


@pytest.fixture
def training(service: Any, model: str) -> Any:
    return service.create_lora_training_client(model, rank=4, seed=0).result(timeout=TIME)


def steps(training: Any, batch: list[Any], count: int) -> list[float]:
    pending = [
        (training.forward_backward(batch, "cross_entropy"), training.optim_step(RATE)) for _ in range(count)
    ]
    for _, step in pending:
        step.result(timeout=TIME)
    return [loss.result(timeout=TIME).metrics["loss:sum"] for loss, _ in pending]


def test_loss_falls(training: Any, batch: list[Any]) -> None:
    losses = steps(training, batch, 15)
    assert losses[-1] < 0.5 * losses[0]


def test_forward_alone_changes_nothing(training: Any, batch: list[Any]) -> None:
    first = training.forward(batch, "cross_entropy").result(timeout=TIME)
    training.optim_step(RATE).result(timeout=TIME)
    second = training.forward(batch, "cross_entropy").result(timeout=TIME)
    assert first.metrics == second.metrics
    assert len(first.loss_fn_outputs) == len(batch)
    assert len(first.loss_fn_outputs[3]["logprobs"].data) == batch[3].model_input.length


def test_a_resumed_training_goes_on_exactly(service: Any, training: Any, batch: list[Any]) -> None:
    steps(training, batch, 3)
    path = training.save_state("third").result(timeout=TIME).path
    wanted = steps(training, batch, 4)
    resumed = service.create_training_client_from_state_with_optimizer(path).result(timeout=TIME)
    assert steps(resumed, batch, 4) == wanted
    without = service.create_training_client_from_state(path).result(timeout=TIME)
    losses = steps(without, batch, 4)
    assert losses[0] == wanted[0]
    assert losses[1:] != wanted[1:]


def test_a_batch_in_many_chunks_counts_as_one(
    training: Any, batch: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.forward(batch, "cross_entropy").result(timeout=TIME)
    config = training.holder._client_config.model_copy(update={"fwdbwd_max_chunk_len": 2})
    monkeypatch.setattr(training.holder, "_client_config", config)
    parts = training.forward(batch, "cross_entropy").result(timeout=TIME)
    assert parts.metrics["loss:sum"] == pytest.approx(whole.metrics["loss:sum"], rel=1e-5)
    assert len(parts.loss_fn_outputs) == len(batch)


def test_checkpoints_are_listed_get_a_time_to_live_and_are_deleted(service: Any, training: Any) -> None:
    path = training.save_state("mine", ttl_seconds=7200).result(timeout=TIME).path
    rest = rest_client(service)
    run = path.split("/")[2]

    def listed() -> dict[str, Any]:
        return {one.tinker_path: one for one in rest.list_checkpoints(run).result(timeout=TIME).checkpoints}

    assert listed()[path].expires_at is not None
    rest.set_checkpoint_ttl_from_tinker_path(path, None).result(timeout=TIME)
    assert listed()[path].expires_at is None
    assert path in {one.tinker_path for one in rest.list_user_checkpoints().result(timeout=TIME).checkpoints}
    assert rest.get_training_run(run).result(timeout=TIME).lora_rank == 4
    assert rest.get_weights_info_by_tinker_path(path).result(timeout=TIME).lora_rank == 4
    rest.delete_checkpoint_from_tinker_path(path).result(timeout=TIME)
    assert path not in listed()
    with pytest.raises(Exception, match="never saved, deleted, or expired"):
        service.create_training_client_from_state(path).result(timeout=TIME)


def test_a_name_is_taken_once(training: Any) -> None:
    training.save_state("name").result(timeout=TIME)
    with pytest.raises(tinker.RequestFailedError, match="exists already"):
        training.save_state("name").result(timeout=TIME)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_exported_adapter_loads_in_peft_and_says_what_the_engine_says(
    service: Any, training: Any, batch: list[Any], model: str, tmp_path: Path
) -> None:
    torch, peft = importlib.import_module("torch"), importlib.import_module("peft")
    transformers = importlib.import_module("transformers")
    steps(training, batch, 5)
    wanted = training.forward(batch, "cross_entropy").result(timeout=TIME)
    path = training.save_weights_external("out").result(timeout=TIME).path
    urls = rest_client(service).get_external_weights_urls(path).result(timeout=TIME).urls
    assert set(urls) >= {"adapter_model.safetensors", "adapter_config.json"}
    for name, url in urls.items():
        with urllib.request.urlopen(url, timeout=TIME) as answer:
            (tmp_path / name).write_bytes(answer.read())
    plain = transformers.AutoModelForCausalLM.from_pretrained(model)
    adapted = peft.PeftModel.from_pretrained(plain, str(tmp_path))
    for one, output in zip(batch, wanted.loss_fn_outputs, strict=True):
        tokens = torch.tensor([one.model_input.to_ints()])
        targets = torch.tensor(one.loss_fn_inputs["target_tokens"].data)
        logprobs = torch.log_softmax(adapted(input_ids=tokens).logits[0], -1).detach()
        found = logprobs[torch.arange(targets.numel()), targets]
        torch.testing.assert_close(found, torch.tensor(output["logprobs"].data), atol=1e-4, rtol=0)
