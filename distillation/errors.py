"""Mistakes that a user can mend: one clear line on standard error and exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


class DistillationError(Exception):
    """What went wrong and what to do, on one line."""


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Call a module's ``main`` as a command.

    Args:
        main: takes the arguments after the program's name; ``None`` means ``sys.argv[1:]``.
        argv: handed on to it.

    Returns:
        the exit code: 0, or 1 after a ``DistillationError``, whose line goes to standard error.
    """
    try:
        main(argv)
    except DistillationError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 1
    return 0
