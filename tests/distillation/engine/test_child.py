"""The engine as a child: it comes up or says why not, and nobody outlives the other unnoticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
tinker = pytest.importorskip("tinker")

from distillation import client  # noqa: E402
from distillation.engine import child  # noqa: E402
from distillation.errors import DistillationError  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

PROJECT = Path(__file__).parents[3]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or " Z " not in Path(f"/proc/{pid}/stat").read_text()


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while lives(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_killed_engine_is_an_error_within_seconds_and_says_so(model: str, tmp_path: Path) -> None:
    with child.engine(model, tmp_path, 60) as running:
        service = tinker.ServiceClient(base_url=running.address, api_key="tml-local")
        training = service.create_lora_training_client(model, rank=2, seed=0).result(timeout=120)
        sampler = service.create_sampling_client(base_model=model).result(timeout=120)
        how = tinker.SamplingParams(max_tokens=900, stop=[])
        pending = sampler.sample(tinker.ModelInput.from_ints([5] * 50), 1000, how)
        os.kill(running.pid, signal.SIGKILL)
        begin = time.monotonic()
        for ask in (pending.result, training.save_state("x").result):
            with pytest.raises(Exception, match="the local engine has ended with exit code -9"):
                ask(timeout=180)
        assert time.monotonic() - begin < 90
        assert "-9" in str(running.obituary())


def test_an_engine_killed_under_a_user_is_one_clear_line(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    original = child.Child.__init__

    def remember(self: Any, *arguments: Any) -> None:
        started.append(self)
        original(self, *arguments)

    monkeypatch.setattr(child.Child, "__init__", remember)
    with (  # noqa: PT012 - what is in the block is the use that fails
        pytest.raises(
            DistillationError, match=r"the local engine has ended with exit code -9.*run the step again"
        ),
        client.connected(model) as service,
    ):
        os.kill(started[0].pid, signal.SIGKILL)
        service.create_lora_training_client(model, rank=2).result(timeout=120)


def test_the_engine_dies_with_a_killed_parent(model: str, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from distillation.engine.child import engine\n"
        "with engine(sys.argv[1], Path(sys.argv[2]), 60) as e: print(e.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, model, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
        assert gone_within(pid, 40)


def test_the_engine_ends_with_the_with_statement(model: str, tmp_path: Path) -> None:
    with child.engine(model, tmp_path, 60) as running:
        assert lives(running.pid)
    assert gone_within(running.pid, 60)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DistillationError, match=r"no model is there.*DISTILLATION_LOCAL_MODEL"),
        client.connected(str(tmp_path)),
    ):
        pass


def test_an_engine_that_does_not_come_up_says_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "none"}))
    with (
        pytest.raises(DistillationError, match=r"did not come up, exit code 1 \(it said: .*no model can"),
        client.connected(str(tmp_path)),
    ):
        pass


def test_an_engine_that_takes_too_long_is_given_up(model: str) -> None:
    with (
        pytest.raises(DistillationError, match=r"did not answer within 0\.01 s"),
        client.connected(model, patience=0.01),
    ):
        pass


def test_a_service_that_cannot_be_reached_is_one_line_without_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-0123456789abcdef")
    monkeypatch.setenv("TINKER_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(DistillationError) as failure, client.connected(patience=2):
        pass
    assert "127.0.0.1 did not answer within 2 s; check the network" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "0123456789abcdef" not in str(failure.value)


def test_an_unknown_base_model_is_named(service: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-0123456789abcdef")
    monkeypatch.setenv("TINKER_BASE_URL", str(service._base_url))
    with (
        pytest.raises(
            DistillationError,
            match=r"'no/such' is unknown to 127\.0\.0\.1, which has .*; correct base_model in",
        ),
        client.connected("no/such"),
    ):
        pass
    with client.connected(model) as hosted:
        assert hosted.create_sampling_client(base_model=model).result(timeout=120)
