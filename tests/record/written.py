"""A task list on disk, and others who write it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tinker_steps.plan import tasklist
from pytest_tinker_steps.plan.model import Box
from pytest_tinker_steps.record.ticking import Edit, ListFile

TIME = "2026-11-20T23:42:00Z"


def suffix(box: Box, note: str = "") -> str:
    return f" ✓ [{TIME}] [task_{box.id}_1a2b3c4d]" + (f" ({note})" if note else "")


class Written:
    """A list on disk with what was read of it, as a session has them."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        path.write_bytes(data)
        self.boxes = {box.key: box for box in tasklist.parse(data, "SPEC.md").boxes}
        self.file = ListFile(path, data, tasklist.parse(data, "SPEC.md"))

    def tick(self, key: str, note: str = "") -> list[Edit]:
        return self.file.tick(self.boxes[key], TIME, f"task_{self.boxes[key].id}_1a2b3c4d", note)

    def untick(self, key: str) -> list[Edit]:
        return self.file.untick(self.boxes[key])

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @property
    def text(self) -> str:
        return self.data.decode()

    def edit(self, old: str, new: str) -> None:
        """Somebody else's edit, as an editor writes it."""
        text = self.text
        assert text.count(old) == 1, text
        other = self.path.with_name("editor")
        other.write_text(text.replace(old, new), encoding="utf-8", newline="")
        other.replace(self.path)

    @property
    def ticked(self) -> list[str]:
        return [box.key for box in tasklist.parse(self.data, "SPEC.md").boxes if box.done]

    @property
    def beside(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir() if path != self.path)


def at_the_next(
    monkeypatch: pytest.MonkeyPatch, method: str, then: Callable[[], None], *, after: bool
) -> None:
    """Let somebody act around the next call of a method of Path, once."""
    real = getattr(Path, method)
    left = [1]

    def patched(self: Path, *args: object, **kwargs: object) -> object:
        act = left and self.name == "SPEC.md"
        if act:
            left.clear()
            if not after:
                then()
        result = real(self, *args, **kwargs)
        if act and after:
            then()
        return result

    monkeypatch.setattr(Path, method, patched)
