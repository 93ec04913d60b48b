"""Where things are kept, relative to the folder of the task list."""

from __future__ import annotations

STATE = ".steps"
"""Folder beside the task list: the lock, the logs of every attempt, jobs and pieces."""

JOBS = "jobs"
"""Folder of all background jobs, in ``STATE``."""


def logs_of(task_id: str) -> str:
    """Folder of an attempt's logs."""
    return f"{STATE}/logs/{task_id}"
