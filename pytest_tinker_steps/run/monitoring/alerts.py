"""What ``alert_on`` finds in an output, as it is told to people."""

from __future__ import annotations

import re
from collections import deque

LONGEST_LINE = 250
"""Characters; of a longer line the part around the match is kept."""

_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_LINE_END = "\r\n"


def uncoloured(text: str) -> str:
    """A text without the terminal's control sequences, whose letters would stick to words beside them."""
    return _COLOUR.sub("", text) if "\x1b" in text else text


def matching_line(pattern: re.Pattern[str], text: str) -> str | None:
    """The line of the last match, which is the newest one in an output; None without a match.

    Args:
        pattern: as `plan.alert_words.pattern` makes it.
        text: an output, `uncoloured`; its lines end in ``\\n`` or, as those of progress bars, in ``\\r``.

    Returns:
        The line without its end (several, where the match goes across); empty when nothing stands there.
    """
    newest = deque(pattern.finditer(text), maxlen=1)
    if not newest:
        return None
    last = newest[0]
    start = 1 + max(text.rfind(end, 0, last.start()) for end in _LINE_END)
    ends = [at for end in _LINE_END if (at := text.find(end, last.end())) >= 0]
    stop = min(ends, default=len(text))
    if stop - start <= LONGEST_LINE:
        return text[start:stop].strip()
    room = max(0, LONGEST_LINE - (last.end() - last.start())) // 2
    first = max(start, min(last.start() - room, stop - LONGEST_LINE))
    rest = min(stop, first + LONGEST_LINE)
    return ("…" if first > start else "") + text[first:rest].strip() + ("…" if rest < stop else "")
