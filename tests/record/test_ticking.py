"""Ticks on disk: one line, nothing else, whoever else has the file open."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import tasklist
from pytest_tinker_steps.record import ticking
from pytest_tinker_steps.record.ticking import Edit, ListFile, clear_leftovers, writable

from .sessions import a_list
from .written import TIME, Written, at_the_next, suffix

NESTED = """# Nested

- [ ] 1. Outer
  - [ ] 1.1 Middle
    - [ ] 1.1.1 Inner
      - [ ] 1.1.1.1 First leaf
      - [ ] 1.1.1.2 Second leaf
    - [ ]* 1.1.2 Optional
  - [ ] 1.2 Leaf
"""


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every parse of a list from here on."""
    seen: list[str] = []
    real = tasklist.parse

    def parse(data: bytes, path: str) -> object:
        seen.append(path)
        return real(data, path)

    monkeypatch.setattr(tasklist, "parse", parse)
    return seen


# -- one line


def test_a_tick_changes_one_line(three: Written) -> None:
    before = three.text
    (edit,) = three.tick("2", "5000 examples")
    assert edit == Edit(True, 4, changed=True)
    assert three.text == before.replace(
        "- [ ] **STEP 2**: Second", f"- [x] **STEP 2**: Second{suffix(three.boxes['2'], '5000 examples')}"
    )
    assert three.beside == []


def test_a_second_tick_replaces_the_first(three: Written) -> None:
    three.tick("2", "old")
    three.file.tick(three.boxes["2"], TIME, "task_2_ffffffff", "new")
    assert three.text.count("✓") == 1
    assert three.text.count("[task_2_ffffffff] (new)") == 1


def test_the_same_tick_again_writes_nothing(three: Written) -> None:
    three.tick("2")
    before = three.path.stat()
    assert three.tick("2") == [Edit(True, 4)]
    assert three.path.stat() == before


def test_an_untick_gives_every_byte_back(three: Written) -> None:
    before = three.data
    three.tick("2", "note")
    assert three.untick("2") == [Edit(True, 4, changed=True)]
    assert three.data == before


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False], ids=["final newline", "no final newline"])
def test_bytes_that_are_not_the_tick_stay(
    write: Callable[..., Written], end: str, bom: str, last: bool
) -> None:
    lines = ["- [ ] **STEP 1**: First  ", "", "\ttext \xe9", "- [ ] **STEP 2**: Second"]
    text = bom + end.join(lines) + (end if last else "")
    written = write(text)
    written.tick("2")
    written.tick("1")
    one, two = suffix(written.boxes["1"]), suffix(written.boxes["2"])
    expected = (
        text.replace("First  ", f"First  {one}").replace("Second", f"Second{two}").replace("[ ]", "[x]")
    )
    assert written.data == expected.encode()


def test_bytes_that_are_no_text_stay(write: Callable[..., Written]) -> None:
    data = b"- [ ] **STEP 1**: caf\xe9 \xff\xfe\n\xf0\x9f text\n- [ ] **STEP 2**: Second\n"
    written = write(data)
    assert written.tick("1")[0].done
    assert written.tick("2")[0].done
    written.untick("1")
    written.untick("2")
    assert written.data == data


# -- what is known is not read again


def test_ticks_and_unticks_of_an_unchanged_list_parse_nothing(three: Written, parses: list[str]) -> None:
    three.tick("3", "long note " * 10)
    three.tick("1")
    three.tick("2")
    three.untick("3")
    three.tick("3")
    assert three.file.is_ticked(three.boxes["1"])
    assert parses == []
    assert three.ticked == ["1", "2", "3"]


def test_one_edit_of_somebody_else_is_read_once(three: Written, parses: list[str]) -> None:
    three.edit("# A plan", "# A plan\n\nwith words")
    three.tick("1")
    reads = len(parses)
    assert reads >= 1
    three.tick("2")
    three.untick("1")
    assert len(parses) == reads


def test_hundreds_of_ticks_in_any_order_leave_the_ticks_and_nothing_else(
    write: Callable[..., Written], parses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking.os, "fsync", lambda _: None)
    text = a_list(*(f"Work {n}" for n in range(1, 501)))
    written = write(text)
    del parses[:]
    keys = list(written.boxes)
    random.Random(7).shuffle(keys)
    for key in keys:
        assert written.tick(key, f"note {key}")[0].done
    assert parses == []
    expected = "".join(
        line
        if "STEP" not in line
        else line.replace("[ ]", "[x]").replace(
            "\n", suffix(written.boxes[str(number - 2)], f"note {number - 2}") + "\n"
        )
        for number, line in enumerate(text.splitlines(keepends=True), start=1)
    )
    assert written.text == expected


operations = st.lists(
    st.tuples(st.sampled_from(["tick", "untick"]), st.integers(0, 30), st.text(max_size=12)), max_size=12
)
lists = st.tuples(
    st.lists(st.sampled_from(["leaf", "inner", "text", "ticked?"]), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(shape=lists, todo=operations)
def test_whatever_is_ticked_and_unticked_every_byte_comes_back(
    shape: tuple[list[str], str, bool, bool],
    todo: list[tuple[str, int, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kinds, end, bom, last = shape
    lines, inside = [], False
    for number, kind in enumerate(kinds, start=1):
        if kind == "text":
            lines += ["", f"Words about {number} ✓"]
            inside = False
        else:
            deeper = kind == "inner" and inside
            lines.append(f"{'  ' if deeper else ''}- [ ] **STEP {number}**: Work{' ' * (number % 3)}")
            inside = inside or not deeper
    lines.append("- [ ] **STEP 99**: Last")
    data = ("\ufeff" * bom + end.join(lines) + end * last).encode()
    written = Written(tmp_path_factory.mktemp("list") / "SPEC.md", data)
    leaves = [key for key, box in written.boxes.items() if not box.children]
    for what, which, note in todo:
        key = leaves[which % len(leaves)]
        assert (written.tick(key, note) if what == "tick" else written.untick(key))[0].done
    for key in leaves:
        assert written.untick(key)[0].done
    assert written.data == data


# -- the file keeps its nature


def test_a_link_stays_a_link_and_its_target_is_ticked(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "LIST.md"
    target.write_text(a_list("First"))
    link = tmp_path / "SPEC.md"
    link.symlink_to(Path("real") / "LIST.md")
    data = target.read_bytes()
    boxes = tasklist.parse(data, "SPEC.md")
    assert ListFile(link, data, boxes).tick(boxes.boxes[0], TIME, "task_1_1a2b3c4d")[0].done
    assert link.is_symlink()
    assert b"[x]" in target.read_bytes()


def test_all_names_of_a_file_see_the_tick(three: Written, tmp_path: Path) -> None:
    other = tmp_path / "SAME.md"
    other.hardlink_to(three.path)
    inode = three.path.stat().st_ino
    three.tick("1", "a note that makes the file longer")
    three.tick("3")
    three.untick("1")
    assert three.ticked == ["3"]
    assert other.read_bytes() == three.data
    assert other.stat().st_ino == three.path.stat().st_ino == inode


def test_an_edit_through_another_name_in_the_very_moment_is_kept(
    three: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "SAME.md"
    other.hardlink_to(three.path)

    def overwrite() -> None:
        other.write_text(three.text.replace("# A plan", "# Their plan"), encoding="utf-8")

    at_the_next(monkeypatch, "read_bytes", overwrite, after=True)
    assert three.tick("2")[0].done
    assert three.ticked == ["2"]
    assert "# Their plan" in other.read_text("utf-8")


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_the_mode_stays(three: Written, mode: int) -> None:
    three.path.chmod(mode)
    three.tick("1")
    assert stat.S_IMODE(three.path.stat().st_mode) == mode


# -- containers


def test_a_container_is_ticked_with_its_last_child_and_so_on_upwards(write: Callable[..., Written]) -> None:
    written = write(NESTED)
    assert len(written.tick("1.1.1.1")) == 1
    edits = written.tick("1.1.1.2")
    assert [edit.line for edit in edits] == [7, 5, 4], "an optional step holds no container back"
    assert [edit.line for edit in written.tick("1.2")] == [9, 3]
    assert written.ticked == ["1", "1.1", "1.1.1", "1.1.1.1", "1.1.1.2", "1.2"]


def test_with_a_step_every_container_around_it_is_unticked(write: Callable[..., Written]) -> None:
    written = write(NESTED)
    for key in ("1.1.1.1", "1.1.1.2", "1.2"):
        written.tick(key)
    edits = written.untick("1.1.1.1")
    assert [edit.line for edit in edits] == [6, 5, 4, 3]
    assert written.ticked == ["1.1.1.2", "1.2"]
    written.untick("1.1.1.2")
    written.untick("1.2")
    assert written.text == NESTED


def test_a_struck_child_holds_no_container_back(write: Callable[..., Written]) -> None:
    written = write("- [ ] 1. Outer\n  - [ ] 1.1 Leaf\n  - [ ] 1.2 ~~Dropped~~\n")
    if not written.boxes["1.2"].struck:
        pytest.fail("the list's own notion of struck out changed")
    assert [edit.line for edit in written.tick("1.1")] == [2, 1]


def test_a_child_that_somebody_ticked_counts_for_its_container(write: Callable[..., Written]) -> None:
    written = write(NESTED)
    written.edit("- [ ] 1.1.1.1", "- [x] 1.1.1.1")
    assert len(written.tick("1.1.1.2")) == 3


def test_a_container_whose_child_failed_to_be_ticked_stays(write: Callable[..., Written]) -> None:
    written = write(NESTED)
    written.tick("1.1.1.1")
    written.edit("Second leaf", "Another leaf")
    (edit,) = written.tick("1.1.1.2")
    assert not edit.done
    assert written.ticked == ["1.1.1.1"]


# -- folders, crashes


def test_a_folder_that_takes_no_files_leaves_the_list_whole(
    three: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As any user but root would find it.
    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied", "/somewhere/.SPEC.md.x.tmp")

    monkeypatch.setattr(ticking.os, "open", refuse)
    before = three.data
    (edit,) = three.tick("1")
    assert edit == Edit(False, 3, "SPEC.md: cannot be written: Permission denied")
    assert three.data == before
    assert writable(three.path) == "/somewhere/.SPEC.md.x.tmp: Permission denied"


def test_a_writable_list_is_said_to_be_and_left_as_it_is(three: Written) -> None:
    before = (three.data, three.path.stat())
    assert writable(three.path) == ""
    assert (three.data, three.path.stat()) == before
    assert three.beside == []
    assert "No such file" in writable(three.path.with_name("gone.md"))


def test_a_full_disk_leaves_the_list_whole(three: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ticking.os, "fsync", fail)
    before = three.data
    assert three.tick("1")[0].message == "SPEC.md: cannot be written: No space left on device"
    assert three.data == before
    assert three.beside == []
    monkeypatch.undo()
    assert three.tick("1")[0].done, "nothing that failed is remembered as done"


def test_a_crash_before_the_replacement_leaves_the_list_whole(three: Written) -> None:
    before = three.data
    pid = os.fork()
    if pid == 0:  # a real death: no finally, no cleaning up
        Path.replace = lambda *_: os._exit(7)  # type: ignore[method-assign, assignment]
        three.tick("1")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert three.data == before
    assert len(three.beside) == 1
    mine = three.path.with_name(".SPEC.md.notes")
    mine.write_text("not a leftover")
    clear_leftovers(three.path)
    assert three.beside == [".SPEC.md.notes"]


def test_leftovers_beside_the_target_of_a_link_are_found(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "LIST.md").touch()
    (tmp_path / "SPEC.md").symlink_to(tmp_path / "real" / "LIST.md")
    leftover = tmp_path / "real" / ".LIST.md.abc.tmp"
    leftover.touch()
    clear_leftovers(tmp_path / "SPEC.md")
    assert not leftover.exists()
