from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Check, Expect, Metric, Retry
from pytest_tinker_steps.run import trying
from pytest_tinker_steps.run.checks import (
    CheckResult,
    run_checks,
    to_record,
)
from pytest_tinker_steps.run.expectations import last_line, one_line
from pytest_tinker_steps.run.process import Ended, Processes
from pytest_tinker_steps.run.redaction import Redactor
from pytest_tinker_steps.run.runner import CheckRunner
from tests.run.fake_runs import TASK
from tests.run.real_runs import SubprocessRuns, a_check


class Phase:
    """Runs checks in a folder, and keeps what was reported, in the order in which it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = SubprocessRuns()
        self.reported: list[CheckResult] = []
        self.threads: set[threading.Thread] = set()
        self.more: dict[str, Any] = {}
        self.seconds = 0.0

    def __call__(self, *checks: Check, parallel: int = 3, fail_fast: bool = False) -> tuple[CheckResult, ...]:
        given = {
            "cwd": self.folder,
            "env": dict(os.environ),
            "interpreter": sys.executable,
            "runs": self.runs,
        }
        began = time.monotonic()
        try:
            return run_checks(
                checks,
                runner=CheckRunner(**{**given, **self.more}),
                parallel=parallel,
                fail_fast=fail_fast,
                on_result=self._take,
            )
        finally:
            self.seconds = time.monotonic() - began

    def _take(self, result: CheckResult) -> None:
        self.reported.append(result)
        (self.folder / f"reported.{re.sub(r'[^a-z]', '-', result.name)}").touch()
        self.threads.add(threading.current_thread())

    def said(self, check: Check) -> tuple[str, str]:
        (result,) = self(check)
        return result.status, result.message


@pytest.fixture
def phase(tmp_path: Path) -> Iterator[Phase]:
    running = Phase(tmp_path)
    yield running
    assert running.runs.alive() == []


def command(name: str, text: str, **more: Any) -> Check:
    return a_check(name, command=text, **more)


def python_check(name: str, target: str, **more: Any) -> Check:
    return a_check(name, "python", probe={"target": target}, **more)


def blocked_for_good() -> None:
    """The target of a python probe that nothing can end."""
    threading.Event().wait(60)


def meeting(*names: str) -> str:
    """A command of each of these that ends when all of them have begun, and never without the others."""
    all_are_there = " && ".join(f"test -e begun.{name}" for name in names)
    return f"touch begun.$NAME; until {all_are_there}; do sleep 0.01; done"


def meets(name: str, *names: str) -> Check:
    return command(name, meeting(*names), env=(("NAME", name),), timeout=30.0)


# --- side by side


def test_three_checks_run_at_the_same_time(phase: Phase) -> None:
    names = ("a", "b", "c")
    results = phase(*(meets(name, *names) for name in names))
    assert [result.status for result in results] == ["passed"] * 3


def test_results_come_as_checks_end_and_are_returned_in_the_order_of_definition(phase: Phase) -> None:
    after = "until test -e reported.{}; do sleep 0.01; done"
    results = phase(
        command("slow", after.format("middle")),
        command("quick", "true"),
        command("middle", after.format("quick")),
    )
    assert [result.name for result in phase.reported] == ["quick", "middle", "slow"]
    assert [result.name for result in results] == ["slow", "quick", "middle"]
    assert phase.threads == {threading.current_thread()}


def test_no_more_run_at_once_than_allowed_and_a_deadline_starts_with_its_check(phase: Phase) -> None:
    active, most = 0, 0
    timeouts: list[float] = []
    lock, both = threading.Lock(), threading.Barrier(2)

    class Counted(SubprocessRuns):
        def run(self, _: Any, *, timeout: float, **__: Any) -> Any:
            nonlocal active, most
            timeouts.append(timeout)
            with lock:
                active += 1
                most = max(most, active)
            both.wait(30)  # never passed by one alone
            time.sleep(0.1)
            with lock:
                active -= 1
            return Ended(0, "exit", 0.1, "", "")

    phase.more["runs"] = Counted()
    results = phase(*(command(f"c{n}", "work", timeout=60.0) for n in range(6)), parallel=2)
    assert [result.status for result in results] == ["passed"] * 6
    assert most == 2
    assert timeouts == [60.0] * 6, "not what the ones before it have left"


def test_a_check_that_wants_to_be_alone_follows_the_others(phase: Phase) -> None:
    marks = "echo + >> marks; sleep 0.1; echo - >> marks"
    phase(command("alone", marks, parallel=False), command("a", "sleep 0.1"), command("b", "sleep 0.1"))
    phase(command("x", marks, parallel=False), command("y", marks, parallel=False))
    assert [result.name for result in phase.reported][2:] == ["alone", "x", "y"]
    assert (phase.folder / "marks").read_text().split() == ["+", "-"] * 3


def test_a_single_check_costs_no_thread(phase: Phase) -> None:
    seen: list[threading.Thread] = []

    class Here(SubprocessRuns):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(threading.current_thread())
            return super().run(*args, **kwargs)

    phase.more["runs"] = Here()
    phase(command("only", "true"))
    assert seen == [threading.current_thread()]


def test_nothing_to_check_is_nothing(phase: Phase) -> None:
    assert phase() == ()


def test_a_text_for_an_agent_neither_passes_nor_fails(phase: Phase) -> None:
    results = phase(
        a_check("tone", "prose", prose="The tone is friendly."), command("c", "true"), fail_fast=True
    )
    assert [(result.status, result.message) for result in results] == [
        ("not run", "not run: no agent"),
        ("passed", ""),
    ]


# --- fail-fast and interruption


def test_a_critical_failure_ends_the_others_and_keeps_the_rest_from_starting(phase: Phase) -> None:
    results = phase(
        command("slow", "touch begun; exec sleep 60", timeout=60.0),
        command("bad", "until test -e begun; do sleep 0.01; done; echo no key; exit 3"),
        command("queued", "touch started"),
        command("alone", "touch started", parallel=False),
        parallel=2,
        fail_fast=True,
    )
    assert [(result.status, result.message) for result in results] == [
        ("cancelled", "cancelled: bad failed"),
        ("failed", "exit 3: no key"),
        ("cancelled", "cancelled: bad failed"),
        ("cancelled", "cancelled: bad failed"),
    ]
    assert [result.attempts for result in results] == [1, 1, 0, 0]
    assert not (phase.folder / "started").exists()
    assert phase.seconds < 20
    assert sorted(result.name for result in phase.reported) == ["alone", "bad", "queued", "slow"]


def test_without_fail_fast_all_checks_run(phase: Phase) -> None:
    results = phase(
        command("bad", "false"), command("good", "sleep 0.1"), command("more", "true"), parallel=2
    )
    assert [result.status for result in results] == ["failed", "passed", "passed"]


def test_a_failure_that_is_not_critical_warns_and_stops_nothing(phase: Phase) -> None:
    results = phase(command("a", "false", critical=False), command("b", "sleep 0.1"), fail_fast=True)
    assert [result.status for result in results] == ["warned", "passed"]


def test_checks_one_by_one_fail_fast_as_well(phase: Phase) -> None:
    results = phase(command("a", "false"), command("b", "touch b"), parallel=1, fail_fast=True)
    assert [result.status for result in results] == ["failed", "cancelled"]
    assert not (phase.folder / "b").exists()


def test_a_check_that_waits_for_its_next_try_is_cancelled_at_once(phase: Phase) -> None:
    patient = command("patient", "touch tried; false", retry=Retry(attempts=2, delay=60))
    bad = command("bad", "until test -e tried; do sleep 0.01; done; sleep 0.1; false")
    results = phase(patient, bad, fail_fast=True)
    assert [result.status for result in results] == ["cancelled", "failed"]
    assert phase.seconds < 20


def test_a_probe_that_cannot_be_ended_does_not_hold_up_a_cancellation(phase: Phase) -> None:
    stuck = python_check("stuck", f"{__name__}:blocked_for_good")
    results = phase(stuck, command("bad", "sleep 0.1; false"), fail_fast=True)
    assert [result.status for result in results] == ["cancelled", "failed"]
    assert phase.seconds < 20


def test_the_process_of_an_import_is_ended_when_it_is_cancelled(phase: Phase) -> None:
    (phase.folder / "slow_module.py").write_text("import time; time.sleep(60)")
    imports = a_check("imports", "import", probe={"modules": ["slow_module"]})
    results = phase(imports, command("bad", "sleep 0.2; false"), fail_fast=True)
    assert [result.status for result in results] == ["cancelled", "failed"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_interruption_ends_all_processes_before_it_goes_on(phase: Phase, count: int) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        limit = time.monotonic() + 30
        while len(phase.runs.groups) < count and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.2)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        phase(*(command(f"c{n}", "sleep 60 & sleep 60", timeout=60.0) for n in range(count)))
    thread.join()
    assert len(phase.runs.groups) == count
    assert phase.runs.alive() == []
    assert phase.seconds < 35


def test_a_mistake_in_a_check_thread_is_raised_where_it_was_called(phase: Phase) -> None:
    class Broken(SubprocessRuns):
        def run(self, command: Any, **kwargs: Any) -> Any:
            if command == "break":
                raise ZeroDivisionError
            return super().run(command, **kwargs)

    phase.runs = Broken()
    with pytest.raises(ZeroDivisionError):
        phase(command("a", "sleep 60", timeout=60.0), command("b", "break"))
    assert phase.seconds < 20


# --- what a command must do


@pytest.mark.parametrize(
    ("text", "more", "status", "message"),
    [
        ("echo one; echo; echo two; echo", {}, "passed", "two"),
        ("true", {}, "passed", ""),
        ("echo what went wrong; exit 3", {}, "failed", "exit 3: what went wrong"),
        ("exit 1", {}, "failed", "exit 1"),
        ("kill -9 $$", {}, "failed", "killed by SIGKILL"),
        ("echo a", {"expect": Expect(exit=4)}, "failed", "exit 0 instead of 4: a"),
        ("exit 4", {"expect": Expect(exit=4)}, "passed", ""),
        ("printf 'a\\nready\\n'", {"expect": Expect(match="^ready$")}, "passed", "ready"),
        ("echo idle", {"expect": Expect(match="^r")}, "failed", "no match for '^r' in the output: idle"),
        (
            "printf 'ok\\nTraceback: x\\nend\\n'",
            {"expect": Expect(not_match="^Traceback.*")},
            "failed",
            "'^Traceback.*' is in the output: Traceback: x",
        ),
        (
            "echo a",
            {"expect": Expect(match="(")},
            "failed",
            "'(' is not a regular expression: missing ), unterminated subpattern",
        ),
        ("sleep 30", {"timeout": 0.2}, "failed", "no end after 0.2 s"),
        ("printf '10%%\\r100%%'", {}, "passed", "100%"),
        ("printf '\\033[32mgreen\\033[0m\\n'", {}, "passed", "green"),
    ],
)
def test_a_command_passes_when_it_does_what_is_expected(
    phase: Phase, text: str, more: dict[str, Any], status: str, message: str
) -> None:
    assert phase.said(command("c", text, **more)) == (status, message)


def test_a_command_that_cannot_start_is_a_failure(phase: Phase) -> None:
    check = a_check("c", command=("/no/such/tool",))
    assert phase.said(check) == ("failed", "/no/such/tool: No such file or directory")


def test_patterns_see_far_more_than_the_tail(phase: Phase) -> None:
    check = command("c", "echo needle; seq 1 20000", expect=Expect(match="needle"))
    assert phase.said(check) == ("passed", "20000")


def test_only_the_end_of_an_endless_output_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "OUTPUT_KEPT", 10)
    output = trying._Output()
    for number in range(100):
        output.add(f"{number:03}")
        assert len(output._pieces) <= 5
    assert output.text() == "6097098099"


def test_the_tail_of_a_failure_is_kept_and_that_of_a_success_is_not(phase: Phase) -> None:
    good, bad = phase(command("good", "echo fine"), command("bad", "echo a; echo b; false"))
    assert (good.tail, bad.tail) == ("", "a\nb\n")


def test_environment_and_folder_of_a_check_are_laid_over_those_of_the_step(phase: Phase) -> None:
    (phase.folder / "sub").mkdir()
    phase.more["env"] = {"A": "step", "B": "step", "PATH": os.environ["PATH"]}
    check = command("c", 'echo "$A $B $(basename "$PWD")"', env=(("B", "check"),), cwd="sub")
    assert phase.said(check) == ("passed", "step check sub")
    probe = a_check("p", "env", probe={"names": ["C"]}, env=(("C", "x"),))
    assert phase.said(probe) == ("passed", "C set")


# --- metrics


@pytest.mark.parametrize(
    ("output", "low", "high", "passed", "message", "value"),
    [
        ("rate: 97.2%", 95, None, True, "rate: 97.2% (min 95%)", 97.2),
        ("rate: 97.2", None, 99.5, True, "rate: 97.2 (max 99.5)", 97.2),
        ("rate: 0.5", 0, 1, True, "rate: 0.5 (min 0, max 1)", 0.5),
        ("rate: -1e-3", None, None, True, "rate: -1e-3", -0.001),
        ("rate: 91.0%", 95, None, False, "rate: 91.0% is below min 95%", 91.0),
        ("rate: 7", None, 5, False, "rate: 7 is above max 5", 7.0),
        ("rate: nan", 95, None, False, "rate: nan is no number to compare", None),
        ("rate: inf", 95, None, True, "rate: inf (min 95)", None),
        ("rate: high", 95, None, False, "rate: 'high' is not a number", None),
        ("speed: 3", 95, None, False, "rate: no number found with '^rate: (\\\\S+?)%?$'", None),
    ],
)
def test_a_metric_is_held_between_its_bounds(
    phase: Phase,
    output: str,
    low: float | None,
    high: float | None,
    passed: bool,
    message: str,
    value: float | None,
) -> None:
    metric = Metric("rate", r"^rate: (\S+?)%?$", low, high)
    (result,) = phase(command("c", f"echo first; echo '{output}'; echo last", metric=metric))
    assert (result.status, result.message) == ("passed" if passed else "failed", message)
    assert result.metric == (None if value is None else ("rate", value))


def test_a_number_is_recorded_also_when_the_process_failed(phase: Phase) -> None:
    metric = Metric("loss", r"loss=(\d+)", max=5)
    (result,) = phase(command("c", "echo loss=9; exit 1", metric=metric))
    assert (result.message, result.metric) == ("exit 1: loss=9", ("loss", 9.0))


def test_the_unit_may_stand_inside_the_group(phase: Phase) -> None:
    check = command("c", "echo 97.2%", metric=Metric("rate", r"(.+)", min=95))
    assert phase.said(check) == ("passed", "rate: 97.2% (min 95%)")


# --- probes


def test_a_probe_is_a_check_like_a_command(phase: Phase) -> None:
    (phase.folder / "t.jsonl").write_text('{"a": 1}\n{"a": \n')
    rows: dict[str, Any] = {"path": "t.jsonl", "required": [], "min_rows": None}
    jsonl, there = phase(
        a_check("rows", "jsonl", probe=rows),
        a_check("there", "file", probe={"path": "t.jsonl", "min_bytes": None, "contains": None}),
    )
    assert (jsonl.status, jsonl.message[:22]) == ("failed", "t.jsonl:2: not JSON: E")
    assert (there.status, there.message) == ("passed", "t.jsonl: 16 B")


def says_its_score() -> str:
    return "score 41"


def breaks() -> None:
    raise ValueError("token hunter2hunter2")


def test_what_a_probe_says_can_be_held_to_a_bound(phase: Phase) -> None:
    check = python_check("c", f"{__name__}:says_its_score", metric=Metric("score", r"(\d+)", min=42))
    assert phase.said(check) == ("failed", "score: 41 is below min 42")


def test_a_python_probe_that_breaks_shows_where_and_no_secret(phase: Phase) -> None:
    phase.more["redact"] = lambda text: text.replace("hunter2hunter2", "[redacted]")
    (result,) = phase(python_check("c", f"{__name__}:breaks"))
    assert result.message == "ValueError: token [redacted]"
    assert "in breaks" in result.tail
    assert "hunter2hunter2" not in result.tail


def test_a_probe_that_does_not_come_back_is_left_behind_at_its_deadline(phase: Phase) -> None:
    stuck = python_check("stuck", f"{__name__}:blocked_for_good", timeout=0.2)
    assert phase.said(stuck) == ("failed", "no end after 0.2 s")
    assert phase.seconds < 20
    left = [thread for thread in threading.enumerate() if thread.name == "check stuck (probe)"]
    assert left
    assert all(thread.daemon for thread in left)


tries_of_late: list[threading.Event] = []


def answers_late_the_first_time() -> str:
    """The first call answers while the second one is at work."""
    tries_of_late.append(threading.Event())
    if len(tries_of_late) == 1:
        tries_of_late[0].wait(60)
        return "late"
    tries_of_late[0].set()
    time.sleep(0.05)
    return "in time"


def test_an_answer_that_comes_after_the_deadline_is_not_that_of_the_next_try(phase: Phase) -> None:
    tries_of_late.clear()
    check = python_check(
        "c", f"{__name__}:answers_late_the_first_time", timeout=0.3, retry=Retry(attempts=99)
    )
    assert phase.said(check) == ("passed", "in time")
    assert len(tries_of_late) > 1


# --- retries and fixes


def test_a_check_is_tried_again_until_it_passes(phase: Phase) -> None:
    check = command("c", "echo x >> tries; test $(wc -l < tries) -ge 3", retry=Retry(attempts=5))
    (result,) = phase(check)
    assert (result.status, result.attempts) == ("passed", 3)


def test_the_pauses_between_tries_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    retry = Retry(attempts=4, delay=2, backoff=3, jitter=0.5)
    monkeypatch.setattr("random.random", lambda: 1.0)
    assert [trying._pause(retry, number) for number in (1, 2, 3)] == [3, 9, 27]


def test_a_fix_runs_once_and_gives_one_more_try(phase: Phase) -> None:
    check = command("c", "cat made", fix="echo fixed >> made")
    (result,) = phase(check)
    assert (result.status, result.message, result.attempts) == ("passed", "fixed (after its fix)", 2)
    (again,) = phase(check)
    assert (again.message, again.attempts) == ("fixed", 1)
    stubborn = command("c", "false", fix="echo x >> fixes", retry=Retry(attempts=4))
    (result,) = phase(stubborn)
    assert (result.status, result.attempts) == ("failed", 4)
    assert (phase.folder / "fixes").read_text() == "x\n"


def test_a_fix_that_fails_is_told_and_decides_nothing(phase: Phase) -> None:
    failed = command("c", "echo no; exit 1", fix="echo broken; exit 7")
    assert phase.said(failed) == ("failed", "exit 1: no (fix failed: exit 7: broken)")
    slow = command("c", "test -e made", fix="touch made; sleep 60", timeout=1.0)
    assert phase.said(slow) == ("passed", "(fix failed: no end after 1 s)")


def test_a_probe_can_be_fixed_too(phase: Phase) -> None:
    (phase.folder / "logs").mkdir()
    phase.more["log_dir"] = phase.folder / "logs"
    check = a_check("out", "file", probe={"path": "out/"}, fix="mkdir out; echo made")
    assert phase.said(check) == ("passed", "out/: a folder (after its fix)")
    assert (phase.folder / "logs" / "check-out.log").read_text() == "made\n"


# --- logs and records


def test_each_check_has_a_log_named_after_phase_and_check(phase: Phase) -> None:
    phase.more |= {"log_dir": phase.folder / "logs", "phase": "pre_flight"}
    phase(
        command("Teacher answers / ünï", "echo 1"),
        command("a b", "echo 2"),
        command("A-b", "echo 3"),
        command("../../etc", "echo 4"),
    )
    logs = {path.name: path.read_text() for path in (phase.folder / "logs").iterdir()}
    assert logs == {
        "pre_flight-Teacher-answers-n.log": "1\n",
        "pre_flight-a-b.log": "2\n",
        "pre_flight-A-b-2.log": "3\n",
        "pre_flight-..-..-etc.log": "4\n",
    }


results = st.builds(
    CheckResult,
    name=st.text(),
    kind=st.sampled_from(["command", "env", "prose"]),
    status=st.sampled_from(["passed", "failed", "warned", "cancelled", "not run"]),
    seconds=st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
    message=st.text(),
    critical=st.booleans(),
    metric=st.none() | st.tuples(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    tail=st.text(),
    attempts=st.integers(0, 9),
)


@given(results)
def test_a_result_survives_the_journal(result: CheckResult) -> None:
    record = json.loads(json.dumps(to_record(result), allow_nan=False))
    metric = None if record["metric"] is None else tuple(record["metric"])
    assert CheckResult(**{**record, "metric": metric}) == result


@given(st.text())
def test_a_message_is_one_line_that_prints(text: str) -> None:
    for shown in (one_line(text), last_line(text)):
        assert shown == "" or shown.isprintable()
        assert len(shown) <= 400
    assert len(last_line(text)) <= 100


# --- with the processes of the product


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(redactor=Redactor(["hunter2hunter2"])) as running:
        yield running


def test_real_processes_run_side_by_side_and_are_cancelled(
    tmp_path: Path, processes: Processes, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    phase = Phase(tmp_path)
    phase.more |= {"runs": processes, "env": {**os.environ, "TINKER_STEPS_ATTEMPT": TASK}}
    met = phase(*(meets(name, "a", "b", "c") for name in "abc"))
    assert [result.status for result in met] == ["passed"] * 3
    results = phase(
        command("slow", "echo $$ > pid; exec sleep 60", timeout=60.0),
        command("bad", "until test -s pid; do sleep 0.01; done; echo hunter2hunter2; false"),
        fail_fast=True,
    )
    assert [(result.status, result.message) for result in results] == [
        ("cancelled", "cancelled: bad failed"),
        ("failed", "exit 1: [redacted]"),
    ]
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(pid))
    assert processes.sweep(TASK) == 0


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0.01)

    return wait
