"""A step's run over fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fake_runs import Made, Make


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda yaml, *args, **more: Made(tmp_path, yaml, *args, **more)
