"""What a runner is handed, and when what it left elsewhere is ended."""

from __future__ import annotations

import re
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Command, Runner
from pytest_tinker_steps.run import handover
from pytest_tinker_steps.run.handover import Handover
from pytest_tinker_steps.run.process import Ended, Processes
from pytest_tinker_steps.run.redaction import Redactor

from .fake_runs import TASK, TIMED_OUT, FakeProcesses, Make, exits

RUNNER = Runner("ray", ("ray", "submit", "--id={run}", "{step} {task_id}", "{cwd}"), ("ray", "stop", "{run}"))
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


def prepared(folder: Path, runner: Runner = RUNNER, **more: Any) -> Handover:
    values = {
        "step": "1",
        "task_id": TASK,
        "cwd": folder,
        "names": ("LEVEL",),
        "interpreter": "/venv/bin/python",
    }
    return handover.prepare(runner, folder=folder, **{**values, **more})


def test_placeholders_of_prefix_and_stop_are_those_of_one_process(tmp_path: Path) -> None:
    first, second = prepared(tmp_path), prepared(tmp_path)
    assert first.prefix[3:] == (f"1 {TASK}", str(tmp_path))
    run = first.prefix[2].removeprefix("--id=")
    assert first.stop == ("ray", "stop", run)
    assert first.command == (*first.prefix, "/bin/sh", str(tmp_path / f"{run}.sh"))
    assert second.prefix[2] != first.prefix[2]


@pytest.mark.parametrize(
    "task_id", ["task_2.10_1a2b3c4d", "task_T012_1a2b3c4d", f"task_{'x' * 90}_1a2b3c4d", "_"]
)
def test_the_name_of_a_run_is_one_that_engines_take(tmp_path: Path, task_id: str) -> None:
    (name,) = prepared(tmp_path, Runner("k8s", ("{run}",)), task_id=task_id).prefix
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?|-[a-z0-9]+", name)
    assert len(name) <= 63


def test_braces_that_belong_to_others_stay(tmp_path: Path) -> None:
    words = ("${HOME}", "{{.Names}}", '{"gpus": 1}', "{}", "${step}", "{a b}")
    assert prepared(tmp_path, Runner("x", words)).prefix == words


def test_only_what_the_definitions_give_and_what_is_ours_is_handed_over(tmp_path: Path) -> None:
    env = {"LEVEL": "step", "HOME": "/root", "API_KEY": "mine", "TASK_ID": TASK, "CHUNK_START": "5"}
    text = handover.script(prepared(tmp_path), "true", env)
    assert text.splitlines() == [
        'export PATH=/venv/bin"${PATH:+:$PATH}"',
        f"cd {tmp_path} || exit",
        "export LEVEL=step",
        f"export TASK_ID={TASK}",
        "export CHUNK_START=5",
        "exec /bin/sh -c true",
    ]


def test_a_path_of_the_definitions_is_taken_as_it_is(tmp_path: Path) -> None:
    text = handover.script(prepared(tmp_path, names=("PATH",)), ("make",), {"PATH": "/opt/bin"})
    assert text.splitlines()[1:] == ["export PATH=/opt/bin", "exec make"]


@settings(max_examples=40, deadline=None)
@given(value=TEXTS, words=st.lists(TEXTS, max_size=3), text=st.booleans())
def test_whatever_values_and_words_are_they_arrive(value: str, words: list[str], text: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder) / "it's a $HOME"
        cwd.mkdir()
        given = prepared(Path(folder), cwd=cwd)
        show = 'pwd; printf "%s\\0" "$LEVEL" "$@"'
        command: Command = show if text else ("/bin/sh", "-c", show, "sh", *words)
        handover.write(given, command, {"LEVEL": value})
        assert stat.S_IMODE(given.file.stat().st_mode) == 0o600
        said = subprocess.run(["/bin/sh", given.file], env={}, check=True, capture_output=True).stdout
    expected = [value] if text else [value, *words]
    assert said == "".join([f"{cwd}\n", *(f"{word}\0" for word in expected)]).encode()


# -- when it is ended elsewhere


def ends(processes: Any, folder: Path, ended: Ended | BaseException) -> list[str]:
    """What is told when the prefix ends like that."""

    def act(env: Mapping[str, str]) -> Ended:
        assert list(folder.glob("*.sh"))
        if isinstance(ended, Ended):
            return ended
        raise ended

    given = prepared(folder)
    processes.ends[str(given.file)] = act
    told: list[str] = []
    more = {"env": {"A": "b"}, "log": folder / "main.log", "timeout": 5.0, "tell": told.append}
    more.update(on_output=None, on_poll=None)
    try:
        assert handover.run(given, "true", processes, **more) == ended
    except KeyboardInterrupt:
        assert not isinstance(ended, Ended)
    assert not list(folder.glob("*.sh"))
    return told


@pytest.mark.parametrize(
    "ended",
    [
        TIMED_OUT,
        Ended(-15, "cancelled", 1.0, "", "cancelled"),
        exits(-9),
        Ended(None, "exit", 1.0, "", "exit code unknown"),
        KeyboardInterrupt(),
    ],
    ids=["timeout", "cancelled", "killed", "lost", "ctrl-c"],
)
def test_a_prefix_that_did_not_end_by_itself_is_stopped_once(
    tmp_path: Path, ended: Ended | BaseException
) -> None:
    processes = FakeProcesses()
    (told,) = ends(processes, tmp_path, ended)
    assert [command[:2] for command in processes.started[1:]] == [("ray", "stop")]
    assert processes.timeouts == [5.0, handover.STOP_WITHIN]
    assert told.startswith(f"runner ray: ray stop {TASK.replace('_', '-')}-")


@pytest.mark.parametrize("ended", [exits(0), exits(3), Ended(None, "not started", 0.0, "", "none")])
def test_a_prefix_that_ended_by_itself_or_never_began_is_not_stopped(tmp_path: Path, ended: Ended) -> None:
    processes = FakeProcesses()
    assert ends(processes, tmp_path, ended) == []
    assert len(processes.started) == 1


def test_a_stop_that_does_not_end_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "STOP_WITHIN", 0.3)
    given = prepared(tmp_path, Runner("slow", ("true",), ("sleep", "60")))
    told: list[str] = []
    with Processes(redactor=Redactor([])) as processes:
        handover.stop(given, processes, env={"PATH": "/bin:/usr/bin"}, log=None, tell=told.append)
    assert told == ["runner slow: sleep 60: no end after 0.3 s: ended with SIGTERM"]


def test_without_a_stop_nothing_is_run(tmp_path: Path) -> None:
    processes = FakeProcesses()
    given = prepared(tmp_path, Runner("srun", ("srun",)))
    handover.stop(given, processes, env={}, log=None, tell=pytest.fail)  # type: ignore[arg-type]
    assert processes.started == []


# -- in an attempt


def test_events_and_failures_show_the_prefix_as_it_stands_in_the_definitions(make: Make) -> None:
    made = make(
        "main: {command: train, runner: ray, test_first: check}", file="runners: {ray: [ray, '{run}']}\n"
    )
    made.processes.ends = {}
    assert made.whole() == ""
    assert [event["what"] for event in made.of("phase_started")] == ["ray {run} check", "ray {run} train"]
    assert [command[:1] for command in made.processes.started] == [("ray",), ("ray",)]


def test_a_folder_that_is_not_there_is_no_reason_to_stop_anything(make: Make) -> None:
    file = "runners: {ray: {command: [ray], stop: [ray, stop]}}\n"
    made = make("main: {command: train, runner: ray, cwd: gone}", file=file)
    assert "main could not start: its folder" in made.whole()
    assert made.processes.started == []
