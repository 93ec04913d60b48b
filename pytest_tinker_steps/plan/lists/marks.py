"""Neighbours that are marked ``[P]`` or ``(P)``: they run side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..model import Box
from .formats import CODE

_MARK = re.compile(r"(?<![\w\]])(?:\[P\]|\(P\))(?![(\w])|(?<=\])\[P\](?!\()")


def _is_marked(box: Box) -> bool:
    """Say whether the text of a box carries the mark outside of code."""
    text = box.text
    return ("[P]" in text or "(P)" in text) and _MARK.search(CODE.sub(" ", text)) is not None


class Runs:
    """Runs of marked neighbours below one heading, in one container. A marked container is one of them.

    Args:
        leaves: the steps in list order, by position among the boxes.
        containers: by position, the positions of the boxes around, outermost first.
        lane: what two neighbours must have in common.
    """

    def __init__(
        self,
        boxes: Sequence[Box],
        leaves: Sequence[int],
        containers: Sequence[Sequence[int]],
        lane: Callable[[int], object | None],
    ) -> None:
        self._unit: dict[int, int] = {}  # the marked box that a step is or is in
        self._run: dict[int, int] = {}  # by step, the first unit of its run
        found: dict[int, set[int]] = {}
        marked = [_is_marked(box) for box in boxes]
        last: tuple[int, object] | None = None
        for at in leaves:
            chain = (*containers[at], at)
            unit = next((outer for outer in chain if marked[outer]), None)
            if unit is None:
                last = None
                continue
            around = chain[: chain.index(unit)]
            place = (boxes[at].scope, around[-1] if around else None, lane(at))
            if last is None or last[1] != place:
                last = (unit, place)
            self._unit[at], self._run[at] = unit, last[0]
            found.setdefault(last[0], set()).add(unit)
        alone = {run for run, units in found.items() if len(units) == 1}
        self._run = {at: run for at, run in self._run.items() if run not in alone}
        self._now: tuple[int, tuple[str, ...]] | None = None
        self._before: dict[int, tuple[str, ...]] = {}

    def after(self, at: int, box: Box, front: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | None:
        """What comes before a step of a run; None for a step of none. Asked for one step after the other.

        Args:
            front: what comes before a step at this place that is in no run.
        """
        run = self._run.get(at)
        if run is None:
            return None
        if self._now is None or self._now[0] != run:
            self._now = (run, front())
        unit = self._unit[at]
        before = self._before.get(unit, self._now[1])
        if not box.optional:
            self._before[unit] = (box.key,)
        return before
