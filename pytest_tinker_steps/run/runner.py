"""What checks run with: the means to start processes, and what all checks of a phase share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..plan.model import Command

if TYPE_CHECKING:
    from .process import Ended


class Runs(Protocol):
    """What starts processes, from any thread.

    When the wait is interrupted, by KeyboardInterrupt for example, the process is ended before the
    exception goes on.
    """

    def run(
        self,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        log: Path | None,
        on_output: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Ended: ...


@dataclass(frozen=True, slots=True)
class CheckRunner:
    """What all checks of a phase share.

    Attributes:
        cwd, env: the step's; a check's own are laid over them.
        interpreter: the Python of the main.
        log_dir: folder of the output, ``<phase>-<check>.log`` each; None keeps none.
        phase: ``pre_flight``, ``post_validation``, ...
        redact: applied to what probes inside this process say.
    """

    cwd: Path
    env: Mapping[str, str]
    interpreter: str
    runs: Runs
    log_dir: Path | None = None
    phase: str = "check"
    redact: Callable[[str], str] = str
