"""JSON and JSON-lines files: read with the place of every mistake, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError


@dataclass(frozen=True, slots=True)
class Row:
    """One non-blank line of a JSON-lines file.

    Attributes:
        line: counted from 1.
        text: the line as it stands, without its line ending; undecodable bytes as U+FFFD.
        value: the object, or ``None`` when the line does not hold one.
        problem: why there is no object; empty when there is.
    """

    line: int
    text: str
    value: dict[str, Any] | None
    problem: str = ""


def read_rows(path: Path) -> list[Row]:
    """Read every non-blank line of ``path``, the broken ones included.

    Raises:
        DistillationError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run the step that writes it") from cause
    rows = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.strip():
            rows.append(_row(number, line.rstrip(b"\r")))
    return rows


def _row(number: int, line: bytes) -> Row:
    text = line.decode("utf-8", errors="replace")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Row(number, text, None, "not UTF-8")
    except json.JSONDecodeError as mistake:
        return Row(number, text, None, f"not JSON ({mistake.msg} at column {mistake.colno})")
    except RecursionError:
        return Row(number, text, None, "not JSON (nested too deeply)")
    if not isinstance(value, dict):
        return Row(number, text, None, "not a JSON object")
    return Row(number, text, value)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DistillationError: the file is missing, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run the step that writes it") from cause
    except ValueError as cause:
        raise DistillationError(f"{path}: not JSON; run the step that writes it again") from cause
    if not isinstance(value, dict):
        raise DistillationError(f"{path}: not a JSON object; run the step that writes it again")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object, indented, replacing the file in one go."""
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object per line, replacing the file in one go."""
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, never a piece of it.

    Raises:
        OSError: the system refuses it; names ``path``, and not the draft that a user never sees.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have the system's refusal name the file that is meant, which for an open one it does not.

    Raises:
        OSError: as what was refused, with ``path`` for its name.
    """
    try:
        yield
    except OSError as cause:
        raise OSError(cause.errno, cause.strerror or str(cause), str(path)) from cause


def torn(path: Path) -> bool:
    """Whether a file ends within a line, as after a kill; one that is missing does not."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        return stream.read() not in (b"", b"\n")


def append(path: Path, descriptor: int, content: bytes) -> None:
    """Add all of ``content`` to an open file: a disk that is nearly full takes a part before it refuses.

    Raises:
        OSError: the system refuses it; names ``path``.
    """
    with naming(path):
        while content:
            content = content[os.write(descriptor, content) :]
