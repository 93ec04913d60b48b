from __future__ import annotations

import json
import sys
import threading
import types
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distillation import auth, install, settings
from distillation.command import run
from distillation.errors import DistillationError
from tests.distillation.conftest import Events

KEY = "tml-4f9c2b7d1e8a4c6f"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"


class FakeAuth:
    """Stands for ``tinker.auth``: answers as told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.hangs = False
        self.asked = 0
        self.release = threading.Event()

    def raise_if_tinker_not_accessible(self) -> None:
        self.asked += 1
        if self.hangs:
            self.release.wait(10)
        if self.failure:
            raise self.failure


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeAuth:
    """A fake SDK under the real one's names; nothing is installed."""
    fake = FakeAuth()
    sdk = types.ModuleType("tinker")
    sdk.auth = fake  # type: ignore[attr-defined]
    lib = types.ModuleType("tinker.lib")
    base = types.ModuleType("tinker.lib.base_url")
    base.DEFAULT_BASE_URL = "https://hosted.example/services/x"  # type: ignore[attr-defined]
    for module in (sdk, lib, base):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(install, "missing", lambda _: [])
    return fake


def record(engine: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(Path("runs", engine, "engine.json").read_text())
    return loaded


def test_without_a_key_nobody_is_asked(service: FakeAuth, said: Events) -> None:
    assert run(auth.main, []) == 0
    assert service.asked == 0
    assert said()[0] == {"note": "engine: local, no service was contacted"}
    assert {"criterion": "Engine settled and recorded"} in said()
    assert record("local")["engine"] == "local"
    assert record("local")["host"] is None
    assert run(auth.main, ["--check"]) == 0


def test_an_empty_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "")
    assert settings.engine() == "local"
    assert settings.run_folder() == Path("runs/local")


@pytest.mark.parametrize("key", [KEY, JWT])
def test_a_key_that_the_service_takes_is_recorded_without_the_key(
    key: str,
    service: FakeAuth,
    said: Events,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", key)
    assert run(auth.main, []) == 0
    assert service.asked == 1
    assert record("tinker") | {"checked_at": "", "sdk_version": ""} == {
        "engine": "tinker",
        "host": "hosted.example",
        "authenticated": True,
        "checked_at": "",
        "sdk_version": "",
    }
    assert run(auth.main, ["--check"]) == 0
    printed = capsys.readouterr()
    everything = printed.out + printed.err + Path("runs/tinker/engine.json").read_text() + str(said())
    assert key not in everything


@pytest.mark.parametrize("key", ["sk-4f9c2b7d1e8a4c6f", "tml-abc", "eyJonly", f" {KEY}", f"{KEY}\n", "   "])
@pytest.mark.parametrize("arguments", [[], ["--key-form"]])
def test_a_wrong_form_is_one_line_and_is_sent_nowhere(
    key: str,
    arguments: list[str],
    service: FakeAuth,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", key)
    assert run(auth.main, arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "does not look like a key" in printed.err
    assert not key.strip() or key.strip() not in printed.err + printed.out
    assert service.asked == 0
    assert not Path("runs").exists()


@given(key=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60))
def test_what_is_said_of_a_wrong_key_tells_its_length_and_nothing_else(key: str) -> None:
    assume(not key.startswith(("tml-", "eyJ")))
    with pytest.raises(DistillationError) as mistake:
        auth.check_key_form(key)
    with pytest.raises(DistillationError) as other:
        auth.check_key_form("-" * len(key))
    assert str(mistake.value) == str(other.value)


def test_a_refused_key_says_what_to_do_and_hides_the_key(
    service: FakeAuth, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class AuthenticationError(Exception):
        """Named as the SDK's."""

    monkeypatch.setenv("TINKER_API_KEY", KEY)
    service.failure = AuthenticationError(f"401: no such key\n{KEY}")
    assert run(auth.main, []) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the service refused the key; make a new one" in printed
    assert KEY not in printed
    assert not Path("runs/tinker/engine.json").exists()


def test_a_service_that_never_answers_ends_at_the_deadline(
    service: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_BASE_URL", "http://127.0.0.1:9/x")
    service.hangs = True
    with pytest.raises(DistillationError, match=r"127\.0\.0\.1 gave no usable answer within 0\.05 s"):
        auth.settle(timeout=0.05)
    service.release.set()


def test_an_address_without_a_host_is_a_users_mistake(
    service: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_BASE_URL", "localhost:8000")
    with pytest.raises(DistillationError, match="TINKER_BASE_URL is no address"):
        auth.settle()


def test_a_missing_sdk_is_installed_before_the_key_is_tried(
    service: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[list[str]] = []

    def ensure(requirements: list[object]) -> list[str]:
        asked_for.append([str(r) for r in requirements])
        return ["tinker"]

    monkeypatch.setattr(install, "ensure", ensure)
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    assert auth.settle().authenticated
    assert len(asked_for) == 1
    assert [r.startswith("tinker") for r in asked_for[0]] == [True]


@pytest.mark.parametrize(
    ("engine", "written", "complaint"),
    [
        ("tinker", {"engine": "tinker", "host": "h", "authenticated": False}, "the key was not proven"),
        ("tinker", {"engine": "local", "host": None}, "written for engine local"),
        ("local", {"engine": "local", "host": "h"}, "names a host although there is no key"),
    ],
)
def test_a_record_that_does_not_fit_fails_the_check(
    engine: str, written: dict[str, object], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "tinker":
        monkeypatch.setenv("TINKER_API_KEY", KEY)
    path = Path("runs", engine, "engine.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(written))
    with pytest.raises(DistillationError, match=complaint):
        auth.check_record()


def test_the_record_of_the_other_engine_does_not_count(
    service: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(auth.main, [])
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    with pytest.raises(DistillationError, match=r"runs/tinker/engine\.json: No such file"):
        auth.check_record()
