"""Who runs a graph of steps: the plugin, xdist alone, make, doit and snakemake."""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from measuring import Run, run
from overhead import PYTEST, WITHOUT, afresh, write_plan, write_tests

Command = tuple[str, ...]
Graph = Sequence[Sequence[int]]
"""Sequences of steps by number, side by side."""


class Contest:
    """Runs of one contestant: the whole process, its processor time, and the window of its steps."""

    def __init__(self, name: str, whole: Callable[[], Run], window: Callable[[], float]) -> None:
        self.name = name
        self._whole = whole
        self._window = window
        self.seconds: list[float] = []
        self.windows: list[float] = []
        self.processor: list[float] = []

    def __call__(self) -> Run:
        before = _children()
        taken = self._whole()
        self.processor.append(_children() - before)
        self.seconds.append(taken.seconds)
        self.windows.append(self._window())
        return taken

    def forget_first(self) -> None:  # `in_turns` does not count it either
        del self.seconds[0], self.windows[0], self.processor[0]


def _children() -> float:
    """Processor seconds of all processes that were started here and have ended, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# -- ours


def write_steps(folder: Path, bodies: Sequence[str]) -> str:
    """A repository with one step for each body; the text of its list."""
    write_plan(folder, len(bodies), "  {}\n")
    texts = (f"step_{number}:\n{body}" for number, body in enumerate(bodies, start=1))
    (folder / ".claude/tasks/step_definitions.yaml").write_text("".join(texts), encoding="utf-8")
    return (folder / "SPEC.md").read_text("utf-8")


def steps(folder: Path, bodies: Sequence[str], workers: int) -> Contest:
    spec = write_steps(folder, bodies)

    def whole() -> Run:
        afresh(folder, spec)
        taken = run((*PYTEST, "--steps", "all", "-n", str(workers)), folder)
        ticked = (folder / "SPEC.md").read_text("utf-8").count("- [x]")
        if ticked != len(bodies):
            raise SystemExit(f"{ticked} of {len(bodies)} steps are ticked: this is no measurement")
        return taken

    def window() -> float:
        lines = (folder / ".task_execution.log").read_text("utf-8").splitlines()
        return recorded(map(json.loads, lines))

    return Contest("steps", whole, window)


def recorded(records: Iterable[Mapping[str, Any]]) -> float:
    """Seconds from the start of the first attempt to the end of the last, as the journal has them."""
    stamps: dict[str, list[float]] = {"attempt_started": [], "attempt_finished": []}
    for record in records:
        if record["event"] in stamps:
            stamps[record["event"]].append(datetime.fromisoformat(record["timestamp"]).timestamp())
    return max(stamps["attempt_finished"]) - min(stamps["attempt_started"])


def tests(folder: Path, text: str, workers: int) -> Contest:
    """xdist alone, as if the plugin were not installed."""
    write_tests(folder, text)
    return Contest("xdist", lambda: run((*WITHOUT, "-n", str(workers), "--dist", "load"), folder), float)


# -- peers


def peers(
    folder: Path, graph: Graph, command: str, workers: int, bins: Path | None, lasts: float = 0.0
) -> list[Contest]:
    """The same graph for those that are installed.

    Args:
        command: of each step.
        bins: a folder of programs to look in first.
        lasts: seconds that the command takes at least.
    """
    found = []
    for name, write in WRITERS.items():
        program = where(name, bins)
        if program:
            place = folder / name
            place.mkdir(parents=True)
            found.append(_peer(name, place, write(place, graph, command, program, workers), lasts))
    return found


def where(name: str, bins: Path | None) -> str | None:
    """A program: in the given folder, beside this interpreter, or on the path."""
    for folder in (bins, Path(sys.executable).parent):
        if folder is not None and (found := shutil.which(name, path=str(folder))):
            return found
    return shutil.which(name)


def _peer(name: str, folder: Path, words: Command, lasts: float) -> Contest:
    out = folder / "out"

    def whole() -> Run:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        out.mkdir()
        return run(words, folder)

    def window() -> float:
        ends = [path.stat().st_mtime for path in out.iterdir()]
        return max(ends) - min(ends) + lasts

    return Contest(name, whole, window)


def _make(folder: Path, graph: Graph, command: str, program: str, workers: int) -> Command:
    rules = []
    for track in graph:
        for place, number in enumerate(track):
            before = f"out/{track[place - 1]}" if place else ""
            rules.append(f"out/{number}: {before}\n\t{command} && : > $@\n")
    names = " ".join(f"out/{number}" for track in graph for number in track)
    (folder / "Makefile").write_text(f"all: {names}\n{''.join(rules)}", encoding="utf-8")
    return (program, "-s", f"-j{workers}")


def _doit(folder: Path, graph: Graph, command: str, program: str, workers: int) -> Command:
    text = (
        f"GRAPH = {[[*track] for track in graph]}\n\n\ndef task_step():\n"
        "    for track in GRAPH:\n"
        "        for place, number in enumerate(track):\n"
        '            before = [f"step:{track[place - 1]}"] if place else []\n'
        f'            action = f"{command} && : > out/{{number}}"\n'
        '            yield {"name": str(number), "actions": [action], "task_dep": before}\n'
    )
    (folder / "dodo.py").write_text(text, encoding="utf-8")
    return (program, "-n", str(workers))


def _snakemake(folder: Path, graph: Graph, command: str, program: str, workers: int) -> Command:
    names = [f"out/{number}" for track in graph for number in track]
    rules = [f"rule all:\n    input: {names}\n"]
    for track in graph:
        for place, number in enumerate(track):
            before = f'    input: "out/{track[place - 1]}"\n' if place else ""
            rules.append(
                f"rule step_{number}:\n{before}"
                f'    output: "out/{number}"\n    shell: "{command} && : > {{output}}"\n'
            )
    (folder / "Snakefile").write_text("\n".join(rules), encoding="utf-8")
    # The greedy scheduler is the faster one of its two.
    return (program, "--cores", str(workers), "--quiet", "all", "--nolock", "--scheduler", "greedy")


WRITERS: dict[str, Callable[[Path, Graph, str, str, int], Command]] = {
    "make": _make,
    "doit": _doit,
    "snakemake": _snakemake,
}


def told(contests: Sequence[Contest], values: Callable[[Contest], list[float]]) -> dict[str, str]:
    """A peer's median by its name; one that is missing is said to be."""
    known = {contest.name: f"{statistics.median(values(contest)):.2f} s" for contest in contests}
    return known | {name: "missing" for name in WRITERS if name not in known}
