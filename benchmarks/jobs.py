"""What background jobs cost and how soon they are heard of; see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from measuring import Figure, environ, show

INTERVAL = 60
"""Seconds between two runs of a monitor, where the figure says so."""
READY = "date +%s.%N > ready_at; echo ready; sleep 600"
"""The moment is written by the job itself, right before it is ready."""


def pytest(folder: Path, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
    """Run pytest with this plugin alone.

    Raises:
        SystemExit: it did not end as it should.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environ(folder) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": PLUGINS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode not in ok:
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


PLUGINS = "xdist.plugin,pytest_timeout,pytest_tinker_steps.plugin"


def write(folder: Path, definitions: str, steps: int) -> None:
    """A list with so many steps and these definitions."""
    folder.mkdir(parents=True)
    boxes = "".join(f"- [ ] **STEP {number}**: Work\n" for number in range(1, steps + 1))
    (folder / "SPEC.md").write_text(boxes)
    (folder / "step_definitions.yaml").write_text(definitions)


def job_of(folder: Path) -> dict[str, Any]:
    """The state of the newest job."""
    files = sorted(folder.glob(".steps/jobs/*/job.json"), key=lambda path: path.stat().st_mtime)
    state: dict[str, Any] = json.loads(files[-1].read_text())
    return state


def job(command: str, monitors: str = "") -> str:
    main = f"    mode: background\n    command: {command!r}\n    ready_when: {{line: ready}}\n"
    return f"step_1:\n  main:\n{main}" + (f"  background:\n{monitors}" if monitors else "")


def ready_to_next_step(folder: Path) -> Figure:
    """From the job's own word that it is ready to the first command of the step behind it."""
    samples = []
    for turn in range(5):
        place = folder / f"ready{turn}"
        write(place, job(READY) + "step_2:\n  main: date +%s.%N > next_at\n", 2)
        pytest(place, "--steps", "1-2")
        pytest(place, "--steps-stop", "1")
        samples.append(float((place / "next_at").read_text()) - float((place / "ready_at").read_text()))
    return Figure("ready to next step", "s", statistics.median(samples), 0.2, samples=samples)


def alert(folder: Path) -> Figure:
    """From a bad line in a file to the alert in the journal, beyond the monitor's interval."""
    interval, samples = 2.0, []
    monitor = f"    - {{task: log, command: 'cat log', interval: {interval:g}, alert_on: error}}\n"
    for turn in range(3):
        place = folder / f"alert{turn}"
        write(place, job("echo ready; sleep 600", monitor), 1)
        (place / "log").write_text("fine\n")
        pytest(place, "--steps", "1")
        time.sleep(interval * (0.3 + 0.3 * turn))
        bad = time.time()
        (place / "log").write_text("RuntimeError\n")
        while not (found := alerts(place)):
            time.sleep(0.05)
        samples.append(found[0] - bad - interval)
        pytest(place, "--steps-stop", "1")
    return Figure("alert in the journal after its interval", "s", max(samples), 1.0, samples=samples)


def alerts(folder: Path) -> list[float]:
    """The moments at which alerts were recorded."""
    records = map(json.loads, (folder / ".task_execution.log").read_text().splitlines())
    stamps = [record["timestamp"] for record in records if record["event"] == "alert"]
    return [datetime.fromisoformat(stamp).timestamp() for stamp in stamps]


def many(folder: Path) -> Figure:
    """Twenty jobs at once, all started, waited for, and ticked by one session."""
    count = 20
    texts = []
    for number in range(1, count + 1):
        main = "mode: background, command: 'echo ready; sleep 5', ready_when: {line: ready}"
        texts.append(f"step_{number}:\n  needs: []\n  main: {{{main}}}\n")
    place = folder / "many"
    write(place, "".join(texts), count)
    began = time.perf_counter()
    pytest(place, "--steps", "all", "--steps-wait")
    seconds = time.perf_counter() - began
    if (place / "SPEC.md").read_text().count("[x]") != count:
        raise SystemExit("not all of the jobs were ticked")
    peers = {"one after the other": f"{5.0 * count:.0f} s"}
    return Figure(f"{count} jobs of 5 s at once, ticked", "s", seconds, 5.0 * count / 2, peers, [seconds])


def supervisor(folder: Path, seconds: float) -> list[Figure]:
    """Processor time and memory of a supervisor, its guardian included, with three monitors."""
    names = ("one", "two", "three")
    monitors = "".join(
        f"    - {{task: {name}, command: 'echo sample', interval: {INTERVAL}}}\n" for name in names
    )
    place = folder / "supervisor"
    write(place, job("echo ready; sleep 600", monitors), 1)
    pytest(place, "--steps", "1")
    pid = job_of(place)["supervisor"]
    time.sleep(2.0)  # what its start costs is no part of the figure
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    mine = [process for process in family if process.pid == pid or "guardian.py" in str(process.cmdline())]
    before, began = cpu(mine), time.monotonic()
    time.sleep(seconds)
    share = 100 * (cpu(mine) - before) / (time.monotonic() - began)
    memory = sum(process.memory_info().rss for process in mine) / 1e6
    shared = sum(process.memory_full_info().uss for process in mine) / 1e6
    pytest(place, "--steps-stop", "1")
    own = {"not shared with others": f"{shared:.0f} MB"}
    return [
        Figure(f"supervisor, 3 monitors at {INTERVAL} s: of a core", "%", share, 0.2, samples=[share]),
        Figure("supervisor and its guardian: memory", "MB", memory, 40.0, own, [memory]),
    ]


def cpu(processes: list[psutil.Process]) -> float:
    """Seconds of processor time, without that of the commands that they ran."""
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system for t in times)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=190.0, help="how long the supervisor is watched (three beats)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures with all samples")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parts: list[Callable[[Path], Figure]] = [ready_to_next_step, alert, many]
    with tempfile.TemporaryDirectory(prefix="jobs-") as name:
        figures = [part(Path(name)) for part in parts]
        figures += supervisor(Path(name), options.seconds)
    return show(figures, options.json)


if __name__ == "__main__":
    sys.exit(main())
