"""Monitors run beside a main, on time, without holding up each other, and end when they are told to."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.plan.model import Command, Metric, Monitor, Stall, Threshold, Where
from pytest_tinker_steps.run import proctree
from pytest_tinker_steps.run.monitoring import monitors as module
from pytest_tinker_steps.run.monitoring.monitors import Monitors
from pytest_tinker_steps.run.process import ATTEMPT, Ended, Processes
from pytest_tinker_steps.run.redaction import Redactor

SECRET = "tml-0123456789abcdef"
LONG = 300.0
"""Seconds that no test waits."""

PATIENCE = 60.0
"""Seconds until a test gives up."""

Make = Callable[..., Monitors]


class FakeRuns:
    """Starts nothing: what each command prints and how it ends is written beside it."""

    def __init__(self, **acts: Callable[[threading.Event], tuple[str, Ended]]) -> None:
        self.acts = acts
        self.starts: dict[str, list[float]] = {}
        self.active: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.asked: list[dict[str, Any]] = []

    def run(
        self,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        log: Path | None,
        on_output: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Ended:
        assert isinstance(command, str)
        assert cancel is not None
        assert on_output is not None
        self.asked.append({"cwd": cwd, "env": env, "timeout": timeout, "log": log})
        self.starts.setdefault(command, []).append(time.monotonic())
        self.active[command] = self.active.get(command, 0) + 1
        self.most[command] = max(self.active[command], self.most.get(command, 0))
        try:
            output, ended = self.acts[command](cancel)
        finally:
            self.active[command] -= 1
        on_output(output)
        return ended


def prints(*texts: str) -> Callable[[threading.Event], tuple[str, Ended]]:
    """Prints one text after the other, the last one for ever."""
    left = list(texts)
    return lambda _: (left.pop(0) if len(left) > 1 else left[0], Ended(0, "exit", 0.0, "", ""))


def hangs(cancel: threading.Event) -> tuple[str, Ended]:
    assert cancel.wait(LONG)
    return "", Ended(None, "cancelled", 0.0, "", "cancelled")


def a_monitor(command: str | None = None, **more: Any) -> Monitor:
    given = {"name": command or "watch", "kind": "sample", "where": Where("steps.yaml", 1), "interval": 0.05}
    return Monitor(**{**given, "command": command, **more})


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.002)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Monitors] = []

    def make(*monitors: Monitor, runs: Any = None, **more: Any) -> Monitors:
        made.append(Monitors(monitors, runs=runs or FakeRuns(), cwd=tmp_path, env={}, **more))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


class Told:
    """All events of some monitors, as they come."""

    def __init__(self, monitors: Monitors) -> None:
        self._monitors = monitors
        self.events: list[dict[str, Any]] = []

    def of(self, kind: str) -> list[Any]:
        self.events += self._monitors.take()
        return [one.get("text", one.get("value")) for one in self.events if one["event"] == kind]


# ---------------------------------------------------------------- when commands run


def test_a_command_runs_at_the_start_and_at_each_interval(make: Make) -> None:
    runs = FakeRuns(a=prints("x"), once=prints("x"))
    make(a_monitor("a"), a_monitor("once", interval=LONG), runs=runs)
    until(lambda: len(runs.starts.get("a", ())) >= 5)
    until(lambda: len(runs.starts.get("once", ())) == 1)
    first, *_, fifth = runs.starts["a"][:5]
    # Four intervals; the first thread may have been so slow to begin that the second beat was near.
    assert fifth - first >= 2 * 0.05


def test_a_slow_command_overlaps_neither_itself_nor_holds_up_others(make: Make) -> None:
    gate = threading.Event()

    def slow(cancel: threading.Event) -> tuple[str, Ended]:
        gate.wait(LONG)
        return "slow", Ended(0, "exit", 0.0, "", "")

    runs = FakeRuns(slow=slow, quick=prints("x"))
    make(a_monitor("slow"), a_monitor("quick"), runs=runs)
    until(lambda: len(runs.starts.get("quick", ())) >= 8)
    assert len(runs.starts["slow"]) == 1
    gate.set()
    until(lambda: len(runs.starts["slow"]) >= 6)
    assert runs.most == {"slow": 1, "quick": 1}
    # The beats that were skipped are not made up for in a burst.
    assert runs.starts["slow"][5] - runs.starts["slow"][1] >= 2 * 0.05


def test_a_run_is_given_the_deadline_and_the_surroundings_of_its_monitor(make: Make, tmp_path: Path) -> None:
    runs = FakeRuns(a=prints("x"))
    make(a_monitor("a", timeout=7.0, name="watch / loss", interval=LONG), runs=runs, log_dir=tmp_path)
    until(lambda: runs.asked)
    assert runs.asked == [
        {"cwd": tmp_path, "env": {}, "timeout": 7.0, "log": tmp_path / "monitor-1-watch-loss.log"}
    ]


def test_the_thread_sleeps_while_nothing_is_due(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    due = Monitors._due

    def counted(self: Monitors) -> float:
        looks.append(time.monotonic())
        return due(self)

    monkeypatch.setattr(Monitors, "_due", counted)
    runs = FakeRuns(a=prints("x"))
    make(a_monitor("a", interval=LONG), a_monitor(stall=Stall(LONG)), runs=runs)
    until(lambda: runs.starts)

    def sleeps() -> bool:
        before = len(looks)
        time.sleep(0.3)
        return len(looks) == before

    until(sleeps)


def test_without_monitors_there_is_no_thread(make: Make) -> None:
    before = threading.active_count()
    watched = make()
    watched.output("x")
    assert threading.active_count() == before
    assert watched.take() == []


# ---------------------------------------------------------------- what is told


def test_what_is_seen_is_told_once_and_somebody_is_woken_for_it(make: Make) -> None:
    woken = threading.Event()
    runs = FakeRuns(a=prints("1", "2 error"))
    watched = make(a_monitor("a", alert_on="error"), runs=runs, notify=woken.set)
    told = Told(watched)
    assert woken.wait(PATIENCE)
    until(lambda: told.of("alert"))
    until(lambda: len(runs.starts["a"]) > 4)
    assert told.of("sample") == ["1", "2 error"]
    assert told.of("alert") == ["2 error"]
    assert watched.take() == []
    assert not watched.stop_requested.is_set()


def test_who_is_woken_may_take_the_events_at_once(make: Make) -> None:
    took: list[dict[str, Any]] = []
    ready = threading.Event()

    def take() -> None:
        ready.wait(PATIENCE)
        took.extend(watched.take())

    watched = make(a_monitor("a"), runs=FakeRuns(a=prints("x")), notify=take)
    ready.set()
    until(lambda: took)
    assert took == [{"event": "sample", "status": "", "monitor": "a", "text": "x"}]


def test_an_alert_asks_for_the_end_of_the_main_with_its_reason(make: Make) -> None:
    seen: list[tuple[bool, str]] = []

    def note() -> None:
        seen.append((watched.stop_requested.is_set(), watched.stop_reason))

    watched = make(a_monitor(name="loss", threshold=Threshold("loss", ">", 10), on_alert="stop"), notify=note)
    watched.metric("loss", 1)
    assert not watched.stop_requested.is_set()
    watched.metric("loss", 11)
    watched.metric("loss", float("nan"))
    assert watched.stop_reason == "monitor loss: loss is 11 (> 10)"
    assert seen[0] == (True, watched.stop_reason)


def test_texts_are_redacted(make: Make) -> None:
    redact = Redactor([SECRET]).text
    watched = make(
        a_monitor("a", alert_on="key", on_alert="stop"),
        runs=FakeRuns(a=prints(f"key {SECRET}")),
        redact=redact,
    )
    assert watched.stop_requested.wait(PATIENCE)
    until(lambda: not watched._running)
    assert SECRET not in json.dumps(watched.take()) + watched.stop_reason
    assert watched.stop_reason == "monitor a: key [redacted]"


def test_a_monitor_whose_runs_break_keeps_failing_and_others_go_on(make: Make) -> None:
    def breaks(cancel: threading.Event) -> tuple[str, Ended]:
        raise RuntimeError("no\nluck")

    runs = FakeRuns(bad=breaks, good=prints(*map(str, range(99))))
    told = Told(make(a_monitor("bad"), a_monitor("good"), runs=runs))
    until(lambda: told.of("alert"))
    assert told.of("alert") == ["keeps failing: RuntimeError: no luck (3 times)"]
    samples = len(told.of("sample"))
    until(lambda: len(told.of("sample")) > samples)


def test_a_thread_that_cannot_be_started_is_a_failed_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("monitor "):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    told = Told(make(a_monitor("a"), runs=FakeRuns(a=prints("x"))))
    until(lambda: told.of("alert"))
    assert told.of("alert") == ["keeps failing: can't start new thread (3 times)"]


# ---------------------------------------------------------------- the main's own output and numbers


def test_numbers_are_found_in_the_mains_output_however_it_is_cut(make: Make) -> None:
    metric = Metric("loss", r"loss=(\S+)", max=5)
    watched = make(a_monitor(command=None, metric=metric, interval=LONG))
    told = Told(watched)
    for piece in ("step 1 lo", "ss=4", ".5\n", "\rloss=0.1\rlo", "ss=7", ".25\r\n", "\x1b[1mloss=\x1b[0m2"):
        watched.output(piece)
    assert told.of("alert") == ["loss is 7.25, above max 5"]
    watched.stop()
    assert told.of("metric") == [4.5, 2]  # in between they came too fast to be told one by one


def test_every_number_is_in_the_series(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    metric = Metric("loss", r"loss=(\S+)")
    watched = make(a_monitor(command=None, metric=metric), series=path)
    watched.output("loss=1\nloss=1\nloss=nan\n")
    watched.metric("cost_usd", 2)
    watched.stop()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["name"], row["value"]) for row in rows] == [
        ("loss", 1.0),
        ("loss", 1.0),
        ("loss", "nan"),
        ("cost_usd", 2.0),
    ]
    assert all(0 <= row["seconds"] < 60 for row in rows)


def test_a_series_that_cannot_be_written_is_said_once_and_stops_nothing(make: Make, tmp_path: Path) -> None:
    watched = make(a_monitor(threshold=Threshold("loss", ">", 10)), series=tmp_path)
    for value in (1, 11):
        watched.metric("loss", value)
    ignored, alert = watched.take()
    assert (ignored["event"], ignored["status"]) == ("ignored", "warned")
    assert ignored["text"] == f"{tmp_path.name} could not be written: Is a directory"
    assert alert["text"] == "loss is 11 (> 10)"


def test_a_number_that_one_monitor_finds_another_one_may_watch(make: Make) -> None:
    finds = a_monitor("a", metric=Metric("loss", r"(\d+)"))
    watches = a_monitor(name="limit", threshold=Threshold("loss", ">", 10))
    watched = make(finds, watches, runs=FakeRuns(a=prints("11")))
    told = Told(watched)
    until(lambda: told.of("alert"))
    assert [one["monitor"] for one in told.events if one["event"] == "alert"] == ["limit"]


def test_a_stall_is_told_when_it_is_one_and_again_after_the_next(make: Make) -> None:
    watched = make(a_monitor(stall=Stall(0.1)))
    told = Told(watched)
    until(lambda: told.of("alert"))
    time.sleep(0.25)
    assert told.of("alert") == ["no output for 0.1 s"]
    watched.output(".")
    until(lambda: len(told.of("alert")) > 1)
    time.sleep(0.25)
    assert told.of("alert") == ["no output for 0.1 s"] * 2


def test_output_puts_a_stall_off(make: Make) -> None:
    said = time.monotonic()
    watched = make(a_monitor(stall=Stall(0.3)))
    told = Told(watched)
    for _ in range(12):
        time.sleep(0.05)
        watched.output(".")
        before, said = said, time.monotonic()
        if told.of("alert"):
            assert said - before >= 0.3, "only a machine that is busy is as slow as that"
            break


def test_output_costs_nothing_when_nobody_looks_at_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = make(a_monitor("a", interval=LONG), runs=FakeRuns(a=prints("x")))
    until(lambda: not watched._running)

    def never(self: Monitors) -> Any:
        raise AssertionError("nobody looks at the output")

    with monkeypatch.context() as context:
        context.setattr(Monitors, "_telling", never)
        watched.output("x")


# ---------------------------------------------------------------- the end


def test_stopping_ends_running_commands_and_all_threads(make: Make) -> None:
    before = threading.active_count()
    runs = FakeRuns(a=hangs, b=hangs, c=prints("x"))
    watched = make(a_monitor("a"), a_monitor("b"), a_monitor("c"), runs=runs)
    until(lambda: len(watched._running) >= 2 and len(runs.starts.get("c", ())) > 2)
    began = time.monotonic()
    watched.stop()
    assert time.monotonic() - began < 60
    assert threading.active_count() == before
    assert all(count == 0 for count in runs.active.values())
    watched.stop()


def test_after_the_end_nothing_is_taken_and_what_was_told_is_still_there(make: Make, tmp_path: Path) -> None:
    series = tmp_path / "series.jsonl"
    watched = make(
        a_monitor(threshold=Threshold("loss", ">", 10)), a_monitor(stall=Stall(LONG)), series=series
    )
    watched.metric("loss", 11)
    watched.stop()
    watched.metric("loss", 5)
    watched.metric("loss", 11)
    watched.output("x")
    watched.start()
    assert [event["text"] for event in watched.take()] == ["loss is 11 (> 10)"]
    assert len(series.read_text().splitlines()) == 1


def test_who_is_woken_may_stop_the_monitors(make: Make) -> None:
    stopped = threading.Event()

    def stop() -> None:
        watched.stop()
        stopped.set()

    gate = threading.Event()

    def waits(cancel: threading.Event) -> tuple[str, Ended]:
        gate.wait(PATIENCE)
        return "x", Ended(0, "exit", 0.0, "", "")

    watched = make(a_monitor("a"), runs=FakeRuns(a=waits), notify=stop)
    gate.set()
    assert stopped.wait(PATIENCE)


def test_a_command_that_does_not_end_is_not_waited_for_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ENDED_WITHIN", 0.05)
    gate = threading.Event()

    def deaf(cancel: threading.Event) -> tuple[str, Ended]:
        gate.wait(LONG)
        return "late", Ended(0, "exit", 0.0, "", "")

    watched = make(a_monitor("a"), runs=FakeRuns(a=deaf))
    until(lambda: watched._running)
    (thread,) = watched._running
    watched.stop()
    gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


# ---------------------------------------------------------------- with real processes


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[Make, str]]:
    """Makes monitors that run in this folder, with the task id that their processes carry."""
    task_id = f"task_1_{uuid.uuid4().hex[:8]}"
    made: list[Monitors] = []
    with Processes(redactor=Redactor([SECRET])) as processes:

        def make(*monitors: Monitor, **more: Any) -> Monitors:
            env = {**os.environ, ATTEMPT: task_id}
            made.append(Monitors(monitors, runs=processes, cwd=tmp_path, env=env, **more))
            made[-1].start()
            return made[-1]

        yield make, task_id
        for one in made:
            one.stop()
        processes.sweep(task_id)


def test_a_log_that_grows_is_watched(real: tuple[Make, str], tmp_path: Path) -> None:
    make, _ = real
    log, series = tmp_path / "loss.txt", tmp_path / "series.jsonl"
    log.write_text("loss 0.9\n")
    loss = a_monitor(
        "tail -n 1 loss.txt", name="loss", alert_on="error|failed|nan", metric=Metric("loss", r"loss (\S+)")
    )
    grep = a_monitor("grep ERROR loss.txt", name="grep", kind="alert")
    gone = a_monitor("cat no-such-file", name="gone")
    watched = make(loss, grep, gone, series=series, log_dir=tmp_path / "logs")
    told = Told(watched)
    until(lambda: 0.9 in told.of("metric"))
    with log.open("a") as file:
        file.write(f"ERROR {SECRET}\nloss nan\n")
    until(lambda: len(told.of("alert")) >= 3)
    watched.stop()
    assert set(told.of("alert")) == {
        "loss nan",
        "ERROR [redacted]",
        "keeps failing: exit 1: cat: no-such-file: No such file or directory (3 times)",
    }
    assert told.of("metric") == [0.9, "nan"]
    assert SECRET not in series.read_text() + json.dumps(told.events)
    # Of each only the last run's output is kept.
    assert (tmp_path / "logs" / "monitor-1-loss.log").read_text() == "loss nan\n"


def test_a_command_that_hangs_is_ended_at_its_deadline_and_at_the_end(real: tuple[Make, str]) -> None:
    make, task_id = real
    watched = make(
        a_monitor("sleep 60", name="deadline", timeout=0.05, interval=0.1),
        a_monitor("sleep 601", timeout=2 * LONG),
    )
    told = Told(watched)
    until(lambda: told.of("alert"))
    assert told.of("alert") == ["keeps failing: no end after 0.05 s (3 times)"]
    until(lambda: proctree.find(ATTEMPT, task_id))
    began = time.monotonic()
    watched.stop()
    assert time.monotonic() - began < 60
    assert proctree.find(ATTEMPT, task_id) == []
