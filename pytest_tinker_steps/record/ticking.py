"""Ticks on disk: re-read, verify, change one line, replace atomically, read back.

While nobody else edits the list its bytes are known, and with them the offset of every box: a tick is
a splice. After somebody else's edit the list is parsed again and the box is looked for by id and text.
"""

from __future__ import annotations

import bisect
import contextlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ..plan import tasklist
from ..plan.model import Box, PlanError, TaskList

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of one requested edit.

    Attributes:
        done: whether the list on disk says now what was asked for.
        line: of the box, counted from 1.
        message: why not, when it was not done; who else edited the box, when that was found.
        changed: whether the file was written.
    """

    done: bool
    line: int
    message: str = ""
    changed: bool = False


class ListFile:
    """One task list on disk and what is known about it.

    Args:
        path: of the list; a symbolic link is followed, never replaced.
        data: its bytes.
        boxes: parsed from these bytes.
    """

    def __init__(self, path: Path, data: bytes, boxes: TaskList) -> None:
        self.path = Path(os.path.realpath(path))
        self._shown = boxes.path
        self._temporary = _temporary(self.path)
        self._learn(data, boxes)

    def _learn(self, data: bytes, boxes: TaskList) -> None:
        self._data = data
        self._boxes = {box.key: box for box in boxes.boxes}
        self._repeated = {key for key, count in Counter(b.key for b in boxes.boxes).items() if count > 1}
        # Own edits since then: offsets in the parsed bytes, ascending, and how much each line grew.
        self._edited: list[int] = []
        self._grown: list[int] = []
        self._ticked = {box.key: box.done for box in boxes.boxes}

    def tick(self, box: Box, timestamp: str, task_id: str, note: str = "") -> list[Edit]:
        """Tick a box and every container that is complete with it; the box's own edit comes first."""
        edits = [self._change(box, tasklist.tick_suffix(timestamp, task_id, note))]
        if edits[0].done:
            edits += self._containers(box, timestamp, task_id)
        return edits

    def untick(self, box: Box) -> list[Edit]:
        """Take a tick back, and with it that of the containers around the box."""
        edits = [self._change(box, None)]
        parent = self._boxes.get(box.parent or "")
        while parent is not None:
            if self._ticked[parent.key]:
                edits.append(self._change(parent, None))
            parent = self._boxes.get(parent.parent or "")
        return edits

    def is_ticked(self, box: Box) -> bool | None:
        """What the file says now; None when the box can no longer be found."""
        try:
            self._refresh(box)
        except (PlanError, OSError):
            return None
        return self._ticked[box.key]

    def _containers(self, box: Box, timestamp: str, task_id: str) -> list[Edit]:
        edits: list[Edit] = []
        parent = self._boxes.get(box.parent or "")
        while parent is not None:
            children = [self._boxes[key] for key in parent.children]
            if not all(self._ticked[child.key] or child.optional or child.struck for child in children):
                break
            if not self._ticked[parent.key]:
                edits.append(self._change(parent, tasklist.tick_suffix(timestamp, task_id)))
            parent = self._boxes.get(parent.parent or "")
        return edits

    def _refresh(self, box: Box) -> tuple[Box, bytes, os.stat_result]:
        """Read the file; give the box where it stands now, the bytes, and the file's state then."""
        before = self.path.stat()
        data = self.path.read_bytes()
        if data != self._data:
            found = tasklist.find(data, self._shown, box)
            self._learn(data, tasklist.parse(data, self._shown))
            return found, data, before
        known = self._boxes.get(box.key)
        if known is None or known.text != box.text or box.key in self._repeated:
            # Somebody made something else of it, and the edit of another box has read that already.
            return tasklist.find(data, self._shown, box), data, before
        shift = sum(self._grown[: bisect.bisect_left(self._edited, known.offset)])
        return (replace(known, offset=known.offset + shift) if shift else known), data, before

    def _change(self, box: Box, suffix: str | None) -> Edit:
        wrote = False
        for _ in range(10):
            try:
                current, data, before = self._refresh(box)
                changed = tasklist.splice(data, current, tick=suffix)
                if changed == data:
                    return Edit(True, current.line, changed=wrote)
                if not self._replace(before, data, changed):
                    continue
                wrote = True
                if self.path.read_bytes() != changed:
                    continue  # somebody wrote in the same moment: look again
            except PlanError as error:
                return Edit(False, box.line, str(error))
            except OSError as error:
                return Edit(False, box.line, f"{self._shown}: cannot be written: {error.strerror}")
            self._remember(box, changed, len(changed) - len(data), ticked=suffix is not None)
            return Edit(True, current.line, changed=True)
        return Edit(False, box.line, f"{self._shown}: somebody keeps writing it; not ticked")

    def _remember(self, box: Box, data: bytes, grown: int, *, ticked: bool) -> None:
        origin = self._boxes[box.key].offset
        place = bisect.bisect_right(self._edited, origin)
        self._edited.insert(place, origin)
        self._grown.insert(place, grown)
        self._data = data
        self._ticked[box.key] = ticked

    def _replace(self, before: os.stat_result, old: bytes, new: bytes) -> bool:
        """Put new bytes in place of the old ones; False when the file changed since it was read."""
        if before.st_nlink > 1:
            return self._overwrite(before, old, new)
        name = self._temporary
        try:
            mode = before.st_mode & 0o7777
            with os.fdopen(os.open(name, _FLAGS, mode & 0o777), "wb") as stream:
                stream.write(new)
                stream.flush()
                if os.fstat(stream.fileno()).st_mode & 0o7777 != mode:
                    os.fchmod(stream.fileno(), mode)
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    with contextlib.suppress(PermissionError):
                        os.fchown(stream.fileno(), before.st_uid, before.st_gid)
                os.fsync(stream.fileno())
            moved = _moved(before, self.path.stat())
            if not moved:
                Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        if moved:
            Path(name).unlink(missing_ok=True)
        return not moved

    def _overwrite(self, before: os.stat_result, old: bytes, new: bytes) -> bool:
        """A file with several names is written in place: replacing it would cut the other names off."""
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
        with self.path.open("r+b", buffering=0) as stream:
            if _moved(before, os.fstat(stream.fileno())):
                return False
            os.pwrite(stream.fileno(), new[same:], same)
            stream.truncate(len(new))
            os.fsync(stream.fileno())
        return True


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) != (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    )


def _temporary(target: Path) -> str:
    """The file that takes the list's place. One name is enough: who ticks holds the list's lock."""
    return str(target.with_name(f".{target.name}.{os.getpid()}.tmp"))


def clear_leftovers(path: Path) -> None:
    """Remove temporary files that a killed run left beside the list. Only for who holds the list's lock."""
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def writable(path: Path) -> str:
    """Why the list could not be ticked, or an empty string; asked before anything is spent.

    Ticks need a temporary file in the same folder, so the folder is tried, not only the file.
    """
    target = Path(os.path.realpath(path))
    try:
        with target.open("r+b"):
            pass
        name = _temporary(target)
        os.close(os.open(name, _FLAGS, 0o600))
        Path(name).unlink()
    except OSError as error:
        return f"{error.filename or target}: {error.strerror}"
    return ""
