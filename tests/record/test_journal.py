"""The journal: whole records, or an error; nothing in between, and nothing that was there is lost."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.record.journal import Journal, JournalError, now, read, redacted

Open = Callable[..., Journal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".task_execution.log"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    made: list[Journal] = []

    def opened(**more: Any) -> Journal:
        made.append(Journal(path, "run_1", **more))
        return made[-1]

    yield opened
    for journal in made:
        journal.close()


def writes(monkeypatch: pytest.MonkeyPatch, write: Callable[[int, bytes], int]) -> None:
    monkeypatch.setattr("pytest_tinker_steps.record.journal.os.write", write)


# -- what is written


def test_a_record_says_who_when_and_what_in_this_order(opened: Open, path: Path) -> None:
    record = opened().append("note", status="running", step="8", task_id="task_8_1a2b3c4d", text="5000 ✓")
    assert list(record) == ["v", "timestamp", "run_id", "task_id", "step", "event", "status", "text"]
    assert path.read_text("utf-8") == json.dumps(record, ensure_ascii=False) + "\n"
    assert list(read(path)) == [record]


def test_the_time_is_utc_with_milliseconds(opened: Open) -> None:
    stamp = now()
    assert len(stamp) == len("2026-11-20T23:42:00.123Z")
    assert stamp.endswith("Z")
    assert opened().append("note", timestamp="2026-11-20T23:42:00.000Z")["timestamp"].startswith("2026-11-20")


def test_one_write_per_record(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    real = os.write
    writes(monkeypatch, lambda fd, data: sent.append(data) or real(fd, data))
    journal = opened()
    journal.append("first", text="line\nbreaks\r\nand\u2028more")
    journal.append("second", text="x" * 300_000)
    assert len(sent) == 2
    assert all(data.count(b"\n") == 1 and data.endswith(b"\n") for data in sent)


def test_only_a_synced_record_waits_for_the_disk(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("pytest_tinker_steps.record.journal.os.fsync", synced.append)
    journal = opened()
    journal.append("check")
    assert synced == []
    journal.append("attempt_finished", sync=True)
    assert len(synced) == 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_journal_is_the_owners_alone(opened: Open, path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        opened().append("first")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_later_run_appends(path: Path) -> None:
    for run in ("run_1", "run_2"):
        journal = Journal(path, run)
        journal.append("run_started")
        journal.close()
    assert [record["run_id"] for record in read(path)] == ["run_1", "run_2"]


def test_the_descriptor_is_not_inherited(opened: Open) -> None:
    journal = opened()
    assert not os.get_inheritable(journal._fd)


def test_processes_that_append_at_once_never_interleave(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pytest_tinker_steps.record.journal import Journal
journal = Journal(Path(sys.argv[1]), sys.argv[2])
for number in range(200):
    journal.append("note", number=number, text=sys.argv[2] * (number * 37 % 9000))
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), f"<{n}>"]) for n in range(4)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0, 0]
    # Whoever opens it while another writes may take that record for torn, and leave an empty line.
    lines = [line for line in path.read_bytes().splitlines() if line]
    records = [json.loads(line) for line in lines]
    assert len(records) == 800
    for writer in range(4):
        own = [record for record in records if record["run_id"] == f"<{writer}>"]
        assert [record["number"] for record in own] == list(range(200)), "in its own order"
        assert all(record["text"] == f"<{writer}>" * (record["number"] * 37 % 9000) for record in own)


# -- what goes wrong


def test_a_torn_last_line_does_not_swallow_the_next_record(opened: Open, path: Path) -> None:
    opened().append("first")
    with path.open("ab") as stream:
        stream.write(b'{"v": 1, "event": "torn", "ti')
    opened().append("second")
    assert [record["event"] for record in read(path)] == ["first", "second"]


def test_a_short_write_is_an_error_and_the_next_record_is_whole(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, real = opened(), os.write
    journal.append("first")
    with monkeypatch.context() as patch:
        writes(patch, lambda fd, data: real(fd, data[:20]))
        with pytest.raises(JournalError, match="the disk is full"):
            journal.append("lost")
    journal.append("third")
    assert [record["event"] for record in read(path)] == ["first", "third"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failed_write_is_an_error_with_its_reason(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    journal = opened()
    writes(monkeypatch, fail)
    with pytest.raises(JournalError) as caught:
        journal.append("lost")
    assert str(caught.value) == f"{path}: the journal cannot be written: {os.strerror(number)}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device() -> None:
    journal = Journal(Path("/dev/full"), "run_1")
    with pytest.raises(JournalError, match="No space left"):
        journal.append("lost")
    journal.close()


def test_a_record_that_cannot_be_synced_is_an_error(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = opened()
    monkeypatch.setattr("pytest_tinker_steps.record.journal.os.fsync", fail)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.append("attempt_finished", sync=True)


def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened: Is a directory"):
        Journal(tmp_path, "run_1")
    with pytest.raises(JournalError, match="cannot be opened: No such file"):
        Journal(tmp_path / "gone" / "log", "run_1")


def test_nothing_is_written_after_the_end(opened: Open) -> None:
    journal = opened()
    journal.close()
    journal.close()
    with pytest.raises(JournalError):
        journal.append("late")


# -- reading


def test_a_missing_journal_has_no_records(path: Path) -> None:
    assert list(read(path)) == []


def test_a_journal_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="the journal is no regular file; make it one"):
        list(read(tmp_path))


def test_a_journal_of_another_user_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self), mode)

    path.touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PlanError, match="the journal cannot be read: Permission denied; make it"):
        list(read(path))


def test_lines_that_are_no_records_are_passed_over(opened: Open, path: Path) -> None:
    journal = opened()
    journal.append("first")
    garbage = [
        b"",
        b"not json",
        b"\xff\xfe\x00garbage",
        b"\0" * 100,
        b"[1, 2]",
        b'"text"',
        b"null",
        b'{"v": 2, "event": "of a later version"}',
        b'{"v": 1}',
        b"[" * 100_000,
        b'{"v": 1, "event": "half',
        b"9" * 5000,
    ]
    with path.open("ab") as stream:
        stream.write(b"\n".join(garbage) + b"\r\n")
    journal.append("last")
    assert [record["event"] for record in read(path)] == ["first", "last"]


# -- redaction


def hidden(text: str) -> str:
    return text.replace("tml-secret", "[hidden]")


def test_secrets_are_hidden_wherever_they_stand(opened: Open, path: Path) -> None:
    opened(redact=hidden).append(
        "phase",
        message="key tml-secret refused",
        env={"tml-secret": ["a", {"deep": "tml-secret"}, ("tml-secret", 1)]},
        number=1.5,
        nothing=None,
    )
    assert b"tml-secret" not in path.read_bytes()
    (record,) = read(path)
    assert record["message"] == "key [hidden] refused"
    assert record["env"] == {"[hidden]": ["a", {"deep": "[hidden]"}, ["[hidden]", 1]]}
    assert (record["number"], record["nothing"]) == (1.5, None)


def test_values_that_are_no_text_stay_what_they_are() -> None:
    assert redacted({1: True, "x": [None, 2, 2.5]}, hidden) == {"1": True, "x": [None, 2, 2.5]}


# -- any text


def test_lone_surrogates_come_back(opened: Open, path: Path) -> None:
    # A file name that is no UTF-8 reads like this.
    opened().append("note", text="caf\udce9 \ud800")
    assert next(read(path))["text"] == "caf\udce9 \ud800"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values=st.lists(json_like, max_size=5))
def test_what_is_appended_is_read_again(values: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "log"
    journal = Journal(path, "run_1")
    for value in values:
        journal.append("note", value=value)
    journal.close()
    assert [record["value"] for record in read(path)] == values


@given(cut=st.integers(min_value=0), tail=st.binary(max_size=50))
def test_whatever_a_crash_leaves_behind_the_next_record_is_read(
    cut: int, tail: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "log"
    journal = Journal(path, "run_1")
    journal.append("first")
    journal.append("second")
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)] + tail)
    journal = Journal(path, "run_2")
    journal.append("third")
    journal.close()
    assert list(read(path))[-1]["event"] == "third"
