"""Mains that are Python functions, called in this process."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def load(target: str, folder: Path) -> Callable[..., Any]:
    """Import ``module:function``, looking in the folder of the task list first.

    Raises:
        ImportError: with one line that says what is missing.
    """
    module_name, _, name = target.partition(":")
    with _on_path(folder):
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ImportError(f"{module_name} has no function {name}")
    function: Callable[..., Any] = found
    return function


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of the fixtures that the function asks for: its parameters without a default."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty
    ]


def call(
    function: Callable[..., Any], arguments: Mapping[str, Any], environ: Mapping[str, str], cwd: Path
) -> None:
    """Call the function with the environment and the folder that a process in its place would have."""
    with _environ(environ), contextlib.chdir(cwd), _on_path(cwd):
        result = function(**arguments)
        if inspect.iscoroutine(result):
            import asyncio  # here, since it costs 10 ms and few mains are coroutines

            asyncio.run(result)


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _environ(environ: Mapping[str, str]) -> Iterator[None]:
    # The processes that the function starts inherit the marker of the attempt from here.
    before = {name: os.environ.get(name) for name in environ}
    changed = {name: value for name, value in environ.items() if before[name] != value}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            old = before[name]
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
