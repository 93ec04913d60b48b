"""Mains that are Python functions, called in this process."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SIGNAL = signal.SIGUSR2
"""Ends a function; its handler is ours only while the function runs."""


class Interruption(BaseException):
    """The function is to end. No ``Exception``, which its own loops of retries would take for theirs."""


class Interrupter:
    """Ends a function of this process from another thread, if it runs in Python's main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False
        self._requested = False

    def request(self) -> None:
        """Ask for the end of the function that runs, or that is about to; from any thread."""
        with self._lock:
            self._requested = True
            if self._armed:
                # Only a real signal also ends a sleep or a wait for the network.
                signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """Let the body be ended.

        Raises:
            Interruption: its end was asked for. In other threads than the main one it never comes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(SIGNAL, self._end)
        try:
            with self._lock:
                self._armed = not self._requested
            if not self._armed:
                raise Interruption
            yield
        finally:
            try:
                self._armed = False  # up to here the handler may raise
            finally:
                self._disarm(before)

    def _disarm(self, before: Any) -> None:
        # A signal on its way must arrive before the former handler is back, which might end this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
        with self._lock:
            self._armed = False
        if SIGNAL in signal.sigpending():
            signal.sigwait({SIGNAL})
        signal.signal(SIGNAL, before if before is not None else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})

    def _end(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            raise Interruption


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
        try:
            result = function(**arguments)
        except SystemExit as end:
            if end.code not in (None, 0):
                raise RuntimeError(f"it called sys.exit({end.code!r})") from end
            return
        if inspect.iscoroutine(result):
            try:
                import asyncio  # here, since it costs 10 ms and few mains are coroutines

                asyncio.run(result)
            finally:
                result.close()  # one that was interrupted before it began


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
