"""Retries with recovery, failures that only warn, budgets, and monitors of a main in the foreground."""

from __future__ import annotations

import re

import pytest

from .conftest import Project

# The journal holds the command as well: the pattern must not find itself.
UNTIL_TOLD = 'until grep -q "event[^.a-z]*%s" .task_execution.log; do sleep 0.1; done'
SPENDING = """echo '{"metric": "cost_usd", "value": 4}' >> $TINKER_STEPS_EVENTS"""


def test_recovery_runs_between_two_attempts_with_the_failure_at_hand(project: Project) -> None:
    project.steps("Work").define(
        "step_1:\n  main:\n    command: 'test -e unlocked || { echo locked by nobody; exit 7; }'\n"
        "    retries: 1\n"
        "    recover: 'cat $FAILURE_MESSAGE_FILE > why; cp $FAILURE_LOG log; echo $FAILURE_CAUSE > cause;"
        " touch unlocked'\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 0, result.stdout.str()
    assert "exit 7" in (project.path / "why").read_text()
    assert (project.path / "log").read_text() == "locked by nobody\n"
    assert (project.path / "cause").read_text() == "exit\n"
    first, second = project.events("attempt_started", "1")
    assert second["previous"] == first["task_id"]
    assert project.events("retry", "1")[0]["next_task_id"] == second["task_id"]
    assert project.events("recover", "1")[0]["status"] == "passed"


@pytest.mark.parametrize(
    ("cause", "definition"),
    [
        ("pre", "  pre_flight:\n    - {task: there, command: 'test -e ok || { touch ok; false; }'}\n"),
        ("post", "  post_validation:\n    - {task: there, command: 'test -e ok || { touch ok; false; }'}\n"),
        ("exit", ""),
    ],
)
def test_each_cause_is_tried_again_when_it_is_named_and_only_then(
    project: Project, cause: str, definition: str
) -> None:
    command = "test -e ok || { touch ok; false; }" if cause == "exit" else "true"

    def with_causes(when: str) -> Project:
        return project.steps("Work").define(
            f"step_1:\n  main:\n    command: {command!r}\n"
            f"    retries: {{attempts: 2, when: [{when}]}}\n{definition}"
        )

    others = ", ".join(name for name in ("pre", "test", "timeout", "exit", "post") if name != cause)
    assert with_causes(others).run("--steps", "1").ret == 1
    (project.path / "ok").unlink()
    assert with_causes(cause).run("--steps", "1").ret == 0


def test_a_warned_step_is_not_ticked_and_only_those_that_ask_for_its_end_run(project: Project) -> None:
    project.steps("Try", "Report", "Build on it").define(
        "step_1: {main: 'false', on_failure: warn}\n"
        "step_2: {main: 'true', needs: ['1@ended']}\n"
        "step_3: {main: 'true', needs: [1]}\n"
    )
    result = project.run("--steps", "all")
    assert result.ret == 1, "step 3 is blocked"
    assert project.ticked == ["2"]
    result.stdout.fnmatch_lines(["*step_3*blocked by step_1 (warned)*"])
    assert project.run("--steps", "2", "--steps-rerun").ret == 0, "in a later session as well"


def test_a_budget_of_a_step_stops_before_the_next_attempt(project: Project) -> None:
    project.steps("Spend").define(
        f"step_1:\n  main:\n    command: '{SPENDING.replace(chr(39), chr(39) * 2)}; exit 1'\n    retries: 5\n"
        "  budget_usd: 7\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert len(project.events("attempt_started", "1")) == 2
    assert re.search(r"\$8\.00 of \$7\.00", result.stdout.str())
    assert project.events("budget", "1")
    assert project.run("--steps", "1").ret == 1, "what an earlier session has spent counts"
    assert len(project.events("attempt_started", "1")) == 2


def test_a_budget_of_the_run_stops_before_the_next_step(project: Project) -> None:
    project.commands(SPENDING, SPENDING, "touch never")
    result = project.run("--steps", "all", "--steps-budget", "5")
    assert result.ret == 1
    assert project.ticked == ["1", "2"]
    assert not (project.path / "never").exists()
    result.stdout.fnmatch_lines(["*cost: $8.00 of $5.00 (step_1 $4.00, step_2 $4.00)*"])
    finished = project.events("run_finished")[-1]
    assert (finished["cost_usd"], finished["budget_usd"]) == (8.0, 5.0)


def test_a_budget_holds_between_the_pieces_of_a_main(project: Project) -> None:
    command = f"{SPENDING}; seq {{chunk.size}} > {{chunk.output}}".replace("'", "''")
    project.steps("Generate").define(
        f"step_1:\n  main:\n    mode: chunked\n    command: '{command}'\n    total: 50\n    chunk_size: 10\n"
        "    output: data.txt\n  budget_usd: 10\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert len(project.events("piece")) == 3
    assert not (project.path / "data.txt").exists()
    assert "$12.00 of $10.00" in result.stdout.str()


def test_a_budget_is_one_for_all_workers(project: Project) -> None:
    project.steps("A", "B", "C", "D").define(
        "".join(
            f"step_{n}:\n  needs: []\n  main: '{SPENDING.replace(chr(39), chr(39) * 2)}; sleep 0.3'\n"
            for n in range(1, 5)
        )
    )
    assert project.run("--steps", "all", "--steps-budget", "8", "-n", "2").ret == 1
    assert len(project.ticked) == 2


# -- monitors of a main in the foreground


def test_a_monitor_of_a_command_raises_an_alert_and_the_step_passes(project: Project) -> None:
    project.steps("Work").define(
        f"step_1:\n  main: '{UNTIL_TOLD % 'sample'}; echo RuntimeError > new; mv new state;"
        f" {UNTIL_TOLD % 'alert'}'\n"
        "  background:\n    - {task: state, command: 'cat state', interval: 0.1, alert_on: 'error|nan'}\n"
    )
    project.write("state", "all is well\n")
    result = project.run("--steps", "1")
    assert result.ret == 0
    assert [r["text"] for r in project.events("sample")][-2:] == ["all is well", "RuntimeError"]
    assert [r["text"] for r in project.events("alert")] == ["RuntimeError"]
    result.stdout.fnmatch_lines(["*! state: RuntimeError*"])


@pytest.mark.parametrize("mode", ["command", "python"])
def test_an_alert_can_stop_the_main(project: Project, mode: str) -> None:
    project.write("work.py", "import time\n\ndef run():\n    time.sleep(30)\n")
    main = "{python: 'work:run'}" if mode == "python" else "{command: 'sleep 30'}"
    project.steps("Work").define(
        f"step_1:\n  main: {main}\n"
        "  background:\n    - {task: loss, command: 'echo loss=nan', interval: 0.2,"
        " metric: {name: loss, pattern: 'loss=(\\S+)'}, threshold: 'loss > 10', on_alert: stop}\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 1
    assert "stopped by monitor loss" in result.stdout.str()


def test_a_main_that_says_nothing_more_is_noticed(project: Project) -> None:
    project.steps("Work").define(
        "step_1:\n  main: 'echo begin; sleep 1.2'\n  background:\n    - {stall: 0.5}\n"
    )
    assert project.run("--steps", "1").ret == 0
    # A machine that takes half a second to begin has been silent before as well.
    assert len(project.events("alert")) in (1, 2)


def test_progress_of_bars_is_shown(project: Project) -> None:
    project.steps("Work").define(
        "step_1:\n  main: \"printf ' 10%%|# | 500/5000 [00:10<01:30, 12.3it/s]\\\\r'; sleep 1.2;"
        " printf '100%%|#| 5000/5000 [01:40<00:00, 50it/s]\\\\n'\"\n"
    )
    result = project.run("--steps", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*500/5000 [[]10%[]]*", "*5000/5000 [[]100%[]]*"])
    assert [(r["done"], r["total"]) for r in project.events("progress")][-1] == (5000, 5000)
