"""Mains that are processes: commands, and scripts for the session's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...plan.model import Command, Main, Runner

if TYPE_CHECKING:
    import threading

    from ..process import Ended, Processes


def command_of(main: Main, interpreter: str, args: tuple[str, ...] | None = None) -> Command:
    """What is started for a main.

    Args:
        args: in place of the main's own (the run on minimal data).
    """
    if main.kind == "script":
        return (interpreter, str(main.script), *(main.args if args is None else args))
    assert main.command is not None
    if not args:
        return main.command
    if isinstance(main.command, str):
        return ("/bin/sh", "-c", f'{main.command} "$@"', "sh", *args)
    return (*main.command, *args)


def shown(command: Command, runner: Runner | None = None) -> str:
    """A command as people would type it, on one line.

    Args:
        runner: that it is handed to; its placeholders stay as they are.
    """
    text = command if isinstance(command, str) else " ".join(command)
    first, _, rest = text.strip().partition("\n")
    prefix = "" if runner is None else " ".join((*runner.command, ""))
    return f"{prefix}{first} ..." if rest else f"{prefix}{first}"


@dataclass
class TextWatch:
    """Looks for fixed texts in output that arrives in pieces; ``found`` grows as they appear."""

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        self.found: set[str] = set()
        self._tail = ""
        self._keep = max((len(text) for text in self.texts), default=1) - 1

    def feed(self, piece: str) -> None:
        window = self._tail + piece
        self.found.update(text for text in self.texts if text in window)
        self._tail = window[-self._keep :] if self._keep else ""


def run(
    command: Command,
    processes: Processes,
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    log: Path,
    on_output: Callable[[str], None] | None,
    on_poll: Callable[[], None],
    cancel: threading.Event | None = None,
) -> Ended:
    """Run one main to its end in the caller's thread; see ``Processes.run`` for the arguments."""
    if not cwd.is_dir():
        raise FileNotFoundError(f"its folder {cwd} does not exist")
    return processes.run(
        command,
        cwd=cwd,
        env=env,
        timeout=timeout,
        log=log,
        on_output=on_output,
        on_poll=on_poll,
        cancel=cancel,
    )
