"""Ticks on disk: re-read, verify, change the lines of the boxes, replace atomically, read back.

While nobody else edits the list its bytes are known, and with them the offset of every box: a tick is
a splice. After somebody else's edit the list is parsed again and each box is looked for by id and text.
Edits are drafted in memory, all of one call, and written at once.
"""

from __future__ import annotations

import bisect
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..plan import tasklist
from ..plan.model import Box, PlanError, TaskList

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 10
"""How often a draft is made anew because somebody else wrote the list in the meantime."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One box to tick.

    Attributes:
        box: as it was read at some time.
        timestamp: ISO 8601, for example ``2026-11-20T23:42:00Z``.
        task_id: of the attempt that passed, for example ``task_13_1a2b3c4d``.
        note: written behind both, on the line of this box alone.
    """

    box: Box
    timestamp: str
    task_id: str
    note: str = ""


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


@dataclass(frozen=True, slots=True)
class _Wish:
    """What shall stand behind a box, and behind the containers that follow it; None for no tick."""

    box: Box
    suffix: str | None
    above: str | None


_Put = Callable[[Box, str | None], Edit]
_Edits = list[list[tuple[str, Edit]]]
"""For each wish the keys of the boxes that it edits, and the edits; ``changed``: to be written."""


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
        # All below describes these bytes. After a draft that was not written they differ from those on
        # disk, so the next look at the file learns anew what it says.
        self._data = data
        self._boxes = {box.key: box for box in boxes.boxes}
        self._repeated = {key for key, count in Counter(b.key for b in boxes.boxes).items() if count > 1}
        # Own edits since then: offsets in the parsed bytes, ascending, and how much each line grew.
        self._edited: list[int] = []
        self._grown: list[int] = []
        self._ticked = {box.key: box.done for box in boxes.boxes}

    def tick(self, box: Box, timestamp: str, task_id: str, note: str = "") -> list[Edit]:
        """Tick a box and every container that is complete with it; the box's own edit comes first."""
        return self.tick_all([Tick(box, timestamp, task_id, note)])[0]

    def tick_all(self, ticks: Sequence[Tick]) -> list[list[Edit]]:
        """Tick boxes, and every container that is complete with them, in one rewrite of the list.

        Args:
            ticks: taken in this order; a later one of the same box replaces an earlier one.

        Returns:
            For each tick its edits, the box's own first. One that cannot be made keeps no other back.

        Raises:
            ValueError: no tick can be made of a timestamp and a task id; nothing was written.
        """
        wishes = []
        for tick in ticks:
            suffix = above = tasklist.tick_suffix(tick.timestamp, tick.task_id, tick.note)
            if tick.note:
                above = tasklist.tick_suffix(tick.timestamp, tick.task_id)
            wishes.append(_Wish(tick.box, suffix, above))
        return self._rewrite(wishes) if wishes else []

    def untick(self, box: Box) -> list[Edit]:
        """Take a tick back, and with it that of the containers around the box."""
        return self._rewrite([_Wish(box, None, None)])[0]

    def is_ticked(self, box: Box) -> bool | None:
        """What the file says now; None when the box can no longer be found."""
        try:
            self._know(self.path.read_bytes())
            self._locate(box)
        except (PlanError, OSError):
            return None
        return self._ticked[box.key]

    # -- what is known

    def _know(self, data: bytes) -> None:
        if data != self._data:
            self._learn(data, tasklist.parse(data, self._shown))

    def _locate(self, box: Box) -> tuple[Box, int]:
        """The box as it stands in the known bytes, and how far drafted edits have moved it since."""
        known = self._boxes.get(box.key)
        if known is None or known.text != box.text or box.key in self._repeated:
            # Somebody made something else of it: `find` says what.
            return tasklist.find(self._data, self._shown, box), 0
        return known, sum(self._grown[: bisect.bisect_left(self._edited, known.offset)])

    def _around(self, box: Box) -> Iterator[Box]:
        """The containers of a box, innermost first."""
        seen = set()
        parent = self._boxes.get(box.parent or "")
        while parent is not None and parent.key not in seen:  # one id inside of itself has no end
            seen.add(parent.key)
            yield parent
            parent = self._boxes.get(parent.parent or "")

    def _complete(self, container: Box) -> bool:
        children = [self._boxes[key] for key in container.children]
        return all(self._ticked[child.key] or child.optional or child.struck for child in children)

    # -- the draft

    def _each(self, wishes: Sequence[_Wish], ours: set[tuple[int, str]], put: _Put) -> _Edits:
        """Put every wish, and what follows for containers.

        Args:
            ours: wishes by number, and keys of boxes, that an earlier draft has written already.
        """
        result: _Edits = []
        completed: set[str] = set()  # one tick completes a container
        for number, wish in enumerate(wishes):
            ticks = wish.suffix is not None
            own = put(wish.box, wish.suffix)
            edits = [(wish.box.key, own)]
            if own.done or not ticks:
                for container in self._around(wish.box):
                    if ticks and not self._complete(container):
                        break
                    if container.key in completed:
                        continue
                    if self._ticked[container.key] != ticks or (number, container.key) in ours:
                        above = put(container, wish.above)
                        edits.append((container.key, above))
                        if above.done:
                            completed.add(container.key)
            result.append(edits)
        return result

    def _draft(self, box: Box, suffix: str | None) -> Edit:
        try:
            current, moved = self._locate(box)
            changed = tasklist.splice(self._data, current, tick=suffix, moved=moved)
        except PlanError as error:
            return Edit(False, box.line, str(error))
        if changed == self._data:
            return Edit(True, current.line)
        origin = self._boxes[box.key].offset
        place = bisect.bisect_right(self._edited, origin)
        grown = len(changed) - len(self._data)
        self._data = changed
        self._edited.insert(place, origin)
        self._grown.insert(place, grown)
        self._ticked[box.key] = suffix is not None
        return Edit(True, current.line, changed=True)

    # -- the file

    def _rewrite(self, wishes: Sequence[_Wish]) -> list[list[Edit]]:
        ours: set[tuple[int, str]] = set()
        edits: _Edits = []
        for _ in range(_ATTEMPTS):
            data = b""
            try:
                before = self.path.stat()
                data = self.path.read_bytes()
                self._know(data)
            except (PlanError, OSError) as error:
                return _told(self._each(wishes, ours, self._refusal(data, error)), ours)
            edits = self._each(wishes, ours, self._draft)
            if self._data == data:
                return _told(edits, ours)
            try:
                if not self._replace(before, data, self._data):
                    continue
                ours |= {(n, key) for n, made in enumerate(edits) for key, edit in made if edit.changed}
                if self.path.read_bytes() == self._data:
                    return _told(edits, ours)
                # Somebody wrote in the same moment: look again.
            except OSError as error:
                return _told(edits, ours, self._cannot(error))
        return _told(edits, ours, f"{self._shown}: somebody keeps writing it; not ticked")

    def _cannot(self, error: OSError) -> str:
        return f"{self._shown}: cannot be written: {error.strerror}"

    def _refusal(self, data: bytes, error: PlanError | OSError) -> _Put:
        """What every edit of a list comes to that cannot be read, or is no list any more."""

        def put(box: Box, _: str | None) -> Edit:
            if isinstance(error, OSError):
                return Edit(False, box.line, self._cannot(error))
            try:
                tasklist.find(data, self._shown, box)
            except PlanError as missing:
                return Edit(False, box.line, str(missing))
            return Edit(False, box.line, str(error))

        return put

    def _replace(self, before: os.stat_result, old: bytes, new: bytes) -> bool:
        """Put new bytes in place of the old ones; False when the file changed since it was read."""
        if before.st_nlink > 1:
            return self._overwrite(before, old, new)
        try:
            mode = before.st_mode & 0o7777
            fd = os.open(self._temporary, _FLAGS, mode & 0o777)
            try:
                _write(fd, new, 0)
                if os.fstat(fd).st_mode & 0o7777 != mode:
                    os.fchmod(fd, mode)
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    with contextlib.suppress(PermissionError):
                        os.fchown(fd, before.st_uid, before.st_gid)
                os.fsync(fd)
            finally:
                os.close(fd)
            moved = _moved(before, self.path.stat())
            if not moved:
                self._temporary.replace(self.path)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        if moved:
            self._temporary.unlink(missing_ok=True)
        return not moved

    def _overwrite(self, before: os.stat_result, old: bytes, new: bytes) -> bool:
        """A file with several names is written in place: replacing it would cut the other names off."""
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
        with self.path.open("r+b", buffering=0) as stream:
            if _moved(before, os.fstat(stream.fileno())):
                return False
            _write(stream.fileno(), new[same:], same)
            stream.truncate(len(new))
            os.fsync(stream.fileno())
        return True


def _told(edits: _Edits, ours: set[tuple[int, str]], failed: str = "") -> list[list[Edit]]:
    """Edits as they are handed out.

    Args:
        ours: what was written: wishes by number, and keys of boxes.
        failed: why nothing of this draft was written.
    """

    def told(number: int, key: str, edit: Edit) -> Edit:
        if edit.changed and failed:
            return Edit(False, edit.line, failed)
        return Edit(edit.done, edit.line, edit.message, edit.done and (number, key) in ours)

    return [[told(number, key, edit) for key, edit in made] for number, made in enumerate(edits)]


def _write(fd: int, data: bytes, at: int) -> None:
    """Write all of it; a full disk takes a part first and refuses the rest."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        at += count
        view = view[count:]


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) != (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    )


def _temporary(target: Path) -> Path:
    """The file that takes the list's place. One name is enough: who ticks holds the list's lock."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


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
        name.unlink()
    except OSError as error:
        return f"{error.filename or target}: {error.strerror}"
    return ""
