"""What steps side by side cost, measured against xdist, make, doit and snakemake in the same run.

Plans are made in a temporary folder; see README.md beside this file. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from contestants import Graph, peers, steps, tests, told
from dispatching import dispatch
from measuring import Figure, in_turns, load, median, ratios, show

TRACKS, IN_TRACK, WORKERS, SLEEP = 6, 10, 6, 0.2
"""The graph of the first figures: so many sequences of so many steps of so many seconds."""
BOUND = IN_TRACK * SLEEP
"""Seconds below which no scheduling can come."""
FREE, PAIR = 500, 2
"""Steps that wait for nothing, and the workers that run them."""
SIX_TRACKS: Graph = [range(track, TRACKS * IN_TRACK + 1, TRACKS) for track in range(1, TRACKS + 1)]
ALL_FREE: Graph = [(number,) for number in range(1, FREE + 1)]


# -- figures


def tracks(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Six tracks of ten steps on six workers."""
    began = load()
    bodies = [f"  track: t{number % TRACKS}\n  main: sleep {SLEEP}\n" for number in range(TRACKS * IN_TRACK)]
    ours = steps(folder / "tracks", bodies, WORKERS)
    start = tests(folder / "trivial", "def test_one():\n    pass\n", WORKERS)
    others = peers(folder / "tracks_of", SIX_TRACKS, f"sleep {SLEEP}", WORKERS, options.peers, SLEEP)
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
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="parallel-") as folder:
        for name in options.only or PARTS:
            figures += PARTS[name](Path(folder), options)
    return show(figures, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
