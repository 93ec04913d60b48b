"""Declared files: there, not empty, and this step's own work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import Definition, Step, Where
from pytest_tinker_steps.run.artefacts import assumable, changed, missing, not_written

from ..record.sessions import a_list, a_plan

START = 1_000_000_000_000_000_000


def write(folder: Path, name: str, text: str = "content", at: int = START) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(at, at))
    return path


# -- one file


def test_a_file_must_be_there_and_not_empty(tmp_path: Path) -> None:
    assert missing("out.txt", tmp_path) == "out.txt does not exist"
    write(tmp_path, "out.txt", "")
    assert missing("out.txt", tmp_path) == "out.txt is empty"
    write(tmp_path, "out.txt")
    assert missing("out.txt", tmp_path) == ""


@pytest.mark.parametrize(("at", "own"), [(START - 1, False), (START, True), (START + 1, True)])
def test_an_output_counts_from_the_first_unfinished_attempt_on(tmp_path: Path, at: int, own: bool) -> None:
    write(tmp_path, "out.txt", at=at)
    why = "" if own else "out.txt is older than this step's work: not written by it"
    assert not_written("out.txt", tmp_path, START) == why
    assert not_written("out.txt", tmp_path, 0) == "", "when nothing is asked of its age"


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "out.txt")
    assert missing(str(path), tmp_path / "elsewhere") == ""


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("nowhere")
    assert missing("latest", tmp_path) == "latest: No such file or directory"
    write(tmp_path, "nowhere")
    assert missing("latest", tmp_path) == ""


# -- folders


def test_a_folder_counts_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    assert missing("out", tmp_path) == "out is empty"
    write(tmp_path, "out/deep/marker", "")
    assert missing("out", tmp_path) == "out is empty"
    write(tmp_path, "out/deep/model.bin", at=START - 1)
    assert missing("out", tmp_path) == ""
    assert "older than" in not_written("out", tmp_path, START + 1)
    write(tmp_path, "out/new", at=START + 2)
    assert not_written("out", tmp_path, START + 1) == ""


def test_a_link_to_nowhere_inside_a_folder_decides_nothing(tmp_path: Path) -> None:
    write(tmp_path, "out/model.bin")
    (tmp_path / "out" / "latest").symlink_to("gone")
    assert missing("out", tmp_path) == ""
    (tmp_path / "out" / "model.bin").unlink()
    assert missing("out", tmp_path) == "out is empty"


# -- patterns


def test_of_a_pattern_one_match_must_hold(tmp_path: Path) -> None:
    assert missing("*.bin", tmp_path) == "*.bin does not exist"
    write(tmp_path, "a.bin", "")
    assert missing("*.bin", tmp_path) == "a.bin is empty"
    write(tmp_path, "b.bin", at=START - 1)
    assert missing("*.bin", tmp_path) == ""
    assert not_written("*.bin", tmp_path, START) == "a.bin is empty"
    write(tmp_path, "c.bin")
    assert not_written("*.bin", tmp_path, START) == ""


def test_a_pattern_reaches_into_folders(tmp_path: Path) -> None:
    write(tmp_path, "run/1/epoch/final.pt")
    assert missing("run/**/final.pt", tmp_path) == ""
    assert missing("run/*/final.pt", tmp_path) == "run/*/final.pt does not exist"


@pytest.mark.parametrize("name", ["out[final].json", "what?.txt", "all*.txt"])
def test_a_name_that_looks_like_a_pattern_is_a_name_when_it_is_there(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, at=START - 1)
    assert missing(name, tmp_path) == ""
    assert not_written(name, tmp_path, START) == f"{name} is older than this step's work: not written by it"


# -- steps


def a_step(*outputs: str, defined: bool = True) -> Step:
    (step,) = a_plan(a_list("Work")).steps
    definition = Definition("step_1", "1", Where("steps.yaml", 1), outputs=outputs) if defined else None
    return Step(step.id, 0, step.box, definition)


def test_a_step_can_be_taken_as_done_when_all_its_outputs_are_there(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", at=1)
    assert assumable(a_step("a.txt"), tmp_path) == ""
    assert assumable(a_step("a.txt", "b.txt", "c.txt"), tmp_path) == "b.txt does not exist"
    assert assumable(a_step(), tmp_path) == ""
    assert assumable(a_step(defined=False), tmp_path) == ""


# -- inputs that are newer


@pytest.mark.parametrize(("at", "newer"), [(START - 1, False), (START, False), (START + 1, True)])
def test_an_input_has_changed_when_it_was_modified_later(tmp_path: Path, at: int, newer: bool) -> None:
    write(tmp_path, "data/in.txt", at=at)
    write(tmp_path, "data/old.txt", at=START - 5)
    for path in ("data/in.txt", "data/*.txt", "data"):
        assert changed(path, tmp_path, START) is newer
    assert not changed("data/old.txt", tmp_path, START)


def test_an_input_that_is_gone_has_not_changed(tmp_path: Path) -> None:
    assert not changed("in.txt", tmp_path, START)
    assert not changed("*.txt", tmp_path, START)
