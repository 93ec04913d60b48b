"""Ticks on disk while somebody else edits the list: both are kept, or it is said which is not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tinker_steps.record.ticking import Edit

from .sessions import a_list
from .written import Written, at_the_next, suffix


def test_a_line_that_moved_is_ticked_where_it_stands_now(three: Written) -> None:
    three.tick("1")
    three.edit("# A plan\n", "# A plan\n\nA paragraph.\n\n- [ ] **STEP 0**: Before all\n")
    assert three.tick("2") == [Edit(True, 8, changed=True)]
    assert three.ticked == ["1", "2"]
    assert "A paragraph." in three.text


def test_a_tick_of_somebody_else_is_replaced_by_ours(three: Written) -> None:
    three.edit("- [ ] **STEP 2**", "- [X] **STEP 2**")
    assert three.file.is_ticked(three.boxes["2"])
    assert three.tick("2")[0].changed
    assert suffix(three.boxes["2"]) in three.text


def test_a_tick_of_somebody_else_can_be_taken_back(three: Written) -> None:
    before = three.text
    three.edit("- [ ] **STEP 2**", "- [x] **STEP 2**")
    assert three.untick("2")[0].changed
    assert three.text == before


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("- [ ] **STEP 2**: Something else", "changed its text"),
        ("", "vanished"),
        ("- [ ] **STEP 2**: Second\n- [ ] **STEP 2**: Second", "no longer unique"),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["read now", "read by another tick"])
def test_what_is_not_the_same_box_any_more_is_left_alone(
    three: Written, new: str, why: str, known: bool
) -> None:
    three.edit("- [ ] **STEP 2**: Second", new)
    if known:
        assert three.tick("1")[0].done
    before = three.data
    (edit,) = three.tick("2")
    assert not edit.done
    assert why in edit.message
    assert edit.message.startswith("SPEC.md:")
    assert three.data == before
    assert three.file.is_ticked(three.boxes["2"]) is None
    assert not three.untick("2")[0].done
    assert three.tick("3")[0].done, "the others are still ticked"


def test_an_id_that_repeats_from_the_start_is_not_guessed(write: Callable[..., Written]) -> None:
    written = write(a_list("First", "Second") + "- [ ] **STEP 2**: Second\n")
    before = written.data
    (edit,) = written.tick("2")
    assert not edit.done
    assert "no longer unique" in edit.message
    assert written.data == before


@pytest.mark.parametrize("then", [b"", b"\0\0binary", b"# Nothing to do here\n"])
def test_a_list_that_is_no_list_any_more_is_left_alone(three: Written, then: bytes) -> None:
    three.path.write_bytes(then)
    assert not three.tick("1")[0].done
    assert three.data == then


def test_a_list_that_was_deleted_is_not_made_again(three: Written) -> None:
    three.path.unlink()
    (edit,) = three.tick("1")
    assert edit == Edit(False, 3, "SPEC.md: cannot be written: No such file or directory")
    assert three.file.is_ticked(three.boxes["1"]) is None
    assert not three.path.exists()


@pytest.mark.parametrize(("method", "after"), [("stat", True), ("read_bytes", True), ("read_bytes", False)])
def test_an_edit_between_reading_and_writing_is_kept(
    three: Written, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    at_the_next(monkeypatch, method, lambda: three.edit("# A plan", "# Their plan"), after=after)
    assert three.tick("2")[0] == Edit(True, 4, changed=True)
    assert "# Their plan" in three.text
    assert three.ticked == ["2"]
    assert three.beside == []


def test_an_edit_in_place_of_the_same_length_is_kept(three: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(three.path, (1, 1))

    def overwrite() -> None:
        three.path.write_text(three.text.replace("First", "FIRST"), encoding="utf-8")

    at_the_next(monkeypatch, "read_bytes", overwrite, after=True)
    assert three.tick("2")[0].done
    assert "FIRST" in three.text
    assert three.ticked == ["2"]


def test_who_writes_right_after_us_is_read_and_our_tick_is_made_again(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = three.text
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        result = real(self, target)
        monkeypatch.undo()
        # They had read the list before our tick.
        three.path.write_text(before.replace("# A plan", "# Their plan"), encoding="utf-8")
        return result

    monkeypatch.setattr(Path, "replace", replace)
    assert three.tick("2") == [Edit(True, 4, changed=True)]
    assert "# Their plan" in three.text
    assert three.ticked == ["2"]


def test_who_writes_right_after_us_and_keeps_our_tick_is_told_from_nothing_written(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        result = real(self, target)
        monkeypatch.undo()
        three.edit("# A plan", "# Their plan")
        return result

    monkeypatch.setattr(Path, "replace", replace)
    assert three.tick("2") == [Edit(True, 4, changed=True)]
    assert "# Their plan" in three.text


def test_a_list_deleted_in_the_very_moment_is_no_crash(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        result = real(self, target)
        three.path.unlink()
        return result

    monkeypatch.setattr(Path, "replace", replace)
    assert not three.tick("2")[0].done


def test_somebody_who_never_stops_writing_is_not_fought(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_bytes
    count = iter(range(1000))

    def read_bytes(self: Path) -> bytes:
        data = real(self)
        self.write_bytes(b"# Plan %d\n" % next(count) + data.split(b"\n", 1)[1])
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (edit,) = three.tick("2")
    assert edit == Edit(False, 4, "SPEC.md: somebody keeps writing it; not ticked")
    assert three.beside == []


def test_an_editor_at_work_does_not_keep_us_from_ticking(three: Written) -> None:
    stop = threading.Event()

    def type_on() -> None:
        number, pause = 0, 0.005
        while not stop.wait(pause):
            number += 1
            began = time.monotonic()
            other = three.path.with_name("editor")
            before = three.path.stat()
            text = three.path.read_text("utf-8")
            other.write_text(f"{text}\nsentence {number}\n", encoding="utf-8")
            now = three.path.stat()
            if (before.st_ino, before.st_mtime_ns) == (now.st_ino, now.st_mtime_ns):
                other.replace(three.path)
            pause = max(pause, 5 * (time.monotonic() - began))  # slow is he on a slow machine, too

    editor = threading.Thread(target=type_on)
    editor.start()
    try:
        done = [three.tick(key)[0].done for key in ("1", "2", "3")]
    finally:
        stop.set()
        editor.join()
    # What is there in the end is the editor's affair: its check and its write are not one step.
    assert all(done)
    assert three.text.startswith("# A plan")
    assert three.file.is_ticked(three.boxes["1"]) is not None
