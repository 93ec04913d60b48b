"""What workers in other folders are started with."""

from __future__ import annotations

from pathlib import Path

import execnet
import pytest

from pytest_tinker_steps import remote


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("SPEC.md", "pytest.ini", "report.xml"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "collected", "expected"),
    [
        ("--steps all -d --tx ssh=host//python=python3", "", "--steps all -d --tx ssh=host//python=python3"),
        ("--steps all SPEC.md -v", "SPEC.md", "--steps all -v"),
        ("SPEC.md::step_1 -x", "SPEC.md::step_1", "-x"),
        ("-c pytest.ini -x", "", "-c{folder}/pytest.ini -x"),
        (
            "--junitxml report.xml --junitxml=report.xml",
            "",
            "--junitxml={folder}/report.xml --junitxml=report.xml",
        ),
        ("--junitxml new.xml -k report", "", "--junitxml new.xml -k report"),
    ],
)
def test_paths_are_said_so_that_they_mean_the_same_elsewhere(
    folder: Path, words: str, collected: str, expected: str
) -> None:
    made = remote.arguments(words.split(), collected.split(), folder)
    assert made == expected.format(folder=folder).split()


def test_what_is_collected_has_whole_paths(folder: Path) -> None:
    args = ("SPEC.md", "SPEC.md::step_1", f"{folder}/SPEC.md", "pkg.module", "x" * 5000)
    spec = str(folder / "SPEC.md")
    assert remote.absolute(args, folder) == (spec, f"{spec}::step_1", spec, *args[3:])


@pytest.mark.parametrize(
    ("specs", "expected"),
    [("popen", False), ("popen//chdir=a", True), ("ssh=host", True), ("socket=host:8888", True)],
)
def test_only_workers_in_the_same_folder_are_started_as_ever(specs: str, expected: bool) -> None:
    assert remote.any_of([execnet.XSpec("popen"), execnet.XSpec(specs)]) is expected
