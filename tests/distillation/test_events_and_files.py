from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillation import events
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json, read_rows, write_bytes, write_json, write_rows
from tests.distillation.conftest import Events


def test_reports_become_one_json_line_each(said: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.note("5.000 Beispiele ✓")
    events.progress(3, 10)
    events.metric("loss", 0.8)
    events.criterion("done")
    assert said() == [
        {"note": "5.000 Beispiele ✓"},
        {"progress": [3, 10]},
        {"metric": "loss", "value": 0.8},
        {"criterion": "done"},
    ]
    assert capsys.readouterr().out == "5.000 Beispiele ✓\n"


def test_without_a_runner_a_note_is_only_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events.note("by hand")
    events.metric("loss", 1)
    assert capsys.readouterr().out == "by hand\n"
    assert list(folder.iterdir()) == []


def test_a_users_mistake_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> None:
        raise DistillationError("no file; run step 3")

    assert run(main) == 1
    assert capsys.readouterr().err == "error: no file; run step 3\n"
    assert run(lambda _: None) == 0


def test_broken_lines_keep_their_number_and_text(folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n{"a": \n[1]\n\xff{}\n{"a": 2}')
    rows = read_rows(path)
    assert [row.line for row in rows] == [1, 3, 4, 5, 6]
    assert [row.value for row in rows] == [{"a": 1}, None, None, None, {"a": 2}]
    assert rows[1].problem.startswith("not JSON")
    assert rows[1].text == '{"a": '
    assert rows[2].problem == "not a JSON object"
    assert rows[3].problem == "not UTF-8"


def test_a_deeply_nested_line_is_broken_and_no_crash(folder: Path) -> None:
    (folder / "deep.jsonl").write_text("[" * 200_000 + "\n")
    assert read_rows(folder / "deep.jsonl")[0].value is None


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
    deadline=None,
)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_and_no_line_is_lost(folder: Path, content: bytes) -> None:
    path = folder / "wild.jsonl"
    path.write_bytes(content)
    rows = read_rows(path)
    assert len(rows) == sum(bool(line.strip()) for line in content.split(b"\n"))
    assert all((row.value is None) == bool(row.problem) for row in rows)


def test_rows_come_back_as_they_were_written(folder: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "zwei\nZeilen\u2028und mehr"}, {"n": 1}]
    write_rows(folder / "deep" / "rows.jsonl", rows)
    assert [row.value for row in read_rows(folder / "deep" / "rows.jsonl")] == rows


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_report_that_is_no_object_is_a_users_mistake(folder: Path, content: bytes) -> None:
    (folder / "report.json").write_bytes(content)
    with pytest.raises(DistillationError, match="run the step that writes it again"):
        read_json(folder / "report.json")


def test_a_missing_file_names_itself(folder: Path) -> None:
    for read in (read_json, read_rows):
        with pytest.raises(DistillationError, match=r"gone\.jsonl: No such file"):
            read(folder / "gone.jsonl")


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "report.json"
    write_json(path, {"old": True})

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert json.loads(path.read_text()) == {"old": True}
    assert [entry.name for entry in folder.iterdir()] == ["report.json"]
