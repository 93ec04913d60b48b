"""A module's ``main`` as a command: what a user can mend is one line, and the exit code is the one earned."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from distillation.errors import DistillationError, refusal


def execute(main: Callable[[Sequence[str] | None], None]) -> NoReturn:
    """Run ``main`` as this process's command, and end the process with its exit code.

    The SDK's network threads are native ones, and nothing stops them. One that comes back from a request
    while the interpreter is taken down is ended inside native code by Python before 3.14, and SIGABRT ends
    the process in place of its own exit code (https://github.com/curioswitch/pyqwest/issues/164). So a
    process that used the SDK ends without that: what was registered for the exit runs, and what was printed
    is out.
    """
    try:
        code = run(main)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    if "tinker" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


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
