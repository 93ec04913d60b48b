"""What is kept of pieces, when it counts, and how a command names its piece."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Main
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains.pieces import MANIFEST, GoodPiece, Piece, Store, discard, store_of
from pytest_tinker_steps.run.mains.placeholders import filled, filled_command

THREE = (Piece(0, 0, 10), Piece(1, 10, 10), Piece(2, 20, 5))


def a_store(folder: Path, spec: str = "spec", output: str | None = "out.jsonl") -> Store:
    return Store(folder / "store", spec, output)


def filled_store(
    folder: Path, *texts: str, output: str | None = "out.jsonl"
) -> tuple[Store, list[GoodPiece]]:
    store = a_store(folder, output=output)
    store.open(anew=False)
    store.keep(())
    good = []
    for piece, text in zip(THREE, texts, strict=False):
        path = store.path_for(piece, 1)
        path.write_text(text)
        good.append(store.add(piece, 1, path))
    return store, good


# -- what counts


def test_recorded_pieces_are_found_again(tmp_path: Path) -> None:
    _, good = filled_store(tmp_path, "a\n", "b\n")
    found = a_store(tmp_path).open(anew=False)
    assert (found.good, found.damaged, found.outdated) == (tuple(good), 0, False)
    assert [one.piece for one in good] == list(THREE[:2])


@pytest.mark.parametrize("harm", ["other bytes", "shorter", "longer", "gone", "a link", "a folder"])
def test_a_piece_whose_file_is_not_as_recorded_does_not_count(tmp_path: Path, harm: str) -> None:
    store, good = filled_store(tmp_path, "aaa\n", "bbb\n")
    path = store.folder / good[0].file
    if harm == "other bytes":
        path.write_text("aab\n")
    elif harm == "shorter":
        path.write_text("aa")
    elif harm == "longer":
        path.write_text("aaa\naaa\n")
    else:
        path.rename(tmp_path / "elsewhere")
        if harm == "a link":
            path.symlink_to(tmp_path / "elsewhere")
        elif harm == "a folder":
            path.mkdir()
    found = a_store(tmp_path).open(anew=False)
    assert (found.good, found.damaged) == ((good[1],), 1)


def test_a_manifest_cut_off_at_any_byte_still_vouches_for_its_whole_lines(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n", "b\n", "c\n")
    manifest = store.folder / MANIFEST
    whole = manifest.read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(header, len(whole) + 1):
        manifest.write_bytes(whole[:length])
        found = a_store(tmp_path).open(anew=False)
        assert found.good == tuple(good[: whole[:length].count(b"\n") - 1])


def test_what_is_added_after_a_torn_line_counts(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n")
    with (store.folder / MANIFEST).open("a") as stream:
        stream.write('{"index": 1, "start": 10, "si')
    again = a_store(tmp_path)
    again.keep(again.open(anew=False).good)
    path = again.path_for(THREE[1], 1)
    path.write_text("b\n")
    good.append(again.add(THREE[1], 1, path))
    assert a_store(tmp_path).open(anew=False).good == tuple(good)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                lambda d: json.dumps(d).encode(),
                st.fixed_dictionaries(
                    {
                        "index": st.sampled_from([-1, 1, True, "1", None]),
                        "start": st.just(10),
                        "size": st.sampled_from([10, 1.5, []]),
                        "attempt": st.just(1),
                        "file": st.sampled_from(["../manifest.jsonl", "..", "/etc/passwd", "x", 1]),
                        "bytes": st.sampled_from([0, -1, 10**30]),
                        "sha256": st.sampled_from(["", "ab", 7]),
                    }
                ),
            ),
        ),
        max_size=4,
    )
)
def test_no_line_that_we_did_not_write_counts_or_breaks_anything(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        store, good = filled_store(Path(name), "a\n")
        with (store.folder / MANIFEST).open("ab") as stream:
            stream.write(b"".join(line + b"\n" for line in lines))
        assert a_store(Path(name)).open(anew=False).good == tuple(good)


def test_only_files_of_the_store_count(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n")
    (tmp_path / "outside").write_text("a\n")
    line = {**asdict(good[0]), "index": 1, "file": "../outside"}
    with (store.folder / MANIFEST).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    assert a_store(tmp_path).open(anew=False).good == tuple(good)


def test_pieces_of_another_definition_are_removed_and_told_of(tmp_path: Path) -> None:
    store, _ = filled_store(tmp_path, "a\n")
    found = a_store(tmp_path, spec="another").open(anew=False)
    assert (found.good, found.outdated) == ((), True)
    assert not store.folder.exists()


def test_beginning_anew_removes_pieces_without_a_word(tmp_path: Path) -> None:
    store, _ = filled_store(tmp_path, "a\n")
    found = a_store(tmp_path, spec="another").open(anew=True)
    assert (found.good, found.outdated) == ((), False)
    assert not store.folder.exists()


def test_an_empty_store_of_another_definition_is_nothing_to_tell_of(tmp_path: Path) -> None:
    filled_store(tmp_path)
    assert a_store(tmp_path, spec="another").open(anew=False).outdated is False


def test_what_no_line_vouches_for_is_removed(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n", "b\n")
    (store.folder / "00002-1-abcdef.jsonl").write_text("half a li")
    (store.folder / "cache").mkdir()
    (store.folder / "cache" / "file").touch()
    again = a_store(tmp_path)
    again.keep([again.open(anew=False).good[1]])
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([MANIFEST, good[1].file])
    assert a_store(tmp_path).open(anew=False).good == (good[1],)


def test_two_sessions_never_give_out_the_same_path(tmp_path: Path) -> None:
    first, second = a_store(tmp_path), a_store(tmp_path)
    paths = [store.path_for(piece, n) for store in (first, second) for piece in THREE for n in (1, 2)]
    assert len(set(paths)) == len(paths)
    assert all(path.is_absolute() and path.suffix == ".jsonl" for path in paths)


def test_a_piece_without_a_file_is_recorded_too(tmp_path: Path) -> None:
    store, _ = filled_store(tmp_path, output=None)
    good = store.add(THREE[0], 2, store.path_for(THREE[0], 2))
    assert (good.file, good.bytes, good.attempt) == ("", 0, 2)
    assert a_store(tmp_path, output=None).open(anew=False).good == (good,)


def test_file_and_folder_are_on_the_disk_before_the_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = filled_store(tmp_path)
    path = store.path_for(THREE[0], 1)
    path.write_text("a\n")
    manifest = store.folder / MANIFEST
    names = {one.stat().st_ino: one.name for one in (path, store.folder, manifest)}
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((names[os.fstat(descriptor).st_ino], manifest.read_bytes().count(b"\n")))

    monkeypatch.setattr(os, "fsync", fsync)
    store.add(THREE[0], 1, path)
    assert synced == [(path.name, 1), ("store", 1), (MANIFEST, 2)]


def test_a_full_disk_is_a_failure_that_another_attempt_does_not_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = filled_store(tmp_path)
    path = store.path_for(THREE[0], 1)
    path.write_text("a\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PhaseFailed, match=r"piece 1 cannot be recorded: No space left on device$") as failed:
        store.add(THREE[0], 1, path)
    assert failed.value.cause is None


# -- joining


def test_pieces_are_joined_in_order_with_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n", "b\n", "c")
    before = os.umask(0o027)
    try:
        size = store.join(good, tmp_path / "deep" / "out.jsonl")
    finally:
        os.umask(before)
    target = tmp_path / "deep" / "out.jsonl"
    assert (target.read_text(), size) == ("a\nb\nc", 5)
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("output", "joined"),
    [("o.jsonl", "a\nb\nc"), ("o.CSV", "a\nb\nc"), ("o.txt", "a\nb\nc"), ("o.bin", "ab\nc"), ("o", "ab\nc")],
)
def test_two_pieces_of_text_never_share_a_line(tmp_path: Path, output: str, joined: str) -> None:
    store, good = filled_store(tmp_path, "a", "b\n", "c", output=output)
    store.join(good, tmp_path / output)
    assert (tmp_path / output).read_text() == joined


def test_an_empty_piece_adds_no_line(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a", "", "c")
    store.join(good, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "a\nc"


def test_who_reads_the_output_never_sees_half_of_it(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n", "b\n")
    (tmp_path / "out.jsonl").write_text("from before")
    with (tmp_path / "out.jsonl").open() as reader:
        store.join(good, tmp_path / "out.jsonl")
        assert reader.read() == "from before"
    assert (tmp_path / "out.jsonl").read_text() == "a\nb\n"


@pytest.mark.parametrize("gone", [False, True])
def test_a_piece_that_changed_under_the_session_is_not_joined(tmp_path: Path, gone: bool) -> None:
    store, good = filled_store(tmp_path, "a\n", "b\n")
    (tmp_path / "out.jsonl").write_text("from before")
    path = store.folder / good[1].file
    path.unlink() if gone else path.write_text("b\nb\n")
    with pytest.raises(PhaseFailed, match="the file of piece 2 has changed since it was recorded") as failed:
        store.join(good, tmp_path / "out.jsonl")
    assert failed.value.cause == "exit"
    assert (tmp_path / "out.jsonl").read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "store"]


def test_a_link_is_followed_and_what_a_killed_session_left_is_overwritten(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "out.jsonl").symlink_to("data/real.jsonl")
    (tmp_path / "data" / ".real.jsonl.store.tmp").write_text("half")
    store.join(good, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").is_symlink()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["real.jsonl"]
    assert (tmp_path / "data" / "real.jsonl").read_text() == "a\n"


def test_an_output_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    store, good = filled_store(tmp_path, "a\n")
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(PhaseFailed, match=r"out\.jsonl cannot be written: Is a directory") as failed:
        store.join(good, tmp_path / "out.jsonl")
    assert failed.value.cause is None


# -- where it is


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=6, unique=True))
def test_every_id_has_a_folder_of_its_own_also_where_case_does_not_matter(ids: list[str]) -> None:
    state = Path("/project/.steps")
    stores = [store_of(state, step) for step in ids]
    assert all(store.parent == state / "pieces" and len(os.fsencode(store.name)) < 80 for store in stores)
    assert len({str(store).lower() for store in stores}) == len(ids)


@pytest.mark.parametrize("step", ["8", "2.1", "T012", "13-A"])
def test_a_plain_id_is_the_name_of_its_folder(step: str) -> None:
    assert store_of(Path("s"), step) == Path("s/pieces") / step


@pytest.mark.parametrize("step", ["..", ".", "phase-0/001-auth", "#3", "t012", "\udcff"])
def test_other_ids_get_a_name_without_traps(step: str) -> None:
    assert "~" in store_of(Path("s"), step).name
    assert "/" not in store_of(Path("s"), step).name


def kept_for(state: Path, step: str, output: str | None, *, file: bool = True) -> Path:
    store = Store(store_of(state, step), "spec", output)
    store.keep(())
    if file:
        store.path_for(THREE[0], 1).write_text("a\n")
    store.add(THREE[0], 1, store.path_for(THREE[0], 1))
    return store.folder


def test_a_store_is_discarded_unless_it_holds_the_only_copy(tmp_path: Path) -> None:
    joined = kept_for(tmp_path, "8", "out.jsonl")
    only_copy = kept_for(tmp_path, "9", None)
    without_files = kept_for(tmp_path, "10", None, file=False)
    for step in ("8", "9", "10", "11"):
        discard(tmp_path, step)
    assert [path.exists() for path in (joined, only_copy, without_files)] == [False, True, False]


# -- placeholders

VALUES = {"chunk.index": "3", "chunk.output": '/tmp/it\'s "a" $HOME `x` \\ {chunk.index}/o'}


def test_each_word_of_a_command_and_of_arguments_is_filled() -> None:
    main = Main(kind="script", script="make.py", args=("--part={chunk.index}", "{chunk.output}", "{chunk.x}"))
    assert filled(main, VALUES).args == ("--part=3", VALUES["chunk.output"], "{chunk.x}")
    words = filled_command(("make", "n={chunk.index}", "{batch.index}", "{}"), VALUES)
    assert words == ("make", "n=3", "{batch.index}", "{}")


@pytest.mark.parametrize(
    "command",
    [
        "printf %s {chunk.output}",
        'printf %s "{chunk.output}"',
        "printf %s '{chunk.output}'",
        "x='\\' ; printf %s {chunk.output}",
        'x="\\"" ; printf %s {chunk.output}',
        "x=\\' ; printf %s {chunk.output}",
        'x="it\'s" ; printf %s {chunk.output}',
    ],
)
@settings(max_examples=15, deadline=None)
@given(
    value=st.text(st.characters(min_codepoint=9, max_codepoint=0x2FF, exclude_characters="\r"), min_size=1)
)
def test_a_shell_gets_the_value_as_it_is_however_the_command_quotes_it(command: str, value: str) -> None:
    told = filled_command(command, {"chunk.output": value})
    assert isinstance(told, str)
    assert subprocess.check_output(["/bin/sh", "-c", told]) == value.encode()


def test_braces_that_are_no_placeholder_stay_as_they_are() -> None:
    text = "awk '{print $1}' f | grep ${HOME} \\{chunk.index} {chunk.other} {} {chunk.index}"
    assert filled_command(text, VALUES) == text.removesuffix("{chunk.index}") + "3"


@pytest.mark.parametrize(
    ("ours", "theirs"), [("run_1", "run_1"), ("run_1", "run_2"), ("run_1", ""), ("", "")]
)
def test_anew_is_without_what_other_sessions_have_left(tmp_path: Path, ours: str, theirs: str) -> None:
    before = Store(tmp_path, "spec", "out.txt", theirs)
    before.keep([])
    path = before.path_for(Piece(0, 0, 1), 1)
    path.write_text("one\n")
    good = before.add(Piece(0, 0, 1), 1, path)
    found = Store(tmp_path, "spec", "out.txt", ours).open(anew=True)
    assert found.good == ((good,) if ours == theirs == "run_1" else ())
