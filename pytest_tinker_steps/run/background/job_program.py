"""How our programs beside a job are started: by the interpreter alone, nothing of the user's in their way."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from pathlib import Path; "
    "from pytest_tinker_steps.run.background.{module} import main; main(Path(sys.argv[2]), *sys.argv[3:])"
)
"""Calls ``main`` of a module of this package with the job's folder and what else it is given."""


def arguments(program: str, folder: Path, *more: str) -> tuple[str, ...]:
    """What to start, without a shell.

    Args:
        program: Python text.
        folder: of the job.
    """
    return (
        sys.executable,
        *("-I", "-S"),
        *(("-B",) if sys.dont_write_bytecode else ()),
        *("-c", program),
        str(Path(__file__).parents[3]),
        str(folder),
        *more,
    )
