"""Mistakes that a user can mend: one clear line on standard error and exit code 1."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

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


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Call a module's ``main`` as a command.

    Args:
        main: takes the arguments after the program's name; ``None`` means ``sys.argv[1:]``.
        argv: handed on to it.

    Returns:
        the exit code: 0, or 1 after a ``DistillationError`` or the system's refusal of a file, whose line
        goes to standard error.
    """
    try:
        main(argv)
        # What is said last is still in a buffer; that it cannot be written must not come after the good end.
        sys.stdout.flush()
    except DistillationError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 1
    except OSError as cause:
        line = refusal(cause)
        if line is None and not isinstance(cause, BrokenPipeError):
            raise
        _let_go_of_output()
        if line is not None:
            print(f"error: {line}", file=sys.stderr)
        return 1
    return 0


def _let_go_of_output() -> None:
    """Lead standard output nowhere if it takes no more: else Python tries again at its end, and complains."""
    with suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
