"""How far a main is, read from what it prints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache

LONGEST_LINE = 4096
"""Characters of a line without an end that are kept for its rest."""

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_NUMBER = re.compile(r"([+-]?(?:\d[\d,_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?) ?([kKMGTP]?)i?B?%?")


class ProgressReader:
    """The newest progress in output that comes in pieces.

    Without a pattern of the user's, a progress is what tqdm prints, ``500/5000 [00:10<01:30, 12.3it/s]``
    (also with ``k``, ``M`` and ``G``), or ``500/5000 [10%]``. What stands before it, a bar for example, is
    not looked at, but a number that is part of a date or of a path is none.

    Args:
        pattern: regular expression, searched in every line. Two groups are what is done and of how much; one
            is what is done, in percent if the match ends in ``%``, else of an unknown total.
    """

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = None if pattern is None else re.compile(pattern)
        self._rest = ""

    def feed(self, text: str) -> tuple[float, float] | None:
        """Take a piece of output.

        Lines end in a line feed or, as those that are painted over, in a carriage return. A line whose end
        has not come yet is searched only where the end of what is found cannot be missing.

        Returns:
            The newest progress in it, done and total (0 when unknown); None when there is none.
        """
        window = self._rest + text if self._rest else text
        end = max(window.rfind("\n"), window.rfind("\r")) + 1
        self._rest = window[max(end, len(window) - LONGEST_LINE) :]
        if self._pattern is None:
            return self._of_bars(window)
        return self._of_pattern(self._pattern, window[:end])

    @staticmethod
    def _of_bars(window: str) -> tuple[float, float] | None:
        if "/" not in window or " [" not in window:
            return None
        newest = None
        for match in _bar().finditer(_plain(window)):
            done, total = _number(match[1]), _number(match[2])
            if done is not None and total and done <= total:
                newest = (done, total)
        return newest

    @staticmethod
    def _of_pattern(pattern: re.Pattern[str], lines: str) -> tuple[float, float] | None:
        for line in _from_the_end(_plain(lines)):
            matches = list(pattern.finditer(line))
            if matches and (found := _of_match(matches[-1])) is not None:
                return found
        return None


@cache
def _bar() -> re.Pattern[str]:
    number = r"(\d+(?:\.\d+)?[kMGTP]?)"
    elapsed, percent = r"\d+:\d\d(?::\d\d)?<", r"\d{1,3}(?:\.\d+)?%\]"
    return re.compile(rf"(?<![\w./:,-]){number}/{number} \[(?:{elapsed}|{percent})")


def _plain(text: str) -> str:
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def _from_the_end(lines: str) -> Iterator[str]:
    return reversed(lines.replace("\r", "\n").split("\n"))


def _of_match(match: re.Match[str]) -> tuple[float, float] | None:
    groups = match.groups()
    done = _number(groups[0]) if groups else None
    if done is None:
        return None
    if len(groups) == 1:
        return (done, 100.0 if match[0].endswith("%") else 0.0)
    total = _number(groups[1])
    return None if total is None else (done, total)


def _number(text: str | None) -> float | None:
    found = _NUMBER.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    value = float(found[1].replace(",", "").replace("_", "")) * _SCALES[found[2].replace("K", "k")]
    return value if math.isfinite(value) and value >= 0 else None
