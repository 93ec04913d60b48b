"""Dataclasses as JSON-like values and back, by their annotations.

Every value is checked, other than in ``plan.codec``, which trusts what it wrote itself under a checksum:
these files are read while others write them, and by other versions.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Made = TypeVar("Made")


def to_plain(value: Any) -> Any:
    """A dataclass, or anything made of dataclasses and builtin values, as JSON can say it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[Made], value: Any) -> Made:
    """The dataclass that ``to_plain`` was given. A field that is missing gets its default.

    Args:
        kind: a dataclass; the annotations of its fields may be builtin types, ``Path``, ``Any``, ``Literal``,
            tuples, dictionaries, unions, and further dataclasses.

    Raises:
        ValueError: the value is no such thing.
    """
    made: Made = _made(kind, value)
    return made


def _made(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin is Literal:
        return _expect(value in get_args(kind), value, kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, kind)
    if origin is tuple:
        return _tuple(get_args(kind), value, kind)
    if origin is dict:
        _expect(isinstance(value, dict), value, kind)
        return {str(key): _made(get_args(kind)[1], item) for key, item in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        _expect(isinstance(value, dict), value, kind)
        given = {name: read(value) for name, read in _readers(kind) if name in value}
        try:
            return kind(**given)
        except TypeError as error:  # a field without a default is missing
            raise ValueError(str(error)) from None
    if kind in (None, types.NoneType):
        return _expect(value is None, value, kind)
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), value, kind)
        return float(value)
    if kind is Path:
        return Path(_expect(isinstance(value, str), value, kind))
    return _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), value, kind)


def _expect(holds: bool, value: Any, kind: Any) -> Any:
    if not holds:
        raise ValueError(f"{value!r} is no {getattr(kind, '__name__', kind)}")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, kind: Any) -> Any:
    for one in kinds:
        try:
            return _made(one, value)
        except ValueError:
            continue
    return _expect(False, value, kind)


def _tuple(kinds: tuple[Any, ...], value: Any, kind: Any) -> tuple[Any, ...]:
    _expect(isinstance(value, (list, tuple)), value, kind)
    if kinds[1:] == (...,):
        return tuple(_made(kinds[0], item) for item in value)
    _expect(len(value) == len(kinds), value, kind)
    return tuple(_made(one, item) for one, item in zip(kinds, value, strict=True))


@cache
def _readers(kind: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _reader(field, hints[field.name])) for field in fields(kind) if field.init)


def _reader(field: Field[Any], kind: Any) -> Callable[[Any], Any]:
    def read(given: dict[str, Any]) -> Any:
        return _made(kind, given[field.name])

    return read
