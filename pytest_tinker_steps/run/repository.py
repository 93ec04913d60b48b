"""What git says of the folder that a session runs in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .process import Processes

_PATIENCE = 5.0


def described(
    processes: Processes, folder: Path, environ: Mapping[str, str]
) -> tuple[str | None, bool | None]:
    """The commit that is checked out, and whether a file under version control differs from it.

    Both are None where git does not say: there may be none, and that of CI refuses folders of other users.
    """
    ended = processes.run(
        # Both at once: the commit, and "-dirty" behind it.
        ("git", "describe", "--always", "--abbrev=64", "--exclude=*", "--dirty"),
        cwd=folder,
        env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
        timeout=_PATIENCE,
        log=None,
        guarded=False,  # the controller of a session with workers needs a guardian for nothing else
    )
    if ended.exit != 0:
        return None, None
    told = ended.tail.strip()
    return told.removesuffix("-dirty"), told.endswith("-dirty")
