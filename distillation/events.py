"""What a step tells whoever runs it: JSON lines appended to the file named by ``TINKER_STEPS_EVENTS``.

Without that variable nothing is written, so every module also works by hand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from distillation.jsonl import naming

EVENTS_VARIABLE = "TINKER_STEPS_EVENTS"


def note(text: str) -> None:
    """Print a line for people; it also becomes the note of the step's tick (the last one counts)."""
    print(text, flush=True)
    _append({"note": text})


def progress(done: int, total: int) -> None:
    """Report that ``done`` of ``total`` pieces of work are finished."""
    _append({"progress": [done, total]})


def metric(name: str, value: float) -> None:
    """Report a number. ``cost_usd`` is the one that adds up; any other name keeps its last value."""
    _append({"metric": name, "value": value})


def criterion(text: str) -> None:
    """Report that the success criterion with exactly this text is fulfilled."""
    _append({"criterion": text})


def _append(record: dict[str, Any]) -> None:
    path = os.environ.get(EVENTS_VARIABLE)
    if not path:
        return
    line = json.dumps(record, ensure_ascii=False) + "\n"
    with naming(Path(path)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write per record: the reader follows the file while it grows and must not see half a line.
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
