"""Journal, ticks, resume, verify: what a second session makes of the first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import Project


def test_done_steps_are_skipped_with_the_attempt_that_did_them(project: Project) -> None:
    project.commands("echo x >> one", "echo x >> two")
    assert project.run("--steps", "1").ret == 0
    result = project.run("--steps", "all", "-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["- already done: 1", "*SKIPPED*done 20??-??-?? by task_1_*"])
    assert (project.path / "one").read_text() == "x\n"
    assert project.ticked == ["1", "2"]


def test_a_failure_blocks_its_dependants_and_continue_goes_on_from_there(project: Project) -> None:
    project.commands("echo x >> one", "test -e go", "echo x >> three")
    result = project.run("--steps", "all")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["- step_3  blocked by step_2 (failed)", "next: pytest --steps continue"])
    assert project.events("blocked", "3")
    project.write("go", "")
    result = project.run("--steps", "continue")
    result.assert_outcomes(passed=2)
    assert (project.path / "one").read_text() == "x\n"
    again = project.run("--steps", "continue")
    assert again.ret == 0
    again.stdout.fnmatch_lines(["nothing left to do", "all steps are done"])


def test_steps_that_do_not_depend_on_the_failure_go_on_and_x_stops(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {main: 'false'}\nstep_2: {needs: [], main: 'true'}\nstep_3: {needs: [], main: 'true'}\n"
    )
    project.run("--steps", "all", "-x").assert_outcomes(failed=1)
    project.run("--steps", "all").assert_outcomes(passed=2, failed=1)


def test_rerun_replaces_the_tick_and_a_failed_rerun_takes_it_back(project: Project) -> None:
    project.commands("test ! -e broken")
    project.run("--steps", "1")
    first = project.spec
    assert project.run("--steps", "1", "--steps-rerun").ret == 0
    assert project.spec.count("✓") == 1
    assert project.spec != first
    project.write("broken", "")
    result = project.run("--steps", "1", "--steps-rerun")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["[[]SPEC[]] ! SPEC.md:3 un-ticked: it was run again and failed"])
    assert project.spec == "# A plan\n\n- [ ] **STEP 1**: Work 1\n"
    assert project.events("unticked", "1")


def test_a_box_that_the_work_ticks_itself_is_unticked_when_the_step_fails(project: Project) -> None:
    project.commands("sed -i 's/- \\[ \\]/- [x]/' SPEC.md; false")
    result = project.run("--steps", "1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*un-ticked: somebody ticked it, but the attempt failed"])
    assert project.ticked == []


def test_a_box_ticked_by_hand_after_a_failure_is_not_done(project: Project) -> None:
    project.commands("test -e go")
    project.run("--steps", "1")
    project.write("SPEC.md", project.spec.replace("[ ]", "[x]"))
    project.run("--steps-plan").stdout.fnmatch_lines(["*ticked, but task_1_* ended as failed*"])
    project.write("go", "")
    assert project.run("--steps", "continue").ret == 0
    assert project.events("attempt_finished", "1")[-1]["status"] == "passed"


def test_a_tick_without_a_record_is_done_and_says_so(project: Project) -> None:
    project.commands("touch ran")
    project.write("SPEC.md", project.spec.replace("[ ]", "[x]"))
    result = project.run("--steps", "all", "-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*done, no record here"])
    assert not (project.path / "ran").exists()


def test_a_box_unticked_by_hand_is_run_again(project: Project) -> None:
    project.commands("echo x >> ran")
    project.run("--steps", "1")
    project.write("SPEC.md", re.sub(r"\[x\](.*?) ✓.*", r"[ ]\1", project.spec))
    project.run("--steps", "continue")
    assert (project.path / "ran").read_text() == "x\nx\n"


def test_a_pass_that_never_reached_the_list_is_ticked_at_the_next_start(project: Project) -> None:
    project.commands("cp SPEC.md saved.md; sed -i '/STEP 1/d' SPEC.md", "true")
    result = project.run("--steps", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["[[]SPEC[]] ✗ not ticked: *", "! step_1: *"])
    assert project.verdicts() == {"1": "passed"}
    (project.path / "saved.md").rename(project.path / "SPEC.md")
    result = project.run("--steps", "continue")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["step_1 passed before (task_1_*) and is ticked now: SPEC.md:3"])
    assert project.ticked == ["1", "2"]
    assert len(project.events("attempt_started", "1")) == 1


def test_work_done_under_another_identity_is_not_done_here(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.steps("Work").define(
        "step_1:\n  identity: {engine: {env: ENGINE_KEY, set: hosted, unset: local}}\n  main: echo x >> ran\n"
    )
    project.run("--steps", "all")
    monkeypatch.setenv("ENGINE_KEY", "a-secret-value")
    project.run("--steps-plan").stdout.fnmatch_lines(["*done on engine=local, not on engine=hosted*"])
    verify = project.run("--steps-verify")
    verify.stdout.fnmatch_lines(["- step_1  not verified: done on engine=local, not on engine=hosted"])
    project.run("--steps", "all")
    assert (project.path / "ran").read_text() == "x\nx\n"
    assert "a-secret-value" not in (project.path / ".task_execution.log").read_text()


def test_assume_takes_steps_as_done_for_this_run_when_their_outputs_exist(project: Project) -> None:
    project.steps("Make", "Use").define(
        "step_1: {main: 'false', outputs: [data.txt]}\nstep_2: {main: cat data.txt}\n"
    )
    result = project.run("--steps", "2", "--steps-assume", "1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: --steps-assume 1: step 1 cannot be taken as done: output data.txt does not exist"]
    )
    project.write("data.txt", "x")
    assert project.run("--steps", "2", "--steps-assume", "1").ret == 0
    assert project.ticked == ["2"]
    assert project.events("assumed", "1")


def test_verify_runs_the_validations_of_ticked_steps_without_their_mains(project: Project) -> None:
    project.steps("Make", "Check", "Never").define(
        """
step_1: {main: echo x >> out.txt, outputs: [out.txt]}
step_2: {main: echo x >> ran, post_validation: [{task: still_there, command: test -e out.txt}]}
step_3: {main: 'true'}
"""
    )
    project.run("--steps", "1-2")
    before = project.spec
    assert project.run("--steps-verify").ret == 0
    assert project.spec == before
    (project.path / "out.txt").unlink()
    result = project.run("--steps-verify")
    assert result.ret == 1
    result.assert_outcomes(failed=2, skipped=1)
    result.stdout.fnmatch_lines(["*SPEC.md: 0 of 2 ticks hold*", "next: pytest --steps 1-2 --steps-rerun"])
    assert project.spec == before
    assert (project.path / "ran").read_text() == "x\n"


def test_verify_with_untick_takes_back_what_does_not_hold(project: Project) -> None:
    project.steps("Make", "Else").define(
        "step_1: {main: echo x > out.txt, outputs: [out.txt]}\nstep_2: {main: 'true'}\n"
    )
    project.run("--steps", "all")
    (project.path / "out.txt").unlink()
    project.run("--steps-verify", "--steps-untick")
    assert project.ticked == ["2"]
    assert project.run("--steps", "continue").ret == 0
    assert project.ticked == ["1", "2"]
    assert project.run("--steps", "all", "--steps-untick").ret == 4


def test_containers_are_ticked_with_their_last_child_and_unticked_with_any(project: Project) -> None:
    project.write(
        "tasks.md", "- [ ] 1. Whole\n  - [ ] 1.1 First\n  - [ ] 1.2 Second\n  - [ ]* 1.3 Optional\n"
    )
    project.define("steps:\n- {step: 1.1, main: 'true'}\n- {step: 1.2, main: test ! -e broken}\n")
    project.run("--steps", "1.1")
    assert "- [ ] 1. Whole" in (project.path / "tasks.md").read_text()
    assert project.run("--steps", "continue").ret == 0
    text = (project.path / "tasks.md").read_text()
    assert text.startswith("- [x] 1. Whole ✓")
    assert "- [ ]* 1.3 Optional" in text
    project.write("broken", "")
    project.run("--steps", "1.2", "--steps-rerun")
    assert (project.path / "tasks.md").read_text().startswith("- [ ] 1. Whole\n")


def test_bytes_that_are_not_the_tick_stay_as_they_were(project: Project) -> None:
    original = (
        b"\xef\xbb\xbf# Plan \xff\r\n\r\n- [ ] **STEP 1**: Ein Sch\xc3\xb6nes  \r\n\tnote\t\r\n"
        b"* [~] **STEP 2**: other\r\n- [ ] not a step\n- [ ] **STEP 3**: last, no newline"
    )
    path = project.path / "SPEC.md"
    path.write_bytes(original)
    path.chmod(0o640)
    link = project.path / "linked.md"
    link.symlink_to(path)
    project.define("step_1: {main: 'true'}\nstep_2: {main: 'true'}\nstep_3: {main: 'true'}\n")
    assert project.run("--steps", "all", "linked.md").ret == 0
    ticked = path.read_bytes()
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    untouched = re.sub(rb" \xe2\x9c\x93 \[[^\]]*\] \[[^\]]*\]", b"", ticked)
    assert untouched == original.replace(b"[ ] **", b"[x] **").replace(b"[~]", b"[x]")


def test_every_record_has_its_fields_and_one_grep_tells_the_story_of_an_attempt(project: Project) -> None:
    project.commands("echo hello")
    project.run("--steps", "1")
    for record in project.journal:
        assert {"v", "timestamp", "run_id", "task_id", "step", "event", "status"} <= record.keys()
    task_id = project.events("attempt_started")[0]["task_id"]
    story = [record["event"] for record in project.journal if record["task_id"] == task_id]
    assert story == ["attempt_started", "phase", "attempt_finished", "ticked"]
    assert (project.path / ".task_execution.log").stat().st_mode & 0o777 == 0o600


def test_a_run_records_where_its_code_came_from(project: Project) -> None:
    project.commands("true")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q"], cwd=project.path, check=True)
    subprocess.run(["git", "add", "SPEC.md"], cwd=project.path, check=True)
    subprocess.run([*git, "commit", "-qm", "x"], cwd=project.path, check=True)
    project.run("--steps", "1")
    started = project.events("run_started")[0]
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project.path, text=True).strip()
    assert started["git_head"] == head
    assert started["git_dirty"] is False
    assert len(started["definitions_sha256"]) == 64
    assert {"python", "pytest", "plugin"} <= started.keys()


def test_a_torn_last_line_of_the_journal_loses_only_itself(project: Project) -> None:
    project.commands("true", "true")
    project.run("--steps", "1")
    journal = project.path / ".task_execution.log"
    with journal.open("a") as stream:
        stream.write('{"v": 1, "event": "attempt_fin')
    assert project.run("--steps", "continue").ret == 0
    lines = journal.read_text().splitlines()
    assert sum('"attempt_finished"' in line for line in lines) == 2


def test_secrets_reach_neither_terminal_nor_journal_nor_logs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-value-0123456789"
    monkeypatch.setenv("MY_API_KEY", secret)
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    project.write(
        "work.py",
        "import os\ndef main(step):\n    step.note('key ' + os.environ['MY_API_KEY'])\n"
        "    print('in process', os.environ['MY_API_KEY'])\n    raise ValueError(os.environ['MY_API_KEY'])\n",
    )
    project.steps("Echo", "Python").define(
        """
step_1:
  pre_flight: [{task: head, command: 'echo $MY_API_KEY | cut -c1-10'}]
  main: 'echo $MY_API_KEY; echo $MY_API_KEY | base64; exit 1'
step_2: {needs: [], main: {python: 'work:main'}}
"""
    )
    result = project.run("--steps", "all", "-v")
    shown = result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["*not hidden in output: SHORT_TOKEN"])
    assert "[redacted]" in shown
    files = [path for path in project.path.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for text in [shown, *(path.read_text(errors="replace") for path in files)]:
        assert "s3cr3t" not in text


def test_junit_has_one_case_per_step_with_its_checks_as_properties(project: Project) -> None:
    project.steps("Work").define(
        "step_1: {main: 'true', post_validation: [{task: one, command: 'true'}, {task: two, command: ls}]}\n"
    )
    project.run("--steps", "1", "--junitxml=out.xml")
    xml = (project.path / "out.xml").read_text()
    assert xml.count("<testcase") == 1
    assert 'name="post_validation: one" value="passed' in xml
    assert 'name="task_id" value="task_1_' in xml


@pytest.mark.parametrize("folder", ["here", "elsewhere"])
def test_paths_are_relative_to_the_folder_of_the_list(project: Project, folder: str, tmp_path: Path) -> None:
    other = (project.path if folder == "here" else tmp_path) / "plan"
    other.mkdir()
    (other / "SPEC.md").write_text("- [ ] **STEP 1**: Work\n")
    (other / "step_definitions.yaml").write_text("step_1: {main: pwd > where, outputs: [where]}\n")
    result = project.run("--steps", "1", str(other / "SPEC.md"))
    assert result.ret == 0, result.stdout.str()
    assert (other / "where").read_text().strip() == os.path.realpath(other)
    assert (other / ".task_execution.log").exists()
