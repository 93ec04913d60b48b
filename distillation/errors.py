"""Mistakes that a user can mend: what went wrong and what to do, on one line."""

from __future__ import annotations

import errno
import os

_ROOM = "make room and run the step again"
_RIGHTS = "mend its permissions and run the step again"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit (ulimit -f) and run the step again",
    errno.EROFS: "make the file system writable and run the step again",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run the step again",
    errno.ENFILE: "close other programs and run the step again",
    errno.EIO: "mend or change the disk and run the step again",
}
"""What to do when the system refuses a file."""


class DistillationError(Exception):
    """What went wrong and what to do, on one line."""


def refusal(cause: OSError) -> str | None:
    """A system's refusal of a file on one line; ``None`` when it is about no file, and so our own mistake."""
    place = f"{os.fspath(cause.filename)!s}: " if isinstance(cause.filename, str | os.PathLike) else ""
    advice = _ADVICE.get(cause.errno or 0)
    if not place and advice is None:
        return None
    return f"{place}{cause.strerror or cause}; {advice or 'mend that and run the step again'}"
