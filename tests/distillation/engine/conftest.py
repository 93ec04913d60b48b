"""A random tiny model, and engines to drive: only the loopback can be reached."""

from __future__ import annotations

import gc
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distillation.engine.tiny import make_model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test; a connection to anywhere but the loopback fails the test."""
    for name in ("TINKER_API_KEY", "TINKER_BASE_URL", "TINKER_STEPS_EVENTS", "DISTILLATION_LOCAL_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    connect = socket.socket.connect

    def loopback_only(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", f"wanted the network: {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", loopback_only)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def _sdk_leftovers() -> Iterator[None]:
    """The SDK drops connections to an engine that is gone without closing them, which is not our mistake."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random tiny model with its tokenizer."""
    return str(make_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session")
def backend(model: str) -> Any:
    """The tiny model, loaded into the test's own process."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from distillation.engine.backend import Backend

    return Backend(Path(model))


@pytest.fixture(scope="session")
def plain(model: str) -> Any:
    """The tiny model as transformers loads it: what the engine's numbers are held against."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(model).eval()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine behind ``service`` keeps its checkpoints."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def service(model: str, root: Path) -> Iterator[Any]:
    """The SDK, connected to an engine of its own."""
    from distillation.client import connected

    os.environ.pop("TINKER_API_KEY", None)
    with connected(model, root=root) as connection:
        yield connection
