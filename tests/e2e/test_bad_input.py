"""What a user is told when the list, the definitions or the disk are not as they should be."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import DEFINITIONS, Project

TWO = "- [ ] **STEP 1**: One\n- [ ] **STEP 2**: Two\n"
BOTH = "step_1: {main: touch ran}\nstep_2: {main: 'true'}\n"
AT = DEFINITIONS


def error(result: pytest.RunResult) -> list[str]:
    """The lines that a user sees of a usage error: nothing else may be printed."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stdout.str().strip() == ""
    return [line.removeprefix("ERROR: ") for line in result.stderr.lines if line]


def nothing_happened(project: Project) -> bool:
    return not any((project.path / name).exists() for name in (".task_execution.log", ".steps", "ran"))


# -- the list


@pytest.mark.parametrize("args", [["--steps", "all"], ["--steps-verify"], ["--steps-plan"]], ids=lambda a: a[0])
def test_a_missing_list(project: Project, args: list[str]) -> None:
    assert error(project.run(*args)) == [
        f"--steps: there is no task list at {project.path} (looked for SPEC.md and tasks.md); "
        "write one, name it on the command line, or set steps_list in the configuration"
    ]


def test_a_missing_list_that_the_configuration_names(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsteps_list = plans/work.md\n")
    assert error(project.run("--steps", "all")) == [
        f"--steps: there is no task list at {project.path}/plans/work.md; "
        "write one, name it on the command line, or set steps_list in the configuration"
    ]


def test_a_missing_list_that_the_command_line_names(project: Project) -> None:
    path = project.path / "work.md"
    for args in (["work.md", "--steps", "1"], ["work.md::step_1"]):
        assert error(project.run(*args)) == [f"{path}: there is no such task list"]


def test_missing_definitions_that_the_configuration_names(project: Project) -> None:
    project.write("SPEC.md", TWO)
    project.write("pytest.ini", "[pytest]\nsteps_definitions = defs.yaml\n")
    assert error(project.run("--steps", "all")) == [
        f"steps_definitions = defs.yaml: there is no such file below {project.path}"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", 'SPEC.md:1: no checkbox found; a step is a list item such as "- [ ] 1. Title"'),
        (
            b"# Notes\n\n- a\n- b\n",
            'SPEC.md:1: no checkbox found; a step is a list item such as "- [ ] 1. Title"',
        ),
        (
            TWO.encode() + b"\x00\xff\xfe",
            "SPEC.md:3: not a text file (it has NUL bytes); save the task list as UTF-8 text",
        ),
    ],
    ids=["empty", "no boxes", "binary"],
)
@pytest.mark.parametrize("args", [["--steps", "all"], ["SPEC.md"], ["SPEC.md::step_1"]], ids=lambda a: a[-1])
def test_a_list_that_is_none(project: Project, data: bytes, message: str, args: list[str]) -> None:
    project.define(BOTH)
    (project.path / "SPEC.md").write_bytes(data)
    assert error(project.run(*args)) == [message]
    assert nothing_happened(project)


@pytest.mark.parametrize("args", [[], ["-q"], ["--no-header"]], ids=["default", "quiet", "no header"])
def test_an_unterminated_fence_is_a_warning_that_is_always_shown(project: Project, args: list[str]) -> None:
    project.write("SPEC.md", TWO + "\n```\n- [ ] **STEP 3**: Swallowed\n")
    project.define(BOTH)
    result = project.run("--steps", "all", *args)
    assert result.ret == 0
    shown = [line for line in result.stdout.lines if "SPEC.md:4" in line]
    assert [line.removeprefix("steps: ").removeprefix("! ") for line in shown] == [
        "SPEC.md:4: code fence is not closed; boxes after it are ignored: close it"
    ]


def test_ids_that_repeat_are_an_error_only_when_selected(project: Project) -> None:
    project.write("SPEC.md", TWO + "- [ ] **STEP 2**: Two again\n- [ ] **STEP 3**: Three\n")
    project.define("step_1: {main: 'true'}\nstep_3: {main: 'true'}\n")
    project.run("--steps", "1").assert_outcomes(passed=1)
    twice = "step 2 stands twice, SPEC.md:2 and SPEC.md:3; give one of them another id"
    for args, asked in (
        (["--steps", "2"], "--steps 2"),
        (["--steps", "all"], "--steps all"),
        (["SPEC.md::step_2"], "SPEC.md::step_2"),
    ):
        assert error(project.run(*args)) == [f"{asked}: {twice}"]


def test_definitions_of_an_id_that_repeats_do_not_keep_the_others_from_running(project: Project) -> None:
    project.write("SPEC.md", TWO + "- [ ] **STEP 2**: Two again\n")
    project.define(BOTH)
    result = project.run("--steps", "1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            f"steps: {AT}:2: step_2 fits more than one box (SPEC.md:2 and SPEC.md:3), so none can run; "
            "give each an id of its own"
        ]
    )


def test_a_step_without_a_definition_is_told_what_to_write_and_where(project: Project) -> None:
    project.write("SPEC.md", "- [ ] **STEP 1**: Generate the data, all of it\n")
    result = project.run("--steps", "all")
    result.assert_outcomes(errors=1)
    text = result.stdout.str().split("ERROR at setup of step_1")[1].split("\n", 1)[1]
    assert text.startswith(
        f"step_1 (SPEC.md:1) has no definition; write into {AT} what it does\n"
        "  step_1_generate_the_data:\n"
        "    main:\n"
        "      command: <what it runs>\n"
        "    outputs: [<what it leaves>]\n"
        "---"
    )


# -- definitions


@pytest.mark.parametrize(
    ("definitions", "messages"),
    [
        pytest.param(
            "step_1:\n  needs: [2]\n  main: 'true'\nstep_2:\n  needs: [1]\n  main: 'true'\n",
            [f"{AT}:1: needs go in a circle: step_1 -> step_2 -> step_1; take one of them out"],
            id="cycle",
        ),
        pytest.param(
            "step_1:\n  mian: 'true'\n  post_validaton: []\n",
            [
                f"{AT}:2: unknown key 'mian'; did you mean 'main'?",
                f"{AT}:3: unknown key 'post_validaton'; did you mean 'post_validation'?",
            ],
            id="unknown keys",
        ),
        pytest.param(
            "step_1:\n  main:\n    command: 'true'\n    timeout: soon\nstep_2:\n  main: 'true'\n  outputs: {a: b}\n",
            [
                f"{AT}:4: 'timeout' must be a duration, not the text 'soon'; "
                "write seconds, or text like 90s, 5m or 2h",
                "outputs",
            ],
            id="wrong types",
        ),
        pytest.param(
            "step_1: {main: 'true'}\nstep_2:\n  main: 'true'\n  needs: [7]\n",
            [f"{AT}:2: step_2 needs step 7, which is not in SPEC.md; take it out, or add the step to the list"],
            id="unknown step",
        ),
        pytest.param(
            f"{BOTH}step_7: {{main: 'true'}}\nstep_9_more: {{main: 'true'}}\n",
            [
                f"{AT}:3: step_7: there is no step 7 in SPEC.md; it has 1-2; "
                "add the step there, or take its definition out",
                f"{AT}:4: step_9_more: there is no step 9 in SPEC.md; it has 1-2; "
                "add the step there, or take its definition out",
            ],
            id="steps that the list lacks",
        ),
        pytest.param(
            'step_1:\n  main: "true\nstep_2: x\n',
            [
                f"{AT}:4:1: this is not YAML: found unexpected end of stream, while scanning a quoted scalar "
                "that starts on line 2; close the quote"
            ],
            id="not YAML",
        ),
        pytest.param(
            "step_1:\n  main: {command: x, timeout: -5}\n  post_validation:\n"
            "    - {task: a, command: x, timeout: 0}\n    - {task: b, command: x, timeout: .inf}\n"
            "step_2:\n  main: {command: x, timeout: 40d}\n",
            [
                f"{AT}:2: 'timeout' must be more than 0 seconds, not -5; "
                "write seconds, or text like 90s, 5m or 2h",
                f"{AT}:4: 'timeout' must be more than 0 seconds, not 0; "
                "write seconds, or text like 90s, 5m or 2h",
                f"{AT}:5: 'timeout' must be a finite duration, not inf; "
                "write seconds, or text like 90s, 5m or 2h",
                "timeout",
            ],
            id="silly timeouts",
        ),
    ],
)
def test_definitions_that_do_not_hold(project: Project, definitions: str, messages: list[str]) -> None:
    project.write("SPEC.md", TWO)
    project.define(definitions)
    assert error(project.run("--steps", "1")) == messages
    assert error(project.run("--steps", "1", "--steps-plan")) == messages
    assert nothing_happened(project)
