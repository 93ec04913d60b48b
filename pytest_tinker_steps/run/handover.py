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
from .process import MARKERS, SESSION, Processes

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
    script = f"rm -f {shlex.quote(str(handover.file))}\n"
    if handover.stop is not None:
        # Without the marks, by which what is left of an attempt is found and ended.
        own = {name: value for name, value in env.items() if name not in MARKERS}
        given = {name: value for name, value in own.items() if os.environ.get(name) != value}
        script += _script(handover.cwd, given, handover.stop)
    path = handover.file.with_suffix(".end.sh")
    private_files.write(path, os.fsencode(script))
    try:
        with processes.bequeathed(path):
            yield
    finally:
        path.unlink(missing_ok=True)


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
