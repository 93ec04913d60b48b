"""The check of ``ready_when``: loads what checks need, which a supervisor without one goes without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ...plan.model import Check
from ..process import Processes
from ..redaction import Redactor
from ..runner import CheckRunner
from ..trying import Job, carry_out
from .job_spec import JobSpec


def trier(
    check: Check, spec: JobSpec, env: Mapping[str, str], processes: Processes, redactor: Redactor
) -> Callable[[], bool]:
    """What tries a check once, with its own retries, and says whether it passed."""
    runner = CheckRunner(
        cwd=Path(spec.cwd),
        env=env,
        interpreter=spec.interpreter,
        runs=processes,
        phase="ready_when",
        redact=redactor.text,
    )
    return lambda: carry_out(Job(check, None), runner).passed
