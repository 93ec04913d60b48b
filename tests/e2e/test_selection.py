"""Which steps, and which tests, a command line runs."""

from __future__ import annotations

import os
import shlex

import pytest

from .conftest import Project

ONE_TO_TWENTY = [str(number) for number in range(1, 21)]

OWN_TESTS = """
import pytest

def test_step_1():
    pass

@pytest.mark.parametrize("size", [1, 2])
def test_step_10(size):
    pass

def test_other():
    pass
"""
OWN = [
    "tests/test_own.py::test_step_1",
    "tests/test_own.py::test_step_10[1]",
    "tests/test_own.py::test_step_10[2]",
    "tests/test_own.py::test_other",
]


@pytest.fixture
def twenty(project: Project) -> Project:
    """Twenty steps that wait for none and say that they ran, and four tests that are none of them."""
    project.steps(*(f"Work {number}" for number in ONE_TO_TWENTY))
    project.define("".join(f"step_{n}:\n  main: 'echo {n} >> ran'\n  needs: []\n" for n in ONE_TO_TWENTY))
    project.write("tests/test_own.py", OWN_TESTS)
    project.write("pytest.ini", "[pytest]\n")
    return project


def ran(project: Project) -> list[str]:
    path = project.path / "ran"
    return path.read_text().split() if path.exists() else []


def collected(project: Project, *args: str) -> list[str]:
    result = project.run("--collect-only", "-q", *args)
    return [line for line in result.stdout.lines if "::" in line]


def nodes(*ids: str, of: str = "SPEC.md") -> list[str]:
    return [f"{of}::step_{name}" for name in ids]


def error(result: pytest.RunResult) -> list[str]:
    """The lines that a user sees of a usage error: nothing else may be printed."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stdout.str().strip() == ""
    return [line for line in result.stderr.lines if line]


def untouched(project: Project) -> bool:
    """Whether no run left anything: no journal, no state, no tick."""
    left = {path.name for path in project.path.iterdir()} & {".task_execution.log", ".steps", "ran"}
    return not left and project.ticked == [] and "task_" not in project.spec


# -- without capture


def test_steps_run_where_pytests_capture_is_switched_off(twenty: Project) -> None:
    result = twenty.run("-p", "no:capture", "--steps", "1")
    assert result.ret == 0
    assert "INTERNALERROR" not in result.stdout.str()
    assert ran(twenty) == twenty.ticked == ["1"]


# -- --steps


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--steps", "1"], ["1"]),
        (["--steps", "step_1"], ["1"]),
        (["--steps", "1-5"], ONE_TO_TWENTY[:5]),
        (["--steps", "1,3-5"], ["1", "3", "4", "5"]),
        (["--steps", "8-"], ONE_TO_TWENTY[7:]),
        (["--steps=-8"], ONE_TO_TWENTY[:8]),
        (["--steps", "all"], ONE_TO_TWENTY),
        (["--steps", "next:5"], ONE_TO_TWENTY[:5]),
        (["--steps", "5,2"], ["2", "5"]),
    ],
)
def test_a_selection_runs_these_steps_in_list_order_and_no_test(
    twenty: Project, args: list[str], expected: list[str]
) -> None:
    result = twenty.run(*args)
    result.assert_outcomes(passed=len(expected))
    assert result.ret == 0
    assert ran(twenty) == twenty.ticked == expected


def test_continue_and_next_go_on_where_the_last_run_ended(twenty: Project) -> None:
    twenty.run("--steps", "1,3-5")
    assert collected(twenty, "--steps", "next:3") == nodes("2", "6", "7")
    assert collected(twenty, "--steps", "continue") == nodes("2", *ONE_TO_TWENTY[5:])
    twenty.run("--steps", "next:2")
    assert twenty.ticked == ONE_TO_TWENTY[:6]


def test_nothing_left_to_do_is_said_and_is_no_failure(twenty: Project) -> None:
    twenty.write("SPEC.md", twenty.spec.replace("[ ]", "[x]"))
    for args in (["--steps", "continue"], ["--steps", "next:5"], ["--steps", "continue", "--collect-only"]):
        result = twenty.run(*args)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["nothing left to do"])
    result = twenty.run("--steps", "all")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["- already done: 1-20", "all steps are done"])
    assert ran(twenty) == []


def test_ids_of_other_formats_and_containers(project: Project) -> None:
    project.write("tasks.md", "".join(f"- [ ] T{number:03} Work\n" for number in range(1, 13)))
    kit = [f"T{number:03}" for number in range(1, 13)]
    assert collected(project, "--steps", "T001-T010") == nodes(*kit[:10], of="tasks.md")
    assert collected(project, "tasks.md::step_T003") == nodes("T003", of="tasks.md")
    assert collected(project, "-k", "step_t003 or step_T011") == nodes("T003", "T011", of="tasks.md")

    project.write("tasks.md", "- [ ] 2. Both\n  - [ ] 2.1 A\n  - [ ] 2.10 B\n- [ ] 3. C\n  - [ ] 3.1 D\n")
    assert collected(project, "--steps", "2.1") == nodes("2.1", of="tasks.md")
    assert collected(project, "--steps", "2") == nodes("2.1", "2.10", of="tasks.md")
    assert collected(project, "--steps", "2.10-3") == nodes("2.10", "3.1", of="tasks.md")
    assert collected(project, "tasks.md::step_2") == nodes("2.1", "2.10", of="tasks.md")
    assert collected(project, "-k", "step_2.1") == nodes("2.1", of="tasks.md")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--steps", "21"],
            "--steps 21: there is no step 21; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            ["--steps", "contineu"],
            "--steps contineu: there is no step contineu; did you mean 'continue'? "
            "SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (["--steps", "5-3"], "--steps 5-3: the range 5-3 is empty, since 5 stands after 3; write 3-5"),
        (["--steps", ""], "--steps '': nothing is selected; the list has 1-20"),
        (
            ["--steps", "next:0"],
            "--steps next:0: 'next:' takes a number of steps from 1, for example next:5",
        ),
        (["SPEC.md::step_21"], "SPEC.md::step_21: there is no step 21; SPEC.md has 1-20"),
        (
            ["SPEC.md::step_3", "--steps", "4"],
            "--steps and a step's own id on the command line: give one of them",
        ),
        (
            ["--steps", "3", "--steps-assume", "1-99"],
            "--steps-assume 1-99: there is no step 99; SPEC.md has 1-20 (also: all, continue, next:N)",
        ),
        (
            ["--steps-untick"],
            "--steps-untick goes with --steps-verify: it takes back ticks that do not hold",
        ),
    ],
)
def test_a_wrong_selection_is_one_line_and_exit_4(twenty: Project, args: list[str], message: str) -> None:
    assert error(twenty.run(*args)) == [f"ERROR: {message}"]
    assert error(twenty.run(*args, "--steps-plan")) == [f"ERROR: {message}"]
    assert untouched(twenty)


# -- -k


def test_a_step_in_k_is_that_one_step(twenty: Project) -> None:
    result = twenty.run("-k", "step_13")
    result.assert_outcomes(passed=1, deselected=4)
    assert ran(twenty) == twenty.ticked == ["13"]


def test_k_adds_the_steps_that_it_names_and_leaves_other_tests_as_they_were(twenty: Project) -> None:
    assert collected(twenty, "-k", "step_1 or step_4") == nodes("1", "4") + OWN[:3]
    assert collected(twenty, "-k", "STEP_1 and not size") == nodes("1") + OWN[:3]
    assert collected(twenty, "-k", "test_step_1") == OWN[:3]
    assert collected(twenty, "-k", "test_step_10") == OWN[1:3]
    assert collected(twenty, "-k", "step_99") == []
    assert collected(twenty, "-k", "other") == OWN[3:]


def test_k_that_excludes_a_step_does_not_run_the_others(twenty: Project) -> None:
    result = twenty.run("-k", "not step_13")
    result.assert_outcomes(passed=4, deselected=1)
    assert ran(twenty) == []


def test_k_chooses_among_selected_steps(twenty: Project) -> None:
    assert collected(twenty, "--steps", "1-15", "-k", "step_1 or step_13 or step_19") == nodes("1", "13")
    assert collected(twenty, "SPEC.md", "-k", "not step_1") == nodes(*ONE_TO_TWENTY[1:])
    assert collected(twenty, "--steps", "8-13", "-k", "step_1 or Work and not step_13") == nodes(
        *ONE_TO_TWENTY[7:12]
    )


@pytest.mark.parametrize("text", [None, "# Notes\n\nno boxes\n", "\0"], ids=["none", "no boxes", "binary"])
def test_k_without_a_list_is_pytests_own(twenty: Project, text: str | None) -> None:
    (twenty.path / "SPEC.md").unlink()
    if text is not None:
        twenty.write("SPEC.md", text)
    assert collected(twenty, "-k", "step_1") == OWN[:3]


def test_a_mistake_in_the_definitions_is_told_when_k_names_a_step_and_only_then(twenty: Project) -> None:
    twenty.define("step_1: {mian: x}\n")
    assert error(twenty.run("-k", "step_13"))[0].startswith("ERROR: .claude/tasks/step_definitions.yaml:1: ")
    assert collected(twenty, "-k", "step_99 or other") == OWN[3:]


def test_a_wrong_expression_is_shown_as_it_was_typed(twenty: Project) -> None:
    result = twenty.run("-k", "step_1 or or step_4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "step_1 or or step_4" in result.stderr.str()
    assert "::step::" not in result.stderr.str()


# -- paths


def test_a_plain_run_has_the_tests_and_no_step(twenty: Project) -> None:
    result = twenty.run()
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*SPEC.md*")
    assert untouched(twenty)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["SPEC.md"], nodes(*ONE_TO_TWENTY)),
        (["SPEC.md::step_13"], nodes("13")),
        (["SPEC.md::step_13", "SPEC.md::step_2"], nodes("2", "13")),
        (["SPEC.md", "SPEC.md::step_2"], nodes(*ONE_TO_TWENTY)),
        (["./tests/../SPEC.md::step_2"], nodes("2")),
        (["tests", "SPEC.md"], OWN + nodes(*ONE_TO_TWENTY)),
        (["SPEC.md::step_2", "tests/test_own.py::test_other"], OWN[3:] + nodes("2")),
        ([".", "SPEC.md"], nodes(*ONE_TO_TWENTY) + OWN),
        (["--steps", "2-3", "tests"], OWN + nodes("2", "3")),
        (["--steps", "2-3", "."], nodes("2", "3") + OWN),
        (["--steps", "2-3", "SPEC.md"], nodes("2", "3")),
        (["tests"], OWN),
        (["."], OWN),
    ],
)
def test_paths_on_the_command_line(twenty: Project, args: list[str], expected: list[str]) -> None:
    assert collected(twenty, *args) == expected


def test_testpaths_are_for_the_tests(twenty: Project) -> None:
    twenty.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    assert collected(twenty, "--steps", "2-3") == nodes("2", "3")
    assert collected(twenty) == OWN
    assert collected(twenty, "-k", "step_2 or other") == OWN[3:] + nodes("2")


@pytest.fixture
def elsewhere(twenty: Project) -> Project:
    """A second list in a folder of its own."""
    twenty.write("plans/q3/work.md", "- [ ] T001 First\n- [ ] T002 Second\n")
    twenty.write(
        "plans/q3/step_definitions.yaml", "step_T001: {main: touch first}\nstep_T002: {main: 'true'}\n"
    )
    return twenty


def test_a_list_in_another_folder_brings_its_own_files(elsewhere: Project) -> None:
    folder = elsewhere.path / "plans/q3"
    result = elsewhere.run("--steps", "T001", "plans/q3/work.md")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[[]SPEC[]] ✓ plans/q3/work.md:1 ticked"])
    assert sorted(path.name for path in folder.iterdir()) == [
        ".steps",
        ".task_execution.log",
        "first",
        "step_definitions.yaml",
        "work.md",
    ]
    assert untouched(elsewhere)
    assert elsewhere.run("plans/q3/work.md::step_T002").ret == 0
    assert (folder / "work.md").read_text().count("- [x]") == 2


def test_a_list_outside_the_root_directory(elsewhere: Project) -> None:
    root = elsewhere.path / "root"
    root.mkdir()
    root.joinpath("pytest.ini").write_text("[pytest]\n")
    of = "../plans/q3/work.md"
    args = ["--rootdir", str(root), "-c", str(root / "pytest.ini"), "plans/q3/work.md"]
    assert collected(elsewhere, *args, "--steps", "all") == nodes("T001", "T002", of=of)
    result = elsewhere.run(*args, "--steps", "all", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[[]SPEC[]] ✓ ../plans/q3/work.md:1 ticked"])
    assert (elsewhere.path / "plans/q3/work.md").read_text().count("- [x]") == 2


def test_the_list_is_a_setting_relative_to_the_configuration(elsewhere: Project) -> None:
    elsewhere.write("pytest.ini", "[pytest]\nsteps_list = plans/q3/work.md\n")
    expected = nodes("T001", "T002", of="plans/q3/work.md")
    assert collected(elsewhere, "--steps", "all") == expected
    assert collected(elsewhere, "plans/q3/work.md") == expected
    assert collected(elsewhere, "-k", "step_T002") == expected[1:]
    os.chdir(elsewhere.path / "plans")
    assert collected(elsewhere, "--steps", "all") == expected
    assert collected(elsewhere, "q3/work.md::step_T001") == expected[:1]


def test_tasks_md_is_the_list_where_there_is_no_spec_md(twenty: Project) -> None:
    twenty.write("tasks.md", "- [ ] T001 Work\n")
    assert collected(twenty, "--steps", "all") == nodes(*ONE_TO_TWENTY)
    (twenty.path / "SPEC.md").unlink()
    (twenty.path / ".claude/tasks/step_definitions.yaml").unlink()
    assert collected(twenty, "--steps", "all") == nodes("T001", of="tasks.md")


def test_two_lists_in_one_session_are_refused(elsewhere: Project) -> None:
    first, second = (elsewhere.path / name for name in ("SPEC.md", "plans/q3/work.md"))
    assert error(elsewhere.run("--steps", "all", "SPEC.md", "plans/q3/work.md")) == [
        f"ERROR: {first} and {second}: one task list in a session, please"
    ]


# -- pytest's own options


def test_deselect_takes_one_step_and_not_those_that_begin_alike(twenty: Project) -> None:
    twenty.run("SPEC.md", "--deselect", "SPEC.md::step_1").assert_outcomes(passed=19, deselected=1)
    assert ran(twenty) == ONE_TO_TWENTY[1:]
    assert collected(twenty, "--steps", "1,10", "--deselect", "SPEC.md") == []
    own_and_step = ["--deselect", "tests/test_own.py::test_step_1", "--deselect", "SPEC.md::step_1"]
    assert collected(twenty, "--steps", "1,10", "tests", *own_and_step) == [OWN[3], *nodes("10")]


@pytest.fixture
def failing(twenty: Project) -> Project:
    """Steps 2 and 4 of 5 fail."""
    twenty.steps(*("Work" for _ in range(5))).define(
        "".join(
            f"step_{n}:\n  main: 'echo {n} >> ran; test {n} != 2 -a {n} != 4'\n  needs: []\n"
            for n in range(1, 6)
        )
    )
    return twenty


def test_x_and_maxfail_stop(failing: Project) -> None:
    assert failing.run("--steps", "all", "-x").ret == 1
    assert ran(failing) == ["1", "2"]
    (failing.path / "ran").unlink()
    assert failing.run("--steps", "all", "--steps-rerun", "--maxfail", "2").ret == 1
    assert ran(failing) == ["1", "2", "3", "4"]
    assert failing.ticked == ["1", "3"]


def test_lf_runs_what_failed_and_ff_does_not_change_the_order_of_a_plan(failing: Project) -> None:
    failing.run("--steps", "all")
    assert collected(failing, "--steps", "all", "--lf") == nodes("2", "4")
    (failing.path / "ran").unlink()
    failing.run("--steps", "all", "--steps-rerun", "--ff")
    assert ran(failing) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "dry",
    [["--collect-only"], ["--setup-plan"], ["--setup-only"], ["--steps-plan"]],
    ids=lambda args: args[0],
)
def test_a_dry_run_runs_nothing_and_writes_nothing(twenty: Project, dry: list[str]) -> None:
    twenty.define(
        "step_1:\n  pre_flight: [{task: a, command: touch ran}]\n  main: touch ran\n"
        "  post_validation: [{task: b, command: touch ran}]\n"
    )
    result = twenty.run("--steps", "1", *dry)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*step_1*"])
    assert untouched(twenty)


def test_setup_plan_shows_the_fixtures_of_a_step(twenty: Project) -> None:
    twenty.run("--steps", "1", "--setup-plan").stdout.fnmatch_lines(
        ["*SETUP *pre_flight*", "*SETUP *post_validation*", "*SPEC.md::step_1*"]
    )


# -- what a selection lacks


CHAIN = "".join(f"step_{n}:\n  main: 'echo {n} >> ran'\n" for n in range(1, 6))


def test_a_need_that_is_neither_done_nor_selected_is_an_error_with_the_selection_that_works(
    project: Project,
) -> None:
    project.steps(*("Work" for _ in range(5)), ticked=(1,)).define(CHAIN)
    result = project.run("--steps", "4")
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    why = (
        "step_4 needs step_3, neither done nor selected; run: pytest --steps 2-4 (or add --steps-assume 2-3)"
    )
    assert why in result.stdout.lines
    assert ran(project) == []
    project.run("--steps", "4", "--steps-assume", "2-3").assert_outcomes(passed=1)
    assert ran(project) == ["4"]
    project.write("SPEC.md", project.spec.replace("[x]", "[ ]", 1).replace("- [ ]", "- [x]", 1))
    command = shlex.split(why.split("run: pytest ")[1].split(" (or")[0])
    project.run(*command).assert_outcomes(passed=2, skipped=1)
    assert ran(project) == ["4", "2", "3"]


def test_the_selection_that_works_is_complete_however_long_it_is(project: Project) -> None:
    every_other = list(range(1, 21, 2))
    project.steps(*("Work" for _ in range(20))).define(
        "".join(f"step_{n}:\n  main: 'true'\n  needs: []\n" for n in range(1, 20))
        + f"step_20:\n  main: 'true'\n  needs: {every_other}\n"
    )
    result = project.run("--steps", "20")
    line = next(line for line in result.stdout.lines if line.startswith("step_20 needs"))
    assert "run: pytest --steps 1,3,5,7,9,11,13,15,17,19-20 (or" in line
    project.run("--steps", "1,3,5,7,9,11,13,15,17,19-20").assert_outcomes(passed=11)


def test_the_selection_that_works_names_a_list_that_is_not_the_default(elsewhere: Project) -> None:
    result = elsewhere.run("--steps", "T002", "plans/q3/work.md")
    why = (
        "step_T002 needs step_T001, neither done nor selected; "
        "run: pytest plans/q3/work.md --steps T001-T002 (or add --steps-assume T001)"
    )
    assert why in result.stdout.lines
    elsewhere.run("plans/q3/work.md", "--steps", "T001-T002").assert_outcomes(passed=2)


def test_only_the_step_whose_need_is_missing_is_an_error_and_what_follows_is_blocked(
    project: Project,
) -> None:
    project.steps(*("Work" for _ in range(5))).define(CHAIN)
    result = project.run("--steps", "3-5")
    result.assert_outcomes(errors=1, skipped=2)
    assert result.ret == 1
    assert project.verdicts() == {}
    assert [(r["event"], r["step"]) for r in project.journal if r["step"]] == [
        ("not_started", "3"),
        ("blocked", "4"),
        ("blocked", "5"),
    ]


# -- a user's own fixtures


def test_autouse_fixtures_of_every_scope_surround_steps(project: Project) -> None:
    project.steps("One", "Two").define(CHAIN.split("step_3")[0])
    project.write(
        "conftest.py",
        """
import pytest

def made(scope):
    @pytest.fixture(autouse=True, scope=scope, name=f"auto_{scope}")
    def around(request):
        with open("order", "a") as order:
            print("begin", scope, request.node.name, file=order)
            yield
            print("end", scope, file=order)
    return around

of_session, of_package, of_module, of_class, of_function = map(
    made, ("session", "package", "module", "class", "function")
)

@pytest.fixture(autouse=True, scope="module")
def wants_the_module(request):
    assert request.module is None
""",
    )
    project.run("--steps", "all").assert_outcomes(passed=2)
    order = (project.path / "order").read_text().splitlines()
    assert [line.split()[1] for line in order if line.startswith("begin")].count("module") == 1
    assert [line for line in order if "function" in line] == [
        "begin function step_1",
        "end function",
        "begin function step_2",
        "end function",
    ]
    assert ran(project) == ["1", "2"]


def test_a_parametrized_autouse_fixture_is_refused_in_one_line(twenty: Project) -> None:
    twenty.write(
        "conftest.py",
        "import pytest\n\n@pytest.fixture(autouse=True, params=[1, 2])\ndef both(request):\n    pass\n",
    )
    result = twenty.run("--steps", "1-2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    section = result.stdout.str().split("ERROR collecting SPEC.md")[1].splitlines()
    assert section[1] == (
        "SPEC.md: the fixture 'both' is parametrized and applies to steps; "
        "a step runs once: limit it to the tests, or drop its parameters"
    )
    assert section[2].startswith("---")
    assert ran(twenty) == []
    twenty.run("tests").assert_outcomes(passed=8)


@pytest.mark.parametrize("option", [("--steps-rerun",), ("--steps-assume", "1")], ids=" ".join)
def test_what_goes_with_a_selection_is_refused_without_one(project: Project, option: tuple[str, ...]) -> None:
    project.commands("true")
    result = project.run(*option)
    assert result.ret == 4
    assert result.stderr.lines[0] == (
        f"ERROR: {option[0]} goes with a selection of steps: add --steps, or name a step"
    )
    assert project.run(*option, "-k", "step_1", "--collect-only").ret == 0
