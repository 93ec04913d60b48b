"""The cache of definitions: found only where nothing can have changed and nobody else can have written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tinker_steps.plan import definitions
from pytest_tinker_steps.plan.model import Definitions
from pytest_tinker_steps.record import definition_cache
from pytest_tinker_steps.record.definition_cache import ENTRIES, FOLDER, find, keep

TEXT = b"step_1:\n  main: {command: make}\n  pre_flight:\n    - json: {path: a.json, required: [x]}\n"
PATH = "step_definitions.yaml"


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    if (tmp_path / "cache" / FOLDER).is_dir():
        (tmp_path / "cache" / FOLDER).chmod(0o700)


def read(text: bytes = TEXT) -> Definitions:
    return definitions.load(text, PATH)


def entry(base: Path) -> Path:
    (found,) = (base / FOLDER).iterdir()
    return found


def test_what_was_kept_is_found_again(base: Path) -> None:
    keep(TEXT, PATH, read())
    assert find(TEXT, PATH) == read()


def test_nobody_else_may_read_or_write_what_is_kept(base: Path) -> None:
    keep(TEXT, PATH, read())
    assert (base / FOLDER).stat().st_mode & 0o777 == 0o700
    assert entry(base).stat().st_mode & 0o777 == 0o600


def test_looking_makes_no_folder(base: Path) -> None:
    assert find(TEXT, PATH) is None
    assert not base.exists()


def test_other_bytes_or_another_path_are_not_found(base: Path) -> None:
    keep(TEXT, PATH, read())
    assert find(TEXT.replace(b"make", b"fake"), PATH) is None
    assert find(TEXT, f"other/{PATH}") is None


def test_what_other_code_has_kept_is_not_found(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "plan"
    (code / "shapes").mkdir(parents=True)
    (code / "model.py").write_text("a = 1\n")
    monkeypatch.setattr(definition_cache, "_CODE", code)
    keep(TEXT, PATH, read())
    assert find(TEXT, PATH) is not None
    os.utime(code / "model.py", ns=(1, 1))
    assert find(TEXT, PATH) is None
    keep(TEXT, PATH, read())
    (code / "more.py").touch()
    assert find(TEXT, PATH) is None


def test_another_version_of_the_plugin_or_of_a_reader_finds_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(TEXT, PATH, read())
    with monkeypatch.context() as patch:
        patch.setattr(definition_cache, "__version__", "99")
        assert find(TEXT, PATH) is None
    with monkeypatch.context() as patch:
        patch.setattr(definition_cache, "_READERS", (("pydantic", "main.py"), ("yaml", "__init__.py")))
        assert find(TEXT, PATH) is None
    assert find(TEXT, PATH) is not None


@pytest.mark.parametrize("cut", [0, 10, 64, 65, -1])
def test_a_torn_entry_is_not_found(base: Path, cut: int) -> None:
    keep(TEXT, PATH, read())
    path = entry(base)
    path.write_bytes(path.read_bytes()[:cut])
    assert find(TEXT, PATH) is None


def test_a_changed_entry_is_not_found(base: Path) -> None:
    keep(TEXT, PATH, read())
    path = entry(base)
    path.write_bytes(path.read_bytes().replace(b"make", b"fake"))
    assert find(TEXT, PATH) is None


def test_an_entry_in_the_place_of_another_is_not_found(base: Path) -> None:
    other = TEXT.replace(b"make", b"fake")
    keep(TEXT, PATH, read())
    mine = entry(base)
    keep(other, PATH, read(other))
    (theirs,) = set((base / FOLDER).iterdir()) - {mine}
    theirs.replace(mine)
    assert find(TEXT, PATH) is None


def test_a_torn_entry_is_replaced(base: Path) -> None:
    keep(TEXT, PATH, read())
    entry(base).write_bytes(b"")
    keep(TEXT, PATH, read())
    assert find(TEXT, PATH) == read()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_may_write_is_neither_read_nor_written(base: Path, mode: int) -> None:
    keep(TEXT, PATH, read())
    (base / FOLDER).chmod(mode)
    assert find(TEXT, PATH) is None
    other = TEXT.replace(b"make", b"fake")
    keep(other, PATH, read(other))
    assert len(list((base / FOLDER).iterdir())) == 1


@pytest.mark.parametrize("mode", [0o660, 0o606])
def test_an_entry_that_others_may_write_is_not_found(base: Path, mode: int) -> None:
    keep(TEXT, PATH, read())
    entry(base).chmod(mode)
    assert find(TEXT, PATH) is None


def test_what_belongs_to_somebody_else_is_not_found(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(TEXT, PATH, read())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find(TEXT, PATH) is None


def test_links_are_not_followed(base: Path, tmp_path: Path) -> None:
    keep(TEXT, PATH, read())
    path = entry(base)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert find(TEXT, PATH) is None
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    (base / FOLDER).rename(base / "moved")
    (base / FOLDER).symlink_to(base / "moved")
    assert find(TEXT, PATH) is None


def test_a_pipe_in_the_place_of_an_entry_does_not_make_it_wait(base: Path) -> None:
    keep(TEXT, PATH, read())
    path = entry(base)
    path.unlink()
    os.mkfifo(path, 0o600)
    assert find(TEXT, PATH) is None


def test_where_nothing_can_be_kept_nothing_is_said(base: Path) -> None:
    base.write_text("a file")
    keep(TEXT, PATH, read())
    assert find(TEXT, PATH) is None


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    keep(TEXT, PATH, read())
    assert list((base / FOLDER).iterdir()) == []


def test_what_would_come_back_as_something_else_is_not_kept(base: Path) -> None:
    # Half pairs that stand side by side are one character in JSON.
    keep(TEXT, PATH, replace(read(), secrets=("\ud83d\ude00",)))
    assert find(TEXT, PATH) is None
    keep(TEXT, PATH, replace(read(), secrets=(object(),)))  # type: ignore[arg-type]
    assert find(TEXT, PATH) is None


def test_the_oldest_entries_go(base: Path) -> None:
    keep(TEXT, PATH, read())
    os.utime(entry(base), (1, 1))
    for number in range(ENTRIES - 1):
        path = base / FOLDER / f"other{number}"
        path.touch()
        os.utime(path, (2 + number, 2 + number))
    assert find(TEXT, PATH) is not None
    other = TEXT.replace(b"make", b"fake")
    keep(other, PATH, read(other))
    assert len(list((base / FOLDER).iterdir())) == ENTRIES
    assert find(TEXT, PATH) is None
    assert find(other, PATH) is not None


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_without_a_usable_setting_it_lies_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    keep(TEXT, PATH, read())
    assert len(list((tmp_path / "home/.cache" / FOLDER).iterdir())) == 1
    assert find(TEXT, PATH) == read()
