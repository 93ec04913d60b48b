"""YAML text to plain values that know their lines.

Values follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), not the 1.1 of
PyYAML: only ``true`` and ``false`` are booleans, and ``013`` is thirteen. Where text is meant, a scalar stays
as it was typed: every key of a mapping, and the values that the caller's ``modes`` name. ``2.10`` is then not
``2.1`` and ``no`` is not ``False``.

Values are built from the parser's events and not from composed nodes: a tree of nodes costs three times as
much in a file of ten thousand steps, and libyaml's composer overflows the stack of the process on deep
nesting. An alias plays the events of its anchor again, so the same text can be a number in one place and raw
text in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.plan.shapes.core_schema import Mode, plain_scalar

MAX_DEPTH = 100
"""Levels of nesting; no definition needs more than a dozen."""

FREE_EXPANSION = 100_000
"""Values that aliases may repeat before the size of the file counts; see ``_Builder._replay``."""

_ITEM_MODE: dict[str, Mode] = {"typed": "typed", "text": "text", "items": "text", "deep": "raw", "raw": "raw"}
_STARTS = frozenset((yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent))
_ENDS = frozenset((yaml.MappingEndEvent, yaml.SequenceEndEvent))
_TAG = "tag:yaml.org,2002:"
_TAGGED_TYPES: dict[str, tuple[type, ...]] = {
    _TAG + "null": (type(None),),
    _TAG + "bool": (bool,),
    _TAG + "int": (int,),
    _TAG + "float": (float, int),
}

_ADVICE = (
    (
        "cannot start any token",
        "put quotes around text that starts with %, @ or `; indent with spaces, not tabs",
    ),
    ("tab character", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "check the indentation, and put quotes around text that holds ': '"),
    ("expected key", "check the indentation, and put quotes around text that goes on after a closing quote"),
    ("expected '-' indicator", "check the indentation: the entries of a list stand below one another"),
    ("expected <block end>", "check the indentation: keys and entries stand below one another"),
    ("expected ':'", "write 'key: value', with a space after the colon"),
    ("',' or", "close the bracket, or put a comma between the entries"),
    ("end of stream", "close the quote"),
    ("undefined alias", "define it before, with &name, or put quotes around text that starts with *"),
    ("escape c", r"write \\ for a backslash between double quotes, or use single quotes"),
    ("tag handle", "put quotes around text that starts with !"),
    ("control character", "remove the character, or write it as an escape between double quotes"),
)


class Problem(NamedTuple):
    """What is wrong on a line: ``what; hint``. The column is 0 where the line says enough."""

    line: int
    text: str
    column: int = 0

    def at(self, path: str) -> str:
        """The line that people see."""
        place = f"{path}:{self.line}:{self.column}" if self.column else f"{path}:{self.line}"
        # Texts of the file stand in messages, and a message is one line.
        return f"{place}: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in self.text)


class Map(dict[str, Any]):
    """A mapping that knows its line and the lines of its keys."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: dict[str, int] = {}


class Seq(list[Any]):
    """A list that knows its line and the lines of its items."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says: builtin scalars in ``Map`` and ``Seq``, and what is wrong with it as YAML."""

    value: Any
    problems: tuple[Problem, ...] = ()


def read(text: bytes, path: str, modes: Mapping[str, Mode] | None = None) -> Source:
    """Read one YAML document.

    Args:
        text: the file's bytes, UTF-8 or UTF-16 with a byte order mark.
        path: as shown to people.
        modes: how the values of a key are taken, wherever the key stands; ``typed`` for all others.

    Returns:
        The value (None for an empty file), and problems that did not keep it from being read: duplicate keys,
        unknown tags.

    Raises:
        PlanError: the text is not YAML, or is more than one document; one line.
    """
    try:
        return _build(_decoded(text), modes or {})
    except _UnreadableError as error:
        raise PlanError(error.problem.at(path)) from None


class _UnreadableError(Exception):
    def __init__(self, line: int, text: str, column: int = 0) -> None:
        self.problem = Problem(line, text, column)


def _decoded(text: bytes) -> str:
    encoding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        before = text[: error.start].decode(encoding, "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _UnreadableError(
            line, f"this is not {encoding[:6].rstrip('-').upper()} text; save the file as UTF-8", column
        ) from None


def _build(text: str, modes: Mapping[str, Mode]) -> Source:
    builder = _Builder(modes)
    try:
        parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            while parser.check_event():
                builder.take(parser.get_event())
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _UnreadableError(
            line, "a control character stands here; remove it, or write it as an escape in quotes", column
        ) from None
    except RecursionError:
        raise _too_deep(1) from None
    return Source(builder.root, tuple(builder.problems))


def _syntax_error(error: yaml.MarkedYAMLError) -> _UnreadableError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or error.context or "something unexpected stands here"
    what = f"this is not YAML: {problem}"
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        what += f", {error.context} that starts on line {error.context_mark.line + 1}"
    for words, advice in _ADVICE:
        if words in problem:
            return _UnreadableError(line, f"{what}; {advice}", column)
    return _UnreadableError(line, f"{what}; check the line, and the one above it", column)


def _too_deep(line: int) -> _UnreadableError:
    return _UnreadableError(line, f"this is nested more than {MAX_DEPTH} levels deep; write it flatter")


@dataclass(slots=True)
class _Frame:
    """A collection that is still open."""

    into: Map | Seq
    mode: Mode
    key: str | None = None
    key_line: int = 0
    merging: bool = False
    merged: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Recording:
    """The events of an anchored collection, written down for its aliases."""

    anchor: str
    depth: int
    events: list[Any]


class _Builder:
    """Takes events one by one; ``root`` is the value when the last one was taken."""

    def __init__(self, modes: Mapping[str, Mode]) -> None:
        self.modes = modes
        self.root: Any = None
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._documents = 0
        self._anchors: dict[str, list[Any]] = {}
        self._recordings: list[_Recording] = []
        self._taken = 0
        self._replayed = 0

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.AliasEvent:
            self._replay(event)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                line = event.start_mark.line + 1
                text = "a second YAML document starts here; keep all definitions in one document"
                raise _UnreadableError(line, text)
        elif kind in _STARTS or kind in _ENDS:
            self._taken += 1
            if self._recordings or (kind in _STARTS and event.anchor is not None):
                self._record(event, kind)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent:
                self._open(Map(event.start_mark.line + 1), event)
            elif kind is yaml.SequenceStartEvent:
                self._open(Seq(event.start_mark.line + 1), event)
            else:
                self._close()

    def _record(self, event: Any, kind: type) -> None:
        if kind in _ENDS:
            depth = len(self._stack)
            for recording in self._recordings:
                recording.events.append(event)
            if self._recordings and self._recordings[-1].depth == depth:
                done = self._recordings.pop()
                self._anchors[done.anchor] = done.events
            return
        if event.anchor is not None:
            if kind is yaml.ScalarEvent:
                self._anchors[event.anchor] = [event]
            else:
                # An alias inside must not find an older anchor of the same name.
                self._anchors.pop(event.anchor, None)
                self._recordings.append(_Recording(event.anchor, len(self._stack) + 1, []))
        for recording in self._recordings:
            recording.events.append(event)

    def _replay(self, alias: Any) -> None:
        """Take the events of the anchor again.

        What aliases repeat may be ten times what the file says, plus ``FREE_EXPANSION``: room for any honest
        use, and an end to the nine lists of nine aliases that would fill the memory.
        """
        line = alias.start_mark.line + 1
        events = self._anchors.get(alias.anchor)
        if events is None:
            if any(recording.anchor == alias.anchor for recording in self._recordings):
                raise _UnreadableError(
                    line, f"'*{alias.anchor}' stands inside what it names; write the part out"
                )
            raise _UnreadableError(
                line, f"there is no anchor '&{alias.anchor}' above; define it, or put quotes around the text"
            )
        self._replayed += len(events)
        if self._replayed > FREE_EXPANSION + 10 * self._taken:
            raise _UnreadableError(
                line, "the aliases repeat too much of the file; write the parts out or use 'defaults'"
            )
        for event in events:
            self.take(event if type(event) in _ENDS or event.anchor is None else _without_anchor(event))
            self._taken -= 1

    def _scalar(self, event: Any) -> None:
        line = event.start_mark.line + 1
        text: str = event.value
        if not self._stack:
            self.root = self._value(event, text, "typed")
            return
        frame = self._stack[-1]
        if frame.into.__class__ is Map and frame.key is None:
            frame.key, frame.key_line = text, line
            frame.merging = text == "<<" and event.implicit[0]
            return
        self._put(frame, self._value(event, text, self._mode_below(frame)), line)

    def _value(self, event: Any, text: str, mode: Mode) -> Any:
        if event.implicit[0]:
            return plain_scalar(text, mode)
        tag = event.tag
        if tag is None or event.implicit[1] or tag in ("!", _TAG + "str"):
            return text
        value = plain_scalar(text, "typed") if tag in _TAGGED_TYPES else None
        if tag in _TAGGED_TYPES and type(value) in _TAGGED_TYPES[tag]:
            return text if mode == "raw" else value
        self._bad_tag(event)
        return text

    def _bad_tag(self, event: Any) -> None:
        shown = event.tag.replace(_TAG, "!!")
        self.problems.append(
            Problem(event.start_mark.line + 1, f"the tag '{shown}' does not fit here; remove it")
        )

    def _mode_below(self, frame: _Frame) -> Mode:
        if frame.into.__class__ is Seq:
            return _ITEM_MODE[frame.mode]
        if frame.mode == "deep" or frame.mode == "raw":
            return "raw"
        return self.modes.get(frame.key or "", "typed")

    def _open(self, into: Map | Seq, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(into.line)
        if event.tag not in (None, "!", _TAG + ("map" if into.__class__ is Map else "seq")):
            self._bad_tag(event)
        mode: Mode = "typed"
        if self._stack:
            frame = self._stack[-1]
            if frame.into.__class__ is Map and frame.key is None:
                raise _UnreadableError(into.line, "a list or mapping stands as a key; keys are text")
            # What is merged belongs to this mapping, not to a key of it.
            mode = frame.mode if frame.merging else self._mode_below(frame)
        self._stack.append(_Frame(into, mode))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.merged and isinstance(frame.into, Map):
            self._merge(frame.into, frame.merged)
        if self._stack:
            self._put(self._stack[-1], frame.into, frame.into.line)
        else:
            self.root = frame.into

    def _put(self, frame: _Frame, value: Any, line: int) -> None:
        into = frame.into
        if isinstance(into, Seq):
            into.append(value)
            into.lines.append(line)
            return
        key, frame.key = frame.key, None
        if key is None:
            raise AssertionError("a value without a key")
        if frame.merging:
            frame.merging = False
            if frame.merged:
                self._duplicate(key, frame.key_line, frame.merged[0][0])
            frame.merged.append((frame.key_line, value))
            return
        if key in into:
            self._duplicate(key, frame.key_line, into.lines[key])
        into[key] = value
        into.lines[key] = frame.key_line

    def _duplicate(self, key: str, line: int, first: int) -> None:
        self.problems.append(Problem(line, f"'{key}' stands already on line {first}; keep one of the two"))

    def _merge(self, into: Map, merged: list[tuple[int, Any]]) -> None:
        """Add what ``<<`` names; what is written out wins, then what is named first (YAML's merge type)."""
        for line, value in merged:
            for part in value if isinstance(value, Seq) else (value,):
                if not isinstance(part, Map):
                    text = "'<<' takes a mapping or a list of mappings; write '<<: *name'"
                    self.problems.append(Problem(line, text))
                    continue
                for key, below in part.items():
                    if key not in into:
                        into[key] = below
                        into.lines[key] = part.lines[key]


def _without_anchor(event: Any) -> Any:
    if type(event) is yaml.ScalarEvent:
        return yaml.ScalarEvent(
            None, event.tag, event.implicit, event.value, event.start_mark, event.end_mark, event.style
        )
    return type(event)(None, event.tag, event.implicit, event.start_mark, event.end_mark, event.flow_style)
