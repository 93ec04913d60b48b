"""A training in the current folder, on a service that is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distillation import training_fakes as fakes
from tests.distillation.training_fakes import FakeService, attempt, laid_out, outcome


@pytest.fixture(autouse=True)
def sdk_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's types, which need not be installed."""
    monkeypatch.setitem(sys.modules, "tinker.types", fakes.fake_types())


@pytest.fixture
def service(folder: Path) -> FakeService:
    """What the training commands work on."""
    return FakeService(folder / "service")


@pytest.fixture
def run_folder(monkeypatch: pytest.MonkeyPatch, service: FakeService) -> Path:
    """The run folder of the training commands, with its data in it."""
    return fakes.connect(monkeypatch, service)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a training leaves behind that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tinker.types", fakes.fake_types())
        place = tmp_path_factory.mktemp("uninterrupted")
        folder = laid_out(place / "run")
        attempt(FakeService(place / "service"), folder)
        return outcome(folder)
