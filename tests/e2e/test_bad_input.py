"""What a user is told when the list, the definitions or the disk are not as they should be."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import shutil
import signal
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


@pytest.mark.parametrize(
    "args", [["--steps", "all"], ["--steps-verify"], ["--steps-plan"]], ids=lambda a: a[0]
)
def test_a_missing_list(project: Project, args: list[str]) -> None:
    assert error(project.run(*args)) == [
        f"{args[0]}: there is no task list at {project.path} (looked for SPEC.md and tasks.md); "
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
        "SPEC.md:4: code fence is never closed and hides 1 box; put ``` on a line of its own"
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
            "step_1:\n  main:\n    command: 'true'\n    timeout: soon\n"
            "step_2:\n  main: 'true'\n  outputs: {a: b}\n",
            [
                f"{AT}:4: 'timeout' must be a duration, not the text 'soon'; "
                "write seconds, or text like 90s, 5m or 2h",
                f"{AT}:7: 'outputs' must be a list, not a mapping; start each entry with '- '",
            ],
            id="wrong types",
        ),
        pytest.param(
            "step_1: {main: 'true'}\nstep_2:\n  main: 'true'\n  needs: [7]\n",
            [
                f"{AT}:2: step_2 needs step 7, which is not in SPEC.md; "
                "take it out, or add the step to the list"
            ],
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
                f"{AT}:7: 'timeout' must be at most 30 days, not 3456000 seconds; everything has an end here",
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


# -- files that may not be read or written


def permitted(project: Project, *args: str) -> list[str]:
    """What pytest says to a user for whom permission bits hold, which they do not for root."""
    without = None
    if os.geteuid() == 0:
        if not sys.platform.startswith("linux"):
            pytest.skip("root, and no way to give up root's permissions on this system")
        without = _give_up_root_permissions
    try:
        process = project.start("-p", "no:randomly", *args, preexec_fn=without)
    except subprocess.SubprocessError as error:
        pytest.skip(f"root, and its permissions cannot be given up here: {error}")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR, output
    return [line.removeprefix("ERROR: ") for line in output.splitlines() if line]


def _give_up_root_permissions() -> None:
    """Drop the capabilities that make root pass over permission bits, for good and for all children."""
    libc = ctypes.CDLL(None, use_errno=True)
    drop_from_bounding_set = 24
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if libc.prctl(drop_from_bounding_set, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")


@pytest.fixture
def two(project: Project) -> Iterator[Project]:
    project.write("SPEC.md", TWO)
    project.define(BOTH)
    yield project
    for path in (project.path, *project.path.rglob("*")):
        path.chmod(0o755)  # else the folder cannot be removed


def test_a_list_that_may_not_be_read(two: Project) -> None:
    (two.path / "SPEC.md").chmod(0)
    assert permitted(two, "--steps", "all") == ["SPEC.md: the task list cannot be read: Permission denied"]
    assert nothing_happened(two)


def test_a_list_that_may_not_be_written_is_said_before_anything_is_spent(two: Project) -> None:
    (two.path / "SPEC.md").chmod(0o444)
    assert permitted(two, "--steps", "all") == [
        f"SPEC.md cannot be ticked ({two.path}/SPEC.md: Permission denied); nothing was started: "
        "make the list and its folder writable"
    ]
    assert nothing_happened(two)


def test_a_folder_that_may_not_be_written_is_said_before_anything_is_spent(two: Project) -> None:
    two.path.chmod(0o555)
    [line] = permitted(two, "-p", "no:cacheprovider", "--steps", "all")
    assert re.fullmatch(
        re.escape(f"SPEC.md cannot be ticked ({two.path}/")
        + r"[\w.]+"
        + re.escape(": Permission denied); nothing was started: make the list and its folder writable"),
        line,
    )
    assert nothing_happened(two)


def test_definitions_that_may_not_be_read(two: Project) -> None:
    (two.path / DEFINITIONS).chmod(0)
    assert permitted(two, "--steps", "all") == [f"{AT}: the definitions cannot be read: Permission denied"]


def test_a_journal_that_may_not_be_read(two: Project) -> None:
    two.write(".task_execution.log", "").chmod(0)
    assert permitted(two, "--steps", "all") == [
        f"{two.path}/.task_execution.log: the journal cannot be read: Permission denied; "
        "make it a file that is yours"
    ]


def test_a_journal_that_may_not_be_written(two: Project) -> None:
    two.write(".task_execution.log", "").chmod(0o444)
    assert permitted(two, "--steps", "all") == [
        f"{two.path}/.task_execution.log: the journal cannot be opened: Permission denied; "
        "nothing was started"
    ]
    assert not (two.path / "ran").exists()


def test_a_state_folder_that_may_not_be_written(two: Project) -> None:
    (two.path / ".steps").mkdir()
    (two.path / ".steps").chmod(0o555)
    assert permitted(two, "--steps", "all") == [
        f"SPEC.md: {two.path}/.steps/lock: Permission denied; it has to be yours to write"
    ]


# -- a list that changes while a step runs


def edited_while_running(project: Project, edit: str) -> pytest.RunResult:
    """Run two steps, of which the first changes the list."""
    project.write("SPEC.md", TWO)
    project.write(
        "edit.py", f"from pathlib import Path\n\nspec = Path('SPEC.md')\ntext = spec.read_text()\n{edit}\n"
    )
    project.define("step_1: {main: python edit.py}\nstep_2: {main: 'true'}\n")
    return project.run("--steps", "all")


def passed(project: Project) -> list[str]:
    return [record["step"] for record in project.events("attempt_finished") if record["status"] == "passed"]


def test_somebody_elses_edit_of_another_line_is_kept(project: Project) -> None:
    result = edited_while_running(project, "spec.write_text('# New\\n\\n' + text + '\\nA note\\n')")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[[]SPEC[]] ✓ SPEC.md:3 ticked", "[[]SPEC[]] ✓ SPEC.md:4 ticked"])
    assert project.ticked == ["1", "2"]
    assert re.sub(r" ✓ \[.*", "", project.spec).replace("[x]", "[ ]") == f"# New\n\n{TWO}\nA note\n"


CHANGED = (
    "SPEC.md:1: box 1 changed its text from '**STEP 1**: One' to '**STEP 1**: Eins'; the box is left as it is"
)


@pytest.mark.parametrize(
    ("edit", "message", "then"),
    [
        ("spec.write_text(text.replace('One', 'Eins'))", CHANGED, ["2"]),
        (
            "spec.write_text(text.split('\\n', 1)[1])",
            "SPEC.md:1: box 1 vanished; put it back",
            ["2"],
        ),
        (
            "spec.write_text(text + text.splitlines()[0] + '\\n')",
            "SPEC.md:1 and SPEC.md:3: id 1 of box 1 is no longer unique; give each box its own id",
            ["2"],
        ),
        ("spec.unlink()", "SPEC.md: cannot be written: No such file or directory", []),
        (
            "spec.unlink(); spec.write_text('# Another plan\\n')",
            "SPEC.md:1: box 1 vanished; put it back",
            [],
        ),
    ],
    ids=["text changed", "line deleted", "id repeated", "file deleted", "file replaced"],
)
def test_a_box_that_cannot_be_found_again_is_not_ticked_but_once_it_is_back(
    project: Project, edit: str, message: str, then: list[str]
) -> None:
    result = edited_while_running(project, edit)
    shown = [line for line in result.stdout.lines if message in line]
    assert shown[0] == f"[SPEC] ✗ not ticked: {message}"
    assert f"! step_1: {message}" in shown
    assert passed(project) == ["1", "2"], "the work was done, and the record says so"
    if (project.path / "SPEC.md").exists():
        assert project.ticked == then

    project.write("SPEC.md", TWO if not then else TWO.replace("- [ ] **STEP 2", "- [x] **STEP 2"))
    result = project.run("--steps", "continue")
    assert result.ret == 0
    task_id = project.events("attempt_finished", "1")[0]["task_id"]
    assert f"step_1 passed before ({task_id}) and is ticked now: SPEC.md:1" in result.stdout.lines
    assert project.ticked == ["1", "2"]
    assert passed(project) == ["1", "2"], "nothing ran again"


def test_a_box_whose_text_is_still_another_one_is_run_again_instead_of_ticked(project: Project) -> None:
    edited_while_running(project, "spec.write_text(text.replace('One', 'Eins'))")
    plan = project.run("--steps-plan")
    plan.stdout.fnmatch_lines(["*(not done: its text has changed since task_1_* passed)"])
    project.run("--steps", "continue")
    assert len(project.events("attempt_started", "1")) == 2
    assert project.ticked == ["1", "2"]


# -- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    if os.geteuid() != 0 or shutil.which("mount") is None or not sys.platform.startswith("linux"):
        pytest.skip("a small file system can only be mounted by root, on Linux")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def many(folder: Path, first: str) -> None:
    """Twelve steps; each leaves about a kilobyte in the journal."""
    (folder / "SPEC.md").write_text("".join(f"- [ ] **STEP {number}**: Work\n" for number in range(1, 13)))
    commands = [first] + ["true"] * 11
    (folder / "step_definitions.yaml").write_text(
        "".join(f"step_{number}: {{main: '{command}'}}\n" for number, command in enumerate(commands, start=1))
    )


def stopped(process: subprocess.Popen[str], folder: Path) -> None:
    """The run says that it cannot record, and stops; only what is recorded is ticked."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    why = re.escape(f"{folder}/.task_execution.log: the journal cannot be written: ")
    why += "(No space left on device|the disk is full|File too large)"
    assert re.search(f"^✗ {why}; what is not recorded is not ticked$", output, re.M), output
    assert re.search(f"^!+ {why} !+$", output, re.M), output
    assert not re.search("Traceback|INTERNALERROR", output), output
    recorded = []
    for line in (folder / ".task_execution.log").read_text().splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if (record["event"], record["status"]) == ("attempt_finished", "passed"):
                recorded.append(record["step"])
    ticked = re.findall(r"- \[x\] \*\*STEP (\d+)", (folder / "SPEC.md").read_text())
    assert set(ticked) <= set(recorded)
    assert len(recorded) < 12
    assert len(re.findall(r"^\[STEP \d+: ", output, re.M)) <= len(recorded) + 1, "it stopped at once"


def test_a_full_disk_stops_the_run_and_nothing_is_ticked_unrecorded(
    project: Project, small_disk: Path
) -> None:
    many(small_disk, "cat /dev/zero > filler; true")
    stopped(
        project.start("-p", "no:cacheprovider", "--steps", "all", str(small_disk / "SPEC.md")), small_disk
    )
    assert "- [x]" not in (small_disk / "SPEC.md").read_text(), "there was no room for a tick either"
    (small_disk / "filler").unlink()
    again = project.run("-p", "no:cacheprovider", "--steps", "all", str(small_disk / "SPEC.md"))
    assert again.ret == 0
    assert (small_disk / "SPEC.md").read_text().count("- [x]") == 12


def _limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, 64_000))


def _no_byte_code() -> dict[str, str]:
    """The environment of who may not write large files: byte code would be cut as well, and stay."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_limit_on_file_sizes_stops_the_run_as_well(project: Project) -> None:
    many(project.path, "true")
    project.write(".task_execution.log", "-" * 60_000 + "\n")
    args = ("-p", "no:cacheprovider", "--steps", "all")
    stopped(project.start(*args, preexec_fn=_limit_files, env=_no_byte_code()), project.path)
    assert project.ticked, "up to there it ran"
    assert project.run(*args).ret == 0
    assert len(project.ticked) == 12


def test_a_journal_that_cannot_be_written_at_all_starts_nothing(two: Project) -> None:
    log = two.write(".task_execution.log", "-" * 64_000)
    process = two.start(
        "-p", "no:cacheprovider", "--steps", "all", preexec_fn=_limit_files, env=_no_byte_code()
    )
    output, _ = process.communicate(timeout=60)
    assert output.strip() == (
        f"ERROR: {log}: the journal cannot be written: {os.strerror(errno.EFBIG)}; nothing was started"
    )
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert not (two.path / "ran").exists()
