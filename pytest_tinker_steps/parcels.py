"""Reports on their way from a worker: packed into one value.

What carries them is written in Python and takes its time for each value in them, at both ends.
"""

from __future__ import annotations

import marshal
from typing import Any

_PACKED = "$packed"
_FORMAT = 4
"""That every Python reads which may run the other end."""


def packed(data: dict[str, Any]) -> dict[str, Any]:
    """A dict with one value; or the same one, when it holds something that is not plain."""
    try:
        return {_PACKED: marshal.dumps(data, _FORMAT)}
    except ValueError:
        return data  # whoever put it there knows how it is carried


def unpack(data: dict[str, Any]) -> None:
    """Put what was packed in a dict beside whatever was added to it."""
    content = data.pop(_PACKED, None)
    if content is not None:
        data.update(marshal.loads(content))
