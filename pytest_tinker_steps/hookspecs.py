"""Hooks that this plugin calls, for other plugins and for a project's ``conftest.py``."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.hookspec()
def pytest_steps_event(config: pytest.Config, event: dict[str, Any]) -> None:
    """Called with each event of a step, in the process that keeps the journal.

    Events come in the order in which they happened and after they are recorded. Under xdist those of
    one phase arrive together, when a worker has reported it. Do not change the event, and do not
    raise: the step is judged by its phases alone.

    Args:
        event: as it stands in the journal: ``event``, ``status``, ``step``, ``task_id``,
            ``timestamp`` and what belongs to its kind. ``output`` and ``phase_started`` are only
            shown, so they come here too, but stand in no journal.
    """
