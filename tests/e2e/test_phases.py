"""The phases of a step: what runs, in which order, what it decides, and what is printed."""

from __future__ import annotations

import re

import pytest

from .conftest import Project


def test_a_passing_step_is_printed_in_the_documented_words_and_ticked(project: Project) -> None:
    project.steps("Generate the training dataset", "Train").define(
        """
step_1_generate:
  pre_flight:
    - {task: shell_is_there, command: "test -x /bin/sh", timeout: 60}
    - {task: python_answers, command: "python -c 'print(1)'", timeout: 60}
  main:
    command: "seq 10 > rows.txt"
    timeout: 60
  post_validation:
    - task: rows
      command: "wc -l < rows.txt"
      timeout: 60
      metric: {name: rows, pattern: "(\\\\d+)", min: 10}
  outputs: [rows.txt]
"""
    )
    result = project.run("--steps", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "[[]STEP 1: Generate the training dataset[]]",
            "[[]TASK ID[]] Generated: task_1_????????",
            "[[]PRE-FLIGHT[]] Parallel checks (2)...",
            "  ✓ *",
            "  ✓ *",
            "[[]MAIN[]] ✓*",
            "[[]POST[]] Parallel validations (2)...",
            "  ✓ output rows.txt*",
            "  ✓ rows: 10 (min 10)*",
            "[[]SPEC[]] ✓ SPEC.md:3 ticked",
            "Step 1 complete in *s. Ready for step 2.",
            'To view logs: grep "task_1_????????" .task_execution.log',
        ]
    )
    assert project.ticked == ["1"]
    tick = r"✓ \[\d{4}-\d\d-\d\dT[\d:]{8}Z\] \[task_1_\w{8}\]"
    assert re.search(rf"- \[x\] \*\*STEP 1\*\*: Generate the training dataset {tick}", project.spec)


def test_a_failed_pre_flight_is_an_error_at_setup_and_the_main_never_starts(project: Project) -> None:
    project.steps("Work").define(
        """
step_1:
  pre_flight:
    - {task: quick, command: "echo no such luck; exit 3"}
    - {task: slow, command: "sleep 20"}
  main:
    command: "touch ran"
"""
    )
    result = project.run("--steps", "1")
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  ✗ quick: exit 3: no such luck*", "  · slow*"])
    assert not (project.path / "ran").exists()
    assert project.ticked == []
    assert project.verdicts() == {"1": "failed"}
    assert project.events("run_finished")


def test_all_post_validations_run_and_fail_the_step_once(project: Project) -> None:
    project.steps("Work").define(
        """
step_1:
  main: "true"
  post_validation:
    - {task: first, command: "exit 4"}
    - {task: second, command: "exit 5"}
    - {task: third, command: "true"}
"""
    )
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["post-validation failed: first: exit 4*", "post-validation failed: second: exit 5*"]
    )
    assert project.ticked == []
    assert [r["status"] for r in project.events("check")].count("passed") == 1


def test_a_check_that_is_not_critical_warns_and_the_step_passes(project: Project) -> None:
    project.steps("Work").define(
        """
step_1:
  main: "true"
  post_validation:
    - {task: nice_to_have, command: "exit 1", critical: false}
"""
    )
    result = project.run("--steps", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  ! nice_to_have: exit 1*", "*nice_to_have: exit 1*"])
    assert project.ticked == ["1"]


def test_a_failed_main_shows_the_end_of_its_output_and_where_the_rest_is(project: Project) -> None:
    project.commands("seq 100; exit 7")
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "main failed: exit 7: 100",
            "command: seq 100; exit 7",
            "whole output: .steps/logs/task_1_*/main.log",
            "  100",
        ]
    )
    result.stdout.no_fnmatch_line("  50")
    log = next((project.path / ".steps/logs").glob("task_1_*/main.log"))
    assert log.read_text().splitlines() == [str(n) for n in range(1, 101)]


def test_output_is_shown_as_it_comes_when_asked_for(project: Project) -> None:
    project.commands("printf '%s it comes\\n' here")
    assert "here it comes" not in project.run("--steps", "1").stdout.str()
    project.run("--steps", "1", "--steps-rerun", "-v").stdout.fnmatch_lines(["here it comes"])


def test_the_run_on_minimal_data_must_pass_before_the_main_starts(project: Project) -> None:
    project.write("work.py", "import sys; print(sys.argv[1:]); sys.exit('--small' in sys.argv)")
    project.steps("Work").define(
        """
step_1:
  main:
    script: work.py
    args: [--large]
    timeout: 900
    test_first: [--small]
"""
    )
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["[[]TEST[]] ✗ exit 1*", "test-first failed: exit 1: *--small*"])
    assert not list((project.path / ".steps/logs").glob("*/main.log"))


def test_a_main_reports_through_the_events_file(project: Project) -> None:
    project.write(
        "work.py",
        """
import json, os
with open(os.environ["TINKER_STEPS_EVENTS"], "a") as events:
    for event in ({"progress": [5, 10]}, {"metric": "loss", "value": 0.8}, {"note": "10 `rows`"},
                  {"criterion": "Rows written"}):
        events.write(json.dumps(event) + "\\n")
print("Second criterion met, says the output")
assert os.environ["STEP_ID"] == "1" and os.environ["TASK_ID"].startswith("task_1_")
assert "what it is" in open(os.environ["BRIEF_FILE"]).read()
""",
    )
    project.write("SPEC.md", "- [ ] **STEP 1**: Work\n\n## STEP 1: Work\n\nThis is what it is.\n")
    project.define(
        """
step_1:
  main:
    script: work.py
    success_criteria: [Rows written, Second criterion met, Never said]
"""
    )
    result = project.run("--steps", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[[]MAIN[]] 10 `rows`", "*unverified: Never said"])
    result.stdout.no_fnmatch_line("*unverified: Second*")
    assert project.events("metric")[0]["value"] == 0.8
    assert project.events("progress")[0]["total"] == 10
    assert "(10 rows)" in project.spec


def test_a_success_criterion_with_a_check_is_a_critical_post_validation(project: Project) -> None:
    project.steps("Work").define(
        """
step_1:
  main:
    command: "true"
    success_criteria:
      - {text: the file is there, check: {file: result.txt}}
"""
    )
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["post-validation failed: the file is there: *result.txt*"])


def test_a_python_main_gets_fixtures_and_reports_through_the_step(project: Project) -> None:
    project.write("conftest.py", "import pytest\n\n@pytest.fixture\ndef answer():\n    return 42\n")
    project.write(
        "work.py",
        """
def main(step, tmp_path, answer):
    step.progress(1, 2)
    step.metric("answer", answer)
    step.note(f"{step.id} {step.title} {answer} {step.task_id[:7]}")
    (step.folder / "out.txt").write_text("x")
""",
    )
    project.steps("Work").define("step_1:\n  main:\n    python: work:main\n  outputs: [out.txt]\n")
    result = project.run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert (
        "(1 Work 42 task\\_1" in project.spec
        or "(1 Work 42 task1" in project.spec
        or "1 Work 42" in project.spec
    )
    assert project.events("metric")[0]["value"] == 42


def test_a_python_main_that_raises_shows_its_traceback(project: Project) -> None:
    project.write("work.py", "def main():\n    raise ValueError('the data is odd')\n")
    project.steps("Work").define("step_1:\n  main: {python: 'work:main'}\n")
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * ValueError: the data is odd", "*work.py:2: ValueError"])


def test_a_python_main_may_end_as_a_program_does(project: Project) -> None:
    project.write("work.py", "import sys\ndef well():\n    sys.exit(0)\ndef badly():\n    sys.exit(3)\n")
    project.steps("Well", "Badly").define(
        "step_1: {main: {python: 'work:well'}}\nstep_2: {retries: 1, main: {python: 'work:badly'}}\n"
    )
    result = project.run("--steps", "all")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: it called sys.exit(3)"])
    assert len(project.events("attempt_started", "2")) == 2
    assert project.ticked == ["1"]


def test_a_python_main_ends_at_its_deadline(project: Project) -> None:
    project.write("work.py", "import time\ndef main():\n    time.sleep(30)\n")
    project.steps("Work").define("step_1:\n  main: {python: 'work:main', timeout: 1}\n")
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s)*"])
    assert project.ticked == []


def test_a_command_ends_at_its_deadline_and_a_user_timeout_does_not_cut_it_short(project: Project) -> None:
    project.steps("Slow", "Too slow").define(
        "step_1: {main: {command: sleep 1.5, timeout: 60}}\nstep_2: {main: {command: sleep 30, timeout: 1}}\n"
    )
    result = project.run("--steps", "all", "-o", "timeout=1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["main failed: no end after 1*"])


def test_outputs_must_be_this_steps_own_work(project: Project) -> None:
    project.write("old.txt", "from last year")
    project.write("empty.txt", "")
    project.steps("Work").define(
        "step_1:\n  main: ': > empty.txt; echo new > new.txt'\n"
        "  outputs: [old.txt, empty.txt, new.txt, none.txt]\n"
    )
    result = project.run("--steps", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*output old.txt: old.txt is older than this step's work*",
            "*output empty.txt: empty.txt is empty",
            "*output none.txt: none.txt does not exist",
        ]
    )
    result.stdout.no_fnmatch_line("*failed: output new.txt*")


def test_outputs_of_an_attempt_that_failed_count_for_the_next_one(project: Project) -> None:
    project.steps("Work").define(
        """
step_1:
  main: "test -e out.txt || echo x > out.txt"
  outputs: [out.txt]
  post_validation:
    - {task: allowed, command: "test -e allowed"}
"""
    )
    assert project.run("--steps", "1").ret == 1
    project.write("allowed", "")
    assert project.run("--steps", "continue").ret == 0
    assert project.ticked == ["1"]


def test_outputs_of_a_step_are_a_pre_flight_of_the_one_that_needs_it(project: Project) -> None:
    project.steps("Make", "Use", ticked=(1,)).define(
        "step_1:\n  main: 'true'\n  outputs: [data.txt]\nstep_2:\n  main: touch used\n  inputs: [more.txt]\n"
    )
    result = project.run("--steps", "2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*pre-flight failed: input more.txt: more.txt does not exist",
            "*output of step_1: data.txt*not exist",
        ]
    )
    assert not (project.path / "used").exists()


def test_retries_try_again_with_task_ids_of_their_own(project: Project) -> None:
    project.steps("Work").define(
        "step_1:\n  main: 'echo $ATTEMPT >> tries; test $(wc -l < tries) -ge 3'\n"
        "  retries: {attempts: 3, delay: 0.1}\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 0
    started = project.events("attempt_started")
    assert len({record["task_id"] for record in started}) == 3
    assert [record.get("previous") for record in started[1:]] == [r["task_id"] for r in started[:2]]
    assert (project.path / "tries").read_text().split() == ["1", "2", "3"]
    assert [r["status"] for r in project.events("attempt_finished")] == ["failed", "failed", "passed"]
    result.stdout.fnmatch_lines(["[[]RETRY[]] exit failed: attempt 2 of 3 in 0.1s"])


def test_on_failure_warn_leaves_the_box_and_the_exit_code_alone_unless_strict(project: Project) -> None:
    project.steps("Work", "More").define(
        "step_1:\n  main: 'false'\n  on_failure: warn\nstep_2:\n  main: 'true'\n  needs: ['1@ended']\n"
    )
    result = project.run("--steps", "all")
    assert result.ret == 0
    assert project.ticked == ["2"]
    assert project.verdicts()["1"] == "warned"
    assert project.run("--steps", "1", "--steps-strict").ret == 1


def test_a_step_that_cannot_start_is_an_error_also_where_failures_only_warn(project: Project) -> None:
    project.steps("One", "Two").define("step_2: {main: 'true', on_failure: warn}\n")
    result = project.run("--steps", "2")
    result.assert_outcomes(errors=1)
    assert result.ret == 1


def test_in_ci_warnings_count_as_failures_unless_told_otherwise(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    project.steps("Work").define("step_1: {main: 'false', on_failure: warn}\n")
    assert project.run("--steps", "1").ret == 1
    assert project.run("--steps", "1", "--no-steps-strict").ret == 0


def test_a_script_that_is_not_there_is_an_error_at_setup(project: Project) -> None:
    project.steps("Work").define("step_1: {main: {script: 01_work.py, agent: somebody}}\n")
    result = project.run("--steps", "1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["pre-flight failed: script 01_work.py: 01_work.py does not exist"])


def test_a_conftest_sees_every_event_through_the_hook(project: Project) -> None:
    project.write(
        "conftest.py",
        """
def pytest_steps_event(config, event):
    print("SEEN", event["event"], event["step"], event["status"])
    assert event["event"] != "ticked", "a hook that fails"
""",
    )
    project.commands("true")
    result = project.run("--steps", "1", "-s")
    result.stdout.fnmatch_lines(
        [
            "SEEN attempt_started 1 running",
            "SEEN phase 1 passed",
            "SEEN ticked 1 passed",
            "! pytest_steps_event raised AssertionError: a hook that fails*",
            "SEEN attempt_finished 1 *",
        ]
    )


def test_one_line_per_step_when_quiet_and_dots_when_quieter(project: Project) -> None:
    project.commands("true", "exit 2")
    lines = project.run("--steps", "1", "-q").stdout.lines
    assert any(re.fullmatch(r"✓ step_1 Work 1 \[\d.\ds\]", line) for line in lines)
    assert not any("TASK ID" in line for line in lines)
    result = project.run("--steps", "2", "-qq")
    assert any(line.startswith("F") for line in result.stdout.lines)
