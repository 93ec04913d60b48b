"""Jobs that a runner has started: what is ended of them elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .. import handover
from ..process import Processes
from .job_spec import JobSpec


def end_elsewhere(
    spec: JobSpec,
    processes: Processes,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    why: str,
    code: int | None,
) -> None:
    """End what a runner has left elsewhere, and remove what it was handed; for other jobs nothing.

    Args:
        tell: told in one line what has become of a stop.
        why: the job was ended; empty when it ended by itself.
        code: exit code of the prefix; after one of its own it has left nothing.
    """
    given = spec.handover
    if given is None:
        return
    if why or handover.broken_off(code):
        log = spec.job_folder / handover.STOP_LOG
        handover.stop(given, processes, env=environ, log=log, tell=tell)
    given.file.unlink(missing_ok=True)
