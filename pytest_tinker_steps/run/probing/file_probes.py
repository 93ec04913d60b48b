"""Probes of files, and of the data in them."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from .probe_context import ProbeContext, ProbeFailed, size_text

BLOCK = 1 << 20
"""Bytes read at once when a file or an answer is searched."""

LONGEST_ROW = 64 << 20
"""Bytes of one row of a JSONL file; a longer one is not rows of data, and would fill the memory."""


def probe_file(given: dict[str, Any], context: ProbeContext) -> str:
    """Look for a file, for a folder (``out/``), or for what a glob matches.

    A glob needs one match, and what is asked of a file is asked of every match.
    """
    path: str = given["path"]
    if path.endswith("/") and (given.get("contains") is not None or given.get("min_bytes") is not None):
        raise ProbeFailed(f"{path}: a folder; min_bytes and contains are for files")
    if glob.has_magic(path) and not _there(context, path):
        return _matches(path, given, context)
    if path.endswith("/"):
        if not (context.cwd / path).is_dir():
            raise ProbeFailed(f"{path}: {'not a folder' if _there(context, path) else 'does not exist'}")
        return f"{path}: a folder"
    return f"{path}: {size_text(_one_file(path, given, context))}"


def _matches(pattern: str, given: dict[str, Any], context: ProbeContext) -> str:
    what = "folder" if pattern.endswith("/") else "file"
    count = 0
    # Path.glob knows no absolute patterns.
    for found in glob.iglob(pattern, root_dir=context.cwd, recursive=True):
        context.remaining()
        if what == "folder":
            count += 1
        elif not (context.cwd / found).is_dir():
            _one_file(found, given, context)
            count += 1
    if not count:
        raise ProbeFailed(f"{pattern}: no {what} matches")
    return f"{pattern}: {count} {what}{'' if count == 1 else 's'}"


def _there(context: ProbeContext, path: str) -> bool:
    return (context.cwd / path.rstrip("/")).exists()


def _one_file(path: str, given: dict[str, Any], context: ProbeContext) -> int:
    place = context.cwd / path
    if not place.exists():
        raise ProbeFailed(f"{path}: does not exist")
    if place.is_dir():
        raise ProbeFailed(f"{path}: a folder, not a file (a folder's path ends with /)")
    size = place.stat().st_size
    least, contains = given.get("min_bytes"), given.get("contains")
    if least is not None and size < least:
        raise ProbeFailed(f"{path}: {size} bytes, at least {least} needed")
    if contains is not None:
        with _open(path, context) as stream:
            if not holds(stream.read, contains, context):
                raise ProbeFailed(f"{path}: does not contain {contains!r}")
    return size


def _open(path: str, context: ProbeContext) -> IO[bytes]:
    place = context.cwd / path
    if not place.exists():
        raise ProbeFailed(f"{path}: does not exist")
    if not place.is_file():  # to open a pipe would wait for its writer
        raise ProbeFailed(f"{path}: not a regular file")
    return place.open("rb")


def holds(read: Callable[[int], bytes], text: str, context: ProbeContext) -> bool:
    """Whether ``text`` is somewhere in what can be read, of which no more than a block is kept.

    Args:
        read: gives at most so many bytes, and none at the end.

    Raises:
        TimeoutError: the deadline passed first.
    """
    wanted, seen = text.encode(), b""
    while block := read(BLOCK):
        context.remaining()
        seen += block
        if wanted in seen:
            return True
        seen = seen[max(0, len(seen) - len(wanted) + 1) :]
    return not wanted


# --- data


def probe_json(given: dict[str, Any], context: ProbeContext) -> str:
    """Look into a JSON file whose root is an object or a list."""
    path: str = given["path"]
    with _open(path, context) as stream:
        text = _decoded(stream.read(), path)
    try:
        root = json.loads(text)
    except json.JSONDecodeError as error:
        raise ProbeFailed(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ProbeFailed(f"{path}: not JSON: {error}") from None
    return _judge_root(root, given)


def probe_yaml(given: dict[str, Any], context: ProbeContext) -> str:
    """Look into a YAML file as into one of JSON."""
    import yaml

    path: str = given["path"]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with _open(path, context) as stream:
        text = _decoded(stream.read(), path)
    try:
        root = yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else path
        raise ProbeFailed(f"{place}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProbeFailed(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    return _judge_root(root, given)


def probe_jsonl(given: dict[str, Any], context: ProbeContext) -> str:
    """Look at every row of a JSONL file of any size, one at a time. Blank lines are no rows."""
    path: str = given["path"]
    rows = 0
    with _open(path, context) as stream:
        for line, raw in enumerate(_rows(stream, path), start=1):
            context.remaining()
            text = _decoded(raw, path, line)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise ProbeFailed(f"{path}:{line}: not JSON: {error.msg} (column {error.colno})") from None
            except (ValueError, RecursionError) as error:
                raise ProbeFailed(f"{path}:{line}: not JSON: {error}") from None
            _require(row, given["required"], f"{path}:{line}")
            rows += 1
    # Nothing is no data set; who means it says ``min_rows: 0``.
    least = given.get("min_rows")
    return _enough(path, rows, 1 if least is None else least)


def _rows(stream: IO[bytes], path: str) -> Iterator[bytes]:
    line = 0
    while raw := stream.readline(LONGEST_ROW + 1):
        line += 1
        if len(raw) > LONGEST_ROW:
            raise ProbeFailed(
                f"{path}:{line}: longer than {size_text(LONGEST_ROW)}; not one JSON value a line"
            )
        yield raw


def _decoded(raw: bytes, path: str, first_line: int = 1) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        raise ProbeFailed(f"{path}:{line}: not UTF-8: {error.reason}") from None


def _judge_root(root: object, given: dict[str, Any]) -> str:
    path, least = given["path"], given.get("min_rows")
    if isinstance(root, list):
        for number, element in enumerate(root, start=1):
            _require(element, given["required"], f"{path}: element {number}")
        return _enough(path, len(root), least or 0)
    if not isinstance(root, dict):
        raise ProbeFailed(f"{path}: {_kind(root)}, neither an object nor a list")
    if least is not None:
        raise ProbeFailed(f"{path}: an object, not a list; min_rows counts the elements of a list")
    _require(root, given["required"], path)
    return f"{path}: {len(root)} {'key' if len(root) == 1 else 'keys'}"


def _require(value: object, keys: Iterable[str], place: str) -> None:
    for key in keys:
        if not isinstance(value, dict):
            raise ProbeFailed(f"{place}: {_kind(value)}, not an object with the key {key!r}")
        if key not in value:
            raise ProbeFailed(f"{place}: no key {key!r}")


def _enough(path: str, rows: int, least: int) -> str:
    if rows < least:
        raise ProbeFailed(f"{path}: {rows} {'row' if rows == 1 else 'rows'}, at least {least} needed")
    return f"{path}: {rows} {'row' if rows == 1 else 'rows'}"


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")
