"""Expected output in files that a person can read.

``GOLDEN=write pytest tests/report`` writes them anew; read the difference before you keep it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def check(name: str, lines: Iterable[str]) -> None:
    """Compare lines with ``golden/<name>.txt``."""
    path = FOLDER / f"{name}.txt"
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"differs from {path}"
