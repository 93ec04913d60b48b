"""Numbers with their origin: every one in a report stands in a table row that names file and place.

A place is written ``metrics.json#similarity.chrf.value``: a file of the run folder, and behind the ``#`` keys
and list positions; ``length`` is that of a list. Places joined by `` + `` are added up. ``verify`` reads the
Markdown itself, looks every number up and compares, so that neither a hand nor a bug can slip one in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.jsonl import read_json

ORIGIN = "from"
"""Heading of the column that names the places."""

SUM = "sha256"
"""Heading of the column with checksums of the files."""

YES, NO, NEVER = "yes", "no", "never"

_ITEM = re.compile(
    rf"`(?P<text>[^`]*)`|(?P<number>-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?P<percent>%?)|\b(?P<word>{YES}|{NO}|{NEVER})\b"
)
_PLACEHOLDER = re.compile(r"\{(?::[^}]*)?\}")
_NUMBER = re.compile(r"(?<![\w.])-?\d")
_UNCHECKED = re.compile(r"`[^`]*`|\]\([^)]*\)")


class Facts:
    """The values of a run folder's files, by place.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, Any]] = {}
        self.used: set[str] = set()

    def value(self, place: str) -> Any:
        """What stands at a place.

        Raises:
            DistillationError: the file is missing, or has nothing there.
        """
        name, _, keys = place.partition("#")
        if name not in self._files:
            self._files[name] = read_json(self._folder / name)
        found: Any = self._files[name]
        for key in keys.split("."):
            try:
                found = _inside(found, key)
            except (KeyError, IndexError, ValueError, TypeError):
                raise DistillationError(
                    f"{self._folder / name}: has nothing at '{keys}'; run the step that writes it again"
                ) from None
        self.used.add(name)
        return found

    def total(self, places: str) -> Any:
        """What stands at a place, or the sum of what stands at several.

        Raises:
            DistillationError: as ``value``.
        """
        values = [self.value(place) for place in places.split(" + ")]
        return values[0] if len(values) == 1 else sum(values)

    def has(self, place: str) -> bool:
        """Whether something stands at a place."""
        used = set(self.used)
        try:
            self.value(place)
        except DistillationError:
            return False
        finally:
            self.used = used
        return True

    def row(self, what: str, text: str, *places: str) -> str:
        """A table row.

        Args:
            what: in words.
            text: with a placeholder for each place, as of ``str.format``; `` | `` divides it into cells.
            places: see the module.

        Raises:
            DistillationError: as ``value``.
        """
        values = iter([_in_words(self.total(place)) for place in places])
        shown = _PLACEHOLDER.sub(lambda found: _shown(found[0], next(values)), text)
        return f"| {what} | {shown} | {', '.join(f'`{place}`' for place in places)} |"

    def table(self, rows: Iterable[str], headings: Sequence[str] = ("what", "value")) -> str:
        """A table of such rows, with a heading for each cell but that of the places."""
        cells = [*headings, ORIGIN]
        return "\n".join([f"| {' | '.join(cells)} |", "|" + "---|" * len(cells), *rows])

    def sources(self) -> str:
        """A table of all files that values were taken from, with their checksums."""
        rows = [f"| `{name}` | `{_sum_of(self._folder / name)}` |" for name in sorted(self.used)]
        return "\n".join([f"| file | {SUM} |", "|---|---|", *rows])


def _inside(found: Any, key: str) -> Any:
    if isinstance(found, list):
        return len(found) if key == "length" else found[int(key)]
    return found[key]


def _in_words(value: Any) -> Any:
    if value is None:
        return NEVER
    return (NO, YES)[value] if isinstance(value, bool) else value


def _shown(placeholder: str, value: Any) -> str:
    # A word takes no number's form.
    return str(value) if value in (YES, NO, NEVER) else placeholder.format(value)


def _sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify(path: Path, folder: Path) -> int:
    """Look up every number of a report in the file that it is said to come from.

    Args:
        path: the report.
        folder: the run folder.

    Returns:
        how many values were found.

    Raises:
        DistillationError: ``file:line:`` of the first number without a place, or of another value there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run step 20") from cause
    facts, found, heading, fenced = Facts(folder), 0, [""], False
    for at, line in enumerate(lines, 1):
        if line.startswith("```"):
            fenced = not fenced
        if fenced or line.startswith("```") or re.fullmatch(r"[|\s:-]+", line):
            continue
        cells = (
            [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        )
        if cells and at < len(lines) and lines[at].startswith("|-"):
            heading = cells
        kind = heading[-1] if cells and cells is not heading else ""
        try:
            if kind == ORIGIN and len(cells) == len(heading) >= 3:
                _demand_no_number(cells[0])
                found += _verify_row(facts, " | ".join(cells[1:-1]), cells[-1])
            elif kind == SUM:
                found += _verify_sum(folder, cells)
            else:
                _demand_no_number(line)
        except ValueError as reason:
            raise DistillationError(f"{path}:{at}: {reason}; run step 20 again") from None
    if not found:
        raise DistillationError(f"{path}: has no number with its origin; run step 20 again")
    return found


def _demand_no_number(text: str) -> None:
    if _NUMBER.search(_UNCHECKED.sub("", text)):
        raise ValueError(f"a number without its origin: {text.strip()}")


def _verify_row(facts: Facts, shown: str, origin: str) -> int:
    items = list(_ITEM.finditer(shown))
    places = [place.strip().strip("`") for place in origin.split(", ")]
    if len(items) != len(places):
        raise ValueError(f"{len(items)} values and {len(places)} origins")
    for item, place in zip(items, places, strict=True):
        value = _in_words(facts.total(place))
        if not _same(item, value):
            raise ValueError(f"{place} is {value}, not {item[0]}")
    return len(items)


def _same(item: re.Match[str], value: Any) -> bool:
    if item["number"] is None:
        return str(value) == (item["text"] if item["word"] is None else item["word"])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    text = item["number"].replace(",", "")
    digits, _, exponent = text.partition("e")
    last = int(exponent or 0) - len(digits.partition(".")[2])
    scaled = value * 100 if item["percent"] else value
    # Half a unit of the last digit that is shown, and a hair for binary fractions.
    return bool(abs(float(text) - scaled) <= 0.5000001 * 10.0**last)


def _verify_sum(folder: Path, cells: list[str]) -> int:
    name, expected = (cell.strip("`") for cell in cells)
    try:
        there = _sum_of(folder / name)
    except OSError as cause:
        raise ValueError(f"{name}: {cause.strerror or cause}") from None
    if there != expected:
        raise ValueError(f"{name} was changed after the report")
    return 1
