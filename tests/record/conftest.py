"""Lists on disk, for the tests of ticks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .sessions import a_list
from .written import Written


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Written]:
    def write(text: str | bytes) -> Written:
        data = text.encode() if isinstance(text, str) else text
        return Written(tmp_path / "SPEC.md", data)

    return write


@pytest.fixture
def three(write: Callable[..., Written]) -> Written:
    return write(a_list("First", "Second", "Third"))
