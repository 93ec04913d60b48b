"""Workers in other folders, on this machine or another: what they are started with, and when one is lost.

xdist gives its workers the words of the command line, and refuses those that are paths outside of what it
copies. Here nothing of the project is copied: its folder is there under the same path. So the paths that are
collected travel with the session, and the root of the project and its configuration file as options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

STARTS = 3
"""Workers that may die in a row, while they start in place of one. A host that is away is asked once."""
_EXECMODEL = "execmodel=main_thread_only//"
"""What xdist puts before each specification."""


def any_of(specs: Iterable[Any]) -> bool:
    """Whether a worker with one of these specifications works in another folder."""
    return any(not spec.popen or spec.chdir for spec in specs)


def prepare(config: pytest.Config) -> None:
    """Let xdist start its workers with words that mean the same in another folder."""
    given = config.invocation_params
    args = arguments(given.args, config.known_args_namespace.file_or_dir, given.dir)
    args.append(f"--rootdir={config.rootpath}")
    if config.inipath is not None:
        args.append(f"--config-file={config.inipath}")
    config.invocation_params = pytest.Config.InvocationParams(args=args, plugins=given.plugins, dir=given.dir)


class DeadWorker:
    """In place of one that died before xdist had it: what xdist, and its hook for dead ones, ask of it."""

    shutting_down = True

    def __init__(self, spec: Any) -> None:
        self.gateway = SimpleNamespace(id=spec.id, spec=spec)


def outlive(config: pytest.Config, lost: Callable[[str, str, bool], None]) -> None:
    """Go on when a worker dies while it starts, or cannot be replaced.

    xdist itself would end the session then, and with it what runs in the other workers. To it, one that dies
    while it starts is from here on like one that dies later: it is replaced, and counts as a restart.

    Args:
        lost: told the id of the worker, why it cannot be replaced, and whether others are left.
    """
    from execnet import HostNotFound

    session: Any = config.pluginmanager.getplugin("dsession")
    manager = session.nodemanager
    set_up, replacement = manager.setup_node, session._clone_node
    died = (HostNotFound, EOFError, OSError)
    never_there = (HostNotFound, FileNotFoundError, PermissionError, ConnectionRefusedError, TimeoutError)

    def begun(spec: Any, putevent: Callable[[tuple[str, dict[str, Any]]], None]) -> Any:
        if session.sched is not None:
            return set_up(spec, putevent)  # one in place of another, which is seen to below
        try:
            return set_up(spec, putevent)
        except died as error:
            node = DeadWorker(spec)
            if isinstance(error, never_there):
                putevent(("never_there", {"node": node, "error": error}))
            else:
                putevent(("errordown", {"node": node, "error": _why(spec, error)}))
            return node

    def refuse(node: Any, error: Exception) -> None:
        spec = node.gateway.spec
        words = str(spec).removeprefix(_EXECMODEL)
        why = error if spec.popen else _why(spec, error)
        raise pytest.UsageError(f"worker {spec.id} ({words}) cannot be started: {why}; see --tx")

    def replaced(node: Any) -> Any:
        worker, spec = node.gateway.id, node.gateway.spec
        most = session._max_worker_restart
        for tries in range(1, STARTS + 1):
            try:
                return replacement(node)
            except died as error:
                why = _why(spec, error)
            if not spec.popen:
                break
            session._failed_nodes_count += 1
            if tries == STARTS or (most is not None and session._failed_nodes_count > most):
                break
            session.report_line(f"[{spec.id}] node down: {why}")
        others = bool(session._active_nodes - {node})
        lost(worker, why, others)
        if not others:
            session.triggershutdown()
        return None

    manager.setup_node = begun
    session.worker_never_there = refuse  # xdist finds what to do by the name of the event
    session._clone_node = replaced


def _why(spec: Any, error: Exception) -> str:
    host = spec.ssh or spec.socket or "its host"
    why = f"{spec.id} did not start" if spec.popen else f"{host} does not answer"
    # Without a number it is execnet's own, which says no more than that.
    return f"{why} ({error})" if isinstance(error, OSError) and error.errno else why


def arguments(words: Iterable[str], collected: Iterable[str], folder: Path) -> list[str]:
    """The words of a command line without what it collects, the values of its options in one word with them.

    Args:
        collected: paths, as they stand among the words.
        folder: of the command line.
    """
    left_out = set(map(str, collected))
    result: list[str] = []
    for word in map(str, words):
        if word in left_out:
            continue
        before = result[-1] if result else ""
        if before.startswith("-") and "=" not in before and _exists(folder / word):
            joint = "=" if before.startswith("--") else ""
            result[-1] = f"{before}{joint}{folder / word}"
        else:
            result.append(word)
    return result


def absolute(args: Iterable[str], folder: Path) -> tuple[str, ...]:
    """What is collected, with whole paths.

    Args:
        folder: to which paths are relative.
    """
    return tuple(_absolute(arg, folder) for arg in args)


def _absolute(arg: str, folder: Path) -> str:
    path, separator, rest = arg.partition("::")
    return f"{folder / path}{separator}{rest}" if _exists(folder / path) else arg


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
