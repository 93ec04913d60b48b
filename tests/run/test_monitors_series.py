"""Numbers over time survive what happens to their file."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.run.monitoring.series import Series


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_number_is_a_line_that_any_reader_of_json_takes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "series.jsonl"
    series = Series(path)
    for seconds, value in enumerate([1.5, math.nan, -math.inf]):
        assert series.add(seconds + 0.12345, "loss", value) == ""
    series.close()
    assert [(row["seconds"], row["name"], row["value"]) for row in rows(path)] == [
        (0.123, "loss", 1.5),
        (1.123, "loss", "nan"),
        (2.123, "loss", "-inf"),
    ]
    assert all(row["timestamp"].endswith("Z") for row in rows(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_is_kept_also_when_its_last_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.write_text('{"name": "old"}\n{"na')
    series = Series(path)
    series.add(0, "loss", 1)
    series.close()
    first, torn, last = path.read_text().splitlines()
    assert (first, torn, json.loads(last)["name"]) == ('{"name": "old"}', '{"na', "loss")


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.mkdir()
    series = Series(path)
    said = [series.add(0, "loss", 1) for _ in range(3)]
    assert said == ["series.jsonl could not be written: Is a directory", "", ""]
    series.close()
    series.close()


def test_a_full_disk_costs_the_numbers_of_that_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "series.jsonl"
    series = Series(path)
    series.add(0, "loss", 1)
    with monkeypatch.context() as full:
        write = os.write
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        assert series.add(1, "loss", 2) == "series.jsonl could not be written: the disk is full"
    assert series.add(2, "loss", 3) == ""
    series.close()
    first, _, last = path.read_text().splitlines()
    assert [json.loads(line)["value"] for line in (first, last)] == [1, 3]
