"""The run of one step: which events come in which order, and what is tried again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import Command
from pytest_tinker_steps.run.artefacts import Upstream
from pytest_tinker_steps.run.attempt import new_task_id
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.process import ATTEMPT, EVENTS, Ended

from .fake_runs import SECRET, TASK, WELL, Act, FakeProcesses, Make, exits


def writes(folder: Path, name: str, text: str = "content") -> Act:
    def act(env: Mapping[str, str]) -> Ended:
        assert env
        (folder / name).write_text(text)
        return WELL

    return act


# -- the order of a whole attempt


def test_a_step_that_passes_tells_everything_in_order(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("in")
    made = make(
        """
inputs: [in.txt]
outputs: [out.txt]
pre_flight: [{name: key, command: check_key}]
main: {command: work, test_first: {command: try_it}, success_criteria: [reads well]}
post_validation: [{name: lines, command: count}]
""",
        FakeProcesses(work=writes(tmp_path, "out.txt")),
    )
    assert made.whole() == ""
    assert made.names() == [
        "attempt_started running",
        "phase_started pre_flight",
        "check pre_flight input in.txt passed",
        "check pre_flight key passed",
        "phase pre_flight passed",
        "phase_started test_first",
        "phase test_first passed",
        "phase_started main",
        "phase main passed",
        "phase_started post_validation",
        "check post_validation output out.txt passed",
        "check post_validation lines passed",
        "phase post_validation passed",
        "unverified unverified",
    ]
    assert made.processes.started == ["check_key", "try_it", "work", "count"]
    assert {(event["step"], event["task_id"]) for event in made.events} == {("1", TASK)}
    assert all(event["timestamp"] for event in made.events)


def test_phases_without_anything_to_do_tell_nothing(make: Make) -> None:
    made = make("main: work")
    assert made.whole() == ""
    assert made.names() == ["attempt_started running", "phase_started main", "phase main passed"]


def test_an_attempt_begins_with_the_clock_of_the_file_system(make: Make, tmp_path: Path) -> None:
    made = make("main: work\noutputs: [out.txt]", identity=("engine=local",))
    made.run.begin()
    assert made.run.logs == tmp_path / ".steps" / "logs" / TASK
    assert (tmp_path / ".steps" / "exchange").stat().st_mode & 0o077 == 0
    (started,) = made.events
    assert (started["attempt"], started["identity"]) == (1, ["engine=local"])
    assert started["started_ns"] == (tmp_path / ".steps" / "clock").stat().st_mtime_ns
    assert "previous" not in started


def test_a_verification_is_not_an_attempt(make: Make) -> None:
    made = make("main: work")
    made.run.begin(event="verify_started")
    assert made.names() == ["verify_started running"]


def test_processes_are_told_who_they_work_for(make: Make, tmp_path: Path) -> None:
    made = make("env: {LEVEL: step, ONLY: step}\nmain: {command: work, env: {LEVEL: main}, timeout: 7}")
    made.whole()
    (env,) = made.processes.environs
    exchange = tmp_path / ".steps" / "exchange"
    assert dict(env) == {
        "PATH": "/bin",
        "LEVEL": "main",
        "ONLY": "step",
        "STEP_ID": "1",
        "TASK_ID": TASK,
        "ATTEMPT": "1",
        "BRIEF_FILE": os.devnull,
        EVENTS: str(exchange / f"{TASK}.events.jsonl"),
        ATTEMPT: TASK,
    }
    assert made.processes.timeouts == [7]
    assert made.processes.folders == [tmp_path]


# -- pre-flight


def test_pre_flight_stops_at_the_first_failure_and_names_it(make: Make) -> None:
    made = make(
        "pre_flight:\n- {name: key, command: bad, parallel: false}\n"
        "- {name: later, command: good, parallel: false}\n"
        "main: work",
        FakeProcesses(bad=exits(1, "no key\n")),
    )
    assert made.whole() == "pre-flight failed: key: exit 1: no key\noutput of key:\n  no key"
    assert made.processes.started == ["bad"]
    assert made.names()[2:] == [
        "check pre_flight key failed",
        "check pre_flight later cancelled",
        "phase pre_flight failed",
    ]


def test_what_a_step_needs_is_looked_at_before_any_command(make: Make) -> None:
    made = make(
        "inputs: [in.txt]\npre_flight: [{name: key, command: check}]\nmain: work",
        upstream=[Upstream("0", ("data.jsonl",))],
    )
    assert made.whole() == (
        "pre-flight failed: input in.txt: in.txt does not exist\n"
        "pre-flight failed: output of step_0: data.jsonl: data.jsonl does not exist"
    )
    assert made.processes.started == []


def test_a_check_that_is_not_critical_stops_nothing(make: Make) -> None:
    made = make(
        "pre_flight: [{name: style, command: bad, critical: false}]\nmain: work", FakeProcesses(bad=exits(1))
    )
    assert made.whole() == ""
    assert "check pre_flight style warned" in made.names()


# -- the run on minimal data


@pytest.mark.parametrize(
    ("yaml", "started"),
    [
        ("main: {command: work, test_first: {command: try_it}}", ["try_it", "work"]),
        (
            "main: {script: work.py, args: [all], test_first: {args: [few]}}",
            [("python", "work.py", "few"), ("python", "work.py", "all")],
        ),
        ("main: {command: work, test_first: false}", ["work"]),
        ("main: work", ["work"]),
    ],
)
def test_the_run_on_minimal_data_comes_first(
    make: Make, tmp_path: Path, yaml: str, started: list[Command]
) -> None:
    (tmp_path / "work.py").write_text("pass")
    made = make(yaml)
    assert made.whole() == ""
    assert made.processes.started == started


def test_an_environment_alone_makes_the_run_on_minimal_data(make: Make) -> None:
    made = make("main: {command: work, env: {COUNT: '5000'}, test_first: {env: {COUNT: '10'}}}")
    assert made.whole() == ""
    assert [env["COUNT"] for env in made.processes.environs] == ["10", "5000"]


def test_when_the_run_on_minimal_data_fails_the_main_never_starts(make: Make) -> None:
    made = make(
        "main: {command: work, test_first: {command: try_it}}", FakeProcesses(try_it=exits(2, "bad data\n"))
    )
    said = made.whole()
    assert said.startswith("test-first failed: exit code 2: bad data\ncommand: try_it\n")
    assert said.endswith("its end:\n  bad data")
    assert made.processes.started == ["try_it"]


# -- main


def test_a_failure_shows_the_end_of_the_output_and_where_the_rest_is(make: Make) -> None:
    tail = "".join(f"line {n}\n" for n in range(50))
    processes = FakeProcesses(work=exits(3, tail))
    processes.output["work"] = [tail]
    said = make("main: work", processes).whole().splitlines()
    assert said[:4] == [
        "main failed: exit code 3: line 49",
        "command: work",
        f"whole output: .steps/logs/{TASK}/main.log",
        "its end:",
    ]
    assert said[4:] == [f"  line {n}" for n in range(30, 50)]


def test_a_failure_without_output_says_so(make: Make) -> None:
    said = make("main: work", FakeProcesses(work=exits(3))).whole()
    assert said == "main failed: exit code 3\ncommand: work\nit printed nothing"


@pytest.mark.parametrize(
    ("tail", "quoted"),
    [
        ("reading\nValueError: bad key\n\n  \n", ": ValueError: bad key"),
        ("\x1b[31mValueError:\x1b[0m  bad\tkey\n", ": ValueError: bad key"),
        (" 10%|#| 5/50\r 20%|##| 10/50\r", ": 20%|##| 10/50"),
        ("x" * 500, ": " + "x" * 199 + "…"),
        ("\n \n", ""),
    ],
)
def test_the_first_line_of_a_failure_quotes_the_last_line_of_the_output(
    make: Make, tail: str, quoted: str
) -> None:
    made = make("main: work", FakeProcesses(work=exits(1, tail)))
    assert made.whole().partition("\n")[0] == f"main failed: exit code 1{quoted}"
    assert made.of("phase")[-1]["message"] == "exit code 1"


def test_a_main_whose_folder_is_missing_is_not_tried_again(make: Make) -> None:
    made = make("main: {command: work, cwd: gone, retries: 3}")
    assert made.whole().startswith("main could not start: its folder ")
    assert made.run.attempt == 1


def test_what_the_main_says_comes_before_its_end(make: Make) -> None:
    def work(env: Mapping[str, str]) -> Ended:
        Path(env[EVENTS]).write_text(
            '{"note": "half"}\n{"metric": "loss", "value": 0.5}\n{"criterion": "made"}'
        )
        return WELL

    made = make("main: {command: work, success_criteria: [made, reads well]}", FakeProcesses(work=work))
    assert made.whole() == ""
    assert made.names() == [
        "attempt_started running",
        "phase_started main",
        "note",
        "metric loss",
        "criterion",
        "phase main passed",
        "unverified unverified",
    ]
    assert made.of("unverified")[0]["criteria"] == ["reads well"]


def test_a_criterion_in_the_output_is_met(make: Make) -> None:
    processes = FakeProcesses()
    processes.output["work"] = ["all: API key ", "validated\n"]
    made = make("main: {command: work, success_criteria: [API key validated]}", processes)
    made.whole()
    assert [event["text"] for event in made.of("criterion")] == ["API key validated"]
    assert made.of("unverified") == []


@pytest.mark.parametrize("live", [True, False])
def test_output_is_told_only_when_somebody_watches(make: Make, live: bool) -> None:
    processes = FakeProcesses()
    processes.output["work"] = ["epoch 1\n"]
    made = make("main: work", processes, live=live)
    made.whole()
    assert [event["text"] for event in made.of("output")] == (["epoch 1\n"] if live else [])


def test_a_python_main_is_called_with_the_environment_of_the_step(make: Make) -> None:
    made = make("main: {python: 'work:run', test_first: {env: {COUNT: '10'}}}")
    called: list[Mapping[str, str]] = []
    made.run.begin()
    made.run.test_first(called.append)
    made.run.main(called.append)
    assert [env.get("COUNT") for env in called] == ["10", None]
    assert [env[ATTEMPT] for env in called] == [TASK, TASK]
    assert made.names()[1:] == [
        "phase_started test_first",
        "phase test_first passed",
        "phase_started main",
        "phase main passed",
    ]


def test_what_a_python_main_raises_goes_on_and_its_phase_failed(make: Make) -> None:
    made = make("main: {python: 'work:run'}")
    made.run.begin()

    def breaks(env: Mapping[str, str]) -> None:
        raise KeyError(env["STEP_ID"])

    with pytest.raises(KeyError):
        made.run.main(breaks)
    assert made.names()[-1] == "phase main failed"


def test_a_python_main_that_cannot_be_imported_is_not_tried_again(make: Make) -> None:
    made = make("main: {python: 'no_such_module:run', retries: 2}")
    made.run.begin()
    with pytest.raises(PhaseFailed, match="no_such_module:run cannot be imported: No module named") as caught:
        made.run.function()
    assert caught.value.cause is None


# -- post-validation


def test_all_post_validations_run_and_fail_together(make: Make) -> None:
    made = make(
        "outputs: [out.txt]\nmain: work\npost_validation:\n"
        "- {name: first, command: bad}\n- {name: second, command: worse}\n- {name: third, command: good}",
        FakeProcesses(bad=exits(1), worse=exits(2)),
    )
    assert made.whole().splitlines() == [
        "post-validation failed: output out.txt: out.txt does not exist",
        "post-validation failed: first: exit 1",
        "post-validation failed: second: exit 2",
    ]
    assert sorted(map(str, made.processes.started[1:])) == ["bad", "good", "worse"]


def test_an_output_must_be_this_steps_own_work(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("of an earlier run")
    later = (tmp_path / "out.txt").stat().st_mtime_ns + 10**12
    made = make("outputs: [out.txt]\nmain: work", open_since_ns=later)
    assert "older than this step's work" in made.whole()
    again = make("outputs: [out.txt]\nmain: work", open_since_ns=1)
    assert again.whole() == "", "written since the first unfinished attempt"


def test_a_verification_asks_for_no_fresh_output_and_no_reports(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("of an earlier run")
    later = (tmp_path / "out.txt").stat().st_mtime_ns + 10**12
    made = make(
        "outputs: [out.txt]\nmain: {command: work, success_criteria: [reads well]}", open_since_ns=later
    )
    made.run.begin(event="verify_started")
    made.run.post_validation(fresh=False)
    assert made.of("unverified") == []


def test_a_criterion_with_a_check_is_a_post_validation(make: Make) -> None:
    made = make(
        "main:\n  command: work\n  success_criteria: [{text: enough lines, check: {command: count}}]",
        FakeProcesses(count=exits(1)),
    )
    assert made.whole().endswith(": exit 1")


# -- the end


def test_what_an_attempt_left_running_is_ended_and_told_once(make: Make) -> None:
    processes = FakeProcesses()
    processes.left = 2
    made = make("main: work", processes)
    made.whole()
    made.run.end()
    assert [event["count"] for event in made.of("left_behind")] == [2]
    assert processes.swept == [TASK]


def test_a_step_that_never_began_has_nothing_to_end(make: Make) -> None:
    made = make("main: work")
    made.run.end()
    assert made.processes.swept == []


# -- secrets


def test_no_event_shows_a_secret(make: Make) -> None:
    def work(env: Mapping[str, str]) -> Ended:
        Path(env[EVENTS]).write_text(f'{{"note": "used {SECRET}"}}\n{{"metric": "{SECRET}", "value": 1}}\n')
        return exits(1)

    made = make(
        f"main: {{command: 'work {SECRET}', success_criteria: ['{SECRET}']}}",
        FakeProcesses(work=work),
        live=True,
    )
    processes = made.processes
    processes.output["work"] = [f"log in with {SECRET}\n"]
    made.whole()
    assert SECRET not in repr(made.events)
    assert SECRET[:8] not in repr(made.events)
    assert made.of("note")[0]["text"] == "used [redacted]"


def test_task_ids_name_their_step_and_differ() -> None:
    ids = {new_task_id("2.1") for _ in range(100)}
    assert len(ids) == 100
    assert all(made.startswith("task_2.1_") and len(made) == len("task_2.1_1a2b3c4d") for made in ids)
