"""``--steps-plan``: show what would run, and run nothing."""

from __future__ import annotations

import pytest

from .activation import planned
from .plan.model import PlanError
from .report import waves


def show(config: pytest.Config) -> int:
    """Print the plan; the exit code of the session.

    Raises:
        pytest.UsageError: the list, its definitions or the selection do not hold.
    """
    try:
        frozen, _ = planned(config)
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    print("\n".join(waves.of(frozen)))
    return int(pytest.ExitCode.OK)
