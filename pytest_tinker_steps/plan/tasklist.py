"""Markdown task lists to boxes, and back again by one line at a time.

``parse`` decides in this order: which list items are boxes (``blocks``), what their text says
(``formats``), which of them are steps, what is inside what, the keys that people type, and last the
order that is not the one of the file (``arrangement``).
Nothing it decides depends on a marker or a tick, so a ticked list has the same steps.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass, field

from .lists.arrangement import Entry, arrange
from .lists.blocks import Blocks, Heading, Item, scan
from .lists.formats import Reading, is_aggregate, is_legend_title, legend_entries, read, slug
from .lists.tickline import BOX_LINE, rewrite_line, splice, split_suffix, tick_suffix
from .model import Box, PlanError, TaskList

__all__ = ["find", "parse", "rewrite_line", "splice", "tick_suffix"]

_LOOKS = 'a step is a list item such as "- [ ] 1. Title"'
_TASK_HEADING = re.compile(r"\W*Task\s+\d", re.IGNORECASE)


@dataclass(slots=True)
class _Draft:
    """A box while it is being read.

    Attributes:
        index: among the items of the file, which ``parent`` and ``children`` count by.
        section: the headings above, outermost first.
        step_id: as written, or the ordinal below the heading.
    """

    index: int
    item: Item
    marker: str
    text: str
    note: str
    reading: Reading
    section: tuple[Heading, ...]
    step_id: str = ""
    key: str = ""
    parent: int | None = None
    children: list[int] = field(default_factory=list)

    @property
    def scope(self) -> tuple[str, ...]:
        return tuple(heading.text for heading in self.section)


def parse(data: bytes, path: str) -> TaskList:
    """Read a whole task list.

    Args:
        data: the file as it is on disk: any encoding errors, line endings, a BOM.
        path: as shown to people.

    Raises:
        PlanError: the file is binary, or has no box that is a step; or what it says about the order of its
            steps contradicts itself.
    """
    entries, blocks = _read(data, path)
    boxes, warnings = arrange(entries, blocks)
    return TaskList(path, boxes, (*blocks.warnings, *warnings))


def _read(data: bytes, path: str) -> tuple[list[Entry], Blocks]:
    """Read the boxes alone, without their order."""
    zero = data.find(b"\0")
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise PlanError(
            f"{path}:{line}: not a text file (it has NUL bytes); save the task list as UTF-8 text"
        )
    blocks = scan(data, path)
    found = _drafts(blocks)
    steps = _steps(found, blocks)
    if not steps:
        raise PlanError(_no_step(found, path), *blocks.warnings)
    _number(steps)
    _nest(steps, blocks)
    _name(steps)
    briefs = _Briefs(blocks, steps)
    by_index = {draft.index: draft for draft in steps}
    entries = []
    for draft in steps:
        box = Box(
            id=draft.step_id,
            key=draft.key,
            title=draft.reading.title,
            text=draft.text,
            line=draft.item.line + 1,
            offset=blocks.offsets[draft.item.line],
            marker=draft.marker,
            scope=draft.scope,
            brief=briefs.of(draft),
            optional=draft.reading.optional,
            struck=draft.reading.struck,
            parent=None if draft.parent is None else by_index[draft.parent].key,
            children=tuple(by_index[child].key for child in draft.children),
            note=draft.note,
        )
        entries.append(Entry(box, draft.item, draft.section, tuple(briefs.lines(draft))))
    return entries, blocks


def find(data: bytes, path: str, box: Box) -> Box:
    """Find a box again in a file that somebody may have edited, by its key and its text.

    Args:
        data: the file as it is now.
        path: as shown to people.
        box: as it was read before.

    Returns:
        The same box with its place and marker of now.

    Raises:
        PlanError: the line vanished, says something else, or its id stands on several lines now.
    """
    try:
        boxes = [entry.box for entry in _read(data, path)[0]]
    except PlanError as error:
        raise PlanError(f"{path}:{box.line}: box {box.key} vanished; put it back", *error.problems) from None
    named = [other for other in boxes if other.key == box.key]
    if len(named) == 1:
        if named[0].text == box.text:
            return named[0]
        raise PlanError(
            f"{path}:{named[0].line}: box {box.key} changed its text from {box.text!r} to {named[0].text!r}; "
            "the box is left as it is"
        )
    alike = named or [other for other in boxes if other.id == box.id and other.text == box.text]
    if len(alike) > 1 or (alike and sum(other.id == box.id for other in boxes) > 1):
        same = named or [other for other in boxes if other.id == box.id]
        places = " and ".join(f"{path}:{other.line}" for other in same)
        raise PlanError(
            f"{places}: id {box.id} of box {box.key} is no longer unique; give each box its own id"
        )
    moved = next((other for other in boxes if other.text == box.text), None)
    hint = f"; its text stands on line {moved.line} as {moved.key}" if moved else "; put it back"
    raise PlanError(f"{path}:{box.line}: box {box.key} vanished{hint}")


def _drafts(blocks: Blocks) -> list[_Draft]:
    """Read every box of the file, whether it is a step or not."""
    drafts: list[_Draft] = []
    section: list[Heading] = []
    coming = iter(blocks.headings)
    heading = next(coming, None)
    for index, item in enumerate(blocks.items):
        while heading is not None and heading.line < item.line:
            section = [above for above in section if above.level < heading.level] + [heading]
            heading = next(coming, None)
        line = BOX_LINE.fullmatch(blocks.lines[item.line])
        assert line is not None  # the scan took it by the same pattern
        text, note = split_suffix(line.group("rest"))
        gap = " " if line.group("rest")[:1].isspace() else ""
        reading = read(gap + text, f"{text}\n{item.more}" if item.more else "")
        drafts.append(_Draft(index, item, line.group("marker"), text, note, reading, tuple(section)))
    return drafts


def _steps(drafts: list[_Draft], blocks: Blocks) -> list[_Draft]:
    """Leave out legends, aggregates, and in the STEP format whatever is no STEP."""
    by_list: dict[int, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        by_list[draft.item.list].append(draft)
    out: set[int] = set()
    for number, members in by_list.items():
        heading = members[0].section[-1].text if members[0].section else ""
        if is_legend_title(heading) or is_legend_title(blocks.announced.get(number, "")):
            out.update(draft.index for draft in members)
        out.update(members[at].index for at in legend_entries([draft.text for draft in members]))
    out.update(draft.index for draft in drafts if is_aggregate(draft.text))
    left = [draft for draft in drafts if draft.index not in out]
    # "Step 1:" inside of T001 is a part of T001; it does not make the file a STEP list
    if not any(draft.reading.format == "STEP" and not _inside_other(draft, drafts) for draft in left):
        return left
    others = [d for d in left if d.reading.format not in ("STEP", "none") and not _inside_step(d, drafts)]
    if others:
        blocks.warnings.append(
            f"{blocks.path}:{others[0].item.line + 1}: {len(others)} boxes with other ids "
            f"(first {others[0].reading.id}) are no steps, because this list has STEP boxes; "
            "write them as STEP boxes or keep them in a list of their own"
        )
    return [draft for draft in left if draft.reading.format == "STEP"]


def _above(draft: _Draft, drafts: list[_Draft]) -> list[_Draft]:
    above: list[_Draft] = []
    while draft.item.parent is not None:
        draft = drafts[draft.item.parent]
        above.append(draft)
    return above


def _inside_other(draft: _Draft, drafts: list[_Draft]) -> bool:
    return any(outer.reading.format not in ("STEP", "none") for outer in _above(draft, drafts))


def _inside_step(draft: _Draft, drafts: list[_Draft]) -> bool:
    sections = any(read(heading.text).format == "STEP" for heading in draft.section)
    return sections or any(outer.reading.format == "STEP" for outer in _above(draft, drafts))


def _no_step(drafts: list[_Draft], path: str) -> str:
    if not drafts:
        return f"{path}:1: no checkbox found; {_LOOKS}"
    first = drafts[0]
    return (
        f"{path}:{first.item.line + 1}: all {len(drafts)} checkboxes are legends or ranges of steps "
        f"(first {first.text!r}), none is a step; {_LOOKS}"
    )


def _number(steps: list[_Draft]) -> None:
    """Give each box its id; boxes without one are counted below their heading."""
    ordinals: Counter[tuple[str, ...]] = Counter()
    for draft in steps:
        draft.step_id = draft.reading.id
        if not draft.step_id:
            ordinals[draft.scope] += 1
            draft.step_id = f"#{ordinals[draft.scope]}"


def _nest(steps: list[_Draft], blocks: Blocks) -> None:
    """Find out which box is inside which: by indent, and ``2.1`` inside of its sibling ``2.0``."""
    by_index = {draft.index: draft for draft in steps}
    for draft in steps:
        draft.parent = _outer_step(draft.item, by_index, blocks)
    zeros: dict[tuple[tuple[str, ...], int | None, str], int] = {}
    for draft in steps:
        group, dot, minor = draft.step_id.partition(".")
        if draft.reading.format == "dotted" and dot and minor == "0":
            zeros.setdefault((draft.scope, draft.parent, group), draft.index)
    for draft in steps:
        if draft.reading.format == "dotted":
            zero = zeros.get((draft.scope, draft.parent, draft.step_id.partition(".")[0]))
            if zero is not None and zero != draft.index:
                draft.parent = zero
    for draft in steps:
        if draft.parent is not None:
            by_index[draft.parent].children.append(draft.index)


def _outer_step(item: Item, steps: Container[int], blocks: Blocks) -> int | None:
    parent = item.parent
    while parent is not None and parent not in steps:
        parent = blocks.items[parent].parent
    return parent


def _name(steps: list[_Draft]) -> None:
    """Give each box its key: the id, or where that repeats the id behind a heading.

    The heading is the nearest one that only this box's scope has; where each of them repeats
    somewhere, it is the shortest run of headings that only this scope ends with. A box above all
    headings gets ``/<id>``, so that the plain id never picks one of several.
    """
    groups: dict[str, list[_Draft]] = defaultdict(list)
    for draft in steps:
        groups[draft.step_id].append(draft)
    slugs: dict[str, str] = {}
    for step_id, group in groups.items():
        scopes = {draft.scope for draft in group}
        if len(scopes) == 1:
            for draft in group:
                draft.key = step_id
            continue
        paths = {}
        for scope in scopes:
            for heading in scope:
                slugs.setdefault(heading, slug(heading))
            paths[scope] = tuple(slugs[heading] for heading in scope)
        single = Counter(name for path in paths.values() for name in set(path))
        ends = Counter(path[start:] for path in paths.values() for start in range(len(path)))
        for draft in group:
            path = paths[draft.scope]
            nearest = next((name for name in reversed(path) if single[name] == 1), None)
            if nearest is None:
                tails = (path[start:] for start in reversed(range(len(path))))
                nearest = "/".join(next((tail for tail in tails if ends[tail] == 1), path))
            draft.key = f"{nearest}/{step_id}"


class _Briefs:
    """Cuts the text that belongs to a step out of the file."""

    def __init__(self, blocks: Blocks, steps: list[_Draft]) -> None:
        self._blocks = blocks
        self._by_index = {draft.index: draft for draft in steps}
        self._nested: dict[int, list[int]] = defaultdict(list)
        for draft in steps:
            outer = _outer_step(draft.item, self._by_index, blocks)
            if outer is not None:
                self._nested[outer].append(draft.index)
        self._sections: dict[str, list[tuple[tuple[str, ...], int, int]]] = defaultdict(list)
        if any(draft.reading.format == "STEP" for draft in steps):
            self._find_sections()
        self._stops = sorted(
            [draft.item.line for draft in steps]
            + [heading.line for heading in blocks.headings]
            + [len(blocks.lines)]
        )

    def of(self, draft: _Draft) -> str:
        section = self._section(draft)
        if section is not None:
            return "\n".join(self._blocks.lines[section[0] : section[1]]).strip("\n")
        below = self._below(draft)
        if not below:
            return ""
        box = BOX_LINE.fullmatch(self._blocks.lines[draft.item.line])
        assert box is not None  # the scan took it by the same pattern
        width = len(box.group("head")[:-1].expandtabs(4))
        kept = (_dedent(self._blocks.lines[line], width) for line in below)
        return "\n".join(kept).strip("\n").rstrip()

    def lines(self, draft: _Draft) -> list[int]:
        """Indices of the lines that belong to a step, besides its first."""
        below = self._below(draft)
        section = self._section(draft)
        return below if section is None else [*below, *range(*section)]

    def _find_sections(self) -> None:
        headings = self._blocks.headings
        above: list[Heading] = []
        open_sections: list[tuple[Heading, str, tuple[str, ...]]] = []
        for heading in [*headings, Heading(len(self._blocks.lines), 0, "")]:
            while open_sections and open_sections[-1][0].level >= heading.level:
                start, step_id, scope = open_sections.pop()
                self._sections[step_id].append((scope, start.line, heading.line))
            above = [outer for outer in above if outer.level < heading.level]
            reading = read(heading.text)
            if reading.format == "STEP":
                open_sections.append((heading, reading.id, tuple(outer.text for outer in above)))
            above.append(heading)

    def _section(self, draft: _Draft) -> tuple[int, int] | None:
        """The section of a STEP; of several the one that shares most headings, if it is one."""
        found = self._sections.get(draft.step_id, [])
        if draft.reading.format != "STEP" or not found:
            return None
        shared = [_shared(scope, draft.scope) for scope, _, _ in found]
        best = [section for section, depth in zip(found, shared, strict=True) if depth == max(shared)]
        return best[0][1:] if len(best) == 1 else None

    def _below(self, draft: _Draft) -> list[int]:
        """What is indented below a box, without the boxes inside it that are steps themselves.

        Below a ``Task N`` heading the code between two ``Step N`` boxes stands at column 0.
        """
        item = draft.item
        end = item.end
        if draft.reading.format == "STEP" and any(_TASK_HEADING.match(text) for text in draft.scope[-1:]):
            end = max(end, self._stops[bisect_right(self._stops, item.line)])
        kept: list[int] = []
        line = item.line + 1
        for inner in sorted(self._nested[draft.index]):
            inside = self._by_index[inner].item
            kept += range(line, inside.line)
            line = max(line, inside.end)
        return [*kept, *range(line, end)]


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    depth = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        depth += 1
    return depth


def _dedent(text: str, width: int) -> str:
    """Take up to ``width`` columns of white space off the left of a line."""
    bare = text.lstrip(" \t")
    indent = len(text[: len(text) - len(bare)].expandtabs(4))
    return " " * max(0, indent - width) + bare
