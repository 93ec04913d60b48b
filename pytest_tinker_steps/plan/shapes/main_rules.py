"""Rules of a main that hold between its keys: what goes with which mode, pieces, placeholders."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator

from pytest_tinker_steps.plan.shapes import runners
from pytest_tinker_steps.plan.shapes.rules import MAIN_KINDS, PROSE, Rules, not_two
from pytest_tinker_steps.plan.shapes.yaml_source import Map, Seq

MODES_OF = {
    "max_runtime": ("background", "chunked", "stream"),
    "ready_when": ("background",),
    "log_size": ("background",),
    "chunks": ("chunked",),
    "chunk_size": ("chunked",),
    "checkpoint_every": ("chunked",),
    "quality": ("chunked",),
    "fix": ("chunked",),
    "total": ("chunked", "stream"),
    "output": ("chunked", "stream"),
    "batch_size": ("stream",),
    "stop_when": ("stream",),
}
"""Keys of a main that not every mode has."""

_OF_PIECES = ("index", "start", "size", "attempt", "output", "total")
PLACEHOLDERS = {
    "chunked": tuple(f"chunk.{name}" for name in _OF_PIECES),
    "stream": tuple(f"batch.{name}" for name in (*_OF_PIECES, "results")),
}
"""What stands in braces in the commands of these mains, and is filled in for each piece."""

MOST_PIECES = 100_000
"""Pieces and sub-pieces of one main; each is a process, a file and a line of the journal."""

_PLACEHOLDER = re.compile(r"\{((?:chunk|batch)\.[^{}\n]*)\}")


def main(value: Map, context: Rules) -> None:
    kinds = [key for key in value if key in MAIN_KINDS and value[key] is not None]
    not_two(value, kinds, context, "stand in one main; keep one, or make two steps of it")
    if value.get("args") is not None and value.get("script") is None:
        context.report(value.lines["args"], "'args' are for a 'script'; add one, or write a 'command'")
    if value.get("runner") is not None and value.get("python") is not None:
        text = "a function runs in the session, and cannot be handed to a runner; write a 'script'"
        context.report(value.lines["runner"], text)
    first = value.get("test_first")
    takes_args = isinstance(first, Seq) or (isinstance(first, Map) and first.get("args") is not None)
    if takes_args and value.get("script") is None:
        text = "the arguments of 'test_first' are for a 'script'; add one, or give 'test_first' a command"
        context.report(value.lines["test_first"], text)
    given = value.get("mode")
    mode = given if isinstance(given, str) else "foreground" if given is None else ""
    _keys_of_mode(value, mode, context)
    if mode in ("background", "chunked", "stream") and value.get("python") is not None:
        text = f"a function runs in the session, and 'mode: {mode}' needs a process; write a 'script'"
        context.report(value.lines["python"], text)
    if mode == "chunked":
        _pieces(value, context)
    if mode in PLACEHOLDERS:
        _placeholders(value, mode, context)
    if mode == "stream" and value.get("stop_when") is not None:
        stop = value["stop_when"]
        for check in stop if isinstance(stop, Seq) else [stop]:
            _deciding(check, "when the stream ends", context)


def runner(value: object, context: Rules) -> None:
    """Report placeholders of a runner that nobody fills in.

    Args:
        value: its command, or a mapping.
    """
    words = {"command": value} if isinstance(value, Seq) else value if isinstance(value, Map) else {}
    for key in ("command", "stop"):
        line = value.lines[key] if isinstance(value, Map) and key in value else 0
        for at, word in _texts(words.get(key), line):
            for name in runners.named(word):
                if name not in runners.NAMES:
                    context.report(at, _not_of_runners(name))


def _not_of_runners(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), runners.NAMES, 1, 0.6)
    hint = "a runner has " + ", ".join(f"{{{one}}}" for one in runners.NAMES)
    if near:
        hint = f"did you mean '{{{near[0]}}}'?"
    return f"there is no placeholder '{{{name}}}' for a runner; {hint}"


def test_first(value: Map, context: Rules) -> None:
    not_two(
        value, [key for key in ("args", "command") if key in value], context, "stand in one test; keep one"
    )
    if not value.keys() & {"args", "command", "env"}:
        text = "'test_first' does not say what differs from the main; add args, command or env"
        context.report(value.line, text)


test_first.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name looks like to pytest


def ready_when(value: Map, context: Rules, allowed: Collection[str]) -> None:
    ways = [key for key in value if key in allowed and value[key] is not None]
    not_two(value, ways, context, "stand in one 'ready_when'; keep one")
    if not ways and not value.keys() - allowed:
        context.report(value.line, "'ready_when' says nothing; give it a file, a line or a check")
    _deciding(value.get("check"), "when a job is ready", context)


def _deciding(check: object, what: str, context: Rules) -> None:
    """Report a check that something waits for and that cannot decide it."""
    if not isinstance(check, Map):
        return
    for key in PROSE:
        if check.get(key) is not None:
            text = f"'{key}' is natural language, and cannot say {what}; use a command or a probe"
            context.report(check.lines[key], text)
    if check.get("critical") is False:
        text = f"'critical: false' is for checks that decide nothing, and this one says {what}; remove it"
        context.report(check.lines["critical"], text)


def _keys_of_mode(value: Map, mode: str, context: Rules) -> None:
    if mode not in ("foreground", "background", *PLACEHOLDERS):
        return
    for key, modes in MODES_OF.items():
        if value.get(key) is not None and mode not in modes:
            others = " or ".join(filter(None, (", ".join(modes[:-1]), modes[-1])))
            text = f"'{key}' is for mode {others}, and this one is {mode}; change the mode, or remove the key"
            context.report(value.lines[key], text)
    if mode == "chunked" and value.get("fix") is not None and value.get("quality") is None:
        text = "'fix' is run when the checks of 'quality' fail, and there are none; add them"
        context.report(value.lines["fix"], text)


def _pieces(value: Map, context: Rules) -> None:
    by_total = [key for key in ("total", "chunk_size") if value.get(key) is not None]
    if value.get("chunks") is not None:
        for key in by_total:
            text = (
                f"'chunks' and '{key}' both say what the pieces are; "
                "keep 'chunks', or 'total' with 'chunk_size'"
            )
            context.report(value.lines[key], text)
    elif not by_total:
        text = "a chunked main does not say what its pieces are; add 'chunks', or 'total' with 'chunk_size'"
        context.report(value.lines["mode"], text)
    elif len(by_total) == 1:
        missing = "chunk_size" if by_total == ["total"] else "total"
        context.report(value.lines[by_total[0]], f"'{by_total[0]}' needs '{missing}' beside it; add it")
    if _count(value) > MOST_PIECES:
        text = f"this makes more than {MOST_PIECES} pieces; make them larger"
        key = next(key for key in ("checkpoint_every", "chunk_size", "chunks") if value.get(key) is not None)
        context.report(value.lines[key], text)


def _count(value: Map) -> int:
    """About how many pieces and sub-pieces a main has; 0 where that does not stand there in whole numbers."""
    chunks = value.get("chunks")
    sizes: list[tuple[object, object]] = [(value.get("total"), value.get("chunk_size"))]
    if isinstance(chunks, Seq):
        sizes = [(chunk.get("size") if isinstance(chunk, Map) else chunk, None) for chunk in chunks]
    every = value.get("checkpoint_every")
    count = 0
    for size, piece in sizes:
        cuts = [cut for cut in (every, piece) if isinstance(cut, int) and cut > 0]
        if isinstance(size, int):
            count += -(-size // min(cuts)) if cuts else 1
    return count


def _placeholders(value: Map, mode: str, context: Rules) -> None:
    known = PLACEHOLDERS[mode]
    for key in ("command", "args", "fix"):
        for line, name in _named(value.get(key), value.lines.get(key, 0)):
            if name not in known:
                context.report(line, _unknown(name, mode, known))
    for key in ("quality", "stop_when", "test_first"):
        for line, name in _named(value.get(key), value.lines.get(key, 0)):
            advice = "write values" if key == "test_first" else f"use ${_variable(name)} in a command"
            text = f"'{{{name}}}' is not filled in below '{key}'; {advice}"
            context.report(line, text if name in known else _unknown(name, mode, known))


def _variable(placeholder: str) -> str:
    return placeholder.replace(".", "_").upper()


def _unknown(name: str, mode: str, known: tuple[str, ...]) -> str:
    own, word = known[0].partition(".")[0], name.partition(".")[2]
    near = difflib.get_close_matches(f"{own}.{word.strip().lower()}", known, 1, 0.7)
    hint = "there are " + ", ".join(f"{{{one}}}" for one in known)
    if near:
        hint = f"did you mean '{{{near[0]}}}'?"
    if any(name in names for names in PLACEHOLDERS.values()):
        return f"'{{{name}}}' is not for mode {mode}; {hint}"
    return f"there is no placeholder '{{{name}}}'; {hint}"


def _named(value: object, line: int) -> Iterator[tuple[int, str]]:
    """The placeholders in all texts of a value, each with its line."""
    for at, text in _texts(value, line):
        for found in _PLACEHOLDER.finditer(text):
            yield at, found[1]


def _texts(value: object, line: int) -> Iterator[tuple[int, str]]:
    """All texts of a value, each with its line."""
    if isinstance(value, str):
        yield line, value
    elif isinstance(value, Map):
        for key, below in value.items():
            yield from _texts(below, value.lines[key])
    elif isinstance(value, Seq):
        for below, at in zip(value, value.lines, strict=True):
            yield from _texts(below, at)
