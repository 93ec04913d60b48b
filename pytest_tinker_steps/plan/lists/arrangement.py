"""The order that a task list gives its steps in words, marks and headings.

What is not said here follows the step before it: a list without any of this is left as it is. ``order``
knows what tracks and layers mean; this module says which steps are in which, and what comes before those
whose place in the file does not say it:

- neighbours that are marked ``[P]`` or ``(P)`` run side by side;
- groups follow the groups that they depend on, or else the group before them;
- a step that one above it depends on comes before that one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from ..model import Box, PlanError
from ..order import Order
from .blocks import Blocks
from .marks import Runs
from .mentions import Mention, mentions, said_in, said_on
from .naming import Index
from .placement import Entry, Part, PartKind, hidden_lines, lay_out, own_text

_OWN_LAYER = re.compile(r"(?:^|[\[(])\s*(?:Layer\s+)?L(\d{1,2})\s*(?=[\])]|[:–—]|-\s|\s-)")
_LAYER_LINE = re.compile(r"[\W_]*layer\W*[:=]\W*L?(\d{1,2})\b", re.IGNORECASE)

__all__ = ["Entry", "arrange"]


def arrange(entries: list[Entry], blocks: Blocks) -> tuple[tuple[Box, ...], list[str]]:
    """Fill in what the list says about the order of its boxes.

    Args:
        entries: all boxes of the list, in its order.
        blocks: of the same file.

    Returns:
        The boxes with ``track``, ``layer``, ``after`` and ``depends``; and warnings, one for each name that
        the list says something depends on and that it does not have.

    Raises:
        PlanError: a step stands on two tracks or in two groups; or a name fits several boxes.
    """
    return _Arrangement(entries, blocks).result()


class _Arrangement:
    """One list on its way; each step of ``result`` builds on those before it."""

    def __init__(self, entries: list[Entry], blocks: Blocks) -> None:
        self._blocks = blocks
        self._hidden = hidden_lines(blocks)
        self._layout = lay_out(entries, blocks)
        self._entries = entries
        self._boxes = [entry.box for entry in entries]
        self._containers = _containers(self._boxes)
        self._leaves = [at for at, box in enumerate(self._boxes) if not box.children and not box.struck]
        self._positions = {box.key: at for at, box in reversed(list(enumerate(self._boxes)))}
        self._inside = _inside(self._leaves, self._boxes, self._containers)
        self._parts = [list(parts) for parts in self._layout.around]
        self._own: dict[int, tuple[str, ...]] = {}  # by position, keys of the boxes that a step names
        self._of_part: dict[int, tuple[str, ...]] = {}  # by identity of the part
        self._group_of: dict[int, Part] = {}
        self._led: set[int] = set()  # parts whose needs were looked for further down, by identity
        self._before: dict[int, tuple[str, ...]] = {}
        self._arranged = False  # some step is in a track, a layer or a group
        self._index = Index(blocks.path, self._boxes)

    def result(self) -> tuple[tuple[Box, ...], list[str]]:
        said = self._said()
        self._place(said)
        self._resolve(said)
        if self._index.problems:
            raise PlanError(*dict.fromkeys(self._index.problems))
        self._choose_groups()
        self._sequence()
        for at in self._leaves:
            depends = self._depends(at)
            if depends:
                self._boxes[at] = replace(self._boxes[at], depends=depends)
        return tuple(self._boxes), [text for _, text in sorted(dict.fromkeys(self._index.warnings))]

    # what the boxes say

    def _said(self) -> dict[int, list[tuple[str, int]]]:
        """What each box says it depends on, with the line; its layer too, if it says one."""
        found: dict[int, list[tuple[str, int]]] = {}
        for at, entry in enumerate(self._entries):
            box = entry.box
            layer = _OWN_LAYER.search(box.title)
            said = [(text, box.line - 1) for text in said_in(f"{box.text} {entry.item.more}")]
            for line in entry.lines:
                if line in self._hidden:
                    continue
                text = own_text(self._blocks.lines[line])
                words = said_on(text)
                if words is not None:
                    said.append((words, line))
                layer = layer or _LAYER_LINE.match(text)
            if layer:
                self._boxes[at] = replace(box, layer=f"L{int(layer.group(1))}")
            if said:
                found[at] = said
        return found

    def _place(self, said: dict[int, list[tuple[str, int]]]) -> None:
        """Say of each box which track, layer and group it is in."""
        places: dict[tuple[str, int], tuple[str, int]] = {}  # by kind and position: the name, the line
        groups: dict[int, Part] = {}
        for at, parts in enumerate(self._layout.around):
            box = self._boxes[at]
            track, layer = box.track, ""
            for part in parts:
                if not part.names:
                    continue
                track, layer = part.name("track") or track, part.name("layer") or layer
                if part.name("track") and not part.loose:
                    places["track", at] = (part.name("track"), part.line)
                if part.name("group"):
                    places["group", at] = (part.name("group"), part.line)
                    groups[at] = self._layout.groups[part.name("group")]
            layer = box.layer or layer
            if (track, layer) != (box.track, box.layer):
                self._boxes[at] = replace(box, track=track, layer=layer)
        for row in self._layout.maps:
            own = Part(row.line, said=[(text, row.line) for text in row.said])
            for at in self._named(row.ids, row.line):
                if row.track and self._agrees("track", row.track, at, row.line, places):
                    self._boxes[at] = replace(self._boxes[at], track=row.track)
                if row.group and self._agrees("group", row.group, at, row.line, places):
                    groups[at] = self._layout.groups[row.group]
                self._parts[at].append(own)
        for at in said:
            if at in self._inside:
                part = Part(self._boxes[at].line - 1, said=said[at])
                for leaf in self._inside[at]:
                    self._parts[leaf].append(part)
        self._group_of = {at: groups[at] for at in self._leaves if at in groups}
        self._fill()

    def _named(self, ids: Iterable[Mention], line: int) -> list[int]:
        """The steps that a map names, by position; those inside of a container that it names."""
        keys = (key for mention in ids for key in self._index.keys(mention, line, None, ()))
        found = (self._positions[key] for key in keys)
        return list(dict.fromkeys(leaf for at in found for leaf in self._inside.get(at, [at])))

    def _agrees(
        self, kind: str, name: str, at: int, line: int, places: dict[tuple[str, int], tuple[str, int]]
    ) -> bool:
        other, where = places.setdefault((kind, at), (name, line))
        if other != name:
            first, second = sorted((where, line))
            path = self._blocks.path
            self._index.problems.append(
                f"{path}:{first + 1} and {path}:{second + 1}: {self._boxes[at].key} is in {kind} {other} "
                f"and in {kind} {name}; leave it in one of them"
            )
        return other == name

    def _fill(self) -> None:
        """Say what each part holds, and make it known by its names."""
        tracks: dict[str, Part] = {}
        layers: dict[str, Part] = {}
        for at in self._leaves:
            box = self._boxes[at]
            if at in self._group_of and self._group_of[at] not in self._parts[at]:
                self._parts[at].append(self._group_of[at])
            if box.optional:
                continue
            for part in self._parts[at]:
                part.members[box.key] = None
            if box.track:
                tracks.setdefault(box.track, Part(0)).members[box.key] = None
            if box.layer:
                layers.setdefault(box.layer, Part(0)).members[box.key] = None
        named: list[tuple[PartKind, dict[str, Part]]] = [("track", tracks), ("layer", layers)]
        for kind, parts in [*named, ("group", self._layout.groups)]:
            for name, part in parts.items():
                self._index.add_part(kind, name, part)
        for part in self._layout.parts.values():
            for kind, name in part.names:
                if part.members and kind not in ("track", "layer", "group"):
                    self._index.add_part(kind, name, part)

    def _resolve(self, said: dict[int, list[tuple[str, int]]]) -> None:
        """Find out which boxes are meant by what boxes and parts say."""
        self._arranged = bool(self._group_of) or any(
            self._boxes[at].track or self._boxes[at].layer for at in self._leaves
        )
        for at in self._leaves:
            box = self._boxes[at]
            if at in said:
                self._own[at] = self._meant(said[at], at, box, {})
            for part in self._parts[at]:
                if part.said and id(part) not in self._of_part:
                    self._of_part[id(part)] = self._meant(part.said, at, None, part.members)

    def _meant(
        self, said: list[tuple[str, int]], at: int, box: Box | None, members: dict[str, None]
    ) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for text, line in said:
            for mention in mentions(text):
                if mention.kind == "all":
                    keys: Iterable[str] = self._above(at) if self._arranged else ()
                else:
                    keys = self._index.keys(mention, line, box, self._boxes[at].scope)
                    if box is not None and mention.kind != "step" and box.key in keys:
                        above = set(self._above(at))
                        keys = [key for key in keys if key in above]
                found.update(dict.fromkeys(key for key in keys if key not in members))
        return tuple(found)

    def _above(self, at: int) -> list[str]:
        leaves = self._leaves[: bisect_left(self._leaves, at)]
        return [self._boxes[leaf].key for leaf in leaves if not self._boxes[leaf].optional]

    # what comes before what

    def _choose_groups(self) -> None:
        """Drop groups that say less than layers do, or nothing; phases with tracks in them are groups."""
        layered = any(self._boxes[at].layer for at in self._leaves)
        if layered or not any(
            self._boxes[at].track or group.free or self._of_part.get(id(group))
            for at, group in self._group_of.items()
        ):
            self._group_of = {}
        if self._group_of or layered:
            return
        phases = {at: self._phase(at) for at in self._leaves}
        found = {at: phase for at, (phase, _) in phases.items() if phase is not None}
        if any(inside for _, inside in phases.values()) and len({id(phase) for phase in found.values()}) > 1:
            self._group_of = found

    def _phase(self, at: int) -> tuple[Part | None, bool]:
        """The phase that a step is in, and whether a track is inside of it."""
        phase, inside = None, False
        for part in self._layout.around[at]:
            if part.name("phase"):
                phase, inside = part, False
            inside = inside or (phase is not None and bool(part.name("track")))
        return phase, inside

    def _sequence(self) -> None:
        """Set ``after`` where the place of a step in the file does not say it, from the first to the last."""
        boxes = self._boxes
        order = Order(boxes, ((boxes[at], None) for at in self._leaves))
        runs = Runs(boxes, self._leaves, self._containers, self._lane)
        leading: dict[int, tuple[str, ...]] = {}  # of steps that one above them depends on
        grouped: dict[int, tuple[str, ...]] | None = None
        last_of: dict[int, str] = {}  # by identity of a part whose steps follow one another
        for at in self._leaves:
            box = boxes[at]
            if at in self._group_of:
                grouped = self._grouped(order.front()) if grouped is None else grouped
                after: tuple[str, ...] | None = grouped[at]
            elif at in leading:
                after = leading[at]
            else:
                front = partial(order.front, box.track, box.layer)
                after = runs.after(at, box, front) if not box.layer else self._chained(at, last_of)
            if after is not None:
                boxes[at] = box = replace(box, after=after)
            self._before[at] = order.next(box, None)
            self._lead(at, leading)

    def _lane(self, at: int) -> tuple[str, str, int]:
        return (self._boxes[at].track, self._boxes[at].layer, id(self._group_of.get(at)))

    def _chained(self, at: int, last_of: dict[int, str]) -> tuple[str, ...] | None:
        """In a layer that says so, steps follow one another."""
        layer = self._boxes[at].layer
        chained = (part for part in self._layout.around[at] if part.chained and part.name("layer") == layer)
        part = next(chained, None)
        if part is None:
            return None
        before = last_of.get(id(part))
        if not self._boxes[at].optional:
            last_of[id(part)] = self._boxes[at].key
        return None if before is None else (before,)

    def _grouped(self, base: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
        """What comes before the steps of all groups.

        Args:
            base: what comes before the first of them.
        """
        members: dict[int, list[int]] = {}
        for at in self._leaves:
            if at in self._group_of:
                members.setdefault(id(self._group_of[at]), []).append(at)
        groups = {id(group): group for group in self._group_of.values()}
        found: dict[int, tuple[str, ...]] = {}
        previous: tuple[str, ...] = ()
        runs = Runs(self._boxes, self._leaves, self._containers, self._lane)
        for group in sorted(groups.values(), key=lambda group: group.line):
            said = [] if group.name("phase") else self._of_part.get(id(group), ())
            if any(leaf in self._group_of for key in said for leaf in self._leaves_of(key)):
                entry: tuple[str, ...] = ()  # the base comes before what this group depends on
            else:
                entry = base if said or (group.free and not group.name("phase")) else previous or base
            lanes: dict[str, dict[str, None]] = {}
            for at in members[id(group)]:
                box = self._boxes[at]
                lane = lanes.setdefault(box.track, {})
                front = tuple(lane) if lane and (box.track or not group.aside) else entry
                after = runs.after(at, box, partial(tuple, front))
                found[at] = front if after is None else after
                if not box.optional:
                    for key in found[at]:
                        lane.pop(key, None)
                    lane[box.key] = None
            previous = tuple(self._boxes[at].key for at in members[id(group)] if not self._boxes[at].optional)
        return found

    def _lead(self, at: int, leading: dict[int, tuple[str, ...]]) -> None:
        """Let what a step depends on and stands below it come first, with all that this depends on."""
        queue = [(at, iter(self._ahead(at, at)))]
        seen = {at}
        chain = self._before[at]
        while queue:
            ahead = next(queue[-1][1], None)
            if ahead is None:
                done, _ = queue.pop()
                if queue:
                    leading[done] = chain
                    chain = chain if self._boxes[done].optional else (self._boxes[done].key,)
            elif ahead not in seen and ahead not in leading:
                seen.add(ahead)
                queue.append((ahead, iter(self._ahead(ahead, at))))

    def _ahead(self, at: int, first: int) -> list[int]:
        """Steps below ``first`` that this one depends on, and that would wait for it by their place."""
        keys = list(self._own.get(at, ()))
        for part in self._parts[at]:
            if id(part) in self._of_part and id(part) not in self._led:
                self._led.add(id(part))  # by the first of its steps; the others come behind
                keys += self._of_part[id(part)]
        found = [leaf for key in keys for leaf in self._leaves_of(key) if leaf > first]
        lane = self._lane(first)
        if not found or lane[1:] != ("", id(None)):
            return []
        return sorted({leaf for leaf in found if self._lane(leaf) in (lane, ("", "", id(None)))})

    def _leaves_of(self, key: str) -> list[int]:
        at = self._positions[key]
        return self._inside.get(at, [at])

    def _depends(self, at: int) -> tuple[str, ...]:
        """What a step says itself, and what a part says that it is the first of."""
        found = dict.fromkeys(self._own.get(at, ()))
        for part in self._parts[at]:
            keys = self._of_part.get(id(part), ())
            if keys and not any(key in part.members for key in self._before[at]):
                found |= dict.fromkeys(keys)
        for around in (*self._containers[at], at):
            found.pop(self._boxes[around].key, None)
        return tuple(found)


def _containers(boxes: Sequence[Box]) -> list[tuple[int, ...]]:
    """By position, the positions of the boxes around, outermost first."""
    outer: dict[str | None, int] = {}
    found: list[tuple[int, ...]] = []
    for at, box in enumerate(boxes):
        if box.children:
            outer.setdefault(box.key, at)
    for box in boxes:
        chain: list[int] = []
        parent = box.parent
        while parent in outer and outer[parent] not in chain:
            chain.append(outer[parent])
            parent = boxes[chain[-1]].parent
        found.append(tuple(reversed(chain)))
    return found


def _inside(
    leaves: Sequence[int], boxes: Sequence[Box], containers: Sequence[tuple[int, ...]]
) -> dict[int, list[int]]:
    """By position of a container, the steps inside that are not optional."""
    found: dict[int, list[int]] = {}
    for at in leaves:
        for around in containers[at]:
            if not boxes[at].optional:
                found.setdefault(around, []).append(at)
    return found
