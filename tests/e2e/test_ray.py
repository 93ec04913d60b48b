"""Mains on a real Ray cluster of one machine: what passes through ``ray job submit``, and ``ray job stop``.

Ray comes into the environment of these tests by ``pip install "ray[default]"``, or its programs lie in the
folder that ``RAY_BIN`` names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .conftest import Project
from .test_interruptions import started, wait_for
from .test_runners import ENDLESS, alive, notes, nothing_is_left_of_it

RAY = shutil.which("ray", path=os.pathsep.join([os.environ.get("RAY_BIN", ""), os.environ["PATH"]]))
PATIENCE = 60.0

pytestmark = [pytest.mark.ray, pytest.mark.skipif(RAY is None, reason="ray is not installed")]

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
FOUND = re.search(r"^  ray:\n    command: .*\n    stop: .*\n", PAGE, re.MULTILINE)
assert FOUND, "the runner that is tested here is the one of the page"
RUNNERS = "runners:\n" + FOUND[0].replace("[ray,", f"[{json.dumps(RAY)},")


def free_port() -> int:
    # Below those that the system gives out, and above those that Ray keeps for its workers.
    for port in range(20001, 30000):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no port is free")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=10):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster that was started for these tests."""
    assert RAY is not None
    port = free_port()
    # A socket's path is limited to about 100 characters, and Ray puts its sockets deep into this folder.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        head = subprocess.Popen(
            [
                RAY,
                *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", "--port=0"),
                *("--include-dashboard=true", f"--dashboard-port={port}", f"--temp-dir={folder}"),
                "--object-store-memory=80000000",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            found = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(found), PATIENCE)
            yield found
        finally:
            family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
            head.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(family, timeout=60)
            for process in left:
                process.kill()
            head.wait(60)


@pytest.fixture(autouse=True)
def cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)


def status(run: str) -> str:
    address = os.environ["RAY_ADDRESS"]
    with urllib.request.urlopen(f"{address}/api/jobs/{run}", timeout=60) as answer:
        return str(json.loads(answer.read())["status"])


def submitted(project: Project) -> list[str]:
    """Submission ids, as the logs of this project have them."""
    said = [path.read_text() for path in project.path.glob(".steps/**/main.log")]
    lines = [line for text in said for line in text.splitlines() if "submitted successfully" in line]
    return [line.split("'")[1] for line in lines]


def test_output_exit_status_and_events_of_a_job_pass_through(project: Project) -> None:
    project.steps("Good", "Bad").define(
        f"{RUNNERS}"
        "step_1:\n"
        "  main:\n"
        "    script: work.py\n"
        "    args: ['a b', $HOME]\n"
        "    env: {LEVEL: main}\n"
        "    success_criteria: [Loss fell]\n"
        "    runner: ray\n"
        "  outputs: [out.txt]\n"
        "step_2:\n"
        "  needs: []\n"
        "  main: {command: 'echo out of memory; exit 9', runner: ray}\n"
    )
    project.write(
        "work.py",
        "import json, os, sys\n"
        "print('here:', sys.argv[1:], os.environ['LEVEL'], os.environ['STEP_ID'])\n"
        "open('out.txt', 'w').write('done')\n"
        "with open(os.environ['TINKER_STEPS_EVENTS'], 'a') as file:\n"
        "    for said in ({'progress': [1, 2]}, {'metric': 'loss', 'value': 0.5}, {'note': 'halfway'},\n"
        "                 {'criterion': 'Loss fell'}):\n"
        "        print(json.dumps(said), file=file)\n",
    )
    run = project.start("--steps", "all", "-n", "2")
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert project.verdicts() == {"1": "passed", "2": "failed"}
    said = "".join(path.read_text() for path in project.path.glob(".steps/logs/*/main.log"))
    assert "here: ['a b', '$HOME'] main 1" in said
    assert "out of memory" in said
    assert "failed with exit code 9" in said
    assert [event["value"] for event in project.events("metric")] == [0.5]
    assert notes(project) == ["halfway"]
    assert project.events("criterion")
    assert sorted(status(one) for one in submitted(project)) == ["FAILED", "SUCCEEDED"]


def test_the_deadline_stops_the_job(project: Project) -> None:
    project.steps("Endless").define(
        f"{RUNNERS}step_1: {{main: {{command: {json.dumps(ENDLESS)}, timeout: 12, runner: ray}}}}\n"
    )
    run = project.start("--steps", "all")
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert "no end after 12 s" in output
    (name,) = submitted(project)
    assert status(name) == "STOPPED"
    assert f"runner ray: {RAY} job stop {name}" in notes(project)
    nothing_is_left_of_it(project)


def test_ctrl_c_stops_the_job(project: Project) -> None:
    project.steps("Endless").define(
        f"{RUNNERS}step_1: {{main: {{command: {json.dumps(ENDLESS)}, runner: ray}}}}\n"
    )
    run = started(project, "--steps", "all", patience=PATIENCE)
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2, output
    (name,) = submitted(project)
    assert status(name) == "STOPPED"
    nothing_is_left_of_it(project)


def test_a_background_job_is_ready_goes_on_and_is_stopped(project: Project) -> None:
    project.steps("Endless").define(
        f"{RUNNERS}"
        "step_1:\n"
        "  main:\n"
        "    mode: background\n"
        f"    command: {json.dumps('echo it begins; ' + ENDLESS)}\n"
        "    ready_when: {line: ^it begins}\n"
        "    timeout: 50\n"
        "    runner: ray\n"
    )
    run = project.start("--steps", "all")
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, output
    wait_for(lambda: alive(project))
    (name,) = submitted(project)
    assert status(name) == "RUNNING"
    stop = project.start("--steps-stop", "1")
    output, _ = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 0, output
    assert status(name) == "STOPPED"
    nothing_is_left_of_it(project)
