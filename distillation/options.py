"""Configuration files with a section for each engine: read strictly, every mistake with its line.

A value is taken from its text, so ``1e-4`` is a number (YAML itself would call it a text) and ``no`` is
not false.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from distillation import settings
from distillation.errors import DistillationError

Value = int | float | str | None


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``low`` to ``high``, both included; ``whole`` ones have no fraction."""

    low: float
    high: float
    whole: bool = False

    def parse(self, text: str) -> int | float:
        """The number that ``text`` says.

        Raises:
            ValueError: it says none, or one out of range; what it must be.
        """
        must = f"must be a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            raise ValueError(f"{must}, not '{text}'") from None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(f"{must}, not {text}")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A text: one of ``choices`` where there are any. An ``optional`` one may be ``null``."""

    choices: tuple[str, ...] = ()
    optional: bool = False

    def parse(self, text: str) -> str | None:
        """``text`` itself.

        Raises:
            ValueError: it is empty, or none of the choices.
        """
        if self.optional and text in ("", "~", "null"):
            return None
        if not text.strip():
            raise ValueError("must not be empty")
        if self.choices and text not in self.choices:
            raise ValueError(f"must be {' or '.join(self.choices)}, not '{text}'")
        return text


Kinds = Mapping[str, Number | Text]


@dataclass(frozen=True, slots=True)
class Section:
    """What one engine's section says, and on which line each value stands."""

    values: dict[str, Value]
    lines: dict[str, int]


def read_sections(path: Path, kinds: Kinds) -> dict[str, Section]:
    """Read a file that has the sections ``local`` and ``tinker``, each with all of ``kinds``.

    Both sections are judged, whichever is in use: a mistake should show before money is at stake.

    Raises:
        DistillationError: ``file:line:``, what is wrong and what to do, for the first mistake.
    """
    sections = {}
    engines = get_args(settings.Engine)
    for name, (node, line) in _pairs(_compose(path), path, engines, "section").items():
        values: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for key, (value, at) in _pairs(node, path, tuple(kinds), "option").items():
            if value.id != "scalar":
                raise DistillationError(
                    f"{path}:{at}: '{key}' must be a single value, not a {value.id}; correct it"
                )
            values[key] = parse(kinds, key, str(value.value), f"{path}:{at}")
            lines[key] = at
        if lacking := [key for key in kinds if key not in values]:
            raise DistillationError(f"{path}:{line}: section '{name}' lacks {', '.join(lacking)}; add it")
        sections[name] = Section(values, lines)
    if lacking := [name for name in engines if name not in sections]:
        raise DistillationError(f"{path}:1: no section '{lacking[0]}'; add it")
    return sections


def parse(kinds: Kinds, key: str, text: str, where: str) -> Value:
    """The value of one option, from its text.

    Args:
        where: the place that a mistake is reported at, ``file:line`` or a command's option.

    Raises:
        DistillationError: there is no such option, or the text is no value of it.
    """
    if key not in kinds:
        raise DistillationError(f"{where}: {_unknown(key, tuple(kinds), 'option')}")
    try:
        return kinds[key].parse(text)
    except ValueError as mistake:
        raise DistillationError(f"{where}: '{key}' {mistake}; correct it") from None


def _compose(path: Path) -> Any:
    yaml = importlib.import_module("yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; it belongs to the plan") from cause
    except UnicodeDecodeError as cause:
        raise DistillationError(f"{path}: not UTF-8; save it as such") from cause
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as mistake:
        mark = mistake.problem_mark or mistake.context_mark
        line = mark.line + 1 if mark else 1
        raise DistillationError(f"{path}:{line}: not YAML ({mistake.problem}); correct it") from mistake
    except yaml.YAMLError as mistake:
        raise DistillationError(f"{path}:1: not YAML ({mistake}); correct it") from mistake
    if node is None:
        raise DistillationError(f"{path}:1: is empty; it has a section for each engine")
    return node


def _pairs(node: Any, path: Path, known: tuple[str, ...], what: str) -> dict[str, tuple[Any, int]]:
    """The entries of a mapping with their lines, none unknown and none twice."""
    line = node.start_mark.line + 1
    if node.id != "mapping":
        raise DistillationError(f"{path}:{line}: must be a mapping of {what}s, not a {node.id}; correct it")
    found: dict[str, tuple[Any, int]] = {}
    for key_node, value in node.value:
        at = key_node.start_mark.line + 1
        key = str(key_node.value)
        if key not in known:
            raise DistillationError(f"{path}:{at}: {_unknown(key, known, what)}")
        if key in found:
            raise DistillationError(f"{path}:{at}: '{key}' stands on line {found[key][1]} already; keep one")
        found[key] = (value, at)
    return found


def _unknown(key: str, known: tuple[str, ...], what: str) -> str:
    close = get_close_matches(key, known, 1)
    advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
    return f"unknown {what} '{key}'; {advice}"
