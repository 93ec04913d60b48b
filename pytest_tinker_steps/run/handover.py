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
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plan.model import Command, Runner
from ..plan.shapes import runners
from . import private_files
from .ended import Ended
from .failure import told
from .mains import command as commands
from .process import SESSION, Processes

STOP_WITHIN = 30.0
"""Seconds after which the command of ``stop`` is ended."""
STOP_LOG = "runner-stop.log"

_OURS = re.compile(r"STEP_ID|TASK_ID|ATTEMPT|BRIEF_FILE|(?:TINKER_STEPS|CHUNK|BATCH)_\w+")
_LONGEST_NAME = 40


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

    with written(handover, command, {**env, SESSION: processes.token}):
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
    lines = [f"cd {shlex.quote(str(handover.cwd))} || exit"]
    if "PATH" not in given:
        lines.append(f'export PATH={shlex.quote(handover.path)}"${{PATH:+:$PATH}}"')
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
