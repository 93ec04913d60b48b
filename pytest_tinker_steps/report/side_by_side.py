"""How far a session is whose steps run side by side, on one line."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TextIO

from ..plan.model import Step
from ..record.frozen import Frozen

DONE = ("passed", "done", "assumed")
MOST_RUNS = 7
"""Of neighbours that are done; more are only counted."""
COUNTED = ("blocked", "warned", "skipped", "not verified")
"""Verdicts of which only the number is said, if there are any."""
BETWEEN = " · "
"""Stands between the parts of the line."""
SHORTENED = ("waiting: ", "jobs: ", "running: ")
"""How the parts begin that give way on a narrow terminal, the first one first."""
CUT = "..."
LEAST = 6
"""Characters that are left of such a part at least; else it goes as a whole."""


class Tally:
    """What has become of the selected steps; to note and to tell a change costs the same in a longer list.

    Args:
        frozen: the session.
    """

    def __init__(self, frozen: Frozen) -> None:
        self._steps = frozen.plan.steps
        self._places = {name: frozen.by_id[name].index for name in frozen.selection.ids}
        self._done = bytearray(len(self._steps))
        self._count = 0
        self._others: dict[str, dict[str, None]] = {name: {} for name in ("started", "failed", *COUNTED)}
        for name in frozen.skips:
            self.note(name, "done")

    def note(self, name: str, verdict: str) -> None:
        """Note the verdict of a step, its last one so far."""
        place = self._places.get(name)
        if place is None:
            return
        for other, names in self._others.items():
            if other == verdict:
                names[name] = None
            else:
                names.pop(name, None)
        self._count += (verdict in DONE) - self._done[place]
        self._done[place] = verdict in DONE

    def line(self, running: Iterable[Step], waiting: tuple[Step, str, int] | None) -> str:
        """For example ``12/32 done (1-4, 7-9) · running: step_5 (A), step_10 (C) · failed: none``.

        Args:
            running: what workers have.
            waiting: a step that lacks only what it takes, why it has to wait, and how many such there are.
        """
        said = f" ({', '.join(self._runs())})" if self._count else ""
        parts = [f"{self._count}/{len(self._places)} done{said}"]
        parts.append(f"running: {', '.join(map(_named, running)) or 'none'}")
        if waiting:
            step, why, count = waiting
            more = f", and {count - 1} more" if count > 1 else ""
            parts.append(f"waiting: {step.node_name} ({why}){more}")
        if jobs := self._others["started"]:
            parts.append(f"jobs: {', '.join(f'step_{name}' for name in jobs)}")
        parts.append(f"failed: {_some(list(self._others['failed']))}")
        parts += [f"{word}: {len(self._others[word])}" for word in COUNTED if self._others[word]]
        return BETWEEN.join(parts)

    def _runs(self) -> Iterator[str]:
        end = -1
        for number in range(MOST_RUNS + 1):
            begin = self._done.find(1, end + 1)
            if begin < 0:
                return
            if number == MOST_RUNS:
                yield "..."
                return
            after = self._done.find(0, begin)
            end = len(self._done) if after < 0 else after
            names = [self._steps[begin].id, self._steps[end - 1].id]
            yield "-".join(dict.fromkeys(names))


def _some(names: list[str]) -> str:
    more = [f"... ({len(names)} in all)"] if len(names) > MOST_RUNS else []
    return ", ".join([*names[:MOST_RUNS], *more]) or "none"


def _named(step: Step) -> str:
    where = step.track or step.layer
    return f"{step.node_name} ({where})" if where else step.node_name


def elapsed(seconds: float) -> str:
    """Seconds for people, for a clock that goes on: ``2h 15m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def fit(line: str, room: int) -> str:
    """Shorten a line to so many cells of a terminal; of that of a session the middle gives way first.

    What has failed and the time stay, as far as there is room at all.
    """
    if cells(line) <= room:
        return line
    first, *others = line.split(BETWEEN)
    short = first.partition(" (")[0]
    for parts in ([first, *others], [short, *others]):
        _narrow(parts, SHORTENED, room)
        if _over(parts, room) <= 0 and any(part.startswith(SHORTENED[-1]) for part in parts):
            return BETWEEN.join(parts)
    if _over(parts, room) > 0:
        parts = [part for part in parts if not part.startswith(COUNTED)]
        shorter = [*parts]
        _narrow(shorter, ("failed: ",), room)
        parts = shorter if len(shorter) == len(parts) else parts  # rather no time than no failure
    return _cut(BETWEEN.join(parts), room)


def _over(parts: list[str], room: int) -> int:
    return cells(BETWEEN.join(parts)) - room


def _narrow(parts: list[str], beginnings: Iterable[str], room: int) -> None:
    """Shorten the parts that begin so, one after the other, until all have room; what says nothing goes."""
    for words in beginnings:
        for part in [part for part in parts if part.startswith(words)]:
            over = _over(parts, room)
            if over > 0:
                kept = _cut(part, cells(part) - over - len(CUT))
                whole = kept.rpartition(", ")[0]
                kept = f"{whole}, " if len(whole) > len(words) else kept
                place = parts.index(part)
                parts[place : place + 1] = [kept + CUT] if len(kept) >= len(words) + LEAST else []


def _cut(text: str, room: int) -> str:
    if cells(text) <= room:
        return text
    taken = 0
    for place, char in enumerate(text):
        taken += cells(char)
        if taken > room:
            return text[:place]
    return text


@functools.lru_cache(256)
def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def column(line: str, columns: int) -> int | None:
    """Where a terminal's cursor stands behind what was written to a line; None where nobody can tell."""
    text = line.rpartition("\r")[2]
    if not text.isprintable() or any(_width(char) == 0 for char in text):
        return None
    width = cells(text)
    if width < columns:
        return width
    return width % columns or None if text.isascii() else None


def columns_of(file: TextIO) -> int:
    """How wide a terminal is now; where a file is none, what else is known of one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        columns = os.get_terminal_size(file.fileno()).columns
        if columns > 0:
            return columns
    return shutil.get_terminal_size().columns


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
