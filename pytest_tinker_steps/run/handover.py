"""What a runner is handed: a file that starts the process, and how to end what the runner left elsewhere.

An engine starts what it is given with an environment, and often in a folder, of its own. What it is given
goes through shells that take words apart, and through command lines that everybody on a machine can read.
So behind the prefix stands ``/bin/sh FILE``, whose words are plain, and the file, which only its owner may
read, holds the folder, the variables and the command.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plan.model import Command, Runner
from ..plan.shapes import runners
from . import guardian, private_files
from .ended import Ended
from .failure import told
from .mains import command as commands
from .process import ATTEMPT, MARKERS, SESSION, Processes

STOP_WITHIN = 30.0
"""Seconds after which the command of ``stop`` is ended."""
STOP_LOG = "runner-stop.log"

_OURS = re.compile(r"STEP_ID|TASK_ID|ATTEMPT|BRIEF_FILE|(?:TINKER_STEPS|CHUNK|BATCH)_\w+")
_LONGEST_NAME = 40
_BEQUEST = ".end.sh"
_LOOK_EVERY = 0.05
_BEFORE_SCRIPTS = 10.0
"""Seconds that a guardian may need until it has ended what a dead process has left on its machine."""


@dataclass(frozen=True, slots=True)
class Handover:
    """One process that a runner is to start.

    Attributes:
        runner: its name.
        prefix: its command.
        stop: ends what it has left elsewhere; None when it ends with the prefix.
        file: starts the process; written before, removed afterwards.
        cwd: folder of the process.
        names: of the variables that the definitions give it.
        path: with this folder its PATH begins.
    """

    runner: str
    prefix: tuple[str, ...]
    stop: tuple[str, ...] | None
    file: Path
    cwd: Path
    names: tuple[str, ...]
    path: str

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.prefix, "/bin/sh", str(self.file))


def prepare(
    runner: Runner,
    *,
    step: str,
    task_id: str,
    folder: Path,
    cwd: Path,
    names: Iterable[str],
    interpreter: str,
) -> Handover:
    """Fill in what a runner asks for, for one process.

    Args:
        folder: of the file; it exists when the file is written.
        cwd: of the process.
        names: of the variables that the definitions give it.
        interpreter: ``python`` is this one, if the engine has it.
    """
    word = re.sub(r"[^a-z0-9]+", "-", task_id.lower())[:_LONGEST_NAME].strip("-")
    run = f"{word}-{uuid.uuid4().hex[:8]}"
    values = {"step": step, "task_id": task_id, "run": run, "cwd": str(cwd)}
    return Handover(
        runner.name,
        runners.filled(runner.command, values),
        None if runner.stop is None else runners.filled(runner.stop, values),
        folder.absolute() / f"{run}.sh",
        cwd.absolute(),
        tuple(names),
        str(Path(interpreter).parent),
    )


def run(
    handover: Handover,
    command: Command,
    processes: Processes,
    *,
    env: Mapping[str, str],
    log: Path,
    tell: Callable[[str], None],
    **more: Any,
) -> Ended:
    """Run a process by a runner to its end.

    Args:
        command: of the process itself.
        env: of the prefix; what of it the process gets is chosen here.
        tell: told in one line what has become of a stop.
        more: further arguments of ``Processes.run``.

    Raises:
        OSError: it could not be handed over.
        BaseException: what interrupted it, once all of it is ended.
    """

    def end() -> None:
        stop(handover, processes, env=env, log=log.with_name(STOP_LOG), tell=tell)

    with written(handover, command, {**env, SESSION: processes.token}), _bequeathed(handover, processes, env):
        try:
            ended = commands.run(handover.command, processes, cwd=handover.cwd, env=env, log=log, **more)
        except FileNotFoundError:
            raise  # its folder is not there, so nothing was started
        except BaseException:
            end()
            raise
        if ended.reason in ("timeout", "cancelled") or (ended.reason == "exit" and broken_off(ended.exit)):
            end()
    return ended


@contextlib.contextmanager
def _bequeathed(handover: Handover, processes: Processes, env: Mapping[str, str]) -> Iterator[None]:
    """What is to be done if this process does not live to do it in the body: no file stays, and the stop.

    Raises:
        OSError: it cannot be written.
    """
    script = _signed(env.get(ATTEMPT, "")) + f"rm -f {shlex.quote(str(handover.file))}\n"
    if handover.stop is not None:
        # Without the marks, by which what is left of an attempt is found and ended.
        own = {name: value for name, value in env.items() if name not in MARKERS}
        given = {name: value for name, value in own.items() if os.environ.get(name) != value}
        script += _script(handover.cwd, given, handover.stop)
    path = handover.file.with_suffix(_BEQUEST)
    private_files.write(path, os.fsencode(script))
    try:
        with processes.bequeathed(path):
            yield
    finally:
        path.unlink(missing_ok=True)


def _signed(task_id: str) -> str:
    """The first line of a bequest: the attempt, and the machine on which its guardian is."""
    return f"# {task_id} {os.uname().nodename}\n"


def settle(
    runner: Runner,
    task_id: str,
    folder: Path,
    processes: Processes,
    *,
    env: Mapping[str, str],
    log: Path,
    tell: Callable[[str], None],
) -> None:
    """Return when all is done that an attempt has bequeathed whose pytest process died.

    The guardian of that process does it. Where it is gone as well, it is done here; but not what was
    bequeathed on another machine, since its guardian may be about to do it there. What is not done in the
    time that it may take is told, and left.

    Args:
        runner: of the attempt.
        folder: of the handovers.
        env: for what is run here.
        log: of the same.
        tell: told in one line what was done here, or is not done.
    """
    told_by = f"runner {runner.name}"
    left = [(path, here) for path in folder.glob(f"*{_BEQUEST}") for here in _where(path, task_id)]
    within = _BEFORE_SCRIPTS + len(left) * guardian.SCRIPT_WITHIN
    deadline = time.monotonic() + within
    for path, here in left:
        while path.exists():
            claim = guardian.claimed(os.fsencode(path)) if here else None
            if claim is not None:
                try:
                    error = _carry_out(path, processes, env=env, log=log)
                finally:
                    os.close(claim)
                if runner.stop is not None:
                    what = f"{told_by}: {commands.shown(runner.stop)}"
                    tell(f"{what}: {error}" if error else what)
            elif time.monotonic() > deadline:
                tell(f"{told_by}: what ends the work of {task_id} has not ended within {within:g} s")
                break
            else:
                time.sleep(_LOOK_EVERY)


def _where(path: Path, task_id: str) -> Iterator[bool]:
    """Whether a bequest is of this machine; nothing, if it is of another attempt."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        line = file.readline()
        if line.startswith(f"# {task_id} ".encode()):
            yield line == _signed(task_id).encode()


def _carry_out(path: Path, processes: Processes, *, env: Mapping[str, str], log: Path) -> str:
    """Run a bequest in place of a guardian, and remove it.

    Returns:
        What went wrong, or an empty string.
    """
    try:
        with processes.bequeathed(path):
            command = ("/bin/sh", str(path))
            ended = processes.run(command, cwd=path.parent, env=env, timeout=STOP_WITHIN, log=log)
    finally:
        path.unlink(missing_ok=True)
    return told(ended.error, ended.tail) if ended.error else ""


def broken_off(code: int | None) -> bool:
    """Whether a prefix with this exit code did not come to its end by itself."""
    return code is None or code < 0


@contextlib.contextmanager
def written(handover: Handover, command: Command, env: Mapping[str, str]) -> Iterator[None]:
    """The file of a handover, as long as the body runs.

    Raises:
        OSError: it cannot be written.
    """
    write(handover, command, env)
    try:
        yield
    finally:
        handover.file.unlink(missing_ok=True)


def write(handover: Handover, command: Command, env: Mapping[str, str]) -> None:
    """Write the file of a handover.

    Raises:
        OSError: it cannot be written.
    """
    private_files.write(handover.file, os.fsencode(script(handover, command, env)))


def script(handover: Handover, command: Command, env: Mapping[str, str]) -> str:
    """What the file of a handover holds."""
    words = ("/bin/sh", "-c", command) if isinstance(command, str) else command
    given = {name: value for name, value in env.items() if name in handover.names or _OURS.fullmatch(name)}
    first = "" if "PATH" in given else f'export PATH={shlex.quote(handover.path)}"${{PATH:+:$PATH}}"\n'
    return first + _script(handover.cwd, given, words)


def _script(cwd: Path, given: Mapping[str, str], words: Iterable[str]) -> str:
    lines = [f"cd {shlex.quote(str(cwd))} || exit"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in given.items()]
    return "\n".join([*lines, f"exec {shlex.join(words)}", ""])


def stop(
    handover: Handover,
    processes: Processes,
    *,
    env: Mapping[str, str],
    log: Path | None,
    tell: Callable[[str], None],
) -> None:
    """End what a prefix that was ended has left elsewhere, where its runner says how.

    Args:
        tell: told in one line what has become of it.
    """
    if handover.stop is None:
        return
    ended = processes.run(handover.stop, cwd=handover.cwd, env=env, timeout=STOP_WITHIN, log=log)
    what = f"runner {handover.runner}: {commands.shown(handover.stop)}"
    tell(f"{what}: {told(ended.error, ended.tail)}" if ended.error else what)
