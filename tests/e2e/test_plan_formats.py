"""``--steps-plan`` in its three formats, by a real pytest: what it says, and that it touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project

PLAN = """
pools: {gpu: 1}
step_1: {main: sleep 0.3, inputs: [config.yaml]}
step_2: {track: A, main: sleep 0.2}
step_3: {track: A, main: 'true'}
step_4: {track: B, main: 'true', resources: {gpu: 1}, cost: {usd: 12.4, assuming: 500 calls}}
step_5: {track: C, main: 'true', resources: {gpu: 1}, cost: {usd: 34.2, when: PLAN_TEST_KEY}}
step_6: {main: 'true'}
"""


@pytest.fixture
def tracks(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PLAN_TEST_KEY", raising=False)
    monkeypatch.delenv("CI", raising=False)
    project.steps("Set up", "Fetch", "Clean", 'A "small" model [x]', "Large model", "Publish", "Tell")
    project.write("config.yaml", "a: 1\n")
    return project.define(PLAN)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def plan(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    """A plan from a pytest of its own, which must leave the folder as it was."""
    before = content(project.path)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--steps-plan", *args],
        cwd=project.path,
        # Compiled files of a conftest would be pytest's own.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert content(project.path) == before
    return ended


def as_json(project: Project, *args: str) -> dict[str, Any]:
    ended = plan(project, "--steps-plan-format", "json", *args)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


def test_the_text_has_waves_tracks_reasons_and_costs(tracks: Project) -> None:
    ended = plan(tracks, "--steps-budget", "20")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "Plan of SPEC.md: 7 steps, 0 done; selected: all"
    wanted = [
        "Ready to execute (wave 1):",
        "  step_1  Set up  (not done)",
        "Waiting on dependencies (wave 2):",
        "  Track A: step_2-3 (2 tasks)",
        "  Track B: step_4 (1 task)",
        "  Track C: step_5 (1 task)",
        "      takes gpu 1 of 1; may have to wait: pool gpu: 1 of 1 taken by step_4",
        "Estimated cost: $12.40 of what runs; about $34.20 more where PLAN_TEST_KEY is set; budget $20.00",
        "Critical path: step_1 -> step_2 -> step_3 -> step_6",
        "Expected: 6 steps without a known duration",
        "Total: 7 tasks; 6 to run, 0 done or skipped, 1 that cannot run",
    ]
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places)
    assert not [line for line in lines if line.startswith("=")], "pytest itself says nothing"


def test_the_journal_gives_reasons_and_the_time_to_expect(tracks: Project) -> None:
    assert tracks.run("--steps", "1-3").ret == 0
    seconds = {record["step"]: record["seconds"] for record in tracks.events("attempt_finished")}
    data = as_json(tracks, "--steps", "1-3", "--steps-rerun", "-n", "4")
    assert data["workers"] == 4
    assert data["waves"] == [["1"], ["2"], ["3"]]
    assert data["expected_seconds"] == pytest.approx(sum(seconds.values()), abs=0.01)
    assert [step["seconds"] for step in data["steps"][:3]] == pytest.approx(
        [seconds["1"], seconds["2"], seconds["3"]], abs=0.001
    )
    lines = plan(tracks, "--steps", "1-4").stdout.splitlines()
    day = tracks.events("attempt_finished", "1")[0]
    assert f"  - step_1  Set up  (done {day['timestamp'][:10]} by {day['task_id']})" in lines
    assert '  step_4  A "small" model [x]  (not done)' in lines


@pytest.mark.slow
def test_workers_shorten_the_time_to_expect_as_far_as_needs_and_pools_allow(project: Project) -> None:
    project.steps(*(f"Work {n}" for n in range(1, 5))).define(
        "pools: {gpu: 1}\n"
        + "".join(f"step_{n}: {{needs: [], main: sleep 0.2}}\n" for n in (1, 2))
        + "".join(f"step_{n}: {{needs: [], main: sleep 0.2, resources: {{gpu: 1}}}}\n" for n in (3, 4))
    )
    assert project.run("--steps", "all").ret == 0
    took = [record["seconds"] for record in project.events("attempt_finished")]
    rerun = ("--steps", "all", "--steps-rerun")
    assert as_json(project, *rerun)["expected_seconds"] == pytest.approx(sum(took), abs=0.01)
    longest = max(*took[:2], sum(took[2:]))  # any step may take long on a machine that is busy
    assert as_json(project, *rerun, "-n", "4")["expected_seconds"] == pytest.approx(longest, abs=0.01)


def test_a_done_step_whose_input_was_modified_later_is_done_and_says_so(project: Project) -> None:
    project.steps("Count").write("in.txt", "a\n")
    project.define("step_1: {inputs: [in.txt], main: wc -l < in.txt}\n")
    assert project.run("--steps", "all").ret == 0
    assert as_json(project)["steps"][0]["changed_inputs"] == []
    later = project.path / "in.txt"
    os.utime(later, (later.stat().st_atime, later.stat().st_mtime + 3600))
    (step,) = as_json(project)["steps"]
    assert (step["status"], step["changed_inputs"]) == ("done", ["in.txt"])
    assert "; inputs changed since: in.txt)" in plan(project).stdout


def test_mermaid_and_json_are_all_that_is_printed(tracks: Project) -> None:
    picture = plan(tracks, "--steps-plan-format", "mermaid")
    assert (picture.returncode, picture.stderr) == (0, "")
    assert picture.stdout.startswith("flowchart TD\n  s0[")
    assert '  subgraph g2["Track B"]\n    s3["step_4#58; A #34;small#34; model #91;x#93;"]' in picture.stdout
    data = as_json(tracks, "-n", "2")
    assert data["waves"] == [["1"], ["2", "4", "5"], ["3"], ["6"]]
    assert data["counts"] == {"done": 0, "run": 6, "blocked": 0, "refused": 1, "skipped": 0}
    assert data["steps"][3]["cost"] == {
        "usd": 12.4,
        "assuming": "500 calls",
        "when": None,
        "applies": True,
    }


def test_a_variable_decides_what_costs(tracks: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN_TEST_KEY", "x")
    data = as_json(tracks)
    assert (data["estimated_cost_usd"], data["estimated_cost_usd_with"]) == (46.6, {})


@pytest.mark.parametrize("form", ["text", "mermaid", "json"])
def test_what_the_encoding_of_the_output_lacks_is_escaped(
    project: Project, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    project.steps("Café", "No definition").define("step_1: {main: 'true'}\n")
    ended = plan(project, "--steps-plan-format", form)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Caf\\u00e9" in ended.stdout if form == "json" else "Caf\\xe9" in ended.stdout
    assert form != "text" or "  \\u2717 step_2 " in ended.stdout


DESELECTING = """
step_1: {main: 'true', needs: []}
step_2: {main: 'true', needs: []}
step_3: {main: 'true', needs: [2]}
step_4: {main: 'true', needs: [], track: A}
step_10: {main: 'true', needs: []}
"""


@pytest.fixture
def five(project: Project) -> Project:
    project.write(
        "SPEC.md",
        "# A plan\n\n" + "".join(f"- [ ] **STEP {n}**: Work {n}\n" for n in (1, 2, 3, 4, 10)),
    )
    project.write("pytest.ini", "[pytest]\n")
    return project.define(DESELECTING)


@pytest.mark.parametrize(
    ("args", "run"),
    [
        (["-k", "step_1"], ["1"]),
        (["-k", "STEP_1"], ["1"]),
        (["-k", "step_1 or step_4"], ["1", "4"]),
        (["-k", "step_1 and not step_1"], []),
        (["SPEC.md", "-k", "step_10"], ["10"]),
        (["SPEC.md::step_1", "SPEC.md::step_4", "-k", "step_4"], ["4"]),
        (["--steps", "all", "-k", "step_1"], ["1"]),
        (["--steps", "all", "-k", "Work and not (step_1 or track_a)"], ["2", "3", "10"]),
        (["--steps", "all", "-k", "spec"], ["1", "2", "3", "4", "10"]),
        (["--steps", "all", "-k", "elsewhere"], []),
        (["--steps", "all", "-m", "not track_a"], ["1", "2", "3", "10"]),
        (["--steps", "all", "-m", "slow"], []),
        (["--steps", "all", "--deselect", "SPEC.md::step_1"], ["2", "3", "4", "10"]),
        (["--steps", "all", "--deselect", "SPEC.md::"], []),
        (["--steps", "1-3", "--deselect", "SPEC.md::step_3", "--deselect", "tests"], ["1", "2"]),
    ],
)
def test_a_plan_has_the_steps_that_the_same_command_would_run(
    five: Project, capsys: pytest.CaptureFixture[str], args: list[str], run: list[str]
) -> None:
    shown = five.run("--steps-plan", "--steps-plan-format", "json", *args)
    assert shown.ret == 0
    data = json.loads(shown.stdout.str())
    assert data["selection"]["ids"] == run
    assert sorted(name for wave in data["waves"] for name in wave) == sorted(run)
    assert data["counts"]["run"] == len(run)
    collected = [line for line in five.run("--collect-only", "-q", *args).stdout.lines if "::" in line]
    assert collected == [f"SPEC.md::step_{name}" for name in run]


def test_a_deselected_step_blocks_what_needs_it_unless_it_is_done(five: Project) -> None:
    args = ("--steps", "1-3", "--deselect", "SPEC.md::step_2")
    ended = plan(five, *args)
    lines = ended.stdout.splitlines()
    assert lines[0] == "Plan of SPEC.md: 5 steps, 0 done; selected: 1-3 (1 deselected)"
    assert "  - step_3  Work 3  (blocked by step_2)" in lines
    assert lines[-1] == "Total: 2 tasks; 1 to run, 0 done or skipped, 1 that cannot run"
    statuses = [step["status"] for step in as_json(five, *args)["steps"]]
    assert statuses == ["run", "skipped", "blocked", "skipped", "skipped"]
    assert "step_2: deselected" not in ended.stdout
    result = five.run(*args)
    assert five.verdicts() == {"1": "passed"}
    result.stdout.fnmatch_lines(["- step_3  blocked by step_2 (not run)"])

    assert five.run("--steps", "2").ret == 0
    again = as_json(five, *args, "--steps-rerun")
    assert again["waves"] == [["1", "3"]]
    assert [step["status"] for step in again["steps"]][:3] == ["run", "done", "run"]
    five.run(*args, "--steps-rerun")
    assert five.verdicts() == {"1": "passed", "2": "passed", "3": "passed"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-k", "step_99"], "ERROR: SPEC.md::step_99: there is no step 99; SPEC.md has 1-10"),
        (["-k", "step_1 and"], "ERROR: Wrong expression passed to '-k': step_1 and"),
    ],
)
def test_words_that_select_nothing_are_one_line(five: Project, args: list[str], message: str) -> None:
    result = five.run("--steps-plan", *args)
    assert result.ret == 4
    assert [line for line in result.stderr.lines if line] == [message]


def test_continue_with_nothing_left_says_so_as_a_session_does(project: Project) -> None:
    project.steps("Work", ticked=(1,)).define("step_1: {main: 'true'}\n")
    assert "nothing left to do" in plan(project, "--steps", "continue").stdout.splitlines()
    gone = plan(project, "SPEC.md", "--deselect", "SPEC.md::step_1").stdout
    assert "nothing left to do" not in gone


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["--steps-plan"], "--steps-plan"),
        (["--steps", "1", "--steps-plan"], "--steps"),
        (["--steps", "1"], "--steps"),
        (["--steps-verify"], "--steps-verify"),
        (["--steps-track", "A", "--steps-plan"], "--steps-track"),
        (["--steps-layer", "1"], "--steps-layer"),
    ],
)
def test_where_there_is_no_list_the_option_that_was_typed_is_named(
    project: Project, args: list[str], option: str
) -> None:
    (line,) = [line for line in project.run(*args).stderr.lines if line]
    assert line.startswith(f"ERROR: {option}: there is no task list at ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--steps-plan", "--steps-plan-format", "xml"],
            "--steps-plan-format xml: give text, mermaid or json",
        ),
        (["--steps-plan", "--steps-plan-format="], "--steps-plan-format : give text, mermaid or json"),
        (["--steps-plan-format", "json"], "--steps-plan-format json goes with --steps-plan: add it"),
        (
            ["--steps", "all", "--steps-plan-format", "json"],
            "--steps-plan-format json goes with --steps-plan: add it",
        ),
    ],
)
def test_a_format_that_makes_no_sense_is_a_usage_error_in_one_line(
    tracks: Project, args: list[str], message: str
) -> None:
    result = tracks.run(*args)
    assert result.ret == 4
    assert [line for line in result.stderr.lines if line] == [f"ERROR: {message}"]
    assert result.stdout.lines == []
    assert tracks.journal == []


def test_a_broken_plan_is_a_usage_error_in_every_format(tracks: Project) -> None:
    tracks.define("step_9: {main: 'true'}\n")
    for name in ("text", "mermaid", "json"):
        ended = plan(tracks, "--steps-plan-format", name)
        assert ended.returncode == 4
        assert ended.stdout == ""
        assert "there is no step 9 in SPEC.md" in ended.stderr


def test_a_plan_may_be_asked_for_while_a_session_runs(project: Project) -> None:
    project.commands("touch running; sleep 600")
    run = project.start("--steps", "all")
    try:
        while not (project.path / "running").exists():
            assert run.poll() is None
            time.sleep(0.02)
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "--steps-plan", "--steps-plan-format", "json"],
            cwd=project.path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert json.loads(ended.stdout)["total"] == 1
    finally:
        run.terminate()
        run.communicate(timeout=60)
