"""The state of a background job survives being written, and is never read by halves."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Check, Monitor, ReadyWhen, Threshold, Where
from pytest_tinker_steps.record import jobs
from pytest_tinker_steps.record.jobs import Alert, Job, folder_of
from pytest_tinker_steps.record.plain import from_plain, to_plain

numbers = st.floats(allow_nan=False)
texts = st.text(max_size=20)
some_jobs = st.builds(
    Job,
    step=texts,
    task_id=texts,
    pid=st.integers(0, 1 << 22),
    start=numbers,
    state=st.sampled_from(["starting", "running", "passed", "failed"]),
    ready=st.booleans(),
    exit=st.none() | st.integers(-64, 255),
    progress=st.none() | st.tuples(numbers, numbers, numbers),
    metrics=st.dictionaries(texts, numbers, max_size=3),
    notes=st.lists(texts, max_size=3).map(tuple),
    samples=st.dictionaries(texts, texts, max_size=3),
    alerts=st.lists(st.builds(Alert, texts, texts, texts), max_size=3).map(tuple),
)


@given(job=some_jobs)
def test_a_job_is_read_as_it_was_written(job: Job, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("job")
    jobs.write(folder, job)
    assert jobs.read(folder) == job


def test_a_number_that_is_none_is_read_as_such(tmp_path: Path) -> None:
    jobs.write(tmp_path, Job("13", "task_13_1a2b3c4d", metrics={"loss": float("nan")}))
    job = jobs.read(tmp_path)
    assert job is not None
    assert job.metrics["loss"] != job.metrics["loss"]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    jobs.write(tmp_path, Job("13", "task_13_1a2b3c4d"))
    assert stat.S_IMODE((tmp_path / jobs.FILE).stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [jobs.FILE]


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    short = Job("13", "task_13_1a2b3c4d")
    long = replace(short, notes=("n" * 100_000,))
    jobs.write(tmp_path, short)
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            jobs.write(tmp_path, long)
            jobs.write(tmp_path, short)

    writer = threading.Thread(target=write)
    writer.start()
    seen = [jobs.read(tmp_path) for _ in range(300)]
    over.set()
    writer.join()
    assert all(job in (short, long) for job in seen)


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("13", "task_13_1a2b3c4d")
    jobs.write(tmp_path, job)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        jobs.write(tmp_path, replace(job, state="running"))
    assert jobs.read(tmp_path) == job
    assert os.listdir(tmp_path) == [jobs.FILE]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"step": 13, "task_id": "t"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_job_is_read_as_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / jobs.FILE).write_bytes(data)
    assert jobs.read(tmp_path) is None


def test_a_state_of_another_version_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / jobs.FILE).write_text(json.dumps({"step": "13", "task_id": "t", "later": [1]}))
    assert jobs.read(tmp_path) == Job("13", "t")


def test_the_jobs_of_a_list_are_read_in_the_order_of_their_beginning(tmp_path: Path) -> None:
    later = Job("1", "task_1_aaaaaaaa", began="2026-11-21T10:00:00.000Z")
    earlier = Job("2", "task_2_bbbbbbbb", began="2026-11-20T10:00:00.000Z")
    for job in (later, earlier):
        folder = folder_of(tmp_path, job.task_id)
        folder.mkdir(parents=True)
        jobs.write(folder, job)
    (tmp_path / jobs.JOBS / "stray").write_text("no folder")
    (tmp_path / jobs.JOBS / "empty").mkdir()
    assert jobs.read_all(tmp_path) == [earlier, later]
    assert jobs.read_all(tmp_path / "nowhere") == []


@given(task_id=st.text(min_size=1, max_size=40))
def test_a_job_has_one_folder_whatever_its_step_is_called(task_id: str) -> None:
    state = Path("/list/.steps")
    assert folder_of(state, "task_" + task_id).parent == state / jobs.JOBS


# ---------------------------------------------------------------- dataclasses as JSON


@dataclass(frozen=True)
class Everything:
    text: str
    mode: Literal["a", 2]
    either: str | tuple[str, ...] | None
    pair: tuple[int, float]
    path: Path
    flag: bool = False
    anything: dict[str, Any] = field(default_factory=dict)
    monitors: tuple[Monitor, ...] = ()


def test_dataclasses_come_back_from_json() -> None:
    where = Where("steps.yaml", 3)
    value = Everything(
        "x",
        2,
        ("a", "b"),
        (1, 2.5),
        Path("/tmp/x"),
        True,
        {"deep": [{"a": None}]},
        (Monitor("m", "sample", None, where, threshold=Threshold("loss", ">", 10.0)),),
    )
    assert from_plain(Everything, json.loads(json.dumps(to_plain(value)))) == value
    ready = ReadyWhen(check=Check("port", "port", where, probe={"port": 80}, env=(("A", "1"),)))
    assert from_plain(ReadyWhen, json.loads(json.dumps(to_plain(ready)))) == ready


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 1},
        {"mode": "b"},
        {"either": 3},
        {"pair": [1]},
        {"pair": [1, "x"]},
        {"pair": [True, 1]},
        {"path": 1},
        {"flag": 1},
        {"monitors": {}},
        {"monitors": ["m"]},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    right = {"text": "x", "mode": "a", "either": None, "pair": [1, 2], "path": "/"}
    assert from_plain(Everything, right) == Everything("x", "a", None, (1, 2.0), Path("/"))
    with pytest.raises(ValueError, match="is no"):
        from_plain(Everything, {**right, **wrong})
    with pytest.raises(ValueError, match="missing"):
        from_plain(Everything, {"text": "x"})
