"""What a supervisor has to do, written down for it; and the files in the folder of a job."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ...plan.model import (
    DEFAULT_LOG_SIZE,
    DEFAULT_MAIN_TIMEOUT,
    DEFAULT_MAX_RUNTIME,
    Command,
    Monitor,
    ReadyWhen,
)
from ...record.jobs import folder_of
from ...record.plain import from_plain, to_plain
from .. import private_files
from ..handover import Handover

SPEC = "spec.json"
OUTPUT = "output"
"""A named pipe: what the job prints, until its supervisor has read it."""
EXIT = "exit"
"""The exit code in decimal and a line feed, as a shell has it: 128 and more for a signal."""
LOG = "main.log"
SERIES = "series.jsonl"
ERRORS = "supervisor.log"
STOP = "stop"
"""Who wants the job to end."""
LOCK = "lock"
"""Locked by the supervisor as long as it lives."""
CLOCK = "clock"
"""Stamped with the start of the job by the clock that stamps files."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A background job as its supervisor has to run it. Values of the environment are no part of it.

    Attributes:
        step, task_id, run_id, attempt: whose job it is.
        command: a string runs under ``/bin/sh -c``, a tuple without a shell.
        shown: the command as people would type it, without secrets.
        folder: of the task list.
        state: the ``.steps`` folder.
        cwd: working folder of the job, and of its monitors.
        journal: to append to.
        events: the file in which the job reports.
        ledger: to enter costs in; None when nobody adds them up.
        log_size: bytes after which the log is begun anew.
        startup: seconds until it must be ready.
        max_runtime: seconds until it must have ended.
        ready_when: None for its first output and two seconds of life.
        monitors: looked after from its start to its end.
        progress: regular expression in the output, see ``ProgressReader``.
        criteria: texts that count as reported when they stand in the output.
        secrets: names of further variables whose values are never shown.
        interpreter: the Python that checks ask.
        handover: of a job that a runner is to start.
        paths: where modules are looked for that only some supervisors need.
    """

    step: str
    task_id: str
    run_id: str
    attempt: int
    command: Command
    shown: str
    folder: Path
    state: Path
    cwd: Path
    journal: Path
    events: Path
    ledger: Path | None = None
    log_size: int = DEFAULT_LOG_SIZE
    startup: float = DEFAULT_MAIN_TIMEOUT
    max_runtime: float = DEFAULT_MAX_RUNTIME
    ready_when: ReadyWhen | None = None
    monitors: tuple[Monitor, ...] = ()
    progress: str | None = None
    criteria: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    interpreter: str = sys.executable
    handover: Handover | None = None
    paths: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    @property
    def job_folder(self) -> Path:
        return folder_of(self.state, self.task_id)

    @property
    def log(self) -> str:
        """The log's path as it is shown: relative to the folder of the list where it is inside."""
        path = self.job_folder / LOG
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)


def write_spec(spec: JobSpec) -> None:
    """Writes it into the job's folder, which exists.

    Raises:
        OSError: it cannot be written.
    """
    private_files.write(spec.job_folder / SPEC, json.dumps(to_plain(spec)).encode())


def read_spec(folder: Path) -> JobSpec:
    """What `write_spec` wrote.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return from_plain(JobSpec, json.loads((folder / SPEC).read_bytes()))
