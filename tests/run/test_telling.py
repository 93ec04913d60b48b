"""What the work says of itself becomes events: each once, none in floods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.record.jobs import Job
from pytest_tinker_steps.run import telling
from pytest_tinker_steps.run.telling import PROGRESS_EVERY, Telling


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Said:
    """A Telling on a file, and what it emitted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[dict[str, Any]] = []
        self.telling = Telling(path, self._emit)

    def _emit(self, event: str, **more: Any) -> None:
        self.events.append({"event": event, **more})

    def write(self, *lines: dict[str, Any] | str, end: str = "\n") -> None:
        with self.path.open("a") as file:
            for line in lines:
                file.write((line if isinstance(line, str) else json.dumps(line)) + end)

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(telling.time, "monotonic", made.monotonic)
    return made


@pytest.fixture
def said(tmp_path: Path, clock: Clock) -> Said:
    return Said(tmp_path / "events.jsonl")


def test_a_process_and_this_process_say_the_same_things(said: Said) -> None:
    said.write(
        {"progress": [1, 2]},
        {"metric": "loss", "value": 0.8},
        {"note": "5000\n  examples"},
        {"criterion": "validated"},
    )
    said.telling.poll()
    of_file = list(said.events)
    said.events.clear()
    own = Said(said.path.with_name("none"))
    own.telling.progress(1, 2)
    own.telling.metric("loss", 0.8)
    own.telling.note("5000\n  examples")
    own.telling.criterion("validated")
    assert own.events == of_file
    assert of_file[2] == {"event": "note", "text": "5000 examples"}


def test_each_line_is_taken_once_and_a_torn_one_when_it_is_whole(said: Said) -> None:
    said.telling.poll()
    said.write({"note": "one"})
    said.write('{"note": ', end="")
    said.telling.poll()
    said.telling.poll()
    assert said.names() == ["note"]
    said.write('"two"}')
    said.telling.poll()
    assert [event["text"] for event in said.events] == ["one", "two"]


def test_the_last_line_needs_no_end(said: Said) -> None:
    said.write({"note": "one"}, end="")
    said.telling.poll()
    assert said.events == []
    said.telling.finish()
    assert said.names() == ["note"]


def test_nonsense_is_told_as_ignored(said: Said) -> None:
    said.write("Epoch 1/3")
    said.telling.poll()
    assert said.events == [{"event": "ignored", "status": "warned", "text": "Epoch 1/3"}]


def test_a_criterion_is_met_once(said: Said) -> None:
    said.telling.criterion("validated")
    said.write({"criterion": "validated"})
    said.telling.finish()
    assert said.names() == ["criterion"]
    assert said.telling.met == {"validated"}


def test_progress_is_shown_at_intervals_and_at_the_end(said: Said, clock: Clock) -> None:
    for done in range(1, 101):
        clock.now += PROGRESS_EVERY / 10
        said.telling.progress(done, 100)
    shown = [event["done"] for event in said.events]
    assert shown[0] == 1
    assert shown[-1] == 100
    assert len(shown) <= 12


def test_progress_is_recorded_less_often_than_it_is_shown_and_at_the_end(said: Said, clock: Clock) -> None:
    for done in range(1, 300):
        clock.now += PROGRESS_EVERY / 5
        said.telling.progress(done, 1000)
    said.telling.finish()
    recorded = [event["done"] for event in said.events if not event.get("shown")]
    assert recorded == [1, 51, 101, 151, 201, 251, 299]
    assert len(said.events) == 61
    said.telling.finish()
    assert len(said.events) == 61, "the end is told once"


def test_what_is_not_told_yet_is_told_at_the_end(said: Said) -> None:
    said.telling.progress(1, 10)
    said.telling.progress(7, 10)
    assert [event["done"] for event in said.events] == [1]
    said.telling.finish()
    assert [event["done"] for event in said.events] == [1, 7]


def test_progress_towards_an_unknown_total_is_no_flood(said: Said) -> None:
    for done in range(1, 1000):
        said.telling.progress(done, 0)
    assert len(said.events) == 1


@pytest.mark.parametrize("total", [1, 1000])
def test_what_is_complete_again_and_again_is_no_flood(said: Said, clock: Clock, total: int) -> None:
    for _ in range(100):
        for done in range(total + 1):
            said.telling.progress(done, total)
        clock.now += 0.01
    assert len(said.events) <= 4


def test_progress_that_grows_with_its_total_is_no_flood(said: Said) -> None:
    for done in range(1, 1000):
        said.telling.progress(done, done)
    assert len(said.events) <= 2


def test_the_rate_is_what_was_done_since_the_attempt_began(said: Said, clock: Clock) -> None:
    said.telling.progress(0, 100)
    clock.now += 20
    said.telling.progress(50, 100)
    assert [event["rate"] for event in said.events] == [0.0, 2.5]


def test_work_that_goes_on_from_the_middle_is_not_taken_for_fast(said: Said, clock: Clock) -> None:
    clock.now += 1
    said.telling.progress(4000, 5000)
    clock.now += 10
    said.telling.progress(4010, 5000)
    assert [event["rate"] for event in said.events] == [0.0, 1.0]


def test_the_rate_is_that_of_the_last_minute(said: Said, clock: Clock) -> None:
    done = 0.0
    for speed in (100, 1):
        for _ in range(300):
            clock.now += 1
            done += speed
            said.telling.progress(done, 100_000)
    assert said.events[-1]["rate"] == pytest.approx(1.0)


def test_a_rate_is_known_however_rarely_something_is_done(said: Said, clock: Clock) -> None:
    for done in range(3):
        clock.now += 600
        said.telling.progress(done, 10)
    assert said.events[-1]["rate"] == pytest.approx(1 / 600)


def test_another_count_has_a_rate_of_its_own(said: Said, clock: Clock) -> None:
    for done in (0, 90, 0, 10):
        clock.now += 10
        said.telling.progress(done, 100)
    assert [event["rate"] for event in said.events] == [0.0, 9.0, 0.0, 1.0]


def test_what_is_reported_counts_for_more_than_what_is_seen(said: Said, clock: Clock) -> None:
    said.telling.seen(1, 2)
    clock.now += 5
    said.write({"progress": [10, 100]})
    said.telling.poll()
    clock.now += 5
    said.telling.seen(2, 2)
    assert [(event["done"], event["total"]) for event in said.events] == [(1, 2), (10, 100)]


def test_the_progress_of_a_part_is_shown_as_that_of_the_whole(said: Said, clock: Clock) -> None:
    said.telling.part = lambda done, total: (100 + 50 * done / total, 1000)
    said.telling.seen(1, 2)
    clock.now += 5
    said.telling.advanced(150, 1000)
    clock.now += 5
    said.write({"progress": [2, 10]})
    said.telling.poll()
    assert [(event["done"], event["total"]) for event in said.events] == [
        (125, 1000),
        (150, 1000),
        (110, 1000),
    ]


def test_costs_add_up_and_every_number_is_heard(tmp_path: Path) -> None:
    heard: list[tuple[str, float]] = []
    made = Telling(tmp_path / "none", lambda *_, **__: None, lambda *number: heard.append(number))
    for name, value in (("cost_usd", 1.5), ("loss", 3.0), ("cost_usd", 0.5), ("loss", 2.0)):
        made.metric(name, value)
    assert made.metrics == {"cost_usd": 2.0, "loss": 2.0}
    assert heard == [("cost_usd", 1.5), ("loss", 3.0), ("cost_usd", 0.5), ("loss", 2.0)]


def test_what_a_job_has_told_its_supervisor_is_not_told_again(said: Said) -> None:
    said.write({"criterion": "validated"}, {"metric": "loss", "value": 0.5})
    size = said.path.stat().st_size
    job = Job("8", "task_8_1a2b3c4d", met=("validated",), metrics={"loss": 0.5, "cost_usd": 2.0})
    resumed = Telling(said.path, said._emit, offset=size)
    resumed.resume(job)
    said.write({"note": "after its end"})
    resumed.finish()
    assert said.events == [{"event": "note", "text": "after its end"}]
    assert (resumed.met, resumed.metrics) == ({"validated"}, {"loss": 0.5, "cost_usd": 2.0})
