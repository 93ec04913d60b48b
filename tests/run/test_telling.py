"""What the work says of itself becomes events: each once, none in floods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def test_progress_towards_an_unknown_total_is_no_flood(said: Said) -> None:
    for done in range(1, 1000):
        said.telling.progress(done, 0)
    assert len(said.events) == 1


def test_the_rate_is_what_was_done_since_the_attempt_began(said: Said, clock: Clock) -> None:
    said.telling.progress(0, 100)
    clock.now += 20
    said.telling.progress(50, 100)
    assert [event["rate"] for event in said.events] == [0.0, 2.5]
