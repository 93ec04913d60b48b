"""Monitors around a main that runs in the foreground: what they see is told, and what they want is done."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains.python import Interrupter, Interruption
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor

from ..counting import calls_of
from .fake_runs import Made, Make

STOPS = "[{name: loss, command: echo loss=nan, interval: 0.1, alert_on: nan, on_alert: stop}]"


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(redactor=Redactor([])) as made:
        yield made


@pytest.fixture
def monitored(make: Make, processes: Processes) -> Callable[..., Made]:
    return lambda yaml, **more: make(yaml, processes, around={"environ": dict(os.environ)}, **more)


def called(made: Made, function: Callable[[], Any]) -> str:
    """Run a Python main as the body of its step does; what it failed with."""
    made.run.begin()
    try:
        made.run.main(lambda env: made.run.call(function, {}, env))
    except PhaseFailed as failure:
        return failure.message
    finally:
        made.run.end()
    return ""


def test_what_monitors_see_is_told_while_the_main_runs_by_the_thread_that_runs_it(
    monitored: Callable[..., Made], tmp_path: Path
) -> None:
    made = monitored(
        "main: {command: 'until test -e told; do sleep 0.05; done', timeout: 60}\n"
        "background: [{name: state, command: echo all is well, interval: 0.1},"
        " {name: errors, command: echo 2 errors, interval: 300, alert_on: error}]"
    )
    threads = set()
    emit = made.run._emit

    def emitted(event: dict[str, Any]) -> None:
        threads.add(threading.current_thread())
        emit(event)
        if len(made.of("sample")) == 2 and made.of("alert"):
            (tmp_path / "told").touch()

    made.run._emit = emitted
    assert made.whole() == ""
    assert threads == {threading.main_thread()}
    names = [event["event"] for event in made.events]
    assert names[:2] == ["attempt_started", "phase_started"]
    assert names[-1] == "phase"
    assert sorted(names[2:-1]) == ["alert", "sample", "sample"]
    assert [(event["monitor"], event["text"]) for event in made.of("alert")] == [("errors", "2 errors")]


def test_an_alert_that_stops_ends_the_main_and_nothing_is_tried_again(monitored: Callable[..., Made]) -> None:
    made = monitored(f"main: {{command: 'sleep 60', retries: 3}}\nbackground: {STOPS}")
    began = time.monotonic()
    assert made.whole().startswith("main failed: stopped by monitor loss: ")
    assert time.monotonic() - began < 40
    assert made.run.attempt == 1
    phase = made.of("phase")[-1]
    assert phase["status"] == "failed"
    assert phase["message"].startswith("stopped by monitor loss: ")


@pytest.mark.parametrize("say", ["file", "output"])
def test_monitors_hear_what_the_main_reports_and_prints(monitored: Callable[..., Made], say: str) -> None:
    command = {
        "file": """echo '{"metric": "loss", "value": 12}' >> $TINKER_STEPS_EVENTS; sleep 30""",
        "output": "echo loss=12; sleep 30",
    }[say]
    pattern = ", metric: {name: loss, pattern: 'loss=(\\d+)'}" if say == "output" else ""
    made = monitored(
        f"main:\n  command: {json.dumps(command)}\n"
        f"background: [{{name: watch, interval: 0.1, threshold: loss > 10, on_alert: stop{pattern}}}]"
    )
    assert "stopped by monitor watch" in made.whole()


def test_numbers_are_kept_as_a_series_among_the_logs(monitored: Callable[..., Made]) -> None:
    until_it_is_there = "until find . -name series.jsonl -size +0 | grep -q .; do sleep 0.05; done"
    made = monitored(
        f"main: {{command: '{until_it_is_there}', timeout: 60}}\n"
        "background: [{name: gpu, command: echo load=7, interval: 300,"
        " metric: {name: load, pattern: 'load=(\\d+)'}}]"
    )
    assert made.whole() == ""
    (entry,) = (made.run.logs / "series.jsonl").read_text().splitlines()
    assert 7 in json.loads(entry).values()


# -- functions of this process


def stubborn() -> None:
    """Waits, and takes every exception for one more failed request."""
    for _ in range(1000):
        try:
            time.sleep(30)
        except Exception:
            continue


async def waits_in_a_loop() -> None:
    await asyncio.gather(*(asyncio.sleep(30) for _ in range(3)))


def computes() -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("function", [stubborn, waits_in_a_loop, computes])
def test_a_function_is_interrupted_wherever_it_is(
    monitored: Callable[..., Made], function: Callable[[], Any]
) -> None:
    made = monitored(f"main: {{python: 'work:run'}}\nbackground: {STOPS}")
    before, folder = signal.getsignal(signal.SIGUSR2), Path.cwd()
    began = time.monotonic()
    assert called(made, function).startswith("main failed: stopped by monitor loss: ")
    assert time.monotonic() - began < 20
    assert made.names()[-1] == "phase main failed"
    assert made.of("alert")
    assert (signal.getsignal(signal.SIGUSR2), Path.cwd()) == (before, folder)
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_function_that_ends_before_it_is_interrupted_has_failed_all_the_same(
    monitored: Callable[..., Made],
) -> None:
    made = monitored(f"main: {{python: 'work:run'}}\nbackground: {STOPS}")

    def swallows() -> None:
        try:
            time.sleep(30)
        except BaseException:
            return

    assert "stopped by monitor loss" in called(made, swallows)


def test_outside_of_the_main_thread_a_function_is_not_interrupted_but_has_failed(
    monitored: Callable[..., Made], tmp_path: Path
) -> None:
    counts = STOPS.replace("echo loss=nan", "'echo x >> looks; echo loss=nan'")
    made = monitored(f"main: {{python: 'work:run'}}\nbackground: {counts}")
    said: list[str] = []
    slept: list[bool] = []

    def sleeps() -> None:
        looks = tmp_path / "looks"
        until = time.monotonic() + 60
        # What the first look found is known when the next one begins.
        while not (looks.exists() and len(looks.read_text()) > 4) and time.monotonic() < until:
            time.sleep(0.05)
        slept.append(True)

    thread = threading.Thread(target=lambda: said.append(called(made, sleeps)))
    thread.start()
    thread.join()
    assert slept == [True]
    assert said[0].startswith("main failed: stopped by monitor loss: ")


def test_a_function_without_monitors_leaves_all_signals_alone(monitored: Callable[..., Made]) -> None:
    made = monitored("main: {python: 'work:run'}")
    seen: list[Any] = []
    assert called(made, lambda: seen.append(signal.getsignal(signal.SIGUSR2))) == ""
    assert seen == [signal.SIG_DFL]


def test_a_request_before_the_function_begins_ends_it_at_once() -> None:
    interrupter = Interrupter()
    interrupter.request()
    with pytest.raises(Interruption), interrupter.during():
        raise AssertionError


def test_a_request_after_the_function_has_ended_changes_nothing() -> None:
    interrupter = Interrupter()
    with interrupter.during():
        pass
    interrupter.request()


def test_requests_at_any_moment_never_end_this_process() -> None:
    """Without a handler the signal would be the end of the interpreter."""
    program = (
        "import threading\n"
        "from pytest_tinker_steps.run.mains.python import Interrupter, Interruption\n"
        "for number in range(300):\n"
        "    interrupter = Interrupter()\n"
        "    thread = threading.Thread(target=interrupter.request)\n"
        "    thread.start()\n"
        "    try:\n"
        "        with interrupter.during():\n"
        "            sum(range(number))\n"
        "    except Interruption:\n"
        "        pass\n"
        "    thread.join()\n"
        "print('alive')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout, ended.returncode) == ("alive\n", 0), ended.stderr


# -- the price


def test_a_step_without_long_work_pays_for_none_of_it(tmp_path: Path) -> None:
    program = (
        "import json, sys, threading\n"
        "from pathlib import Path\n"
        "from tests.run.fake_runs import Made\n"
        "made = Made(Path(sys.argv[1]), 'main: work')\n"
        "assert made.whole() == ''\n"
        "print(json.dumps([sorted(sys.modules), threading.active_count()]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    loaded, threads = json.loads(ended.stdout)
    run = "pytest_tinker_steps.run."
    late = ("monitors", "progress", "jobs", "budget", "mains.pieces", "mains.piecewise", "mains.step_job")
    assert [name for name in late if run + name in loaded] == []
    assert threads == 1
    assert sorted(path.name for path in (tmp_path / ".steps").iterdir()) == ["exchange"]
    assert not any((tmp_path / ".steps" / "exchange").iterdir())


def test_a_listener_of_a_main_that_prints_much_is_not_slow(make: Make) -> None:
    made = make("main: work")
    text = "".join(f"2026/11/21 10:{n % 60:02d} [INFO] step {n}/x loss 0.{n}\n" for n in range(1500))
    made.processes.output["work"] = [text] * 50
    said: list[str] = []
    calls = calls_of(lambda: said.append(made.whole()))
    assert said == [""]
    assert calls < 50 * 1500 / 5, "there is no call for each of the 75,000 lines"
