"""Built-in probes: checks that need no command of the user's.

Every probe answers with a short message, or raises ``ProbeFailed`` with one line that says what is
wrong and where. All but ``import`` work in this process, so nothing can end them from outside: they
look at the deadline wherever they loop, and ``checks`` leaves behind one that does not come back.

A ``python`` probe sees the working folder, the environment and the imported modules of this process;
only its import starts at the check's folder.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...plan.model import Check
from . import file_probes
from .probe_context import ProbeContext, ProbeFailed, size_text

__all__ = ["ENDS_WHEN_CANCELLED", "ProbeContext", "ProbeFailed", "probe"]

ENDS_WHEN_CANCELLED = frozenset({"import"})
"""Probes that work in a process of their own, which ``ProbeContext.cancel`` and the deadline end."""

IMPORTING = "@importing "
IMPORT_PROGRAM = f"""
import importlib, os, sys, traceback
names, sys.argv[1:] = sys.argv[1:], []
for name in names:
    print({IMPORTING!r} + name, flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(traceback.format_exception_only(error)[-1].strip(), flush=True)
        os._exit(1)
os._exit(0)
"""
# It leaves with os._exit so that threads and exit handlers of the imported modules neither hold
# the probe up nor print behind the line that is looked for.


def probe(check: Check, context: ProbeContext) -> str:
    """Look whether what ``check`` asks for is so.

    Args:
        check: of a kind in ``PROBES``, with arguments that are already validated.

    Returns:
        A short message: ``train.jsonl: 4500 rows``.

    Raises:
        ProbeFailed: it is not so.
        TimeoutError: the deadline passed first.
    """
    try:
        return _PROBES[check.kind](check.probe, context)
    except TimeoutError as error:
        if time.monotonic() >= context.deadline:
            raise
        raise ProbeFailed(f"{_subject(check)}: timed out") from error
    except OSError as error:
        raise ProbeFailed(f"{_subject(check)}: {error.strerror or error}") from error


def _subject(check: Check) -> str:
    given = check.probe
    if check.kind == "port":
        return f"{given['host']}:{given['port']}"
    return str(given["path"]) if "path" in given else check.kind


# --- the environment of the main


def _env(given: dict[str, Any], context: ProbeContext) -> str:
    wrong = []
    for name in given["names"]:
        value = context.env.get(name)
        if value is None:
            wrong.append(f"{name} is not set")
        elif not value.strip():
            wrong.append(f"{name} is set but empty")
    if wrong:
        raise ProbeFailed("; ".join(wrong))
    return f"{', '.join(given['names'])} set"


def _import(given: dict[str, Any], context: ProbeContext) -> str:
    ended = context.runs.run(
        (context.interpreter, "-c", IMPORT_PROGRAM, *given["modules"]),
        cwd=context.cwd,
        env=context.env,
        timeout=context.remaining(),
        log=None,
        cancel=context.cancel,
    )
    if ended.reason == "timeout":
        raise TimeoutError
    if ended.reason != "exit":
        raise ProbeFailed(ended.error or ended.reason)
    if ended.exit == 0:
        return f"{', '.join(given['modules'])} imported"
    lines = [line.strip() for line in ended.tail.splitlines() if line.strip()]
    begun = [line.removeprefix(IMPORTING) for line in lines if line.startswith(IMPORTING)]
    # A module that brings the interpreter down leaves no error behind.
    said = lines[-1] if lines and not lines[-1].startswith(IMPORTING) else "the interpreter ended"
    raise ProbeFailed(f"{begun[-1] if begun else ', '.join(given['modules'])}: {said} (exit {ended.exit})")


def _executable(given: dict[str, Any], context: ProbeContext) -> str:
    search = context.env.get("PATH", os.defpath)
    found = []
    for name in given["names"]:
        # A name with a slash is a path, and belongs to the check's folder rather than to ours.
        wanted = str(context.cwd / name) if "/" in name else name
        place = shutil.which(wanted, path=search)
        if place is None:
            raise ProbeFailed(f"{name}: no such executable" + ("" if "/" in name else " on PATH"))
        found.append(place)
    return ", ".join(found)


def _disk_free(given: dict[str, Any], context: ProbeContext) -> str:
    wanted = context.cwd / given["path"]
    # A folder that is yet to be made will stand on the disk of the nearest one above it.
    there = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < given["bytes"]:
        raise ProbeFailed(f"{given['path']}: {size_text(free)} free, {size_text(given['bytes'])} needed")
    return f"{given['path']}: {size_text(free)} free"


# --- the network


def _port(given: dict[str, Any], context: ProbeContext) -> str:
    host, port = given["host"], given["port"]
    try:
        with socket.create_connection((host, port), timeout=context.remaining()):
            listens = True
    except ConnectionRefusedError:
        listens = False
    if listens != given["open"]:
        raise ProbeFailed(f"{host}:{port}: " + ("somebody listens" if listens else "nobody listens"))
    return f"{host}:{port}: " + ("open" if listens else "free")


def _http(given: dict[str, Any], context: ProbeContext) -> str:
    from .http_probe import probe_http  # urllib takes long to import

    return probe_http(given, context)


# --- the user's own function


def _python(given: dict[str, Any], context: ProbeContext) -> str:
    target: str = given["target"]
    module, _, name = target.partition(":")
    try:
        answer = _resolve(module, name, context.cwd)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a test framework's own "fail" and sys.exit() fail the check too
        said = " ".join(str(error).split())
        raise ProbeFailed(f"{type(error).__name__}: {said}".rstrip(": ")) from error
    if inspect.iscoroutine(answer):
        answer.close()
        raise ProbeFailed(f"{target} is a coroutine function; a check is an ordinary one")
    # numpy's truth values are no bool of Python's, and just as false.
    if type(answer).__name__ in ("bool", "bool_") and not answer:
        raise ProbeFailed(f"{target} returned False")
    return answer if isinstance(answer, str) else ""


def _resolve(module: str, name: str, folder: Path) -> Callable[[], object]:
    importlib.invalidate_caches()  # the module may have been written a moment ago
    sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module)
    finally:
        with contextlib.suppress(ValueError):  # the module may have rearranged the path
            sys.path.remove(str(folder))
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


_PROBES: dict[str, Callable[[dict[str, Any], ProbeContext], str]] = {
    "env": _env,
    "import": _import,
    "file": file_probes.probe_file,
    "json": file_probes.probe_json,
    "jsonl": file_probes.probe_jsonl,
    "yaml": file_probes.probe_yaml,
    "executable": _executable,
    "disk_free": _disk_free,
    "port": _port,
    "http": _http,
    "python": _python,
}
