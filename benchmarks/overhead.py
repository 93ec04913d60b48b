"""What the plugin costs, measured against plain pytest, doit and make on the same machine in the same run.

    python benchmarks/overhead.py [--quick] [--json FILE]

Plans are made in a temporary folder. Every figure is that of whole processes; the plugin and its peer take
turns (A B B A ...), so that a machine which slows down slows both. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from measuring import Figure, Run, environ, in_turns, median, ratios, run, show

CHAIN = 200
"""Steps in the chain."""
LONG = 10_000
"""Steps in the long list."""
OURS = "tinker_steps"
COMPANY = frozenset({OURS, "xdist", "xdist.looponfail", "timeout"})
"""Entry points that an installation of the plugin brings; they are there on both sides."""
STRANGERS = sorted({entry.name for entry in entry_points(group="pytest11")} - COMPANY)
"""Other plugins in this environment. One that is slow to start would hide what ours costs."""

PYTEST = (sys.executable, "-m", "pytest", *(word for name in STRANGERS for word in ("-p", f"no:{name}")))
WITHOUT = (*PYTEST, "-p", f"no:{OURS}")
"""pytest as if the plugin were not installed: a blocked entry point is not even imported."""
MODULE = "pytest_tinker_steps.plugin"


@dataclass(frozen=True, slots=True)
class Effort:
    """How many runs each figure gets."""

    chain: int
    checks: int
    collect: int
    long: int
    ticks: int


FULL = Effort(chain=5, checks=5, collect=15, long=3, ticks=50)
QUICK = Effort(chain=1, checks=1, collect=5, long=1, ticks=20)


# -- plans


def write_plan(folder: Path, steps: int, body: str) -> None:
    """A repository with a task list and definitions, all steps of which have the same body."""
    definitions = folder / ".claude/tasks/step_definitions.yaml"
    definitions.parent.mkdir(parents=True)
    boxes = "".join(f"- [ ] {number}. Do the work of step {number}\n" for number in range(1, steps + 1))
    (folder / "SPEC.md").write_text(f"# Plan\n\n{boxes}", encoding="utf-8")
    texts = (f"step_{number}:\n{body}" for number in range(1, steps + 1))
    definitions.write_text("".join(texts), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    if shutil.which("git"):
        git = (
            "git",
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@localhost",
            "-c",
            "commit.gpgsign=false",
        )
        for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "plan")):
            subprocess.run((*git, *words), cwd=folder, check=True)


def afresh(folder: Path, spec: str) -> None:
    """Forget what an earlier run has done."""
    (folder / "SPEC.md").write_text(spec, encoding="utf-8")
    (folder / ".task_execution.log").unlink(missing_ok=True)
    shutil.rmtree(folder / ".steps", ignore_errors=True)


def write_tests(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_peer.py").write_text(text, encoding="utf-8")


# -- figures


def chain(folder: Path, effort: Effort) -> list[Figure]:
    """A chain of steps that run `true`, against as many tests that do the same."""
    ours, tests = folder / "chain", folder / "chain_tests"
    write_plan(ours, CHAIN, '  main:\n    command: "true"\n')
    spec = (ours / "SPEC.md").read_text("utf-8")
    write_tests(
        tests,
        "import subprocess\n\nimport pytest\n\n\n"
        f'@pytest.mark.parametrize("number", range({CHAIN}))\n'
        'def test_step(number):\n    subprocess.run("true", shell=True, check=True)\n',
    )

    def steps() -> Run:
        afresh(ours, spec)
        taken = run((*PYTEST, "--steps", "all"), ours)
        ticked = (ours / "SPEC.md").read_text("utf-8").count("- [x]")
        if ticked != CHAIN:
            raise SystemExit(f"{ticked} of {CHAIN} steps are ticked: this is no measurement")
        return taken

    def anew() -> Run:
        shutil.rmtree(environ(ours)["XDG_CACHE_HOME"], ignore_errors=True)
        return steps()

    # Every session keeps the definitions that it has read, so `steps` knows them, as it knows the byte code.
    contestants = [steps, lambda: run(WITHOUT, tests), anew]
    names = ["pytest"]
    if importlib.util.find_spec("doit"):
        contestants.append(_doit(folder / "doit"))
        names.append("doit")
    if shutil.which("make"):
        contestants.append(_make(folder / "make"))
        names.append("make")
    mine, theirs, first, *others = in_turns(effort.chain, *contestants)
    others.insert(0, theirs)
    peers = {name: f"{median(runs):.2f} s" for name, runs in zip(names, others, strict=True)}
    peers |= {name: "not installed" for name in ("doit", "make") if name not in names}
    found, cold = ratios(mine, theirs), ratios(first, theirs)
    name = f"{CHAIN} steps in a chain ({median(mine):.2f} s) / {CHAIN} tests"
    reading = f"the same, definitions read anew ({median(first):.2f} s)"
    return [
        Figure(name, "x", statistics.median(found), 2.0, peers, found),
        Figure(reading, "x", statistics.median(cold), None, {}, cold),
    ]


def _doit(folder: Path) -> Callable[[], Run]:
    folder.mkdir()
    text = (
        "def task_step():\n"
        f"    for number in range({CHAIN}):\n"
        '        before = [f"step:{number - 1}"] if number else []\n'
        '        yield {"name": str(number), "actions": ["true"], "task_dep": before}\n'
    )
    (folder / "dodo.py").write_text(text, encoding="utf-8")
    return lambda: run((sys.executable, "-m", "doit"), folder)


def _make(folder: Path) -> Callable[[], Run]:
    folder.mkdir()
    rules = [f".PHONY: all\nall: step{CHAIN}\nstep0:\n"]
    rules += [f".PHONY: step{n}\nstep{n}: step{n - 1}\n\ttrue\n" for n in range(1, CHAIN + 1)]
    (folder / "Makefile").write_text("".join(rules), encoding="utf-8")
    return lambda: run(("make",), folder)


def checks(folder: Path, effort: Effort) -> list[Figure]:
    """Three checks of a second each, against three processes started together."""
    ours = folder / "checks"
    names = ("first", "second", "third")
    entries = "".join(f'    - name: {name}\n      command: "sleep 1"\n' for name in names)
    body = f'  pre_flight:\n{entries}  main:\n    command: "true"\n'
    write_plan(ours, 1, body)
    spec = (ours / "SPEC.md").read_text("utf-8")
    phases: list[float] = []

    def phase() -> Run:
        afresh(ours, spec)
        taken = run((*PYTEST, "--steps", "all"), ours)
        for line in (ours / ".task_execution.log").read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["event"] == "phase" and record["phase"] == "pre_flight":
                phases.append(record["seconds"])
        return taken

    def bare() -> Run:
        began = time.perf_counter()
        for process in [subprocess.Popen("sleep 1", shell=True) for _ in range(3)]:
            process.wait()
        return Run(time.perf_counter() - began, 0.0)

    _, theirs = in_turns(effort.checks, phase, bare)
    found = phases[1:]
    peers = {"3 x Popen": f"{median(theirs):.3f} s"}
    return [Figure("phase of 3 checks of 1 s", "s", statistics.median(found), 1.15, peers, found)]


def installed(folder: Path, effort: Effort) -> list[Figure]:
    """What it costs a repository without steps that the plugin is installed."""
    tests = folder / "one_test"
    write_tests(tests, "def test_one():\n    pass\n")
    words = ("--collect-only", "-q")
    for command, loaded in ((PYTEST, True), (WITHOUT, False)):
        arguments = [*command[3:], *words]
        program = f"import sys, pytest; pytest.main({arguments}); sys.exit({MODULE!r} in sys.modules)"
        if (
            subprocess.run(
                (sys.executable, "-c", program), cwd=tests, env=environ(tests), stdout=subprocess.DEVNULL
            ).returncode
            != loaded
        ):
            raise SystemExit(f"pytest {' '.join(arguments)}: the plugin is {'not ' if loaded else ''}loaded")
    ours, theirs = in_turns(
        effort.collect, lambda: run((*PYTEST, *words), tests), lambda: run((*WITHOUT, *words), tests)
    )
    found = [100 * (ratio - 1) for ratio in ratios(ours, theirs)]
    peers = {"with": f"{median(ours) * 1000:.0f} ms", "without": f"{median(theirs) * 1000:.0f} ms"}
    return [Figure("added to --collect-only of one test", "%", statistics.median(found), 5.0, peers, found)]


def long_list(folder: Path, effort: Effort) -> list[Figure]:
    """A list that is longer than anybody's."""
    ours, tests = folder / "long", folder / "long_tests"
    body = '  main:\n    command: "true"\n  post_validation:\n    - name: holds\n      command: "true"\n'
    write_plan(ours, LONG, body)
    spec = (ours / "SPEC.md").read_text("utf-8")
    write_tests(
        tests,
        "import pytest\n\n\n"
        f'@pytest.mark.parametrize("number", range({LONG}))\ndef test_step(number):\n    pass\n',
    )
    last = ("--steps", str(LONG), "--steps-assume", f"1-{LONG - 1}")

    def one() -> Run:
        afresh(ours, spec)
        return run((*PYTEST, *last), ours)

    collected, plain, selected, one_plain = in_turns(
        effort.long,
        lambda: run((*PYTEST, "--steps", "all", "--collect-only", "-q"), ours),
        lambda: run((*WITHOUT, "--collect-only", "-q"), tests),
        one,
        lambda: run((*WITHOUT, f"test_peer.py::test_step[{LONG - 1}]"), tests),
    )
    many = f"{LONG:,} steps"
    peak, plain_peak = (max(run.peak for run in runs) for runs in (collected + selected, plain + one_plain))
    ticks, disk = _ticks(ours, spec, effort.ticks)
    return [
        Figure(
            f"{many}: collect all",
            "s",
            median(collected),
            4.0,
            {f"{LONG:,} tests": f"{median(plain):.2f} s"},
            [run.seconds for run in collected],
        ),
        Figure(
            f"{many}: run the last",
            "s",
            median(selected),
            5.0,
            {f"of {LONG:,} tests": f"{median(one_plain):.2f} s"},
            [run.seconds for run in selected],
        ),
        Figure(
            f"{many}: peak memory", "MB", peak, 300.0, {f"{LONG:,} tests": f"{plain_peak:.0f} MB"}, [peak]
        ),
        Figure(
            f"{many}: one tick",
            "ms",
            statistics.median(ticks),
            8.0,
            {"write, fsync, rename": f"{statistics.median(disk):.1f} ms"},
            ticks,
        ),
    ]


TICKS = """\
import json, os, sys, time
from pathlib import Path
from pytest_tinker_steps.plan import tasklist
from pytest_tinker_steps.record.ticking import ListFile

path, times = Path(sys.argv[1]), int(sys.argv[2])
data = path.read_bytes()
boxes = tasklist.parse(data, path.name)
listfile = ListFile(path, data, boxes)
ours, disk = [], []
for box in boxes.boxes[:: len(boxes.boxes) // times][:times]:
    began = time.perf_counter()
    edit, *_ = listfile.tick(box, "2026-01-01T00:00:00Z", f"task_{box.id}_0a1b2c3d")
    ours.append((time.perf_counter() - began) * 1000)
    assert edit.done and edit.changed, edit
    data = path.read_bytes()
    began = time.perf_counter()
    with open(path.with_suffix(".tmp"), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path.with_suffix(".tmp"), path.with_suffix(".copy"))
    disk.append((time.perf_counter() - began) * 1000)
print(json.dumps([ours, disk]))
"""


def _ticks(folder: Path, spec: str, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds of single ticks, and of the bare writing of the same bytes, in turns in one process."""
    afresh(folder, spec)
    command = (sys.executable, "-c", TICKS, str(folder / "SPEC.md"), str(times))
    text = subprocess.run(
        command, cwd=folder, env=environ(folder), capture_output=True, text=True, check=True
    ).stdout
    ours, disk = json.loads(text)
    return ours, disk


# -- the table


PARTS: dict[str, Callable[[Path, Effort], list[Figure]]] = {
    "chain": chain,
    "checks": checks,
    "installed": installed,
    "long": long_list,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs; the figures are rough")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures with all samples")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure only this part; may be repeated"
    )
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        for name in options.only or PARTS:
            figures += PARTS[name](Path(folder), QUICK if options.quick else FULL)
    return show(figures, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
