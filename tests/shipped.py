"""The list that the project ships, also where somebody has run it: a runner's ticks are that person's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TICK = re.compile(r"^- \[x\] (.*?) ✓ \[[^\]]+Z\] \[task_\d+_[0-9a-f]{8}\](?: \(.*\))?$", re.MULTILINE)


def the_list() -> str:
    """``SPEC.md`` as it stands here, without the ticks that a runner has written; those of others stay."""
    return _TICK.sub(r"- [ ] \1", (ROOT / "SPEC.md").read_text(encoding="utf-8"))


def committed_list() -> str | None:
    """``SPEC.md`` as it was committed last; None outside of a git checkout."""
    told = subprocess.run(
        ["git", "show", "HEAD:./SPEC.md"], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    return told.stdout.decode("utf-8") if told.returncode == 0 else None
