"""What all tests share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from, or left in, the cache of whoever runs the tests; processes inherit that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the machine that runs the tests must not decide what they see."""
    for name in ("CI", "TINKER_API_KEY", "TINKER_BASE_URL", "PYTEST_ADDOPTS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def pytest_collect_file() -> None:
    """Only here: a session that runs steps loads this file as well, with nothing that tests need."""
    let_examples_take_their_time()


@functools.cache
def let_examples_take_their_time() -> None:
    """How long an example takes says something of the machine, and nothing of what is tested."""
    with contextlib.suppress(ImportError):
        from hypothesis import HealthCheck, settings

        patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
        settings.register_profile("patient", settings(), **patient)
        settings.load_profile("patient")
