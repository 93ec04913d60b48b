"""What comes before a step that has no ``needs``: the sequence of the list, its tracks, its layers.

Steps follow one another as in the list. Those of a track follow the one before them in the same track, and
tracks run side by side; those of a layer wait for all of the layer before. A step that is in neither waits
for all that was open above it, and what comes below waits for it. Nothing waits for optional steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .model import Box, Definition

_NUMBER = re.compile(r"\d+")


class Order:
    """Goes through a list once, from its first step to its last.

    Args:
        boxes: of the whole list, containers too.
        leaves: the steps with their definitions, in list order.
    """

    def __init__(self, boxes: Iterable[Box], leaves: Iterable[tuple[Box, Definition | None]]) -> None:
        self._boxes = {box.key: box for box in boxes}
        layers: dict[str, list[str]] = {}
        for box, definition in leaves:
            layer = self.place(box, definition)[1]
            if layer:
                layers.setdefault(layer, []).extend([] if box.optional else [box.key])
        ranked = _ranked(layers)
        self._ranks = {layer: rank for rank, layer in enumerate(ranked)}
        self._below: list[tuple[str, ...]] = [()]  # by rank, the steps of the layer before
        for layer in ranked:
            self._below.append(tuple(layers[layer]) or self._below[-1])
        self._rank = -1  # the highest of the layers so far
        # What all below waits for, each with the highest layer above it: only the layers behind that one
        # may wait for it, because it waits for the others.
        self._joins: list[tuple[int, tuple[str, ...]]] = [(-1, ())]
        self._run: tuple[str, ...] | None = None  # what the steps of the last join wait for
        self._open: dict[str, None] = {}  # what nothing waits for yet
        self._closed: tuple[str, ...] = ()  # what the step before took out of that
        self._lanes: dict[tuple[str, str], dict[str, None]] = {}  # the ends of each track in each layer

    @staticmethod
    def place(box: Box, definition: Definition | None) -> tuple[str, str]:
        """Track and layer of a step: those of its definition, else those of the list."""
        if definition is None:
            return box.track, box.layer
        return definition.track or box.track, definition.layer or box.layer

    def front(self, track: str = "", layer: str = "") -> tuple[str, ...]:
        """Keys of the steps that a step would wait for if it came now, in this track and layer."""
        if not track and not layer:
            return tuple(self._open)
        lane = self._lanes.get((layer, track)) if track else None
        if lane:
            return tuple(lane)
        if not layer:
            return self._joins[-1][1]
        rank = self._ranks[layer]
        join = next((keys for highest, keys in reversed(self._joins) if highest < rank), ())
        return tuple(dict.fromkeys(self._below[rank] + join))

    def next(self, box: Box, definition: Definition | None) -> tuple[str, ...]:
        """Keys of the steps that come before this one; asked for one step after the other."""
        track, layer = self.place(box, definition)
        placed = definition is not None and (
            definition.track not in ("", box.track) or definition.layer not in ("", box.layer)
        )
        after = None if placed else box.after
        before = self.front(track, layer) if after is None else self._steps(after)
        if box.key in before:
            before = tuple(name for name in before if name != box.key)
        if not box.optional:
            self._note(box.key, track, layer, before)
        return before

    def said(self, box: Box) -> tuple[str, ...]:
        """Keys of the steps that the list says in words this one depends on."""
        return self._steps(box.depends)

    def _note(self, key: str, track: str, layer: str, before: tuple[str, ...]) -> None:
        if not track and not layer and self._joins_all(key, before):
            return
        # Steps of a layer, which wait for the same, come one after the other.
        self._close(before if before != self._closed else (), self._open, key)
        self._closed = before
        if track:
            self._close(before, self._lanes.setdefault((layer, track), {}), key)
        if layer:
            self._rank = max(self._rank, self._ranks[layer])

    def _joins_all(self, key: str, before: tuple[str, ...]) -> bool:
        """Make a step what all below waits for, if it waits for all above, alone or with its neighbours."""
        highest, join = self._joins[-1]
        if before == self._run:
            self._joins[-1] = (highest, (*join, key))
            self._open[key] = None
            return True
        if len(self._open) > len(before) or not self._open.keys() <= set(before):
            return False
        if highest == self._rank:
            self._joins.pop()
        self._joins.append((self._rank, (key,)))
        self._run, self._open, self._lanes = before, {key: None}, {}
        return True

    @staticmethod
    def _close(before: Sequence[str], ends: dict[str, None], key: str) -> None:
        for name in before:
            ends.pop(name, None)
        ends[key] = None

    def _steps(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The steps that keys stand for: a container for those inside, one that is struck out for none."""
        found: dict[str, None] = {}
        queue = list(reversed(tuple(keys)))
        while queue:
            box = self._boxes[queue.pop()]
            if box.children:
                queue += [key for key in reversed(box.children) if not self._boxes[key].optional]
            elif not box.struck:
                found[box.key] = None
        return tuple(found)


def _ranked(layers: Iterable[str]) -> list[str]:
    """Layers from the first to the last: by their numbers if each has one, else as the list has them."""
    names = list(layers)
    numbers = [_NUMBER.search(name) for name in names]
    if not all(numbers):
        return names
    by_number = {name: int(number[0]) for name, number in zip(names, numbers, strict=True) if number}
    return sorted(names, key=by_number.__getitem__)
