"""Checkpoints are there as a whole or not at all, until they are deleted or expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distillation.engine.checkpoints import Address, Store, parse
from distillation.engine.refusals import Failed, Refused

MINE = Address("s:train:0", "weights", "step-200")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Calendar:
    now = BEGIN

    def __call__(self) -> datetime:
        return self.now


def write(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"12345")


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def store(tmp_path: Path, calendar: Calendar) -> Store:
    return Store(tmp_path / "root", calendar)


def test_what_is_saved_is_found_by_any_store_on_the_root(store: Store) -> None:
    path = store.save(MINE, write, lora={"rank": 4}, user_metadata={"step": "200"})
    folder, meta = Store(store.root).find(path)
    assert (folder / "weights.bin").read_bytes() == b"12345"
    assert meta["lora"] == {"rank": 4}
    assert meta["size_bytes"] == 5
    assert meta["user_metadata"] == {"step": "200"}
    assert meta["checkpoint_type"] == "training"


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    def full(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(Failed, match="cannot be written: No space left"):
        store.save(MINE, full, lora={})
    assert store.all() == []
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_run_that_cannot_be_noted_fails_and_leaves_no_draft(store: Store) -> None:
    store.save_run("s:train:0", {})
    (store.root / "s_train_0" / "run.json").unlink()
    (store.root / "s_train_0" / "run.json").mkdir()
    with pytest.raises(Failed, match=r"run\.json: Is a directory; make room or mend it"):
        store.save_run("s:train:0", {})
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_name_is_taken_once_unless_it_may_be_replaced(store: Store) -> None:
    store.save(MINE, write, lora={"rank": 1})
    with pytest.raises(Failed, match="exists already"):
        store.save(MINE, write, lora={"rank": 2})
    store.save(MINE, write, lora={"rank": 3}, overwrite=True)
    assert [meta["lora"]["rank"] for meta in store.all()] == [3]


def test_an_expired_checkpoint_is_gone(store: Store, calendar: Calendar) -> None:
    path = store.save(MINE, write, lora={}, ttl_seconds=3600)
    calendar.now += timedelta(seconds=3599)
    folder, _ = store.find(path)
    calendar.now += timedelta(seconds=1)
    with pytest.raises(Refused, match="expired") as refused:
        store.find(path)
    assert refused.value.status == 404
    assert not folder.exists()
    store.save(MINE, write, lora={})


def test_a_time_to_live_can_be_changed_and_must_be_in_range(store: Store, calendar: Calendar) -> None:
    path = store.save(MINE, write, lora={}, ttl_seconds=3600)
    store.set_ttl(path, None)
    calendar.now += timedelta(days=400)
    store.set_ttl(path, 7200)
    assert store.find(path)[1]["expires_at"] == (calendar.now + timedelta(hours=2)).isoformat()
    for wrong in (0, 3599, 10**10, "long"):
        with pytest.raises(Refused, match="ttl_seconds"):
            store.set_ttl(path, wrong)


def test_checkpoints_are_listed_oldest_first_by_run_or_all(store: Store, calendar: Calendar) -> None:
    other = Address("t:train:0", "sampler_weights", "a")
    for address in (MINE, other):
        store.save(address, write, lora={})
        calendar.now += timedelta(seconds=1)
    assert [meta["tinker_path"] for meta in store.all()] == [str(MINE), str(other)]
    assert [meta["tinker_path"] for meta in store.all(other.run)] == [str(other)]
    store.delete(str(MINE))
    assert [meta["tinker_path"] for meta in store.all()] == [str(other)]
    with pytest.raises(Refused, match="deleted"):
        store.delete(str(MINE))


def test_runs_are_kept(store: Store) -> None:
    store.save_run(MINE.run, {"training_run_id": MINE.run, "lora_rank": 4})
    assert store.run(MINE.run)["lora_rank"] == 4
    with pytest.raises(Refused, match="not there"):
        store.run("other")


@pytest.mark.parametrize(
    "path",
    [
        "",
        None,
        "tinker://a/weights",
        "tinker://a/other/b",
        "tinker://../weights/b",
        "tinker://a/weights/..",
        "tinker://a/weights/b/c",
        "tinker://a/weights/b c",
        "/etc/passwd",
    ],
)
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(Refused, match="no checkpoint"):
        parse(path)


def test_a_path_is_taken_apart_and_put_together() -> None:
    assert str(parse(str(MINE))) == str(MINE)
