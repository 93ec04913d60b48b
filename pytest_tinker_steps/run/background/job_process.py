"""The processes of a background job: its own, the shell that waits for it, and whatever they start.

The shell is there so that the job's end is known also when its supervisor was killed meanwhile. It leads
the job's session, keeps the pipe of its output open for reading, so that a write to it never fails, sees to
it that what is in there is kept, and writes the exit code down.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ...record.jobs import Job
from .. import handover, proctree
from ..process import JOB, Child, start_leader
from . import job_rest
from .job_spec import EXIT, OUTPUT, JobSpec

STOP_SIGNALS: proctree.Signals = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 2.0))
"""A job may need a while to save what it has."""

_SWEEP: proctree.Signals = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_KILL: proctree.Signals = _SWEEP[-1:]
_SHELL_ENDS_WITHIN = 5.0
_TELLS_PID_WITHIN = 10.0
_BEGINS_WITHIN = 2.0
"""Seconds in which a shell that was found has begun the job."""
_PAUSE = 0.005
_NOBODY: proctree.Identity = (0, 0.0)

# In the foreground, since a shell makes what runs in the background deaf to SIGINT. Its traps are not
# inherited; a signal that comes while it waits changes nothing. The exit code is one write, so whoever
# finds a line feed has all of it. The process id is told by a child that a broken pipe does not kill: the
# supervisor may be dead already, and the job is begun all the same. The supervisor keeps its end of that pipe
# open as long as it lives, so a shell that cannot write to it when the job has ended knows that it is dead.
_SHELL = """
output=$1 exit=$2 keep=$3; shift 3
trap : HUP INT QUIT TERM
exec 3<>"$output"
/bin/sh -c '(trap "" PIPE; echo $$) 2>/dev/null; exec 3<&- >"$0" 2>&1; exec "$@"' "$output" "$@"
code=$?
trap "" PIPE
echo 2>/dev/null || eval "$keep" <&3 >/dev/null
echo $code >"$exit"
exit $code
"""


class JobProcess:
    """A job's processes, seen by its supervisor.

    Args:
        folder: of the job.
        task_id: value of the marker that its processes carry.
        child: the shell, when it was started here.

    Attributes:
        pid, start: identity of the job's own process; 0 when it is not known.
        session, session_start: identity of the shell.
    """

    def __init__(
        self,
        folder: Path,
        task_id: str,
        process: proctree.Identity,
        session: proctree.Identity,
        child: Child | None = None,
    ) -> None:
        self.pid, self.start = process
        self.session, self.session_start = session
        self.last_signal = 0
        self._folder = folder
        self._task_id = task_id
        self._child = child
        self._sessions: dict[int, float | None] = {self.session: self.session_start} if self.session else {}

    @classmethod
    def adopted(cls, folder: Path, job: Job) -> JobProcess:
        """The processes of a job whose supervisor has died, maybe before it wrote down which they are."""
        if job.boot != proctree.boot():
            return cls(folder, job.task_id, _NOBODY, _NOBODY)
        if not job.pid:
            return cls(folder, job.task_id, *_found(job.task_id))
        return cls(folder, job.task_id, (job.pid, job.start), (job.session, job.session_start))

    def descriptors(self) -> list[int]:
        """Descriptors that become readable when the shell, or the job's own process, has ended."""
        opened = []
        for pid, start in ((self.session, self.session_start), (self.pid, self.start)):
            with contextlib.suppress(OSError, AttributeError):
                if pid:
                    descriptor = os.pidfd_open(pid)
                    # The number may have come to mean another process.
                    if proctree.alive(pid, start):
                        opened.append(descriptor)
                    else:
                        os.close(descriptor)
        return opened

    def ended(self) -> bool:
        """Whether neither the job's own process lives nor the shell that waits for it."""
        if self._child is not None:
            shell = self._child.poll() is None
        else:
            shell = proctree.alive(self.session, self.session_start)
        return not shell and not proctree.alive(self.pid, self.start)

    def exit(self) -> int | None:
        """The exit code, negative for a signal; None when nobody knows it."""
        code = self._child.poll() if self._child is not None else None
        # A shell that was killed itself has no code to tell.
        return read_exit(self._folder) if code is None or code < 0 else as_exit(code)

    def note_sessions(self) -> None:
        """Looks for further sessions that its processes have opened, which outlast the descent from it."""
        for number in proctree.members(proctree.still_theirs(self._sessions))[1]:
            if number not in self._sessions:
                self._sessions[number] = proctree.started(number)

    def end(self, attend: Callable[[], None]) -> None:
        """Ends the job and everything that belongs to it.

        Args:
            attend: called again and again meanwhile; whoever ends must not hang in a write.
        """

        def left() -> list[proctree.Identity]:
            attend()
            # The shell stays to tell how the job ended; it ends by itself.
            return [found for found in self.left() if found[0] != self.session]

        def note(number: int) -> None:
            self.last_signal = number

        proctree.end(left, signals=STOP_SIGNALS, on_signal=note)
        until = time.monotonic() + _SHELL_ENDS_WITHIN
        while not self.ended() and time.monotonic() < until:
            attend()
            time.sleep(_PAUSE)

    def sweep(self, attend: Callable[[], None]) -> int:
        """Ends what the job has left; returns how many processes that were."""

        def left() -> list[proctree.Identity]:
            attend()
            return self.left()

        count = proctree.end(left, signals=_SWEEP)
        if self.left():
            proctree.end(left, signals=_KILL)
        return count

    def left(self) -> list[proctree.Identity]:
        """All its processes that live."""
        return proctree.find(JOB, self._task_id, groups=proctree.still_theirs(self._sessions))


def start_job(spec: JobSpec, folder: Path, environ: Mapping[str, str]) -> JobProcess:
    """Starts a job. Its output goes into the pipe in its folder, which somebody has to read.

    Args:
        folder: of the job.
        environ: the whole environment; the marker of the job is added to it.

    Raises:
        OSError, ValueError: it cannot be started.
    """
    command, cwd, task_id = spec.command, Path(spec.cwd), spec.task_id
    if not command:
        raise ValueError("the command is empty")
    if not cwd.is_dir():
        raise FileNotFoundError(2, "its folder does not exist", str(cwd))
    env = {**environ, JOB: task_id}
    if spec.handover is not None:
        handover.write(spec.handover, command, env)
        command = spec.handover.command
    arguments = ("/bin/sh", "-c", command) if isinstance(command, str) else command
    child = start_leader(
        (
            *("/bin/sh", "-c", _SHELL, "sh"),
            *(str(folder / OUTPUT), str(folder / EXIT), job_rest.command(folder)),
            *arguments,
        ),
        cwd=cwd,
        env=env,
    )
    session = (child.pid, proctree.started(child.pid) or 0.0)
    pid = _told_pid(child)
    return JobProcess(folder, task_id, (pid, (proctree.started(pid) if pid else 0.0) or 0.0), session, child)


def _told_pid(child: Child) -> int:
    """The process id that the shell tells before the job begins; 0 when it does not come to that.

    The pipe stays open: it tells the shell that this process lives.
    """
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    until = time.monotonic() + _TELLS_PID_WITHIN
    said = b""
    while not said.endswith(b"\n"):
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            return 0
        data = os.read(pipe, 64)
        if not data:
            return 0
        said += data
    return int(said)


def _found(task_id: str) -> tuple[proctree.Identity, proctree.Identity]:
    """The job's own process and the shell that waits for it, by the marker; what is not there is nobody.

    The shell has just begun, or the job has just ended, when it has no child: which one shows in a moment.
    """
    until = time.monotonic() + _BEGINS_WITHIN
    while found := proctree.find(JOB, task_id):
        shell, child = proctree.leader(found)
        if shell is None:
            return child or _NOBODY, _NOBODY
        if child is not None or time.monotonic() > until:
            return child or _NOBODY, shell
        time.sleep(_PAUSE)
    return _NOBODY, _NOBODY


def read_exit(folder: Path) -> int | None:
    """The exit code that the shell has written down; None when there is none, or only half of one."""
    try:
        text = (folder / EXIT).read_bytes()
        return as_exit(int(text)) if text.endswith(b"\n") else None
    except (OSError, ValueError):
        return None


def written_end(folder: Path, began: str) -> tuple[str, float]:
    """When a job ended that nobody saw end, and after how many seconds: by the time of its exit code.

    Args:
        began: as in the journal.
    """
    try:
        moment = (folder / EXIT).stat().st_mtime
        start = datetime.fromisoformat(began).timestamp()
    except (OSError, ValueError):
        return "", 0.0
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text, round(max(0.0, moment - start), 3)


def as_exit(code: int) -> int:
    """A shell's exit code as Python has it: negative for a signal.

    A program that ends with such a code by itself looks as if a signal had ended it; a shell cannot tell.
    """
    return 128 - code if code > 128 and code - 128 in set(signal.valid_signals()) else code
