"""Workers that are started before xdist asks for them."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import execnet
import psutil
import pytest

from pytest_tinker_steps.ahead import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2)
    yield made
    made.close()


def given(workers: Workers) -> Any:
    """The group of xdist's manager from then on."""
    manager = SimpleNamespace(group=None)
    workers.give(manager)
    return manager.group


def made(group: Any) -> execnet.Gateway:
    """A worker as xdist makes it."""
    spec = execnet.XSpec("execmodel=main_thread_only//popen")
    group.allocate_id(spec)
    gateway: execnet.Gateway = group.makegateway(spec)
    return gateway


def taken(group: Any, name: str) -> execnet.Gateway:
    gateway: execnet.Gateway = group.makegateway(
        execnet.XSpec(f"execmodel=main_thread_only//popen//id={name}")
    )
    return gateway


def said(gateway: execnet.Gateway, expression: str) -> Any:
    return gateway.remote_exec(f"import os, sys\nchannel.send({expression})").receive()


def test_xdist_is_given_those_that_have_loaded_pytest(workers: Workers) -> None:
    group = given(workers)
    gateways = [taken(group, "gw1"), taken(group, "gw0")]
    assert [gateway.id for gateway in gateways] == ["gw1", "gw0"]
    for gateway in gateways:
        assert said(gateway, "'_pytest.terminal' in sys.modules and 'xdist.plugin' not in sys.modules")
    group.terminate(timeout=30.0)


def test_one_in_place_of_another_that_died_is_made_anew(workers: Workers) -> None:
    group = given(workers)
    taken(group, "gw0")
    taken(group, "gw1")
    another = made(group)
    assert another.id == "gw2"
    assert said(another, "'_pytest' not in sys.modules")
    group.terminate(timeout=30.0)


def test_each_is_as_if_started_when_xdist_asks(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SET_MEANWHILE", "yes")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setitem(os.environb, b"NO_TEXT", b"\xff")
    monkeypatch.chdir(tmp_path)
    group = given(workers)
    gateway = taken(group, "gw0")
    assert said(gateway, "(os.environ['SET_MEANWHILE'], 'HOME' in os.environ, os.getcwd())") == (
        "yes",
        False,
        str(tmp_path),
    )
    assert said(gateway, "os.environb[b'NO_TEXT']") == b"\xff"


def test_those_that_nobody_asked_for_are_ended(workers: Workers) -> None:
    group = given(workers)
    taken(group, "gw0")
    before = psutil.Process().children()
    assert before
    workers.close()
    # On a slow machine one may have to be killed, and is waited for by nobody but us.
    assert psutil.wait_procs(before, timeout=60)[1] == []


def test_nothing_is_parsed_by_the_threads_that_start_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("the main thread may be parsing something")

    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", parsed)
        workers = Workers(2)
        group = given(workers)
        gateway = taken(group, "gw1")
        known = gateway._rinfo()
    assert (known.executable, known.version_info) == (sys.executable, tuple(sys.version_info[:5]))
    assert known.pid == said(gateway, "os.getpid()")
    assert known.__dict__.keys() == gateway._rinfo(update=True).__dict__.keys()
    workers.close()
