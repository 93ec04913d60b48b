"""Mains: what is started for each kind, and a Python function in the place of a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Main
from pytest_tinker_steps.run.mains import command, python
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor
from pytest_tinker_steps.run.surroundings import Surroundings, base_environ, layered

# -- what is started


@pytest.mark.parametrize(
    ("main", "args", "expected"),
    [
        (Main("command", command="make all | tee log"), None, "make all | tee log"),
        (Main("command", command=("make", "all")), None, ("make", "all")),
        (
            Main("script", script="train.py", args=("--steps", "500")),
            None,
            ("py", "train.py", "--steps", "500"),
        ),
        (
            Main("script", script="train.py", args=("--steps", "500")),
            ("--steps", "1"),
            ("py", "train.py", "--steps", "1"),
        ),
        (Main("script", script="train.py", args=("--steps", "500")), (), ("py", "train.py")),
        (Main("command", command=("make", "all")), ("-n",), ("make", "all", "-n")),
        (
            Main("command", command="make all"),
            ("-n", "a b"),
            ("/bin/sh", "-c", 'make all "$@"', "sh", "-n", "a b"),
        ),
    ],
)
def test_what_is_started_for_a_main(main: Main, args: tuple[str, ...] | None, expected: object) -> None:
    assert command.command_of(main, "py", args) == expected


def test_the_arguments_of_a_run_on_minimal_data_reach_a_shell_command_unchanged(tmp_path: Path) -> None:
    main = Main("command", command="printf '<%s>' made")
    made = command.command_of(main, "py", ("a b", "$HOME", "'; false"))
    said: list[str] = []
    with Processes(redactor=Redactor([])) as processes:
        ended = command.run(
            made,
            processes,
            cwd=tmp_path,
            env=dict(os.environ),
            timeout=60,
            log=tmp_path / "log",
            on_output=said.append,
            on_poll=lambda: None,
        )
    assert ended.exit == 0
    assert "".join(said) == "<made><a b><$HOME><'; false>"


def test_a_main_whose_folder_is_missing_says_so(tmp_path: Path) -> None:
    never: Any = None
    with pytest.raises(FileNotFoundError, match=r"its folder .*gone does not exist"):
        command.run(
            "true",
            never,
            cwd=tmp_path / "gone",
            env={},
            timeout=1,
            log=tmp_path / "log",
            on_output=None,
            on_poll=lambda: None,
        )


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("make all", "make all"),
        (("make", "all"), "make all"),
        ("\n  set -e\nmake\n", "set -e ..."),
        ("make\n", "make"),
    ],
)
def test_a_command_is_shown_on_one_line(what: Any, text: str) -> None:
    assert command.shown(what) == text


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=6)),
)
def test_texts_are_found_wherever_the_output_is_cut(texts: list[str], pieces: list[str]) -> None:
    watch = command.TextWatch(tuple(texts))
    for piece in pieces:
        watch.feed(piece)
    whole = "".join(pieces)
    assert watch.found == {text for text in texts if text in whole}


# -- Python functions


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module beside the list, with a name that no other test has imported."""
    name = f"work_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(
        "import asyncio, os, pathlib\n"
        "def plain(step, extra=1, *args, kind, **more): pass\n"
        "def tell(out):\n"
        "    out.update(cwd=os.getcwd(), here=os.environ.get('HERE'), kept=os.environ.get('KEPT'))\n"
        "def breaks():\n    raise ValueError('no data')\n"
        "async def waits(out):\n    await asyncio.sleep(0)\n    out['waited'] = True\n"
        "def imports_beside(out):\n    import beside\n    out['beside'] = beside.VALUE\n"
        "class Group:\n    @staticmethod\n    def inner(): return 7\n"
        "NUMBER = 7\n"
    )
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_a_function_is_found_in_the_folder_of_the_list(module: str, tmp_path: Path) -> None:
    before = list(sys.path)
    assert python.load(f"{module}:Group.inner", tmp_path)() == 7
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone", "has no function gone"),
        ("NUMBER", "has no function NUMBER"),
        ("Group.gone", "has no function Group.gone"),
    ],
)
def test_what_is_no_function_is_named(module: str, tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ImportError, match=why):
        python.load(f"{module}:{name}", tmp_path)


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="No module named 'no_such_module'"):
        python.load("no_such_module:run", tmp_path)


def test_parameters_without_a_default_are_fixtures(module: str, tmp_path: Path) -> None:
    assert python.parameters(python.load(f"{module}:plain", tmp_path)) == ["step", "kind"]


def test_a_function_sees_what_a_process_in_its_place_would(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.delenv("HERE", raising=False)
    (tmp_path / "work").mkdir()
    out: dict[str, Any] = {}
    before = (Path.cwd(), dict(os.environ), list(sys.path))
    function = python.load(f"{module}:tell", tmp_path)
    python.call(function, {"out": out}, {"HERE": "yes", "KEPT": "changed"}, tmp_path / "work")
    assert out == {"cwd": str(tmp_path / "work"), "here": "yes", "kept": "changed"}
    assert (Path.cwd(), dict(os.environ), list(sys.path)) == before


def test_a_function_that_fails_leaves_everything_as_it_was(module: str, tmp_path: Path) -> None:
    before = (Path.cwd(), dict(os.environ), list(sys.path))
    with pytest.raises(ValueError, match="no data"):
        python.call(python.load(f"{module}:breaks", tmp_path), {}, {"HERE": "yes"}, tmp_path)
    assert (Path.cwd(), dict(os.environ), list(sys.path)) == before


def test_an_async_function_is_awaited(module: str, tmp_path: Path) -> None:
    out: dict[str, Any] = {}
    python.call(python.load(f"{module}:waits", tmp_path), {"out": out}, {}, tmp_path)
    assert out == {"waited": True}


def test_a_function_imports_what_lies_in_its_folder(module: str, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 3\n")
    out: dict[str, Any] = {}
    try:
        python.call(python.load(f"{module}:imports_beside", tmp_path), {"out": out}, {}, tmp_path)
    finally:
        sys.modules.pop("beside", None)
    assert out == {"beside": 3}


# -- surroundings


def test_the_environment_of_a_step_is_not_that_of_a_test() -> None:
    given = {"PATH": "/usr/bin", "PYTEST_CURRENT_TEST": "x", "PYTEST_XDIST_WORKER": "gw0", "HOME": "/root"}
    here = str(Path(sys.executable).parent)
    assert base_environ(given) == {"PATH": f"{here}{os.pathsep}/usr/bin", "HOME": "/root"}
    assert base_environ(base_environ(given)) == base_environ(given), "the folder stands in PATH once"
    assert base_environ({})["PATH"] == f"{here}{os.pathsep}{os.defpath}"


def test_the_last_layer_wins() -> None:
    base = {"A": "0", "B": "0"}
    assert layered(base, (("A", "1"), ("C", "1")), (), (("C", "2"),)) == {"A": "1", "B": "0", "C": "2"}
    assert base == {"A": "0", "B": "0"}


def test_paths_are_told_from_the_folder_of_the_list(tmp_path: Path) -> None:
    never: Any = None
    around = Surroundings(tmp_path, tmp_path / ".steps", never, Redactor([]))
    assert around.shown(around.logs("task_1_aaaaaaaa")) == ".steps/logs/task_1_aaaaaaaa"
    assert around.shown(Path("/elsewhere/log")) == "/elsewhere/log"
    assert around.cwd() == around.cwd(None, None) == tmp_path
    assert around.cwd("step", None) == tmp_path / "step"
    assert around.cwd("step", "main") == tmp_path / "main"
    assert around.cwd("step", "/abs") == Path("/abs")
