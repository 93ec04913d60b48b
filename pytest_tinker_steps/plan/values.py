"""``@value``: frozen, slotted dataclasses that come into being quickly.

The standard decorator writes the methods of each class as source text and compiles it, half a millisecond
for each class; a session has dozens of them, in its controller and again in every worker. Here all classes
share methods that are compiled already. For the rest they are dataclasses: ``fields`` and ``replace`` take
them, and type checkers know them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass as ``@dataclass(frozen=True, slots=True)`` does.

    Args:
        cls: its fields are plain: all of them are arguments, compared, and shown.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    names = tuple(found.name for found in fields(made))
    setters = [getattr(made, name).__set__ for name in names]
    arguments = _arguments(made, names)
    read = attrgetter(*names)
    values_of = read if len(names) > 1 else lambda own: (read(own),)

    def init(self: Any, *values: Any, **named: Any) -> None:
        complete = values if len(values) == len(setters) and not named else arguments(values, named)
        # A slot's own setter goes past __setattr__, which refuses.
        for setter, given in zip(setters, complete):  # noqa: B905 - as many, and asking takes time
            setter(self, given)

    def eq(self: Any, other: object) -> bool:
        return values_of(self) == values_of(other) if other.__class__ is made else NotImplemented

    def show(self: Any) -> str:
        told = zip(names, values_of(self), strict=True)
        return f"{made.__qualname__}({', '.join(f'{name}={own!r}' for name, own in told)})"

    made.__init__, made.__eq__, made.__repr__ = init, eq, show
    made.__hash__ = lambda self: hash(values_of(self))
    # Unpickling would set the slots of an empty one, and be refused.
    made.__reduce__ = lambda self: (made, values_of(self))
    made.__setattr__, made.__delattr__ = _refuse_setting, _refuse_deleting
    finished: type[T] = made
    return finished


def _refuse_setting(_: object, name: str, __: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deleting(_: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _arguments(made: Any, names: Sequence[str]) -> Callable[[Sequence[Any], dict[str, Any]], Sequence[Any]]:
    """What finds the value of each field, in order, from the arguments and the defaults."""
    places = {name: place for place, name in enumerate(names)}
    defaults = [own.default for own in fields(made)]
    factories = [
        (places[own.name], own.name, own.default_factory)
        for own in fields(made)
        if own.default_factory is not MISSING
    ]
    needed = [own.name for own in fields(made) if own.default is MISSING and own.default_factory is MISSING]

    def arguments(values: Sequence[Any], named: dict[str, Any]) -> Sequence[Any]:
        count = len(values)
        complete = [*values, *defaults[count:]]
        if len(complete) > len(names):
            raise wrong(f"takes {len(names)} arguments, and {count} were given")
        for name, given in named.items():
            place = places.get(name)
            if place is None:
                raise wrong(f"got an unexpected keyword argument {name!r}")
            if place < count:
                raise wrong(f"got multiple values for argument {name!r}")
            complete[place] = given
        for place, name, factory in factories:
            if place >= count and name not in named:
                complete[place] = factory()
        missing = [name for name in needed[count:] if name not in named]
        if missing:
            raise wrong(f"is missing arguments: {', '.join(map(repr, missing))}")
        return complete

    def wrong(what: str) -> TypeError:
        return TypeError(f"{made.__qualname__}() {what}")

    return arguments
