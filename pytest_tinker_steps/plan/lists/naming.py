"""From an id or a name in the text of a list to the boxes that it means.

An id is looked up below the same heading first, and then below each heading further out, because ids may
start again under each. What is found on no level is unknown, which is a warning; what fits several boxes
on the nearest level that has it is ambiguous, which is an error: it is never guessed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable

from ..model import Box
from .mentions import Mention
from .placement import Part, PartKind

_SPLIT = re.compile(r"(?P<start>.*?)(?P<end>\d+|[A-Z])(?P<letter>[a-z]?)", re.DOTALL)
_TITLE_ID = re.compile(
    r"(?:\[[^\[\]]*\]\s*)*"
    r"(?:(?:Task|Step)\s+#?(?P<number>\d+(?:\.\d+)*[a-z]?)(?!\w)"
    r"|(?P<id>[A-Z]{1,4}\d+(?:\.\d+)*|[A-Z]{2,4}-[A-Z0-9]+)(?=[.:)\s]))"
)


class Index:
    """The boxes and parts of one list, by what people call them.

    Args:
        path: of the list, as shown to people.
        boxes: all of them.

    Attributes:
        warnings: what was named and is not there, by line from 0.
        problems: what was named and fits several.
    """

    def __init__(self, path: str, boxes: Iterable[Box]) -> None:
        self._path = path
        self._parts: dict[tuple[PartKind, str], list[Part]] = {}
        self._part_series: dict[PartKind, dict[str, list[tuple[int, str]]]] = {}
        self._ids: dict[str, dict[tuple[str, ...], list[Box]]] = {}
        self.warnings: list[tuple[int, str]] = []
        self.problems: list[str] = []
        others: list[tuple[str, Box]] = []
        for box in boxes:
            self._add(box.id, box)
            found = _TITLE_ID.match(box.title)
            if found and box.id.startswith("#"):
                others.append((found.group("number") or found.group("id"), box))
        own = set(self._ids)
        for name, box in others:
            if name not in own:
                self._add(name, box)
        self._series = _series(self._ids)

    def add_part(self, kind: PartKind, name: str, part: Part) -> None:
        """Make a part known by a name; several may have the same."""
        self._parts.setdefault((kind, name), []).append(part)
        self._part_series.pop(kind, None)

    def _names(self, kind: PartKind) -> dict[str, list[tuple[int, str]]]:
        if kind not in self._part_series:
            self._part_series[kind] = _series(name for other, name in self._parts if other == kind)
        return self._part_series[kind]

    def _add(self, name: str, box: Box) -> None:
        scopes = self._ids.setdefault(name, {})
        for depth in range(len(box.scope) + 1):
            scopes.setdefault(box.scope[:depth], []).append(box)

    def keys(self, mention: Mention, line: int, box: Box | None, scope: tuple[str, ...]) -> tuple[str, ...]:
        """Keys of the boxes that are meant.

        Args:
            line: where it is said, from 0; for the warning.
            box: that says it, which cannot be meant.
            scope: the headings where it is said.
        """
        # "Track A, CR1": the word may be for the first name alone
        step = (mention.kind, mention.first) not in self._parts and mention.first in self._ids
        if mention.kind != "step" and not (step and not mention.last and not mention.first.isdigit()):
            return () if mention.kind == "all" else self._of_parts(mention.kind, mention, line)
        if not mention.last:
            return self._of_step(mention.first, line, box, scope)
        for dash in "-–—":
            whole = f"{mention.first}{dash}{mention.last}"
            if whole in self._ids:
                return self._of_step(whole, line, box, scope)
        between = _between(mention, self._series)
        if not between:
            layers = _between(mention, self._names("layer"))
            if layers:
                return self._members("layer", layers)
        named = dict.fromkeys([mention.first, *between, _whole_end(mention)])
        found = (key for name in named for key in self._of_step(name, line, box, scope))
        return tuple(dict.fromkeys(found))

    def _of_step(self, name: str, line: int, box: Box | None, scope: tuple[str, ...]) -> tuple[str, ...]:
        if ("task", name) in self._parts and (box is None or box.id != name):
            return self._members("task", [name])
        for written in (name, f"{name}.0", name.removeprefix("#")):
            scopes = self._ids.get(written)
            if scopes is None:
                continue
            for depth in range(len(scope), -1, -1):
                found = scopes.get(scope[:depth], ())
                # By its place: what the list says of its order has made another object of it by now.
                others = [other for other in found[:3] if box is None or other.line != box.line]
                if len(others) > 1:
                    places = " and ".join(f"{self._path}:{other.line}" for other in others[:2])
                    self.problems.append(
                        f"{self._path}:{line + 1}: {name} is named here and stands on more than one box "
                        f"({places}); give each box an id of its own"
                    )
                    return ()
                if others:
                    return (others[0].key,)
            self._warn(
                line, f"{name} is named here by its own box", "name the step that comes first, or take it out"
            )
            return ()
        kinds: tuple[tuple[PartKind, str], ...] = (
            ("layer", name), ("story", name.removeprefix("US")), ("number", name), ("group", name),
        )  # fmt: skip
        for kind, called in kinds:
            if (kind, called) in self._parts and (kind != "story" or called != name):
                return self._members(kind, [called])
        self._warn(line, f"{name} is named here and is not in this list", "correct the id, or take it out")
        return ()

    def _of_parts(self, kind: PartKind, mention: Mention, line: int) -> tuple[str, ...]:
        names = _between(mention, self._names(kind)) if mention.last else [mention.first]
        if kind == "layer":
            names = [name if name.startswith("L") else f"L{name}" for name in names or [mention.first]]
        known = [name for name in names if (kind, name) in self._parts]
        if not known:
            what = f"{'user story' if kind == 'story' else kind} {mention}"
            self._warn(
                line, f"{what} is named here and is not in this list", "correct the name, or take it out"
            )
        return self._members(kind, known)

    def _members(self, kind: PartKind, names: Iterable[str]) -> tuple[str, ...]:
        parts = (part for name in names for part in self._parts[kind, name])
        return tuple(dict.fromkeys(key for part in parts for key in part.members))

    def _warn(self, line: int, what: str, hint: str) -> None:
        self.warnings.append((line, f"{self._path}:{line + 1}: {what}; {hint}"))


def _parted(name: str) -> tuple[str, int] | None:
    """An id as what a range keeps and what it counts: ``T012`` is T and 12, ``CR-B`` is CR- and B."""
    found = _SPLIT.fullmatch(name)
    if found is None:
        return None
    end = found.group("end")
    return (found.group("start"), int(end)) if end.isdigit() else (f"{found.group('start')}@", ord(end))


def _series(names: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
    series: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        parted = _parted(name)
        if parted:
            series[parted[0]].append((parted[1], name))
    for members in series.values():
        members.sort()
    return dict(series)


def _whole_end(mention: Mention) -> str:
    """The last id of a range in full: ``T015`` of ``T012-015``, ``2.4`` of ``2.1-4``."""
    first, last = _parted(mention.first), _parted(mention.last)
    if first and last and first[0] != last[0] and not last[0] and not first[0].endswith("@"):
        return first[0] + mention.last
    return mention.last


def _between(mention: Mention, series: dict[str, list[tuple[int, str]]]) -> list[str]:
    first, last = _parted(mention.first), _parted(_whole_end(mention))
    if first is None or last is None or first[0] != last[0]:
        return []
    members = series.get(first[0], [])
    low = bisect_left(members, (first[1], ""))
    return [name for _, name in members[low : bisect_right(members, (last[1], "\U0010ffff"))]]
