"""A step's run over fakes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fake_runs import Made, Make


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda yaml, *args, **more: Made(tmp_path, yaml, *args, **more)


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """An interrupt that comes while the collector calls somebody back is swallowed there."""
    gc.disable()
    yield
    gc.enable()
