"""Keeps secret values out of everything that is shown or written, also when they arrive in pieces."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

REPLACEMENT = "[redacted]"
SHORTEST_HIDDEN = 8
"""Values with fewer characters are not hidden: they would redact ordinary words."""
SHORTEST_PREFIX = 6
"""From so many characters on, a prefix of a value is hidden as well."""

_SECRET_NAME = re.compile(r".*(_KEY|_TOKEN|_SECRET)|.*PASSWORD.*", re.IGNORECASE | re.DOTALL)
_REPLACEMENT = REPLACEMENT.encode()


def secret_values(
    environ: Mapping[str, str], extra_names: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finds the values that must never be shown.

    Args:
        environ: the environment to look through.
        extra_names: variables that are secret whatever they are called.

    Returns:
        The values to hide, and the names of secret variables whose value is too short to be hidden.
    """
    extra = frozenset(extra_names)
    values: dict[str, None] = {}
    short: list[str] = []
    for name, value in environ.items():
        if not value or not (name in extra or _SECRET_NAME.fullmatch(name)):
            continue
        if len(value) < SHORTEST_HIDDEN:
            short.append(name)
        else:
            values[value] = None
    return tuple(values), tuple(short)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _forms(value: str) -> Iterable[tuple[bytes, int]]:
    """The ways in which a value can stand in a text, each with the bytes of its shortest hidden prefix."""
    raw = _encode(value)
    start = value[:SHORTEST_PREFIX]
    yield raw, len(_encode(start))
    for quoted in (quote, quote_plus):
        whole, head = (quoted(part, safe="", errors="surrogateescape") for part in (value, start))
        yield whole.encode(), len(head)
        yield quoted(value, errors="surrogateescape").encode(), len(quoted(start, errors="surrogateescape"))
        # Only the digits of the escapes change case, never the value's own letters.
        lower = re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), whole)
        yield lower.encode(), len(head)
    for ascii_only in (True, False):
        whole, head = (json.dumps(part, ensure_ascii=ascii_only)[1:-1] for part in (value, start))
        yield _encode(whole), len(_encode(head))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        head_length = -(-SHORTEST_PREFIX * 4 // 3)
        whole_text = encode(raw)
        yield whole_text, min(head_length, len(whole_text))
        # Inside a longer text the value begins 0, 1 or 2 bytes after a group of three; the characters
        # that also hold bits of its neighbours differ from text to text and are left out.
        for shift, unknown in ((0, 0), (1, 2), (2, 3)):
            stable = encode(bytes(shift) + raw)[unknown : (shift + len(raw)) * 8 // 6]
            yield stable, min(head_length, len(stable))


class Redactor:
    """Replaces secret values by ``[redacted]``.

    Hidden are each value, its prefixes of six characters and more, and its URL, JSON and base64 forms
    (standard and URL-safe, also inside longer encoded text) with their prefixes.

    Args:
        values: the secrets, as `secret_values` finds them; empty ones are ignored.
    """

    def __init__(self, values: Iterable[str]) -> None:
        # The head of a form is the shortest prefix that is hidden.
        heads: dict[bytes, int] = {}
        for value in values:
            for form, head in _forms(value) if value else ():
                heads[form] = min(head, heads.get(form, head))
        self._by_first: dict[int, list[tuple[bytes, int]]] = {}
        for form, head in heads.items():
            self._by_first.setdefault(form[0], []).append((form, head))
        beginnings = {form[:head] for form, head in heads.items()}
        self._search = re.compile(b"|".join(map(re.escape, sorted(beginnings)))).search if heads else None
        self._unfinished = frozenset(
            start[:length] for start in beginnings for length in range(1, len(start))
        )
        self._longest_beginning = max(map(len, beginnings), default=1)

    @property
    def hides(self) -> bool:
        """Whether there is anything to hide."""
        return self._search is not None

    def text(self, s: str) -> str:
        """Redacts a whole text."""
        if self._search is None:
            return s
        data = _encode(s)
        if self._search(data) is None:
            return s
        stream = self.stream()
        data = stream.feed(data) + stream.close()
        return data.decode("utf-8", "surrogateescape")

    def stream(self) -> StreamRedactor:
        """Begins a text that arrives in pieces."""
        return StreamRedactor(self)

    def _matched(self, data: bytes, position: int) -> tuple[int, bool]:
        """Where the longest hidden prefix at `position` ends, and whether more data could lengthen it."""
        longest = position
        open_ended = False
        for form, head in self._by_first.get(data[position], ()):
            length = len(form)
            if not data.startswith(form, position):
                length = _common(data, position, form)
                if length < head:
                    continue
                if position + length == len(data):
                    open_ended = True
                # Half a character of the text must not be left over.
                while length > head and form[length] & 0xC0 == 0x80:
                    length -= 1
            longest = max(longest, position + length)
        return longest, open_ended


def _common(data: bytes, position: int, form: bytes) -> int:
    """Length of the longest common prefix of `form` and what stands at `position`."""
    low, high = 0, min(len(form), len(data) - position)
    while low < high:
        middle = (low + high + 1) // 2
        if data.startswith(form[:middle], position):
            low = middle
        else:
            high = middle - 1
    return low


class StreamRedactor:
    """Redacts one stream of bytes; made by `Redactor.stream`.

    Whatever the borders between the pieces, the output is that of the whole. Bytes are held back only
    while they could be the beginning of a secret.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        # Secrets can overlap. So many held bytes belong to a match whose replacement is already out.
        self._covered = 0

    def feed(self, data: bytes) -> bytes:
        """Takes the next piece; returns what is certain by now."""
        if self._redactor._search is None:
            return data
        return self._advance(self._held + data, last=False)

    def close(self) -> bytes:
        """Ends the stream; returns what was held back."""
        return self._advance(self._held, last=True) if self._held else b""

    def _advance(self, data: bytes, last: bool) -> bytes:
        redactor = self._redactor
        assert redactor._search is not None
        size = len(data)
        limit = size if last else self._first_unfinished(data)
        pieces: list[bytes] = []
        end = self._covered  # of the match before
        at = 0
        # A match that begins inside another one is looked for too: what stands behind it would show.
        while (found := redactor._search(data, at)) is not None and found.start() < limit:
            start = found.start()
            stop, open_ended = redactor._matched(data, start)
            if open_ended and not last:
                limit = start
                break
            if start >= end:
                pieces += (data[end:start], _REPLACEMENT)
            end = max(end, stop)
            at = start + 1
        pieces.append(data[end:limit])
        self._held = b"" if last else data[limit:]
        self._covered = max(0, end - limit)
        return b"".join(pieces)

    def _first_unfinished(self, data: bytes) -> int:
        """Where the end of `data` could be the beginning of a secret that is still too short to be hidden."""
        size = len(data)
        for position in range(max(0, size - self._redactor._longest_beginning + 1), size):
            if data[position:] in self._redactor._unfinished:
                return position
        return size
