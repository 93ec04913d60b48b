"""What steps side by side cost, measured against xdist, make, doit and snakemake in the same run.

Plans are made in a temporary folder; see README.md beside this file. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring import Figure, Run, in_turns, median, ratios, run, show
from overhead import PYTEST, WITHOUT, afresh, write_plan, write_tests

TRACKS, IN_TRACK, WORKERS, SLEEP = 6, 10, 6, 0.2
"""The graph of the first figures: so many sequences of so many steps of so many seconds."""
BOUND = IN_TRACK * SLEEP
"""Seconds below which no scheduling can come."""
FREE, PAIR = 500, 2
"""Steps that wait for nothing, and the workers that run them."""
FEW, MANY = 100, 5_000
"""Steps of the two plans whose dispatch is compared."""
SAMPLE = 1_000
"""Steps over which that is measured."""

Command = tuple[str, ...]
Graph = Sequence[Sequence[int]]
"""Sequences of steps by number, side by side."""
SIX_TRACKS: Graph = [range(track, TRACKS * IN_TRACK + 1, TRACKS) for track in range(1, TRACKS + 1)]
ALL_FREE: Graph = [(number,) for number in range(1, FREE + 1)]


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


def load() -> str:
    """Other people's work on this machine is in every figure."""
    return f"{os.getloadavg()[0]:.1f}"


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


def recorded(records: Any) -> float:
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


def peers(folder: Path, graph: Graph, command: str, workers: int, bins: Path | None) -> list[Contest]:
    """The same graph for those that are installed."""
    found = []
    for name, write in (("make", _make), ("doit", _doit), ("snakemake", _snakemake)):
        program = where(name, bins)
        if program:
            place = folder / name
            place.mkdir(parents=True)
            found.append(_peer(name, place, write(place, graph, command, program, workers), command))
    return found


def where(name: str, bins: Path | None) -> str | None:
    """A program: in the given folder, beside this interpreter, or on the path."""
    for folder in (bins, Path(sys.executable).parent):
        if folder is not None and (found := shutil.which(name, path=str(folder))):
            return found
    return shutil.which(name)


def _peer(name: str, folder: Path, words: Command, command: str) -> Contest:
    out = folder / "out"

    def whole() -> Run:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        out.mkdir()
        return run(words, folder)

    def window() -> float:
        ends = [path.stat().st_mtime for path in out.iterdir()]
        return max(ends) - min(ends) + (SLEEP if "sleep" in command else 0.0)

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


def told(contests: Sequence[Contest], values: Callable[[Contest], list[float]]) -> dict[str, str]:
    """A peer's median by its name; one that is missing is said to be."""
    known = {contest.name: f"{statistics.median(values(contest)):.2f} s" for contest in contests}
    return known | {name: "missing" for name in ("make", "doit", "snakemake") if name not in known}


# -- figures


def tracks(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Six tracks of ten steps on six workers."""
    began = load()
    bodies = [f"  track: t{number % TRACKS}\n  main: sleep {SLEEP}\n" for number in range(TRACKS * IN_TRACK)]
    ours = steps(folder / "tracks", bodies, WORKERS)
    start = tests(folder / "trivial", "def test_one():\n    pass\n", WORKERS)
    others = peers(folder / "tracks_of", SIX_TRACKS, f"sleep {SLEEP}", WORKERS, options.peers)
    contests = [ours, start, *others]
    mine, starts, *_ = in_turns(options.rounds, *contests)
    for contest in contests:
        contest.forget_first()
    ratio = [window / BOUND for window in ours.windows]
    beyond = [
        one.seconds - other.seconds - window
        for one, other, window in zip(mine, starts, ours.windows, strict=True)
    ]
    processor = [ours.processor[i] - start.processor[i] for i in range(options.rounds)]
    graph = f"{TRACKS} tracks of {IN_TRACK} x {SLEEP} s, {WORKERS} workers"
    return [
        Figure(
            f"{graph}: first start to last end / {BOUND:.1f} s (goal 1.05)",
            "x",
            statistics.median(ratio),
            1.10,
            told(others, lambda other: other.windows) | {"load": began},
            ratio,
        ),
        Figure(
            f"the whole process ({median(mine):.2f} s) beyond xdist's start and that",
            "s",
            statistics.median(beyond),
            0.4,
            {"xdist's start": f"{median(starts):.2f} s"}
            | told(others, lambda other: other.seconds)
            | {"load": load()},
            beyond,
        ),
        Figure(
            "the same in processor time, beyond xdist's start",
            "s",
            statistics.median(processor),
            None,
            told(others, lambda other: other.processor),
            processor,
        ),
    ]


def free(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Steps that wait for nothing, on two workers, against tests that start the same process."""
    began = load()
    ours = steps(folder / "free", ['  needs: []\n  main: "true"\n'] * FREE, PAIR)
    theirs = tests(
        folder / "free_tests",
        "import subprocess\n\nimport pytest\n\n\n"
        f'@pytest.mark.parametrize("number", range({FREE}))\n'
        'def test_step(number):\n    subprocess.run("true", shell=True, check=True)\n',
        PAIR,
    )
    others = peers(folder / "free_of", ALL_FREE, "true", PAIR, options.peers)
    mine, tests_took, *_ = in_turns(options.rounds, ours, theirs, *others)
    for contest in (ours, theirs, *others):
        contest.forget_first()
    found = ratios(mine, tests_took)
    processor = [one / other for one, other in zip(ours.processor, theirs.processor, strict=True)]
    return [
        Figure(
            f"{FREE} free steps on {PAIR} workers ({median(mine):.2f} s) / {FREE} tests",
            "x",
            statistics.median(found),
            1.3,
            {"xdist": f"{median(tests_took):.2f} s"}
            | told(others, lambda other: other.seconds)
            | {"load": f"{began} .. {load()}"},
            found,
        ),
        Figure(
            "the same in processor time",
            "x",
            statistics.median(processor),
            None,
            {"xdist": f"{statistics.median(theirs.processor):.2f} s"}
            | told(others, lambda other: other.processor),
            processor,
        ),
    ]


def dispatch(rounds: int) -> list[Figure]:
    """What a step costs the scheduler in a short and in a long plan, and the line that tells of it."""
    figures = []
    for name, line, told in (
        (f"{TRACKS} tracks", "  track: t{track}\n", False),
        ("no order", "  needs: []\n", False),
        ("no order, with the line of the session", "  needs: []\n", True),
    ):
        plans = {count: decided(count, line) for count in (FEW, MANY)}
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        for _ in range(1 + rounds):
            # As many steps of either, so that both samples are equally exact.
            times[FEW].append(statistics.mean(per_step(plans[FEW], told) for _ in range(SAMPLE // FEW)))
            times[MANY].append(per_step(plans[MANY], told))
        found = [many / few for few, many in zip(times[FEW][1:], times[MANY][1:], strict=True)]
        shown = {f"{count:,} steps": f"{statistics.median(times[count][1:]):.1f} us" for count in times}
        figures.append(
            Figure(
                f"dispatch of a step, {name}: {MANY:,} steps / {FEW}",
                "x",
                statistics.median(found),
                1.5,
                shown | {"load": load()},
                found,
            )
        )
    return figures


def decided(count: int, line: str) -> Any:
    """A session over so many steps, without pytest, as the scheduler's own tests make one."""
    from tests.record.sessions import a_list, a_plan, a_session, decide, true_steps

    more = {number: line.format(track=number % TRACKS) for number in range(1, count + 1)}
    plan = a_plan(a_list(*(f"Work {n}" for n in range(1, count + 1))), true_steps(count, more))
    return a_session(plan, decide(plan))


def per_step(plan: Any, told: bool) -> float:
    """Microseconds of processor time that the scheduler takes for a step, over at most `SAMPLE` of them.

    Args:
        told: whether the line of the whole session is made each time, too; it is not painted.
    """
    from pytest_tinker_steps.distribution import DistributionHooks
    from tests.test_scheduling import Around, Session

    class Telling(Around):
        """Has the line made by who makes it in a session."""

        def __init__(self, session: Session) -> None:
            super().__init__(session)
            console = SimpleNamespace(paints_overall=False, overall=lambda _: None)
            active: Any = SimpleNamespace(frozen=plan, controller=session, console=console)
            self._hooks = DistributionHooks(active, lambda _: None)
            self._hooks._scheduling = session.scheduling

        def changed(self) -> None:
            self._hooks.changed()

    session = Session(plan, nodes=WORKERS)
    scheduling = session.scheduling
    if told:
        scheduling._around = Telling(session)
    gc.collect()
    gc.freeze()  # as a session does
    began = time.process_time()
    while not scheduling.tests_finished and len(session.verdicts) < SAMPLE:
        before = len(session.verdicts)
        for node in session.nodes:
            session.end(node)
        if len(session.verdicts) == before:
            raise SystemExit("nothing is dispatched: this is no measurement")
    seconds = time.process_time() - began
    gc.unfreeze()
    return seconds / len(session.verdicts) * 1e6


# -- the table


PARTS: dict[str, Callable[[Path, argparse.Namespace], list[Figure]]] = {
    "tracks": tracks,
    "free": free,
    "dispatch": lambda _, options: dispatch(options.rounds),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_const", const=1, dest="rounds", help="one run, rough figures"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part")
    parser.add_argument(
        "--peers", metavar="FOLDER", type=Path, help="where doit and snakemake are, if not here"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures with all samples")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("a round at least")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="parallel-") as folder:
        for name in options.only or PARTS:
            figures += PARTS[name](Path(folder), options)
    return show(figures, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
