"""Workers that die, cannot start, or come back; the line that says how far all is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psutil
import pytest

from pytest_tinker_steps import activation

from ..test_console import screen
from .conftest import Project
from .test_interruptions import living, started, wait_for


def workers_of(project: Project, words: str) -> list[psutil.Process]:
    """The workers of xdist that run a main with these words in its command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if words in " ".join(process.cmdline()) and process.cwd() == str(project.path):
                found += [p for p in process.parents() if "stdin.readline" in " ".join(p.cmdline())]
    return found


def worker_of(pid: int) -> psutil.Process:
    """The living worker of a session that has one."""
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "stdin.readline" in " ".join(child.cmdline()):
                return child
    raise AssertionError("it has no worker")


def kill_worker(project: Project, words: str) -> None:
    wait_for(lambda: bool(workers_of(project, words)))
    workers_of(project, words)[0].kill()


DIES_ONCE = """
step_1: {needs: [], retries: 1, main: 'echo "$TASK_ID $ATTEMPT" >>tries; test -e again || exec sh wait.sh'}
step_2: {main: "true"}
step_3: {needs: [], main: sleep 1}
"""


def test_a_step_whose_worker_was_killed_is_tried_again_and_the_rest_goes_on(project: Project) -> None:
    project.steps("a", "b", "c").define(DIES_ONCE)
    project.write("wait.sh", "touch again running; sleep 61\n")
    run = started(project, "--steps", "all", "-n", "2", "--junitxml=junit.xml", "-rA")
    kill_worker(project, "sleep 61")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2", "3"]
    first, second = [line.split() for line in (project.path / "tries").read_text().splitlines()]
    assert (first[1], second[1]) == ("1", "2"), "the second attempt knows of the first"
    assert first[0] != second[0]
    ended = project.events("attempt_finished", "1")
    assert [(r["task_id"], r["status"]) for r in ended] == [(first[0], "failed"), (second[0], "passed")]
    assert re.fullmatch(r"worker gw\d died", ended[0]["message"])
    (retry,) = project.events("retry")
    assert (retry["task_id"], retry["next_task_id"], retry["attempt"]) == (first[0], second[0], 2)
    assert "3 passed" in output
    cases = ET.parse(project.path / "junit.xml").getroot().iter("testcase")
    assert sorted(case.get("name") or "" for case in cases) == ["step_1", "step_2", "step_3"]
    wait_for(lambda: living(project.path) == [])


@pytest.mark.slow
def test_what_comes_between_two_attempts_comes_after_a_death_too(project: Project) -> None:
    project.steps("a").define(
        """
step_1:
  main:
    command: 'echo "$TASK_ID" >>tries; test -e mended || exec sh wait.sh'
    recover: sh mend.sh
    retries: {attempts: 2, delay: 1.5s}
"""
    )
    cost = """echo '{"metric": "cost_usd", "value": 2.5}' >>"$TINKER_STEPS_EVENTS"\n"""
    deaf = "trap '' TERM; echo working; touch running; while :; do echo >>alive; sleep 0.02; done\n"
    project.write("wait.sh", cost + deaf)
    told = '(echo "$TASK_ID $ATTEMPT $FAILURE_CAUSE"; cat "$FAILURE_MESSAGE_FILE" "$FAILURE_LOG") >mended\n'
    project.write("mend.sh", told + 'before=$(wc -l <alive); sleep 0.2; test "$before" = "$(wc -l <alive)"\n')
    run = started(project, "--steps", "all", "-n", "1")
    wait_for(lambda: "cost_usd" in [r.get("name") for r in project.events("metric")])
    kill_worker(project, "sh wait.sh")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    first, second = (project.path / "tries").read_text().split()
    said, why, log = (project.path / "mended").read_text().splitlines()
    assert (said, log) == (f"{first} 1 exit", "working")
    assert re.fullmatch(r"worker gw\d died", why)
    (retry,) = project.events("retry")
    assert retry["delay"] == 1.5
    assert f"[RETRY] {why}: attempt 2 of 2 in 1.5s" in output
    assert f"! step_1: {why}; attempt 2 of 2 follows in 1.5s\n" in output
    (mended,) = project.events("recover")
    assert (mended["task_id"], mended["status"]) == (first, "passed"), "and nothing was left of the attempt"
    again = project.events("attempt_started")[1]
    assert (again["task_id"], again["previous"], again["attempt"]) == (second, first, 2)
    assert stamp(again) - stamp(retry) >= 1.5
    assert [r["value"] for r in project.events("metric")] == [2.5], "what it cost is counted once"


@pytest.mark.parametrize("rerun", [False, True], ids=["first", "rerun"])
def test_what_a_dead_attempt_has_done_counts_for_the_next(project: Project, rerun: bool) -> None:
    project.steps("Write", "Generate").define(
        """
step_1: {main: sh write.sh, outputs: [once.txt], retries: 1, needs: []}
step_2:
  main:
    mode: chunked
    command: 'echo {chunk.start} >>calls; echo {chunk.start} >{chunk.output}; sh hang.sh {chunk.start}'
    total: 3
    chunk_size: 1
    output: all.txt
  needs: []
  retries: 1
"""
    )
    project.write("write.sh", ":")
    project.write("hang.sh", ":")
    if rerun:
        project.write("once.txt", "of another session\n")
        assert project.run("--steps", "2").ret == 0
        project.write("calls", "")
    project.write("write.sh", "test -e half || { echo data >once.txt; touch half; sleep 601; }\n")
    project.write("hang.sh", "if [ $1 = 1 ] && [ ! -e hung ]; then touch hung running; sleep 602; fi\n")
    run = started(project, "--steps", "all", "-n", "2", *(["--steps-rerun"] if rerun else []))
    kill_worker(project, "sleep 601")
    wait_for(lambda: project.events("retry", "1"))
    kill_worker(project, "sleep 602")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert (project.path / "all.txt").read_text() == "0\n1\n2\n"
    assert (project.path / "calls").read_text() == "0\n1\n1\n2\n", "the first piece was good"
    assert [r["count"] for r in project.events("pieces_resumed")] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
def test_a_job_that_was_not_ready_ends_with_the_worker_that_waited_for_it(
    project: Project, retries: int
) -> None:
    project.steps("a", "b").define(
        "step_1:\n  main: {mode: background, command: sh job.sh, ready_when: {line: ready}}\n"
        f"  retries: {retries}\n"
        "step_2: {main: 'true', needs: ['1@started']}\n"
    )
    project.write("job.sh", "echo $$ >>pids; test -e running && echo ready; touch running; exec sleep 607\n")
    run = started(project, "--steps", "all", "-n", "1")
    worker_of(run.pid).kill()
    output, _ = run.communicate(timeout=60)
    assert run.returncode == (0 if retries else 1), output
    first, *others = [int(pid) for pid in (project.path / "pids").read_text().split()]
    assert len(others) == retries
    wait_for(lambda: not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
    (stopped,) = project.events("job_stopped")
    assert re.fullmatch(r"worker gw\d died", stopped["by"])
    said = str(project.run("--steps-monitor").stdout)
    assert ("1 job alive" in said) is bool(retries), said
    project.run("--steps-stop", "1")
    wait_for(lambda: living(project.path) == [])


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 4])
def test_another_worker_waits_on_for_the_end_of_a_job(project: Project, deaths: int) -> None:
    project.steps("a", "b").define(
        """
step_1:
  main:
    mode: background
    command: 'echo ready; timeout 90 sh -c "until test -e go; do sleep 0.1; done"; echo weights >model'
    ready_when: {line: ready}
  outputs: [model]
step_2: {main: cat model, needs: [1]}
"""
    )
    run = project.start("--steps", "all", "-n", "1", "--junitxml=junit.xml")
    assert run.stdout is not None
    for _ in range(deaths):
        assert any("running: step_1@ended" in line for line in run.stdout), "it waits"
        worker_of(run.pid).kill()
    if deaths == 1:
        project.write("go", "")
    output, _ = run.communicate(timeout=60)
    project.write("go", "")
    assert run.returncode == (0 if deaths == 1 else 1), output
    assert project.ticked == (["1", "2"] if deaths == 1 else [])
    cases = ET.parse(project.path / "junit.xml").getroot().iter("testcase")
    assert sorted(case.get("name") or "" for case in cases) == ["step_1", "step_1@ended", "step_2"]
    assert ("crashed while running 'SPEC.md::step_1@ended'" in output) is (deaths == 4)


@pytest.mark.slow
def test_a_step_whose_budget_its_dead_attempt_has_reached_is_not_tried_again(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {main: sh wait.sh, retries: 1, budget_usd: 1}\nstep_2: {main: 'true', needs: []}\n"
    )
    cost = """echo '{"metric": "cost_usd", "value": 1.5}' >>"$TINKER_STEPS_EVENTS"\n"""
    project.write("wait.sh", f"{cost}echo $ATTEMPT >>tries; touch running; sleep 600\n")
    run = started(project, "--steps", "all", "-n", "2")
    wait_for(lambda: project.events("metric"))
    kill_worker(project, "sh wait.sh")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert (project.path / "tries").read_text() == "1\n"
    assert "[BUDGET] ✗ $1.50 of $1.00 spent by step_1; attempt 2 was not begun" in output
    assert project.verdicts() == {"1": "failed", "2": "passed"}
    assert re.search(r"step_1  failed .*\n +worker gw\d died\n", output)


def stamp(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["timestamp"]).timestamp()


@pytest.mark.slow
def test_retries_are_used_up_by_deaths_as_by_failures(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {retries: 1, main: 'echo $ATTEMPT >>tries; touch running; sleep 6$ATTEMPT'}\n"
        "step_2: {main: 'true'}\n"
    )
    run = started(project, "--steps", "all", "-n", "1")
    kill_worker(project, "sleep 61")
    kill_worker(project, "sleep 62")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert (project.path / "tries").read_text() == "1\n2\n"
    assert [r["status"] for r in project.events("attempt_finished", "1")] == ["failed", "failed"]
    assert "blocked by step_1 (failed)" in output
    assert project.ticked == []


@pytest.mark.slow
def test_an_attempt_that_failed_before_the_death_is_on_record(project: Project) -> None:
    project.steps("a").define(
        "step_1: {retries: 2, main: 'echo $ATTEMPT >>tries; "
        "case $ATTEMPT in 1) exit 3;; 2) touch running; sleep 61;; esac'}\n"
    )
    run = started(project, "--steps", "all", "-n", "1")
    kill_worker(project, "sleep 61")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert (project.path / "tries").read_text() == "1\n2\n3\n"
    assert [r["attempt"] for r in project.events("attempt_started")] == [1, 2, 3]
    ended = [(r["status"], r["message"]) for r in project.events("attempt_finished")]
    assert ended[0] == ("failed", "main failed: exit 3")
    assert ended[1][1].endswith("died")
    assert ended[2] == ("passed", "")


@pytest.mark.slow
def test_a_session_without_restarts_says_what_did_not_run(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {needs: [], main: 'touch running; sleep 61'}\n"
        "step_2: {needs: [], main: sleep 1}\n"
        "step_3: {needs: [2], main: touch never}\n"
    )
    run = started(project, "--steps", "all", "-n", "2", "--max-worker-restart=0")
    kill_worker(project, "sleep 61")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert not (project.path / "never").exists()
    assert "worker restarting disabled" in output
    assert re.search(r"step_3 .*not run", output), output
    assert project.verdicts()["1"] == "failed"
    assert "3" not in project.ticked
    wait_for(lambda: living(project.path) == [])


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_session_with_their_reason(project: Project) -> None:
    project.steps("a").define("step_1: {main: 'true'}\n")
    project.write("conftest.py", "import os\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    os._exit(9)\n")
    # These tests themselves may run in a worker.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    run = project.start("--steps", "all", "-n", "2", "--max-worker-restart=3", env=own)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert project.ticked == []
    assert "maximum crashed workers reached: 3" in output
    assert "step_1  not run" in output
    (project.path / "conftest.py").unlink()
    assert project.run("--steps", "all").ret == 0, "nobody holds the list"


@pytest.mark.slow
def test_a_list_that_is_edited_while_workers_run_keeps_both(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], main: 'touch running; until test -e edited; do sleep 0.05; done'}\n"
        "step_2: {needs: [], main: sleep 0.2}\n"
    )
    run = started(project, "--steps", "all", "-n", "2")
    project.write("SPEC.md", project.spec.replace("# A plan", "# A plan\n\nA remark of somebody's.\n"))
    project.write("edited", "")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2"]
    assert "A remark of somebody's." in project.spec


# -- how many workers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("definitions", "workers"),
    [
        ("".join(f"step_{n}: {{needs: [], main: 'true'}}\n" for n in range(1, 9)), 6),
        ("".join(f"step_{n}: {{main: 'true'}}\n" for n in range(1, 9)), 1),
        (
            "pools: {gpu: 2}\n"
            + "".join(f"step_{n}: {{needs: [], resources: {{gpu: 1}}, main: 'true'}}\n" for n in range(1, 9)),
            2,
        ),
    ],
    ids=["a wide wave", "a chain", "a pool"],
)
def test_auto_is_the_least_of_six_the_widest_wave_and_the_pools(
    project: Project, definitions: str, workers: int
) -> None:
    project.steps(*"abcdefgh").define(definitions)
    run = project.start("--steps", "all", "-n", "auto")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert f"created: {workers}/{workers} worker" in output


@pytest.mark.parametrize(
    ("args", "workers"),
    [
        (["--steps", "all", "--steps-rerun"], 1),
        (["--steps", "4-6", "--steps-rerun"], 1),
        (["--steps", "2,4,6", "--steps-rerun"], 3),
    ],
)
def test_auto_counts_no_need_as_met_that_runs_again(project: Project, args: list[str], workers: int) -> None:
    project.steps(*"abcdefgh", ticked=tuple(range(1, 9)))
    project.define("".join(f"step_{n}: {{main: 'true'}}\n" for n in range(1, 9)))
    assert activation.workers(project.pytester.parseconfig(*args, "-n", "auto")) == workers


# -- progress


def test_each_change_is_a_line_where_nothing_can_be_painted_over(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {track: A, main: 'true'}\nstep_2: {track: B, main: 'false'}\n"
        "step_3: {track: B, main: 'true'}\n"
    )
    run = project.start("--steps", "all", "-n", "2", env={**os.environ, "CI": "true"})
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    lines = [line for line in output.splitlines() if " · running: " in line]
    assert lines[0].startswith("0/3 done · running: step_1 (A), step_2 (B) · failed: none · 0s")
    assert re.fullmatch(r"1/3 done \(1\) · running: none · failed: 2 · blocked: 1 · \ds", lines[-1])
    assert len(lines) == len(set(lines)) <= 5
    assert "idle" not in output
    assert "100%" not in output or "[100%]" in output


def test_on_a_terminal_one_line_stays_and_its_clock_goes_on(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], main: sleep 2.5}\nstep_2: {needs: [], main: sleep 1}\n"
    )
    code, said = on_a_terminal(project, "--steps", "all", "-n", "2", "-q")
    assert code == 0, said
    painted = re.findall(r"\r(\d/2 done[^\r\n]*?) *(?=[\r\n])", said)
    assert any("running: step_1" in line and line.endswith(" 2s") for line in painted), painted
    final = said[said.rindex("passed in") :]
    assert "done" not in final


TESTS_BESIDE = """
import os, time, pytest
@pytest.mark.parametrize("number", range(25))
def test_x(number):
    time.sleep(0.03)
    assert number != 7
    if number == 12 and os.environ.get("FATAL"):
        os._exit(3)
"""


@pytest.mark.parametrize(
    ("args", "fatal"),
    [(["-q"], False), pytest.param(["-v"], False, marks=pytest.mark.slow), ([], True)],
)
def test_what_pytest_prints_beside_the_line_on_a_terminal_stands_there_whole(
    project: Project, args: list[str], fatal: bool
) -> None:
    project.steps("a").define("step_1: {needs: [], main: sleep 1}\n")
    project.write("t/test_t.py", TESTS_BESIDE)
    asked = ("--steps", "all", "t", "-n", "2", "--tb=no", "-p", "no:cacheprovider", *args)
    code, said = on_a_terminal(project, *asked, environ={"FATAL": "1"} if fatal else None)
    assert code == 1, said
    assert "0/1 done · running: step_1" in said
    shown = screen(said, 100)
    assert not [line for line in shown if " · running: " in line], shown
    if args == ["-v"]:
        results = [
            line
            for line in shown
            if re.fullmatch(r"\[gw\d\] \[[ \d]+%\] \w+ t/test_t.py::test_x\[\d+\]", line)
        ]
        assert len(results) == 25, shown
        return
    if fatal:
        assert [line for line in shown if re.fullmatch(r"[.F]*\[gw\d\] node down: .*", line)], shown
        return
    letters = "".join(re.findall(r"^[.F]+(?=$| )", "\n".join(shown), re.MULTILINE))
    assert sorted(letters) == sorted("." * 24 + "F"), shown


def on_a_terminal(project: Project, *args: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run pytest on a terminal of 100 columns; its exit code, and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    own = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")}
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *args],
        cwd=project.path,
        env={**own, "TERM": "xterm", **(environ or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = read_all(ours)
    return run.wait(60), said


def read_all(fd: int) -> str:
    pieces = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(fd)
    return b"".join(pieces).decode("utf-8", "replace")


# -- one part of a plan


PARTS = """
step_1: {track: A, main: 'true'}
step_2: {track: B, main: 'true'}
step_3: {track: A, main: 'true'}
step_4: {track: B, needs: [2, 3], main: 'true'}
"""


@pytest.mark.parametrize(
    ("args", "ran"),
    [
        (("--steps-track", "a"), ["1", "3"]),
        (("--steps", "2-", "--steps-track", "A"), []),
        (("-m", "track_a"), ["1", "3"]),
        (("--steps", "all", "-m", "track_a"), ["1", "3"]),
        (("--steps", "all", "-m", "not track_b"), ["1", "3"]),
        (("--steps-track", "A,B", "-n", "2"), ["1", "2", "3", "4"]),
    ],
    ids=" ".join,
)
def test_one_part_of_a_plan_runs_alone(project: Project, args: tuple[str, ...], ran: list[str]) -> None:
    project.steps("a", "b", "c", "d").define(PARTS)
    project.write("test_own.py", "def test_own(): pass\n")
    result = project.run(*args, "--strict-markers")
    assert project.ticked == ran, result.stdout.str()
    if ran:
        assert result.ret == 0
    else:
        result.stdout.fnmatch_lines(["*step_3 needs step_1, neither done nor selected*"])
        assert result.ret == 1


def test_what_a_part_needs_from_elsewhere_must_be_done(project: Project) -> None:
    project.steps("a", "b", "c", "d").define(PARTS)
    result = project.run("--steps-track", "B")
    assert result.ret == 1
    assert project.ticked == ["2"]
    result.stdout.fnmatch_lines(
        ["*step_4 needs step_3, neither done nor selected; run: pytest --steps 1,3-4*"]
    )
    assert project.run("--steps-track", "A").ret == 0
    assert project.run("--steps-track", "B").ret == 0
    assert project.ticked == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--steps-track", "Z"), "--steps-track Z: there is no track 'Z' in SPEC.md; it has A, B"),
        (("--steps-layer", "L1"), "--steps-layer L1: there is no layer 'L1' in SPEC.md; it has no layers"),
        (("--steps", "1", "--steps-track", "B"), "track B of 1: nothing of the one is in the other"),
        (("--steps", "1", "-m", "track_b"), "-m: none of 1 is in the part that it asks for"),
    ],
    ids=" ".join,
)
def test_a_part_that_is_not_there_is_one_line(project: Project, args: tuple[str, ...], said: str) -> None:
    project.steps("a", "b", "c", "d").define(PARTS)
    result = project.run(*args)
    assert result.ret == 4
    assert [line for line in result.stderr.lines if line] == [f"ERROR: {said}"]


def test_a_word_of_m_that_is_of_ordinary_tests_is_left_to_them(project: Project) -> None:
    project.steps("a").define("step_1: {main: touch ran}\n")
    project.write("pytest.ini", "[pytest]\nmarkers = track_changes: own\n")
    project.write("test_own.py", "import pytest\n\n@pytest.mark.track_changes\ndef test_own(): pass\n")
    result = project.run("-m", "track_changes", "--strict-markers")
    result.assert_outcomes(passed=1)
    assert not (project.path / "ran").exists()


def test_layers_follow_one_another_and_one_of_them_runs_alone(project: Project) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {layer: L0, main: 'true'}\n"
        "step_2: {layer: L1, main: 'true'}\n"
        "step_3: {layer: L0, main: 'true'}\n"
    )
    assert project.run("--steps-layer", "L1").ret == 1
    assert project.ticked == []
    assert project.run("--steps-layer", "l0").ret == 0
    assert project.run("-m", "layer_l1").ret == 0
    assert project.ticked == ["1", "2", "3"]
    assert [record["step"] for record in project.events("ticked")] == ["1", "3", "2"]


def test_workers_inherit_what_was_set_while_the_session_was_configured(project: Project) -> None:
    project.steps("a").define("""step_1: {main: 'test "$SET_BY_CONFTEST" = yes'}\n""")
    project.write(
        "conftest.py",
        "import os\n\n\ndef pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n"
        "        os.environ['SET_BY_CONFTEST'] = 'yes'\n",
    )
    assert project.run("--steps", "all", "-n", "2").ret == 0
    os.environ.pop("SET_BY_CONFTEST", None)


@pytest.mark.parametrize("words", [("--steps", "99"), ("--steps", "all")])
def test_workers_that_no_session_asks_for_are_ended(project: Project, words: tuple[str, ...]) -> None:
    project.steps("a").define("step_1: {man: 'true'}\n")
    run = project.start(*words, "-n", "2")
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 4, output
    assert "Traceback" not in output
    assert [process.pid for process in psutil.process_iter() if is_worker_in(project, process)] == []


def is_worker_in(project: Project, process: psutil.Process) -> bool:
    """Whether it is one of xdist in that folder, and not the one that may run these tests."""
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())
        return "stdin.readline" in words and process.cwd() == str(project.path) and process.pid != os.getpid()
    return False


DIES_BEFORE_XDIST_HAS_IT = """
import time

import psutil


def workers():
    return [child for child in psutil.Process().children() if "stdin.readline" in str(child.cmdline())]


def pytest_xdist_setupnodes(specs):
    while len(found := workers()) < len(specs):
        time.sleep(0.01)
    found[1].kill()
    found[1].wait()
"""
DIES_WHEN_XDIST_HAS_IT = """
import pathlib


def pytest_xdist_newgateway(gateway):
    if {condition}:
        gateway._io.popen.kill()
        gateway._io.popen.wait()
    else:
        pathlib.Path("has_" + gateway.id).touch()
"""


def dies_if(condition: str) -> str:
    """A ``conftest.py`` that kills a worker which has just been made and has been told nothing yet."""
    return DIES_WHEN_XDIST_HAS_IT.format(condition=condition)


@pytest.mark.parametrize(
    "conftest",
    [
        DIES_BEFORE_XDIST_HAS_IT,
        dies_if("gateway.id == 'gw1'"),
        dies_if("gateway.id in ('gw1', 'gw3', 'gw4')"),
    ],
    ids=["before", "when", "thrice"],
)
def test_a_worker_that_dies_while_it_starts_is_replaced(project: Project, conftest: str) -> None:
    project.commands("true", "true", "true")
    project.write("conftest.py", conftest)
    run = project.start("--steps", "all", "-n", "3")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    down = re.search(r"\[(gw\d)\] node down: \1 did not start", output)
    assert down, output
    assert f"replacing crashed worker {down[1]}" in output
    assert "cannot be replaced" not in output
    assert project.ticked == ["1", "2", "3"]


def test_one_in_place_of_a_dead_worker_may_die_too_and_what_runs_goes_on(project: Project) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], retries: 1, main: 'test -e running || { touch running; sleep 61; }'}\n"
        "step_2: {needs: [], main: 'until test -e has_gw3; do sleep 0.05; done'}\n"
    )
    project.write("conftest.py", dies_if("gateway.id == 'gw2'"))
    run = started(project, "--steps", "all", "-n", "2")
    kill_worker(project, "sleep 61")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert "[gw2] node down: gw2 did not start" in output
    assert [r["attempt"] for r in project.events("attempt_started", "1")] == [1, 2]
    assert [r["attempt"] for r in project.events("attempt_started", "2")] == [1]
    assert project.ticked == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "deaths"), [((), 4), (("--max-worker-restart=2",), 3)], ids=["in_a_row", "restarts"]
)
@pytest.mark.parametrize("others", [True, False], ids=["others", "alone"])
def test_without_another_worker_in_its_place_the_others_do_the_work(
    project: Project, others: bool, words: tuple[str, ...], deaths: int
) -> None:
    project.commands("true", "true")
    project.write("conftest.py", dies_if("gateway.id != 'gw0'" if others else "True"))
    run = project.start("--steps", "all", "-n", "2" if others else "1", *words)
    output, _ = run.communicate(timeout=60)
    first = 1 if others else 0
    last = first + deaths - 1
    assert run.returncode == (0 if others else 1), output
    assert f"! worker gw{first} cannot be replaced: gw{last} did not start" in output
    assert project.ticked == (["1", "2"] if others else [])
    assert ("step_1  not run" in output) is not others
    assert [r["status"] for r in project.events("run_finished")] == [str(run.returncode)]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("popen//python=/nonexistent", "[Errno 2] No such file or directory: '/nonexistent'"),
        ("socket=127.0.0.1:1", "127.0.0.1:1 does not answer ([Errno 111] Connection refused)"),
    ],
)
def test_a_worker_that_can_never_start_is_one_line(project: Project, word: str, why: str) -> None:
    project.commands("true")
    run = project.start("--steps", "all", "-d", "--tx", "popen", "--tx", word)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 4, output
    assert f"ERROR: worker gw1 ({word}) cannot be started: {why}; see --tx\n" in output
    assert "INTERNALERROR" not in output
    assert project.ticked == []
    assert [r["status"] for r in project.events("run_finished")] == ["4"]


# -- deaths between two attempts

FAILS_ONCE = """
step_1:
  main:
    command: 'echo "$TASK_ID $ATTEMPT" >>tries; test -e mended || exit 3'
    recover: exec sh mend.sh
    retries: {attempts: 3, delay: 1.25}
"""
DIES_IN_ITS_PAUSE = """
import os, signal, time

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        pause = time.sleep

        def sleep(seconds):
            if seconds == 1.25:
                with open("pauses", "a") as file:
                    print(os.getpid(), file=file)
                if not os.path.exists("killed"):
                    open("killed", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
            pause(seconds)

        time.sleep = sleep
"""


@pytest.mark.slow
@pytest.mark.parametrize("dies_in", ["pause", "recover"])
def test_a_worker_that_dies_between_two_attempts_takes_nothing_of_the_first_along(
    project: Project, dies_in: str
) -> None:
    project.steps("a").define(FAILS_ONCE)
    mend = """echo "$TASK_ID $FAILURE_CAUSE $(head -n 1 "$FAILURE_MESSAGE_FILE")" >>recovered\n"""
    if dies_in == "pause":
        project.write("conftest.py", DIES_IN_ITS_PAUSE)
    else:
        mend += "test -e killed || { touch killed; kill -9 $PPID; exec sleep 61; }\n"
    project.write("mend.sh", mend + "touch mended\n")
    run = project.start("--steps", "all", "-n", "1")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert (project.path / "killed").exists()
    assert re.search(r"! step_1: worker gw0 died; attempt 2 of 3 follows in 1\.\ds\n", output)
    tries = [line.split() for line in (project.path / "tries").read_text().splitlines()]
    (first, _), (second, _) = tries
    assert [number for _, number in tries] == ["1", "2"]
    ended = project.events("attempt_finished", "1")
    assert [(r["task_id"], r["status"]) for r in ended] == [(first, "failed"), (second, "passed")]
    assert ended[0]["message"] == "main failed: exit 3", "not that its worker has died since"
    (retry,) = project.events("retry")
    assert (retry["cause"], retry["task_id"], retry["next_task_id"]) == ("exit", first, second)
    again = project.events("attempt_started")[1]
    assert (again["task_id"], again["previous"], again["attempt"]) == (second, first, 2)
    assert stamp(again) - stamp(retry) >= 1.25
    # One that was cut off has not mended anything: that is done from its start.
    recovered = (project.path / "recovered").read_text().splitlines()
    assert recovered == [f"{first} exit main failed: exit 3"] * (1 if dies_in == "pause" else 2)
    assert [r["task_id"] for r in project.events("recover")] == [first]
    if dies_in == "pause":
        assert len((project.path / "pauses").read_text().split()) == 1, "the rest of it, not all of it again"


@pytest.mark.slow
def test_workers_that_die_in_every_pause_use_up_the_attempts(project: Project) -> None:
    project.steps("a").define(FAILS_ONCE)
    project.write("mend.sh", "kill -9 $PPID; exec sleep 61\n")
    run = project.start("--steps", "all", "-n", "1")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert len((project.path / "tries").read_text().splitlines()) == 1
    ended = project.events("attempt_finished", "1")
    messages = [re.sub(r"gw\d", "gw", r["message"]) for r in ended]
    assert messages == ["main failed: exit 3", "worker gw died", "worker gw died"]
    assert len({r["task_id"] for r in ended}) == 3, "each ends once"
