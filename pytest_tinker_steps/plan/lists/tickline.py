"""The one-line edit of a task list. It looks at one line and never at the structure of the file.

A line that is written is decoded with ``surrogateescape``, so that bytes that are no UTF-8 come out
as they went in. A line that is only read is decoded by ``readable``, because its text goes to
terminals, reports and other processes, which refuse surrogates.
"""

from __future__ import annotations

import re
import unicodedata

from ..model import Box, PlanError

NOTE_LENGTH = 200
"""Characters of a note that are written into the list."""

BOM = b"\xef\xbb\xbf"
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
"""One line with its ending, in the sense of CommonMark: a lone CR ends a line too."""

BOX_LINE = re.compile(
    r"(?P<head>\ufeff?[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)+\[)"
    r"(?P<marker>[ xX\-~!>/?]?)\](?!\()(?P<rest>[^\r\n]*)"
)
"""A line whose innermost list item begins with a box. ``](`` would make it a link."""

_SUFFIX = re.compile(
    r"(?: ✓ \[\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-][\d:]+)?\] \[task_[^\[\]\r\n]+\](?: \([^\[\]\r\n]*\))?)+"
    r"(?=[ \t]*\Z)"
)
# An underscore inside a word is part of a name, not of the markup.
_MARKUP = re.compile(r"[`*\[\]<>]|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])")


def readable(line: bytes) -> str:
    """The text of a line without its ending; a byte that is no UTF-8 reads like ``\\xe9``."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def split_suffix(rest: str) -> tuple[str, str]:
    """Part what stands after the bracket into text and tick suffix.

    Returns:
        The text without the space around it, and the suffix (with its leading space) or nothing.
    """
    found = _SUFFIX.search(rest)
    if found is None:
        return rest.strip(), ""
    return rest[: found.start()].strip(), found.group()


def tick_suffix(timestamp: str, task_id: str, note: str = "") -> str:
    """Build what is written behind the text of a passed step.

    Args:
        timestamp: ISO 8601, for example ``2026-11-20T23:42:00Z``.
        task_id: of the attempt that passed, for example ``task_13_1a2b3c4d``.
        note: put on one line, without markup, shortened to ``NOTE_LENGTH`` characters.

    Raises:
        ValueError: timestamp or task id would not be recognised again in the list.
    """
    said = "".join(
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign
        for sign in _MARKUP.sub("", note)
        if unicodedata.category(sign) != "Cs"
    )
    said = " ".join(said.split())
    if len(said) > NOTE_LENGTH:
        said = said[: NOTE_LENGTH - 1].rstrip() + "…"
    suffix = f" ✓ [{timestamp}] [{task_id}]" + (f" ({said})" if said else "")
    if _SUFFIX.fullmatch(suffix) is None:
        raise ValueError(f"no tick can be made of the time {timestamp!r} and the task id {task_id!r}")
    return suffix


def rewrite_line(line: bytes, *, tick: str | None) -> bytes:
    """Tick or un-tick one line.

    The suffix goes between the last byte of the line and its line ending, behind trailing spaces.
    So un-ticking cuts exactly the suffix off and gives back every other byte; only the marker
    becomes a space, whatever it was before the tick.

    Args:
        line: the whole line, with its line ending if it has one.
        tick: the suffix, which replaces one that is there; ``None`` un-ticks.

    Raises:
        ValueError: the line has no box.
    """
    text = line.decode("utf-8", "surrogateescape")
    body = text.rstrip("\r\n")
    found = BOX_LINE.fullmatch(body)
    if found is None:
        raise ValueError(f"no box on the line {line!r}")
    rest = _SUFFIX.sub("", found.group("rest"))
    marker, suffix = (" ", "") if tick is None else ("x", tick)
    changed = f"{found.group('head')}{marker}]{rest}{suffix}{text[len(body) :]}"
    return changed.encode("utf-8", "surrogateescape")


def splice(data: bytes, box: Box, *, tick: str | None, moved: int = 0) -> bytes:
    """Change the one line of a box in a whole file, without parsing the file.

    Args:
        tick: the suffix; None un-ticks.
        moved: bytes by which the line stands behind ``box.offset`` now.

    Raises:
        PlanError: that box does not stand there any more.
    """
    start = box.offset + moved
    line = LINE.match(data, start) if start <= len(data) else None
    body = readable(line.group()) if line and _starts_line(data, start) else ""
    here = BOX_LINE.fullmatch(body)
    if line is None or here is None:
        raise PlanError(f"line {box.line}: box {box.key} does not stand here any more; the list was edited")
    text, _ = split_suffix(here.group("rest"))
    if text != box.text:
        raise PlanError(
            f"line {box.line}: the text of box {box.key} changed from {box.text!r} to {text!r}; "
            "the box is left as it is"
        )
    return data[:start] + rewrite_line(line.group(), tick=tick) + data[line.end() :]


def _starts_line(data: bytes, start: int) -> bool:
    if start == 0 or (start == len(BOM) and data.startswith(BOM)):
        return True
    before = data[start - 1 : start]
    return before == b"\n" or (before == b"\r" and data[start : start + 1] != b"\n")
