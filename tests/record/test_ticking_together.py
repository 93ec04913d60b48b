"""Several ticks in one rewrite; one that cannot be made holds no other back."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_tinker_steps.record.ticking import Edit, Tick

from .sessions import a_list
from .written import TIME, Written, at_the_next, suffix

FAMILY = """# Nested

- [ ] 1. Outer
  - [ ] 1.1 Middle
    - [ ] 1.1.1 First leaf
    - [ ] 1.1.2 Second leaf
  - [ ] 1.2 Third leaf
- [ ] 2. Alone
"""


def some(written: Written, *keys: str) -> list[Tick]:
    """A tick for each key; the note says which in the call it was."""
    return [
        Tick(box, TIME, f"task_{box.id}_1a2b3c4d", f"number {number}")
        for number, box in enumerate((written.boxes[key] for key in keys), start=1)
    ]


def tick(written: Written, *keys: str) -> list[list[Edit]]:
    return written.file.tick_all(some(written, *keys))


def lines(edits: Sequence[Sequence[Edit]]) -> list[list[int]]:
    return [[edit.line for edit in made] for made in edits]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to make the list last, from here on, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        done.append("fsync")
        fsync(fd)

    def replaced(source: Path, target: Path) -> None:
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return done


# -- one rewrite


def test_boxes_of_one_call_share_one_rewrite(three: Written, writes: list[str]) -> None:
    before = three.text
    assert tick(three, "3", "1", "2") == [[Edit(True, line, changed=True)] for line in (5, 3, 4)]
    assert writes == ["fsync", "replace"]
    expected = before.replace("[ ]", "[x]")
    for number, (key, title) in enumerate((("3", "Third"), ("1", "First"), ("2", "Second")), start=1):
        expected = expected.replace(title, title + suffix(three.boxes[key], f"number {number}"))
    assert three.text == expected
    assert three.beside == []


def test_each_way_to_order_the_boxes_leaves_the_same_list(write: Callable[..., Written]) -> None:
    texts = set()
    for order in itertools.permutations("1234"):
        written = write(a_list("A", "Be", "See", "D"))
        boxes = [written.boxes[key] for key in order]
        written.file.tick_all([Tick(box, TIME, f"task_{box.id}_1a2b3c4d", box.title * 3) for box in boxes])
        texts.add(written.text)
        assert written.ticked == ["1", "2", "3", "4"]
    assert len(texts) == 1


def test_a_later_tick_of_the_same_box_replaces_the_earlier(three: Written, writes: list[str]) -> None:
    assert tick(three, "2", "2") == [[Edit(True, 4, changed=True)]] * 2
    assert writes == ["fsync", "replace"]
    assert three.text.count("✓") == 1
    assert "(number 2)" in three.text


def test_what_stands_already_is_not_written(three: Written, writes: list[str]) -> None:
    tick(three, "1", "2")
    del writes[:]
    assert tick(three, "1", "2") == [[Edit(True, 3)], [Edit(True, 4)]]
    assert three.file.tick_all([]) == []
    assert writes == []
    assert tick(three, "1", "3") == [[Edit(True, 3)], [Edit(True, 5, changed=True)]]


def test_a_stamp_that_could_not_be_read_again_is_refused_before_anything_is_written(three: Written) -> None:
    before = three.data
    with pytest.raises(ValueError, match="yesterday"):
        three.file.tick_all([*some(three, "1"), Tick(three.boxes["2"], "yesterday", "task_2_1a2b3c4d")])
    assert three.data == before
    assert three.file.is_ticked(three.boxes["1"]) is False


def test_all_names_of_a_file_see_all_ticks(three: Written, tmp_path: Path, writes: list[str]) -> None:
    other = tmp_path / "SAME.md"
    other.hardlink_to(three.path)
    inode = three.path.stat().st_ino
    tick(three, "3", "1")
    assert writes == ["fsync"]
    assert three.ticked == ["1", "3"]
    assert other.read_bytes() == three.data
    assert other.stat().st_ino == three.path.stat().st_ino == inode


@pytest.mark.parametrize("linked", [False, True])
def test_a_system_that_takes_little_at_a_time_gets_it_all(
    three: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    if linked:
        (tmp_path / "SAME.md").hardlink_to(three.path)
    three.path.chmod(0o640)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:7]), at))
    assert tick(three, "1", "2", "3") == [[Edit(True, line, changed=True)] for line in (3, 4, 5)]
    assert three.ticked == ["1", "2", "3"]
    assert stat.S_IMODE(three.path.stat().st_mode) == 0o640


# -- containers


def test_a_container_belongs_to_the_tick_that_completed_it(
    write: Callable[..., Written], writes: list[str]
) -> None:
    written = write(FAMILY)
    assert lines(tick(written, "1.1.2", "2", "1.1.1", "1.2")) == [[6], [8], [5, 4], [7, 3]]
    assert writes == ["fsync", "replace"]
    assert written.text.splitlines()[2:5] == [
        "- [x] 1. Outer" + f" ✓ [{TIME}] [task_1.2_1a2b3c4d]",
        "  - [x] 1.1 Middle" + f" ✓ [{TIME}] [task_1.1.1_1a2b3c4d]",
        "    - [x] 1.1.1 First leaf" + suffix(written.boxes["1.1.1"], "number 3"),
    ]
    assert written.file.is_ticked(written.boxes["1"])


def test_a_container_is_ticked_once(write: Callable[..., Written]) -> None:
    written = write(FAMILY)
    assert lines(tick(written, "1.1.1", "1.1.2", "1.1.1")) == [[5], [6, 4], [5]]
    assert "1.1 Middle" + f" ✓ [{TIME}] [task_1.1.2_1a2b3c4d]\n" in written.text


def test_a_container_waits_for_a_child_that_could_not_be_ticked(write: Callable[..., Written]) -> None:
    written = write(FAMILY)
    written.edit("Second leaf", "Another leaf")
    (first,), (second,), (third,) = tick(written, "1.1.1", "1.1.2", "1.2")
    assert [first.done, second.done, third.done] == [True, False, True]
    assert written.ticked == ["1.1.1", "1.2"]


def test_with_a_step_its_containers_are_unticked_in_one_rewrite(
    write: Callable[..., Written], writes: list[str]
) -> None:
    written = write(FAMILY)
    tick(written, "1.1.1", "1.1.2", "1.2")
    del writes[:]
    assert written.untick("1.1.2") == [Edit(True, line, changed=True) for line in (6, 4, 3)]
    assert writes == ["fsync", "replace"]
    assert written.ticked == ["1.1.1", "1.2"]


def test_an_id_inside_of_itself_comes_to_an_end(write: Callable[..., Written]) -> None:
    written = write("- [ ] 1. Outer\n  - [ ] 1. Inner\n    - [ ] 1.1 Leaf\n")
    leaf, above = written.tick("1.1")
    assert leaf == Edit(True, 3, changed=True)
    assert "no longer unique" in above.message
    assert written.untick("1.1") == [Edit(True, 3, changed=True)]
    assert not written.untick("1")[0].done


# -- one among others


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("- [ ] **STEP 2**: Something else", "changed its text"),
        ("", "vanished"),
        ("- [ ] **STEP 2**: Second\n- [ ] **STEP 2**: Second", "no longer unique"),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["read now", "read before"])
def test_a_box_that_is_another_now_holds_no_other_back(
    three: Written, writes: list[str], new: str, why: str, known: bool
) -> None:
    three.edit("- [ ] **STEP 2**: Second", new)
    if known:
        assert three.file.is_ticked(three.boxes["1"]) is False
    del writes[:]
    (first,), (second,), (third,) = tick(three, "1", "2", "3")
    assert (first.done, first.changed, third.done, third.changed) == (True, True, True, True)
    assert (second.done, second.changed) == (False, False)
    assert second.message.startswith("SPEC.md:")
    assert why in second.message
    assert writes == ["fsync", "replace"]
    assert three.ticked == ["1", "3"]
    assert three.text.count("✓") == 2


@pytest.mark.parametrize("then", [b"", b"\0\0binary", b"# Nothing to do here\n"])
def test_in_a_list_that_is_no_list_any_more_no_box_is_ticked(three: Written, then: bytes) -> None:
    three.path.write_bytes(then)
    edits = tick(three, "1", "2")
    assert [(edit.done, edit.line, "vanished" in edit.message) for (edit,) in edits] == [
        (False, 3, True),
        (False, 4, True),
    ]
    assert three.data == then


def test_a_list_that_was_deleted_is_said_to_be_for_each_box(three: Written) -> None:
    three.path.unlink()
    why = "SPEC.md: cannot be written: No such file or directory"
    assert tick(three, "1", "2") == [[Edit(False, 3, why)], [Edit(False, 4, why)]]
    assert not three.path.exists()


# -- somebody else writes


def test_an_edit_between_reading_and_writing_is_kept_with_all_ticks(
    write: Callable[..., Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(FAMILY)

    def edit() -> None:
        written.edit("# Nested", "# Their list\n\nIts words.")

    at_the_next(monkeypatch, "read_bytes", edit, after=True)
    edits = tick(written, "2", "1.1.2", "1.1.1")
    assert edits == [
        [Edit(True, 10, changed=True)],
        [Edit(True, 8, changed=True)],
        [Edit(True, 7, changed=True), Edit(True, 6, changed=True)],
    ]
    assert written.text.startswith("# Their list\n\nIts words.\n")
    assert written.ticked == ["1.1", "1.1.1", "1.1.2", "2"]
    assert written.beside == []


def test_a_box_that_is_another_at_the_second_look_holds_no_other_back(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_next(monkeypatch, "read_bytes", lambda: three.edit("First", "Another"), after=True)
    (first,), (second,) = tick(three, "1", "2")
    assert "changed its text" in first.message
    assert second == Edit(True, 4, changed=True)
    assert three.ticked == ["2"]
    assert three.file.is_ticked(three.boxes["2"])


@pytest.mark.parametrize(("kept", "completes"), [("", 1), ("1.1", 1), ("1.1.1", 1), ("1.1.2", 0), ("all", 1)])
def test_ticks_that_somebody_took_out_right_after_us_are_made_again(
    write: Callable[..., Written], monkeypatch: pytest.MonkeyPatch, kept: str, completes: int
) -> None:
    """Their list has all, none or one of our ticks. Of one that stands, the other completes the container."""
    expected = write(FAMILY)
    expected.file.tick_all(some(expected, "1.1.1", "1.1.2"))
    text = expected.text.replace("# Nested", "# Theirs")
    if completes == 0:
        text = text.replace("Middle" + f" ✓ [{TIME}] [task_1.1.2_", "Middle" + f" ✓ [{TIME}] [task_1.1.1_")
    written = write(FAMILY)
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        monkeypatch.undo()
        ours = written.text.splitlines(keepends=True)
        theirs = [
            mine if kept == "all" or f" {kept} " in mine else before
            for mine, before in zip(ours, FAMILY.splitlines(keepends=True), strict=True)
        ]
        written.path.write_text("".join(theirs).replace("# Nested", "# Theirs"), encoding="utf-8")

    monkeypatch.setattr(os, "replace", replace)
    edits = [[Edit(True, 5, changed=True)], [Edit(True, 6, changed=True)]]
    edits[completes].append(Edit(True, 4, changed=True))
    assert tick(written, "1.1.1", "1.1.2") == edits
    assert written.text == text


def test_somebody_who_never_stops_writing_is_named_for_each_box(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick(three, "1")
    real = Path.read_bytes
    reads: list[int] = []

    def read_bytes(self: Path) -> bytes:
        data = real(self)
        reads.append(len(reads))
        self.write_bytes(b"# Plan %d\n" % len(reads) + data.split(b"\n", 1)[1])
        return data

    why = "SPEC.md: somebody keeps writing it; not ticked"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        assert tick(three, "1", "2", "3") == [[Edit(True, 3)], [Edit(False, 4, why)], [Edit(False, 5, why)]]
    assert len(reads) == 10
    assert three.beside == []
    assert [three.file.is_ticked(three.boxes[key]) for key in "123"] == [True, False, False]
    assert [edit.done for (edit,) in tick(three, "2", "3")] == [True, True]


# -- a disk that does not take it


@pytest.mark.parametrize(
    ("call", "number", "why"),
    [("open", 13, "Permission denied"), ("pwrite", 28, "No space left on device"), ("fsync", 5, "I/O error")],
)
def test_what_was_not_written_is_said_for_each_box_and_forgotten(
    write: Callable[..., Written], monkeypatch: pytest.MonkeyPatch, call: str, number: int, why: str
) -> None:
    written = write(FAMILY)
    tick(written, "2")
    again = Tick(written.boxes["2"], TIME, "task_2_1a2b3c4d", "number 1")
    leaves = some(written, "1.1.1", "1.1.2")
    before = written.data

    def fail(*_: object) -> int:
        raise OSError(number, why)

    message = f"SPEC.md: cannot be written: {why}"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        edits = written.file.tick_all([again, *leaves])
    assert edits == [
        [Edit(True, 8)],
        [Edit(False, 5, message)],
        [Edit(False, 6, message), Edit(False, 4, message)],
    ]
    assert written.data == before
    assert written.beside == []
    assert [written.file.is_ticked(written.boxes[key]) for key in ("2", "1.1.1", "1.1")] == [
        True,
        False,
        False,
    ]
    assert lines(written.file.tick_all(leaves)) == [[5], [6, 4]]
    assert written.ticked == ["1.1", "1.1.1", "1.1.2", "2"]


def test_a_list_deleted_right_after_us_says_so_for_each_box(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        three.path.unlink()

    monkeypatch.setattr(os, "replace", replace)
    why = "SPEC.md: cannot be written: No such file or directory"
    assert tick(three, "1", "3") == [[Edit(False, 3, why)], [Edit(False, 5, why)]]
