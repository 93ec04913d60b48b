"""What every phase of every step shares in one pytest process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from ..plan.model import Pairs
from ..plan.values import value
from ..record.places import logs_of
from .process import Processes
from .redaction import Redactor

if TYPE_CHECKING:
    from .budget import Budget


NO_BRIEF = Path(os.devnull)


@value
class Exchange:
    """Files through which one attempt and its processes tell each other things.

    Attributes:
        events: the processes append to it.
        brief: the processes read it.
    """

    events: Path
    brief: Path


@value
class Surroundings:
    """Attributes:
    folder: of the task list; commands run there unless they say otherwise.
    state: the ``.steps`` folder.
    processes: starts and ends processes.
    redactor: hides secrets.
    checks_parallel: how many checks of a phase run at once.
    interpreter: runs scripts; ``python`` in commands is this one.
    environ: of this process, without what pytest puts there for tests.
    run_id: of the session.
    journal: of the list; the supervisors of jobs append to it too.
    secrets: names of further environment variables whose values are never shown.
    budget: what the run costs; None when nobody adds it up.
    """

    folder: Path
    state: Path
    processes: Processes
    redactor: Redactor
    checks_parallel: int = 3
    interpreter: str = sys.executable
    environ: Mapping[str, str] = field(default_factory=lambda: base_environ(os.environ))
    run_id: str = ""
    journal: Path | None = None
    secrets: tuple[str, ...] = ()
    budget: Budget | None = None

    def logs(self, task_id: str) -> Path:
        return self.folder / logs_of(task_id)

    @property
    def exchanged(self) -> Path:
        """Where attempts and their processes tell each other things."""
        return self.state / "exchange"

    def exchange(self, task_id: str, brief: str) -> Exchange:
        """Write the brief of an attempt; a folder for each would cost more than all of its files."""
        folder = self.exchanged
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = NO_BRIEF
        if brief:
            path = folder / f"{task_id}.brief.md"
            path.write_text(brief, encoding="utf-8", errors="replace")
        return Exchange(folder / f"{task_id}.events.jsonl", path)

    def message_of(self, task_id: str) -> Path:
        """Where the failure of an attempt is left for the command that recovers from it."""
        return self.exchanged / f"{task_id}.failure.txt"

    def clock_ns(self) -> int:
        """Now, by the clock that stamps files, so that it can be compared with theirs."""
        fd = os.open(self.state / "clock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.utime(fd)
            return os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)

    def shown(self, path: Path) -> str:
        """A path as it is shown: relative to the folder of the list where it is inside."""
        return str(path).removeprefix(f"{self.folder}{os.sep}")

    def cwd(self, *given: str | None) -> Path:
        """The last given folder, relative to the folder of the list."""
        chosen = next((path for path in reversed(given) if path), None)
        return self.folder / chosen if chosen else self.folder


def base_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of processes: PATH begins with the interpreter's folder, and a step is no test."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("PYTEST_XDIST_") and name != "PYTEST_CURRENT_TEST"
    }
    here = str(Path(sys.executable).parent)
    path = kept.get("PATH", os.defpath)
    if path.split(os.pathsep, 1)[0] != here:
        kept["PATH"] = here + os.pathsep + path
    return kept


def layered(base: Mapping[str, str], *pairs: Pairs) -> dict[str, str]:
    """An environment with further values laid over it, the last one winning."""
    result = dict(base)
    for layer in pairs:
        result.update(layer)
    return result
