"""Which part of the list a box stands in: its track, its layer, its group; and what is said of these parts.

A part is announced by a heading, by a line of its own above a list (``**Track A: Core**``), or by a map
that names tasks by their ids (``- **Track A**: Tasks 2, 4-6``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..model import Box
from ..values import value
from .blocks import Blocks, Heading, Item
from .formats import plain
from .mentions import PART_NAME, Mention, is_free, mentions, said_in, said_on, without_said
from .tickline import BOX_LINE, split_suffix

PartKind = Literal["track", "layer", "group", "phase", "story", "task", "number"]


@value
class Entry:
    """A box with the places of its text in the file.

    Attributes:
        headings: those above, outermost first.
        lines: indices of the lines below its first that belong to it.
    """

    box: Box
    item: Item
    headings: tuple[Heading, ...]
    lines: tuple[int, ...]


@dataclass(slots=True)
class Part:
    """A part of the list: what stands below a heading or a label, what a map names, a container.

    Attributes:
        line: of its heading or label, from 0.
        names: what it can be called by.
        said: what it says it depends on, with the line, from 0.
        free: it says that there is nothing to wait for.
        aside: it says that its steps run side by side; ``chained`` in sequence.
        loose: its track has no name of its own but was made of its words; a map says it better.
        members: keys of the steps in it.
    """

    line: int
    names: tuple[tuple[PartKind, str], ...] = ()
    said: list[tuple[str, int]] = field(default_factory=list)
    free: bool = False
    aside: bool = False
    chained: bool = False
    loose: bool = False
    members: dict[str, None] = field(default_factory=dict)

    def name(self, kind: PartKind) -> str:
        return next((name for own, name in self.names if own == kind), "")


@value
class MapLine:
    """A line that names the steps of a track or a group by their ids.

    Attributes:
        line: from 0.
        track, group: that it names, or that it stands below; empty without one.
        said: what it says these steps depend on.
    """

    line: int
    track: str
    group: str
    ids: tuple[Mention, ...]
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class Layout:
    """The parts of a list.

    Attributes:
        parts: by the line of the heading or label.
        around: by position of the entry, the parts it stands in, outermost first.
        maps: in the order of the file.
        groups: by name, those of headings and those of maps as one.
    """

    parts: dict[int, Part] = field(default_factory=dict)
    around: list[tuple[Part, ...]] = field(default_factory=list)
    maps: list[MapLine] = field(default_factory=list)
    groups: dict[str, Part] = field(default_factory=dict)


_LED = r"\W*(?:\d+(?:\.\d+)*[.):]?\s+)?\W*"
_GROUP = rf"(?:(?:task|parallel|execution)\s+)*group\s+(?-i:(?P<name>{PART_NAME}))"
_BEFORE_TRACK = r"[^\w(]|phase|parallel|execution|development|\d"
_SHORT_LAYER = r"(?-i:L(?P<number>\d{1,2})(?![\w.]))"
_KINDS: tuple[tuple[PartKind, re.Pattern[str]], ...] = (
    ("track", re.compile(rf"{_LED}(?:{_BEFORE_TRACK})*\btrack\s+(?-i:(?P<name>{PART_NAME}))", re.I)),
    ("layer", re.compile(rf"{_LED}(?:layer\s+(?P<name>\d{{1,2}})(?!\w)|{_SHORT_LAYER})", re.I)),
    ("group", re.compile(rf"{_LED}(?:\w[\w ]*\()?{_GROUP}", re.I)),
    ("phase", re.compile(rf"{_LED}phase\s+(?P<name>\d+[\w.]*|[A-Z](?!\w))", re.I)),
    ("story", re.compile(r".*\buser\s+story\s+(?P<name>\d+)(?!\w)", re.I)),
    ("task", re.compile(rf"{_LED}task\s+(?P<name>\d[\w.]*)", re.I)),
    ("number", re.compile(r"\W*(?P<name>\d+(?:\.\d+)*)(?:[.):]|\s)")),
)  # fmt: skip
"""How parts are announced, and what they are called."""

_NAMED_TRACK = re.compile(
    r"\W*(?P<words>[^\W\d_][^():]*?)\s+track(?:\s+(?P<number>\d+))?\s*(?=$|[(:–—-])", re.I
)
_NO_NAME = re.compile(r"\b(?:of|for|in|on|the|to|and)\b", re.I)
_TRACK_LINE = re.compile(rf"\W*track\s+(?-i:(?P<name>{PART_NAME}))(?P<rest>.*)", re.I)
_GROUP_LINE = re.compile(rf"\W*(?:\w[\w ]*\()?{_GROUP}\)?(?P<rest>.*)", re.I)
_TASKS = re.compile(r"(?<!\w)(?:tasks?|steps?)\b(?P<ids>[^()]*)", re.I)
_BULLET = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+")
_ASIDE = re.compile(r"\bparallel\b(?!\s+(?:group|track|execution))", re.I)
_CHAINED = re.compile(r"\bsequential(?:ly)?\b", re.I)


def lay_out(entries: list[Entry], blocks: Blocks) -> Layout:
    """Find the parts of a list, and which boxes stand below which heading or label."""
    layout = Layout()
    tracks = False
    for heading in blocks.headings:
        part = _part(heading.line, heading.text)
        layout.parts[heading.line] = part
        tracks = tracks or bool(part.name("track"))
    labels = _labels(entries, blocks)
    for entry in entries:
        lines = [heading.line for heading in entry.headings]
        label = labels.get(_outermost(entry.item, blocks).list)
        if label is not None:
            layout.parts.setdefault(label.line, label)
            lines.append(label.line)
        layout.around.append(tuple(layout.parts[line] for line in lines))
    _read_lines(entries, blocks, layout)
    if tracks or layout.maps:
        for heading in blocks.headings:
            _name_track(layout.parts[heading.line], plain(heading.text))
    return layout


def _part(line: int, text: str) -> Part:
    bare = plain(text)
    names: list[tuple[PartKind, str]] = []
    for kind, pattern in _KINDS:
        found = pattern.match(bare)
        if found:
            name = found.group("name") or found.group("number")
            names.append((kind, f"L{int(name)}" if kind == "layer" else name))
    return Part(
        line,
        tuple(names),
        [(said, line) for said in said_in(text)],
        free=is_free(bare),
        aside=_ASIDE.search(bare) is not None,
        chained=_CHAINED.search(bare) is not None,
    )


def _name_track(part: Part, text: str) -> None:
    """Call ``Code Review Track 3`` CR3 and ``Testing Track`` Testing; only where other tracks have names."""
    found = _NAMED_TRACK.match(text)
    if found and not part.name("track") and not _NO_NAME.search(found.group("words")):
        words = re.findall(r"[^\W\d_]+", found.group("words"))
        name = words[0] if len(words) == 1 else "".join(word[0].upper() for word in words)
        part.names = (*part.names, ("track", name + (found.group("number") or "")))
        part.loose = True


def _outermost(item: Item, blocks: Blocks) -> Item:
    while item.parent is not None:
        item = blocks.items[item.parent]
    return item


def _labels(entries: Iterable[Entry], blocks: Blocks) -> dict[int, Part]:
    """The lines right above a list of boxes that announce a part, by number of the list."""
    found: dict[int, Part] = {}
    first: dict[int, int] = {}
    for entry in entries:
        top = _outermost(entry.item, blocks)
        first.setdefault(top.list, top.line)
    for number, line in first.items():
        part = _part(line, blocks.announced.get(number, ""))
        if any(kind in ("track", "layer", "group") for kind, _ in part.names):
            above = next((at for at in range(line - 1, -1, -1) if blocks.lines[at].strip()), line)
            part.line, part.said = above, [(said, above) for said, _ in part.said]
            found[number] = part
    return found


def own_text(line: str) -> str:
    """A line without the box in it, so that nothing depends on what is ticked."""
    box = BOX_LINE.fullmatch(line)
    return split_suffix(box.group("rest"))[0] if box else line


def hidden_lines(blocks: Blocks) -> set[int]:
    """The lines of code, HTML, quotes and front matter, from 0: what stands there is not said."""
    return {line for first, end in blocks.hidden for line in range(first, end)}


def _read_lines(entries: Iterable[Entry], blocks: Blocks, layout: Layout) -> None:
    """Go through the lines that belong to no box: maps, and what sections say they depend on."""
    taken = hidden_lines(blocks)
    for item in blocks.items:
        if item.parent is None:
            taken.update(range(item.line, item.end))
    for entry in entries:
        taken.update(entry.lines)
    section: Part | None = None
    group: Part | None = None
    for part in layout.parts.values():
        _as_group(part, layout)
    for number, line in enumerate(blocks.lines):
        if number in layout.parts:
            section = layout.parts[number]
            group = _as_group(section, layout)
            continue
        if number in taken or not line.strip():
            continue
        said = said_on(line)
        if said is not None and section is not None:
            section.said.append((said, number))
            section.free = section.free or is_free(said)
            continue
        group = _map_line(line, number, group, layout)


def _as_group(part: Part, layout: Layout) -> Part | None:
    """The group that a part is; of several parts with one name the first says what holds for it."""
    name = part.name("group")
    return layout.groups.setdefault(name, part) if name else None


def _map_line(line: str, number: int, group: Part | None, layout: Layout) -> Part | None:
    """Read a line of a map; the group that the next line belongs to."""
    if "rack" not in line and "roup" not in line and group is None:
        return None
    bullet = _BULLET.match(line)
    text = plain(line[bullet.end() :] if bullet else line)
    found = _GROUP_LINE.match(text)
    if found:
        part = _part(number, text)
        group = layout.groups.setdefault(found.group("name"), part)
        if group is not part:
            group.said += part.said
            group.free = group.free or part.free
            group.aside = group.aside or part.aside
        rest, track = found.group("rest"), ""
    else:
        found = _TRACK_LINE.match(text)
        rest, track = (found.group("rest"), found.group("name")) if found else (text, "")
    if found or (group is not None and bullet):
        ids = _ids(rest, bare=found is None)
        name = group.name("group") if group else ""
        if ids:
            said = tuple(said_in(text)) if track else ()
            layout.maps.append(MapLine(number, track, name, ids, said))
        return group
    return group if bullet else None


def _ids(rest: str, *, bare: bool) -> tuple[Mention, ...]:
    """The steps that a map names: behind the word ``Tasks``, else behind the colon."""
    text = without_said(rest)
    tasks = _TASKS.search(text)
    if tasks:
        said = "tasks " + tasks.group("ids")
    elif bare:
        said = text.partition("(")[0]
        said = said if mentions(said) else text
    else:
        said = text.partition(":")[2].partition("(")[0]
    return tuple(mention for mention in mentions(said) if mention.kind == "step")
