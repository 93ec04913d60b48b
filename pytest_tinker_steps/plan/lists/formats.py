"""How people write a step: the id formats, titles without markup, legends, aggregates and struck text.

All functions take the text of a box without its tick suffix, so that a tick never changes what they say.
"""

from __future__ import annotations

import re
from typing import Literal

from ..values import value

FormatName = Literal["STEP", "spec-kit", "letters-dash", "dotted", "number", "hash", "none"]


@value
class IdFormat:
    """One row of the table of id formats.

    Attributes:
        name: of the format.
        pattern: of the id; the group ``id`` is what people type.
        bare: whether white space alone may end the id. Without it a separator or the end of the
            markup around it must follow, because the words alone are also common in plain text
            (``Step 2 of the move``, ``13 tests pass``).
    """

    name: FormatName
    pattern: re.Pattern[str]
    bare: bool = True


def _row(name: FormatName, core: str, *, word: str = "", many: bool = True, bare: bool = True) -> IdFormat:
    span = rf"{core}(?:[-–—](?:{core}|\d+[a-z]?))?" if many else core
    return IdFormat(name, re.compile(rf"{word}(?P<id>{span})"), bare)


FORMATS: tuple[IdFormat, ...] = (
    _row("STEP", r"\d+(?:\.\d+)*[a-z]?", word=r"(?:STEP|Step|step)[ \t]+#?", many=False, bare=False),
    _row("spec-kit", r"(?:T\d+(?:\.\d+)*[a-z]?|[A-Z]{1,3}0\d{1,3}[a-z]?)"),
    _row(
        "letters-dash",
        # standards and model names look the same, and a title often starts with one
        r"(?!(?:UTF|SHA|ISO|RFC|AES|GPT|MD)-)"
        r"(?:[A-Z][A-Z0-9]{0,9}(?:-[A-Z0-9]{1,6}){0,2}-\d{1,4}[a-z]?|[A-Z]{1,3}-[A-Z])(?![A-Za-z0-9])",
    ),
    _row("dotted", r"(?:[A-Z]\d*\.\d+|\d+\.\d+)(?:\.\d+)*[a-f]?"),
    _row("number", r"\d+[a-z]?", bare=False),
    _row("hash", r"#\d+", many=False),
)
"""Tried in order. A box that fits none has no id of its own."""


@value
class Reading:
    """What the text of a box says.

    Attributes:
        format: the row that fits; ``none`` without an id.
        id: empty without one.
    """

    format: FormatName
    id: str
    title: str
    struck: bool = False
    optional: bool = False


_OPTIONAL = re.compile(r"\\?\*(?=\s|\d|$)")
# pictures, and tags such as [P], [US1] or (P), that some people write before the id
_LEAD = re.compile(r"(?:(?:[^\x00-\x7f\w]+|\[[A-Z]{1,3}\d{0,2}\]|\(P\))[ \t]*)*")
_OPEN = re.compile(r"(?:~~|\*{1,3}|_{1,2}|`|\[)*")
_CLOSER = re.compile(r"~~|\*{1,3}|_{1,2}|`|\]\([^()\s]*\)|\]")
_SEPARATOR = re.compile(r"\\?[:.)]")
_DASH = re.compile(r"[ \t]*(?:[-–—|:]|->|→)(?=\s|$)")
_TOKENS = re.compile(r"~~|\*{1,3}|_{1,2}|`|\[")


def read(text: str, whole: str = "") -> Reading:
    """Read the first line of a box.

    Args:
        text: what stands after the bracket, without the tick suffix. A space before it matters:
            only a ``*`` right after the bracket makes a step optional.
        whole: the box's whole paragraph, if it is longer than a line: a strike may end further down.

    Returns:
        The reading. The title keeps ``[P]`` and other tags, which are words and no markup; it is the
        text itself where nothing stands behind the id.
    """
    optional = _OPTIONAL.match(text)
    body = (text[optional.end() :] if optional else text).strip()
    starts = _starts(body)
    for form in FORMATS:
        found = _match(form, body, starts)
        if found is not None:
            step_id, rest, in_strike = found
            title = plain(rest) or plain(body)
            struck = (in_strike and "~~" in (whole or body).partition("~~")[2]) or _struck(rest, whole)
            return Reading(form.name, step_id, title, struck, bool(optional))
    return Reading("none", "", plain(body), _struck(body, whole), bool(optional))


def _starts(body: str) -> list[tuple[int, int]]:
    """Where the words of a box may begin, behind pictures and tags or not, and where behind the markup."""
    lead = _LEAD.match(body)
    starts = dict.fromkeys((lead.end() if lead else 0, 0))
    opened = ((start, _OPEN.match(body, start)) for start in starts)
    return [(start, found.end() if found else start) for start, found in opened]


def _match(form: IdFormat, body: str, starts: list[tuple[int, int]]) -> tuple[str, str, bool] | None:
    """Find the id at the start of ``body``: id, what follows it, and whether it is struck out."""
    for start, at in starts:
        found = form.pattern.match(body, at)
        if found is None:
            continue
        open_marks = _TOKENS.findall(body, start, at)
        left = list(open_marks)
        position, ended = found.end(), False
        while True:
            closer = _CLOSER.match(body, position)
            mark = closer.group().partition("(")[0].replace("]", "[") if closer else ""
            if closer and mark in left:
                left.remove(mark)
                position, ended = closer.end(), True
                continue
            separator = _SEPARATOR.match(body, position)
            if separator is None:
                break
            position, ended = separator.end(), True
        dash = _DASH.match(body, position)
        if dash:
            position, ended = dash.end(), True
        rest = body[position:]
        if not (ended or form.bare or not rest) or (rest and not rest[0].isspace() and not dash):
            continue
        if form.name == "number" and not ended:
            continue
        tail = "".join(mark for mark in left if mark != "[") + rest.strip()
        return found.group("id"), body[:start] + tail, "~~" in open_marks
    return None


def _struck(title: str, whole: str) -> bool:
    """Say whether all of a title is struck out; a remark such as ``(moved)`` may follow.

    ``~~MySQL~~ Postgres`` is a correction, so the step is still to be done.
    """
    if not title.startswith("~~"):
        return False
    inside, closed, after = title[2:].partition("~~")
    if not closed:
        return bool(inside) and "~~" in whole.partition("~~")[2]
    after = after.strip()
    return bool(inside) and not (after[:1].isalnum() or after[:1] in ("`", '"', "'"))


CODE = re.compile(r"(`+)(.+?)\1")
"""Code inside of a line."""

_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:[ \t]+\"[^\"]*\")?\)")
_EMPHASIS = (
    re.compile(r"(\*{1,3})(?=\S)(.+?)(?<=\S)\1"),
    re.compile(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)"),
    re.compile(r"(~~)(?=\S)(.+?)(?<=\S)\1"),
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_ANY_MARKUP = re.compile(r"[`*_~\[\\\0]")
_LOOSE_ENDS = re.compile(r"^(?:\*\*|__|~~)+|(?:\*\*|__|~~)+$")
_KEPT = re.compile("\x00(\\d+)\x00")


def plain(text: str) -> str:
    """Take the inline markup off a line: emphasis, strikes, code marks, link targets, escapes.

    Code keeps its inside as it stands. Brackets, pictures and ticks are words and stay. Marks at
    the edges that close on another line go too.
    """
    if _ANY_MARKUP.search(text) is None:
        return text.strip()  # most lines have none, and eight patterns would look for it

    kept: list[str] = []

    def keep(inside: str) -> str:
        kept.append(inside)
        # NUL cannot stand in a task list, so it can mark a place in one
        return f"\x00{len(kept) - 1}\x00"

    text = CODE.sub(lambda code: keep(code.group(2)), text.replace("\x00", ""))
    text = _ESCAPE.sub(lambda escape: keep(escape.group(1)), text)
    text = _LINK.sub(r"\1", text)
    for emphasis in _EMPHASIS:
        text = emphasis.sub(r"\2", text)
    text = _LOOSE_ENDS.sub("", text.strip())
    return _KEPT.sub(lambda place: kept[int(place.group(1))], text).strip()


def slug(heading: str) -> str:
    """Name a heading in a key: small letters and digits of any script, joined by hyphens."""
    return "-".join(re.findall(r"[^\W_]+", plain(heading).lower())) or "section"


_AGGREGATE = re.compile(
    r"(?:(?:steps|tasks)\s+#?\d+\s*(?:[-–—,&]|to|through|and)\s*#?\d+|(?:step|task)\s+#?\d+[-–—]\d+)"
    # a range with plain words behind it is a piece of work: "Tasks 1-5 integration test"
    r"(?:[,\d\s–—-]|and |to )*"
    r"(?=$|[:.(*_~]|\s[-–—]\s|(?:are |all )*(?:complete|done|finish|verified|implemented|pass))",
    re.IGNORECASE,
)


def is_aggregate(text: str) -> bool:
    """Say whether a box stands for a range of other boxes (``**Steps 1-2:** all set up``)."""
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    opened = _OPEN.match(text, start)
    return _AGGREGATE.match(text, opened.end() if opened else start) is not None


_WAITING = (
    "pending|not started|not done|not yet started|in progress|in-progress|to ?do|open|blocked|on hold|"
    "skipped|cancell?ed|deferred|wip|incomplete|started|partial|partially done|partially complete"
)
_ENDED = "completed?|done|finished|failed"
_STATE = re.compile(
    rf"\W*(?:tasks?\s+|items?\s+|steps?\s+)?(?:is\s+|are\s+)?(?P<word>{_WAITING}|{_ENDED})"
    r"(?:\s+(?:tasks?|items?|steps?))?(?P<more>\W*$|\s*(?:[-–—:=(,/]).*)",
    re.IGNORECASE,
)
_LEGEND_HEADING = re.compile(
    r"\W*(?:(?:task|status|progress|checkbox|marker|symbol)s?\s+)*(?:legend|key)\W*", re.IGNORECASE
)


def is_legend_title(text: str) -> bool:
    """Say whether a heading or a line above a list calls that list a legend."""
    return _LEGEND_HEADING.fullmatch(plain(text)) is not None


def legend_entries(texts: list[str]) -> set[int]:
    """Find the boxes of one list that only explain what a marker means.

    Two neighbours that name different states are a legend. One alone is only when it names a
    state that no work has as its title: ``Done`` alone under a task is a step of somebody's.

    Args:
        texts: of the boxes of one list, in order.

    Returns:
        Their positions in ``texts``.
    """
    found: set[int] = set()
    run: list[tuple[int, str, bool]] = []
    for position, text in enumerate([*texts, ""]):
        state = _STATE.fullmatch(plain(text))
        if state:
            bare = not re.search(r"\w", state.group("more"))
            run.append((position, state.group("word").lower(), bare))
            continue
        alone = len(run) == 1 and run[0][2] and re.fullmatch(_WAITING, run[0][1]) is not None
        if alone or len({word for _, word, _ in run}) > 1:
            found.update(position for position, _, _ in run)
        run = []
    return found
