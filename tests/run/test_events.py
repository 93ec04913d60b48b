"""What a process says is read as it comes, and nonsense is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.run.events import LONGEST_LINE, EventsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_missing_file_says_nothing(path: Path) -> None:
    events = EventsFile(path)
    assert events.read() == []
    assert events.finish() == []


def test_the_four_known_events_are_read_once(path: Path) -> None:
    append(
        path,
        b'{"progress": [500, 5000]}\n{"metric": "loss", "value": 0.8, "extra": 1}\n'
        b'{"note": "5000 examples"}\r\n\n{"criterion": "API key validated"}\n',
    )
    events = EventsFile(path)
    assert events.read() == [
        {"progress": [500, 5000]},
        {"metric": "loss", "value": 0.8},
        {"note": "5000 examples"},
        {"criterion": "API key validated"},
    ]
    assert events.read() == []


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        '{"unknown": 1}',
        '{"progress": [1]}',
        '{"progress": [-1, 2]}',
        '{"progress": [1, "2"]}',
        '{"progress": [true, 2]}',
        '{"progress": [1, NaN]}',
        '{"metric": "loss"}',
        '{"metric": "", "value": 1}',
        '{"metric": "loss", "value": "0.8"}',
        '{"metric": "loss", "value": 1e999}',
        '{"metric": "loss", "value": 1' + "0" * 400 + "}",
        '{"note": 5}',
        "[" * 5000,
    ],
)
def test_a_line_that_is_no_event_is_named_and_the_next_one_is_read(path: Path, line: str) -> None:
    append(path, line.encode() + b'\n{"note": "next"}\n')
    assert EventsFile(path).read() == [{"ignored": line[:200]}, {"note": "next"}]


def test_bytes_that_are_no_text_are_named(path: Path) -> None:
    append(path, b"\xff\xfe\n")
    assert EventsFile(path).read() == [{"ignored": "\ufffd\ufffd"}]


def test_a_torn_line_waits_for_its_rest(path: Path) -> None:
    events = EventsFile(path)
    append(path, b'{"no')
    assert events.read() == []
    append(path, b'te": "whole"}\n{"note": "to')
    assert events.read() == [{"note": "whole"}]
    append(path, b'rn"}')
    assert events.finish() == [{"note": "torn"}]
    assert events.finish() == []


def test_an_oversize_line_is_named_once_and_not_kept(path: Path) -> None:
    events = EventsFile(path)
    append(path, b'{"note": "' + b"x" * LONGEST_LINE)
    assert events.read() == [{"ignored": ('{"note": "' + "x" * 200)[:200]}]
    append(path, b"x" * LONGEST_LINE)
    assert events.read() == []
    append(path, b'"}\n{"note": "next"}\n')
    assert events.read() == [{"note": "next"}]


def test_a_file_begun_anew_is_read_from_its_start(path: Path) -> None:
    events = EventsFile(path)
    append(path, b'{"note": "of the first try"}\n')
    events.read()
    path.write_bytes(b'{"note": "second"}\n')
    assert events.read() == [{"note": "second"}]


def test_a_file_that_cannot_be_read_says_nothing(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()
    assert EventsFile(path).read() == []


@given(st.lists(st.text(max_size=20), max_size=6), st.lists(st.integers(0, 200), max_size=6))
def test_whatever_the_pieces_every_note_arrives_in_order(
    tmp_path_factory: pytest.TempPathFactory, notes: list[str], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("events") / "e"
    data = "".join(json.dumps({"note": note}, ensure_ascii=False) + "\n" for note in notes).encode(
        "utf-8", "surrogatepass"
    )
    events = EventsFile(path)
    said = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        append(path, data[at : max(at, cut)])
        at = max(at, cut)
        said += events.read()
    said += events.finish()
    assert said == [{"note": note} for note in notes]
    path.unlink()
