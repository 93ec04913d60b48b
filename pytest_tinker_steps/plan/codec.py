"""The model as plain values that JSON can hold, and back.

Made from the fields and type hints of the dataclasses, so that a new field needs nothing here. A dataclass
becomes a mapping without the fields that have their default, a tuple a list.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SCALARS = (str, int, float, bool, type(None))

_Decoder = Callable[[Any], Any] | None
"""None where JSON gives the value as it is."""


def encode(value: Any) -> Any:
    """A value of the model as mappings, lists, texts and numbers.

    Raises:
        TypeError: there is something in it for which this has no form.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple or kind is list:
        return [encode(item) for item in value]
    if kind is dict:
        return {key: encode(item) for key, item in value.items()}
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} has no form")
    told = {}
    for name, default in _defaults(kind):
        form = encode(getattr(value, name))
        # Also compared as text: 1, 1.0 and True are equal, and not the same.
        if form != default or repr(form) != repr(default):
            told[name] = form
    return told


@cache
def _defaults(cls: Any) -> tuple[tuple[str, Any], ...]:
    """Each field with the form of its default."""
    found = []
    for field in fields(cls):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found.append((field.name, MISSING if default is MISSING else encode(default)))
    return tuple(found)


def decode(cls: type, form: Any) -> Any:
    """The dataclass of which ``encode`` made this.

    Raises:
        TypeError: not every type in the dataclass can be told from its form, or the form has other fields.
    """
    return _of_dataclass(cls)(form)


@cache
def _of_dataclass(cls: type) -> Callable[[Any], Any]:
    hints = get_type_hints(cls)
    found = {field.name: _decoder(hints[field.name]) for field in fields(cls)}
    return partial(_make, cls, [(name, inner) for name, inner in found.items() if inner is not None])


def _make(cls: type, inside: list[tuple[str, Callable[[Any], Any]]], form: dict[str, Any]) -> Any:
    for name, inner in inside:
        if name in form:
            form[name] = inner(form[name])
    return cls(**form)


@cache
def _decoder(hint: Any) -> _Decoder:
    origin = get_origin(hint)
    if hint in _SCALARS or hint is Any or origin is Literal:
        return None
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _of_dataclass(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind not in _SCALARS and get_origin(kind) != Literal]
        return _of_union(kinds)
    if origin is tuple:
        return _of_tuple(*get_args(hint))
    if origin is dict and _decoder(get_args(hint)[1]) is None:
        return None
    raise TypeError(f"{hint} cannot be told from its form")


def _of_union(kinds: list[Any]) -> _Decoder:
    """Of the types that are no scalars; a list can be only one of them, and a mapping only one."""
    lists = [kind for kind in kinds if get_origin(kind) is tuple]
    mappings = [kind for kind in kinds if kind not in lists]
    if len(lists) > 1 or len(mappings) > 1:
        raise TypeError(f"{' | '.join(map(str, kinds))}: cannot be told apart")
    of_list = _decoder(lists[0]) if lists else None
    of_mapping = _decoder(mappings[0]) if mappings else None

    def decoder(form: Any) -> Any:
        inner = of_list if isinstance(form, list) else of_mapping if isinstance(form, dict) else None
        return inner(form) if inner else form

    return decoder if of_list or of_mapping else None


def _of_tuple(*kinds: Any) -> _Decoder:
    inner = _decoder(kinds[0])
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple if inner is None else lambda form: tuple([inner(item) for item in form])
    if all(_decoder(kind) is None for kind in kinds):
        return tuple
    raise TypeError(f"{kinds}: a tuple of so many different things cannot be told from its form")
