"""What a client that was killed had opened is freed, and its work goes on from what it saved."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
np = pytest.importorskip("numpy")
tinker = pytest.importorskip("tinker")

from distillation import chat  # noqa: E402
from distillation.engine.checkpoints import Store  # noqa: E402
from distillation.engine.engine import Engine  # noqa: E402
from distillation.engine.protocol import BatchRequest, Example  # noqa: E402
from distillation.engine.refusals import Refused  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

PROJECT = Path(__file__).parents[3]
TIME = 120

SILENCE = 20.0
"""Seconds: the SDK gives a sign of life every ten, so a client that lives is not taken for dead."""

CLIENT = """
import sys, time, tinker
from distillation import chat
address, model = sys.argv[1:]
service = tinker.ServiceClient(base_url=address, api_key="tml-local")
training = service.create_lora_training_client(model, rank=8, seed=0).result(timeout=120)
batch = [chat.datum(chat.tokenizer_of(model), "Who is there?", "It is I, Sir!")]
for _ in range(3):
    training.forward_backward(batch, "cross_entropy").result(timeout=120)
    training.optim_step(tinker.AdamParams(learning_rate=0.01)).result(timeout=120)
path = training.save_state("kept").result(timeout=120).path
loss = training.forward(batch, "cross_entropy").result(timeout=120).metrics["loss:sum"]
sampling = service.create_sampling_client(base_model=model).result(timeout=120)
sampling.sample(tinker.ModelInput.from_ints([5] * 50), 500, tinker.SamplingParams(max_tokens=900, stop=[]))
print(path, loss, flush=True)
time.sleep(600)
"""


def test_a_session_that_is_over_leaves_nothing_in_memory(backend: Any, tmp_path: Path) -> None:
    kept: list[weakref.ref[Any]] = []

    async def go() -> None:
        engine = Engine(backend, Store(tmp_path), asyncio.get_running_loop())
        engine.start()
        session = engine.sessions.open().id
        new = {"session_id": session, "base_model": engine.name, "lora_config": {"rank": 4}}
        run = engine.create_run(new | {"model_seq_id": 0})
        sampler = engine.open_sampler(new | {"sampling_session_seq_id": 0})
        row = Example(np.arange(5), np.arange(5), np.ones(5, np.float32))
        engine.forward_backward(BatchRequest(run, 1, (row,), True))
        last = engine.optim_step({"model_id": run, "seq_id": 2, "adam_params": {"learning_rate": 0.1}})
        ahead = engine.optim_step({"model_id": run, "seq_id": 9, "adam_params": {"learning_rate": 0.1}})
        prompt = {"chunks": [{"tokens": [5, 6]}]}
        how = {"max_tokens": 2}
        asked = [
            engine.sample(
                {"sampling_session_id": sampler, "seq_id": number, "prompt": prompt, "sampling_params": how}
            )[0]
            # The second of them is of a copy of the client.
            for number in (1, 1_000_000_000 * engine.join_sampler(sampler) + 1)
        ]
        for request in (last, *asked):
            assert await engine.futures.collect(request, TIME) is not None
        assert ahead in engine.futures
        assert engine.completions._finished
        opened = engine._runs.find(run)
        adapter = opened.adapter
        assert adapter is not None
        tensors = [*adapter.parameters, *(state["exp_avg"] for state in adapter.optimizer.state.values())]
        assert len(tensors) > len(adapter.parameters)
        kept.extend(weakref.ref(tensor) for tensor in tensors)
        del adapter, tensors

        engine.close_session(session)
        while opened.adapter is not None:
            await asyncio.sleep(0.01)
        engine.close()
        for unknown in (lambda: engine._runs.find(run), lambda: engine.sampler_path(sampler)):
            with pytest.raises(Refused):
                unknown()
        assert len(engine.futures) == 0
        assert not engine.completions._finished
        assert not engine.completions._count
        assert not engine.completions._news

    asyncio.run(go())
    gc.collect()
    assert [one() for one in kept if one() is not None] == []


@pytest.fixture
def address(model: str, tmp_path: Path) -> Iterator[str]:
    """Of an engine that is not a child of its clients, with a short patience."""
    command = [sys.executable, "-m", "distillation.engine", "serve", "--silence", str(SILENCE)]
    command += ["--model", model, "--root", str(tmp_path / "root")]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["address"])
        finally:
            process.kill()


def status(address: str, path: str, body: dict[str, Any] | None = None) -> int:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/api/v1/{path}", data, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIME) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_a_killed_client_is_freed_and_another_goes_on_from_its_checkpoint(address: str, model: str) -> None:
    service = tinker.ServiceClient(base_url=address, api_key="tml-local")
    idle = service.create_lora_training_client(model, rank=2, seed=0).result(timeout=TIME)
    command = [sys.executable, "-c", CLIENT, address, model]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            path, loss = client.stdout.readline().split()
        finally:
            client.kill()
    killed = time.monotonic()
    run = path.split("/")[2]

    def opened() -> tuple[int, int]:
        sampler = f"{run.split(':')[0]}:sample:0"
        return status(address, "get_info", {"model_id": run}), status(address, f"samplers/{sampler}")

    assert opened() == (200, 200)
    while opened() != (404, 404):
        assert time.monotonic() - killed < 6 * SILENCE
        time.sleep(0.1)

    batch = [chat.datum(chat.tokenizer_of(model), "Who is there?", "It is I, Sir!")]
    resumed = service.create_training_client_from_state_with_optimizer(path).result(timeout=TIME)
    for training in (resumed, idle):
        assert training.forward_backward(batch, "cross_entropy").result(timeout=TIME)
        training.optim_step(tinker.AdamParams(learning_rate=0.01)).result(timeout=TIME)
    again = service.create_training_client_from_state_with_optimizer(path).result(timeout=TIME)
    assert again.forward(batch, "cross_entropy").result(timeout=TIME).metrics["loss:sum"] == float(loss)
    service.close("success").result(timeout=TIME)
