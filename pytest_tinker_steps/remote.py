"""Workers in other folders, on this machine or another: what they are started with.

xdist gives its workers the words of the command line, and refuses those that are paths outside of what it
copies. Here nothing of the project is copied: its folder is there under the same path. So the paths that are
collected travel with the session, and the root of the project and its configuration file as options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest


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


def outlive_hosts(config: pytest.Config, lost: Callable[[str, str, bool], None]) -> None:
    """Go on with the other workers when one dies whose host is away, so that xdist cannot replace it.

    xdist itself would end the session then, and with it what runs on the other hosts.

    Args:
        lost: told the id of the worker, why it cannot be replaced, and whether others are left.
    """
    from execnet import HostNotFound

    session: Any = config.pluginmanager.getplugin("dsession")
    replacement = session._clone_node

    def replaced(node: Any) -> Any:
        worker = node.gateway.id
        try:
            return replacement(node)
        except (HostNotFound, EOFError, OSError) as error:
            why = f"{node.gateway.spec.ssh or node.gateway.spec.socket or 'its host'} does not answer"
            text = f"{why} ({error})" if isinstance(error, OSError) else why
            lost(worker, text, bool(session._active_nodes - {node}))
            return None

    session._clone_node = replaced


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
