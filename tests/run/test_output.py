"""Output is logged for its owner, cut in the middle when it floods, and whole everywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_tinker_steps.run import output as module
from pytest_tinker_steps.run.output import Output
from pytest_tinker_steps.run.redaction import REPLACEMENT, Redactor

SECRET = "tml-0123456789abcdef"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is full soon."""
    monkeypatch.setattr(module, "LOG_HEAD", 10_000)
    monkeypatch.setattr(module, "LOG_TAIL", 20_000)


def written(data: bytes, log: Path, piece: int = 4096) -> Output:
    output = Output(Redactor([SECRET]), log, None)
    for at in range(0, len(data), piece):
        output.feed(data[at : at + piece])
    output.close()
    return output


def test_a_log_is_made_for_the_owner_alone_and_only_for_output(log: Path) -> None:
    written(b"", log)
    assert not log.exists()
    written(b"one\n", log)
    written(b"two\n", log)
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_flood_keeps_the_head_and_the_tail(log: Path, small: None) -> None:
    output = written(b"first\n" + b"y\n" * 500_000 + SECRET.encode() + b"\nlast\n", log)
    total = 6 + 1_000_000 + len(REPLACEMENT) + 1 + 5
    text = log.read_bytes()
    assert text.startswith(b"first\ny\n")
    assert text.endswith(f"y\n{REPLACEMENT}\nlast\n".encode())
    assert b"\n[... %d bytes left out ...]\n" % (total - 30_000) in text
    assert len(text) < 30_100
    assert len(output.tail()) <= module.TAIL
    assert output.tail().startswith("y\n")
    assert output.tail().endswith("last\n")


@pytest.mark.parametrize("size", [9_999, 10_000, 10_001, 12_000, 29_999, 30_000])
@pytest.mark.parametrize("piece", [7, 4096, 100_000])
def test_output_just_beyond_the_head_is_whole(log: Path, small: None, size: int, piece: int) -> None:
    data = b"".join(b"%d\n" % number for number in range(size))[:size]
    written(data, log, piece)
    assert log.read_bytes() == data


@pytest.mark.parametrize("piece", [1, 1000, 1_000_000])
def test_the_tail_is_the_last_whole_lines(log: Path, piece: int) -> None:
    lines = [f"{number} {'x' * 20}\n" for number in range(1500)]
    tail = written("".join(lines).encode(), log, piece).tail()
    kept = tail.splitlines(keepends=True)
    assert kept == lines[-len(kept) :]
    assert module.TAIL - 30 < len(tail) <= module.TAIL


def test_the_tail_of_one_endless_line_is_its_end(log: Path) -> None:
    assert written(b"x" * 50_000, log).tail() == "x" * module.TAIL


def test_characters_that_arrive_in_halves_stay_whole() -> None:
    heard: list[str] = []
    output = Output(Redactor([]), None, heard.append)
    for piece in (b"\303", b"\274\377", b"\303"):
        output.feed(piece)
    output.close()
    assert "".join(heard) == output.tail() == "ü\ufffd\ufffd"


def test_a_listener_that_is_muted_hears_nothing_more(log: Path) -> None:
    heard: list[str] = []
    output = Output(Redactor([SECRET]), log, heard.append)
    output.feed(b"before\n")
    output.mute()
    output.feed(b"after\ntml")
    output.close()
    assert heard == ["before\n"]
    assert log.read_text() == "before\nafter\ntml"
