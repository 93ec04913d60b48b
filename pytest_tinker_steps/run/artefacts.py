"""Declared inputs and outputs: files that must be there, and that must be this step's own work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from ..plan.model import Step
from ..plan.values import value


@value
class Upstream:
    """A step that another one needs, and the outputs that it declares."""

    step: str
    outputs: tuple[str, ...]


def wanted(inputs: Iterable[str], upstream: Iterable[Upstream], folder: Path) -> list[tuple[str, str]]:
    """What must be there before a step starts: its inputs, and the outputs of the steps before it.

    Returns:
        for each what it is, and why it counts as missing or an empty string.
    """
    named = [(f"input {path}", path) for path in inputs]
    named += [(f"output of step_{up.step}: {path}", path) for up in upstream for path in up.outputs]
    return [(name, missing(path, folder)) for name, path in named]


def missing(path: str, folder: Path) -> str:
    """Why a declared file counts as missing, or an empty string.

    Args:
        path: relative to ``folder``; may be a glob, of which one match must hold.
    """
    return _judge(path, folder, 0)


def not_written(path: str, folder: Path, since_ns: int) -> str:
    """Why a declared output does not count as written by the step, or an empty string.

    Args:
        since_ns: start of the step's first unfinished attempt, by the file system's own clock.
    """
    return _judge(path, folder, since_ns)


def assumable(step: Step, folder: Path) -> str:
    """The first declared output that is missing, with the reason, or an empty string."""
    for path in step.definition.outputs if step.definition else ():
        why = missing(path, folder)
        if why:
            return why
    return ""


def changed(path: str, folder: Path, since_ns: int) -> bool:
    """Whether a declared input that is there was modified after a point in time."""
    for match in _matches(path, folder):
        place = folder / match
        with contextlib.suppress(OSError):
            files = _files(place) if place.is_dir() else [place.stat()]
            if any(stat.st_mtime_ns > since_ns for stat in files):
                return True
    return False


def _judge(path: str, folder: Path, since_ns: int) -> str:
    matches = _matches(path, folder)
    if not matches:
        return f"{path} does not exist"
    reasons = [_judge_one(match, folder / match, since_ns) for match in matches]
    return "" if "" in reasons else reasons[0]


def _matches(path: str, folder: Path) -> list[str]:
    # A file whose name looks like a pattern is meant before what the pattern would find.
    there = (folder / path).exists()
    return [path] if there else sorted(glob(path, root_dir=folder, recursive=True))


def _judge_one(shown: str, path: Path, since_ns: int) -> str:
    try:
        files = list(_files(path)) if path.is_dir() else [path.stat()]
    except OSError as error:
        return f"{shown}: {error.strerror}"
    if not any(stat.st_size for stat in files):
        return f"{shown} is empty"
    if since_ns and max(stat.st_mtime_ns for stat in files) < since_ns:
        return f"{shown} is older than this step's work: not written by it"
    return ""


def _files(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a link to nowhere, or gone in this moment
                yield os.stat(os.path.join(parent, name))  # noqa: PTH116, PTH118 - walked by the thousand
