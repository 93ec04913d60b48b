"""The same plan on workers behind ssh and behind a socket, with the project in a shared folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from .conftest import Project
from .test_interruptions import living, started, wait_for
from .test_runners import ENDLESS, nothing_is_left_of_it
from .test_side_by_side import shape

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
SRC = Path(__file__).parents[2]
PLAN = """
step_1: {needs: [], main: 'sleep 0.2; echo "$SSH_CONNECTION" > one.txt', outputs: [one.txt]}
step_2: {needs: [], main: "exit 3"}
step_3: {needs: [1], main: {python: "work:run"}, post_validation: [{task: one, file: one.txt}]}
step_4: {needs: [2], main: touch never}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh") is None, reason="no sshd: apt-get install openssh-server"
    ),
]


@dataclass
class Host:
    """An sshd of our own, at localhost.

    Attributes:
        folder: of its keys, and the scratch folders of workers.
        process: the daemon.
    """

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def words(self) -> list[str]:
        """Of the command line that starts two workers, with our host and folders in place of the page's."""
        (command,) = commands("pytest", "ssh=")
        for number in (1, 2):
            command = command.replace(
                f"ssh=node{number}//",
                f"ssh=localhost//ssh_config={self.folder}/ssh_config//env:PYTHONPATH={SRC}//",
            )
            command = command.replace("chdir=/tmp/steps", f"chdir={self.folder}/{number}", 1)
        return command.replace("/shared/venv/bin/python", sys.executable).split()[1:]

    def connections(self) -> list[psutil.Process]:
        return self.process_tree().children()

    def process_tree(self) -> psutil.Process:
        return psutil.Process(self.process.pid)


def commands(*holding: str) -> list[str]:
    """The commands on the page about scale that hold these words."""
    text = (SRC / "docs" / "scale.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if all(word in line for word in holding)]


def lines(*words: str) -> str:
    return "\n".join([*words, ""])


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    assert SSHD is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        port = 0
        process = None
        for port in range(22022, 22122):
            (folder / "sshd_config").write_text(
                lines(
                    "ListenAddress 127.0.0.1",
                    f"Port {port}",
                    f"HostKey {folder}/host",
                    f"AuthorizedKeysFile {folder}/user.pub",
                    "PidFile none",
                    "StrictModes no",
                    "UsePAM no",
                    "PasswordAuthentication no",
                )
            )
            if os.geteuid() == 0:
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it shuts itself in
            process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", folder / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            assert process.stderr is not None
            if b"listening" in process.stderr.readline():
                break
            process.communicate()
        assert process is not None
        (folder / "ssh_config").write_text(
            lines(
                "Host localhost",
                "  HostName 127.0.0.1",
                f"  Port {port}",
                f"  IdentityFile {folder}/user",
                "  IdentitiesOnly yes",
                f"  UserKnownHostsFile {folder}/known_hosts",
                "  StrictHostKeyChecking accept-new",
                "  BatchMode yes",
                "  LogLevel ERROR",
            )
        )
        made = Host(folder, process)
        yield made
        family = made.process_tree().children(recursive=True)
        process.terminate()
        process.communicate(timeout=60)
        for left in family:
            if left.is_running():
                left.kill()


@pytest.fixture
def servers() -> Iterator[list[str]]:
    """Two of execnet's socket servers, a worker each; the words of the command line that uses them."""
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        (server,) = commands("socketserver")
        (session,) = commands("pytest", "socket=")
        server = server.replace("/shared/venv/bin/python", sys.executable).replace(
            "node1:8888", "127.0.0.1:0"
        )
        for number in range(2):
            process = subprocess.Popen(
                ["/bin/sh", "-c", server.replace("&& ", "&& exec ")],
                env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            processes.append(process)
            assert process.stdout is not None
            found = re.search(r"'127.0.0.1', (\d+)", process.stdout.readline())
            assert found
            session = session.replace(
                f"node{number + 1}:8888//chdir=/tmp/", f"127.0.0.1:{found[1]}//chdir={folder}/{number}"
            )
        specs = session.split()[1:]
        yield specs
        for process in processes:
            process.kill()
            process.communicate()


def a_project(project: Project) -> None:
    project.steps("a", "b", "c", "d").define(PLAN)
    project.write("pytest.ini", "[pytest]\nmarkers = own: mine\n")
    project.write(
        "conftest.py", "import pytest\n\n@pytest.fixture\ndef here(request):\n    return request.config\n"
    )
    project.write(
        "work.py",
        "def run(step, here):\n"
        "    step.note(f'{here.rootpath} {here.inipath} {hasattr(here, \"workerinput\")}')\n",
    )
    project.write("test_own.py", "def test_own(): pass\n")


def check(project: Project, output: str, code: int) -> None:
    assert code == 1, output
    assert project.verdicts() == {"1": "passed", "2": "failed", "3": "passed"}
    assert "blocked by step_2 (failed)" in output
    assert project.ticked == ["1", "3"]
    assert not (project.path / "never").exists()
    (note,) = project.events("note")
    assert note["text"] == f"{project.path} {project.path}/pytest.ini True"


@pytest.mark.parametrize(
    "args",
    [(), ("SPEC.md", "test_own.py"), ("-c", "pytest.ini", "SPEC.md")],
    ids=["steps", "paths", "config"],
)
def test_over_ssh_verdicts_ticks_and_journal_are_those_of_a_run_here(
    project: Project, host: Host, args: tuple[str, ...]
) -> None:
    a_project(project)
    run = project.start(*host.words, *args)
    output, _ = run.communicate(timeout=120)
    check(project, output, run.returncode)
    assert re.match(r"127.0.0.1 \d+ 127.0.0.1 \d+$", (project.path / "one.txt").read_text().strip())
    there = shape(project)
    for name in ("SPEC.md", ".task_execution.log", "one.txt"):
        (project.path / name).unlink()
    project.steps("a", "b", "c", "d")
    here = project.start("--steps", "all", "-n", "2", *args)
    output, _ = here.communicate(timeout=120)
    check(project, output, here.returncode)
    assert shape(project) == there


def test_over_sockets_too(project: Project, servers: list[str]) -> None:
    a_project(project)
    run = project.start(*servers)
    output, _ = run.communicate(timeout=120)
    check(project, output, run.returncode)


def test_a_connection_that_dies_fails_the_attempt_and_leaves_no_process(project: Project, host: Host) -> None:
    project.steps("a", "b", "c").define(
        "step_1: {needs: [], main: 'touch running; sleep 60'}\n"
        "step_2: {needs: [1], main: 'true'}\n"
        "step_3: {needs: [], main: 'sleep 1'}\n"
    )
    run = started(project, *host.words)
    main = next(p for p in psutil.process_iter() if _runs(p, "sleep 60", project))
    connections = host.connections()
    next(p for p in main.parents() if p in connections).kill()
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert project.verdicts() == {"1": "failed", "3": "passed"}
    assert "blocked by step_1 (failed)" in output
    assert project.ticked == ["3"]
    wait_for(lambda: living(project.path) == [])


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("others", [True, False], ids=["others", "alone"])
def test_a_host_that_dies_takes_nothing_with_it_and_its_work_goes_on_elsewhere(
    project: Project, servers: list[str], others: bool, retries: int
) -> None:
    project.steps("a", "b", "c", "d").define(
        f"step_1: {{needs: [], retries: {retries}, main: sh once.sh}}\n"
        "step_2: {needs: [1], main: 'true'}\n"
        "step_3: {needs: [], main: 'sleep 2'}\n"
        "step_4: {needs: [3], main: 'true'}\n"
    )
    project.write("once.sh", "test -e running && exit; touch running; sleep 60\n")
    run = started(project, *(servers if others else servers[:5]))
    main = next(p for p in psutil.process_iter() if _runs(p, "sh once.sh", project))
    next(p for p in main.parents() if "socketserver" in " ".join(p.cmdline())).kill()
    output, _ = run.communicate(timeout=120)
    again = others and retries > 0
    assert run.returncode == (0 if again else 1), output
    assert re.search(r"! worker gw[01] cannot be replaced: 127.0.0.1:", output)
    assert project.ticked == (["1", "2", "3", "4"] if again else ["3", "4"] if others else [])
    assert ("no worker is left" in output) is not others
    assert [r["attempt"] for r in project.events("attempt_started", "1")] == ([1, 2] if again else [1])
    verdicts = project.verdicts()
    assert verdicts.pop("1") == ("passed" if again else "failed")
    assert list(verdicts.values()) == ["passed"] * len(project.ticked[1 if again else 0 :])
    wait_for(lambda: living(project.path) == [])


def test_ctrl_c_ends_the_mains_of_all_hosts(project: Project, host: Host) -> None:
    project.steps("a", "b").define(
        "step_1: {needs: [], main: 'touch running; sleep 60'}\nstep_2: {needs: [], main: sleep 60}\n"
    )
    run = started(project, *host.words)
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=90)
    assert run.returncode == 2, output
    wait_for(lambda: living(project.path) == [])
    assert project.ticked == []
    project.commands("true", "true")
    assert project.run("--steps", "all").ret == 0


def test_a_main_that_is_handed_to_another_machine_by_ssh_passes_through_and_ends_with_the_connection(
    project: Project, host: Host
) -> None:
    project.steps("a", "b").define(
        f"runners: {{node: [ssh, -tt, -F, {host.folder}/ssh_config, localhost]}}\n"
        "step_1: {needs: [], main: {command: 'echo $SSH_CONNECTION $0 $STEP_ID; exit 7', runner: node}}\n"
        f"step_2: {{needs: [], main: {{command: {json.dumps(ENDLESS)}, timeout: 4, runner: node}}}}\n"
    )
    run = project.start("--steps", "all")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert re.search(r"main failed: exit 7: 127.0.0.1 \d+ 127.0.0.1 \d+ /bin/sh 1", output)
    assert "no end after 4 s" in output
    nothing_is_left_of_it(project)


def _runs(process: psutil.Process, words: str, project: Project) -> bool:
    try:
        return words in " ".join(process.cmdline()) and process.cwd() == str(project.path)
    except psutil.Error:
        return False
