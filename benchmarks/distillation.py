"""What the commands of the 20-step plan make of the local engine, against what it gives at most.

    python benchmarks/distillation.py [--rounds N] [--questions N] [--steps N] [--only training] [--json FILE]

Generation and training run as a user runs them, in a temporary folder; the peer is a minimal loop that asks
for the same through the SDK. Each side has an engine of its own, which is started before the first turn; the
two take turns (A B B A ...). Exits with 1 when a ratio is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from measuring import Figure, environ, show

PROJECT = Path(__file__).parents[1]
NEEDED = ("tinker", "torch", "transformers", "peft")
LEAST = 0.90
"""Share of the peer's rate that a command must reach."""
TRIED_QUESTIONS = (64, 128, 256, 0)
"""Requests in flight that the peer is tried with before the rounds; 0 for all at once."""
TRIED_STEPS = (2, 3, 8)
HELD_BACK = 100
"""Answers of the first generation that the training is validated with."""
EVERY = 200
"""Steps between two checkpoints, as the configuration ships."""

Figures = dict[str, float]


def environment(folder: Path) -> dict[str, str]:
    """No settings of this shell; without a key it is the local engine, and the model that ships."""
    kept = {k: v for k, v in environ(folder).items() if not k.startswith(("TINKER_", "DISTILLATION_"))}
    return kept | {"PYTHONPATH": str(PROJECT)}


def python(folder: Path, *arguments: str) -> None:
    """Run Python in a folder, to its end.

    Raises:
        SystemExit: it failed, so there is nothing to measure.
    """
    command = (sys.executable, "-P", *arguments)
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")


class Side:
    """A side of `engine_sides.py` that was started and waits, as of ``started``."""

    def __init__(self, name: str, folder: Path, process: subprocess.Popen[str], log: IO[bytes]) -> None:
        self.name = name
        self._folder = folder
        self._process = process
        self._log = log
        self._turns = 0

    def turn(self, in_flight: int = 0) -> Figures:
        """Have the work done once; the figures.

        Raises:
            SystemExit: it failed, so there is nothing to measure.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._turns += 1
        place = self._folder.with_name(f"{self.name}{self._turns}")
        shutil.copytree(self._folder, place)
        with suppress(BrokenPipeError):
            print(
                json.dumps({"folder": str(place), "in_flight": in_flight}),
                file=self._process.stdin,
                flush=True,
            )
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self.name}: {self._log.read().decode('utf-8', 'replace')[-4000:]}")
        figures: Figures = json.loads(line)
        return figures


@contextmanager
def started(name: str, folder: Path, questions: int) -> Iterator[Side]:
    """Start a side, and have it end afterwards.

    Args:
        name: which.
        folder: laid out, and nothing done in it; each turn works in a copy.
        questions: that the teacher is asked.
    """
    script = Path(__file__).with_name("engine_sides.py")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            (sys.executable, "-P", str(script), name, "--questions", str(questions)),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Side(name, folder, process, log)
        finally:
            with suppress(BrokenPipeError):
                process.communicate()


def lay_out(folder: Path) -> None:
    """The configurations as they ship, and the system prompt."""
    folder.mkdir()
    for name in ("training_config.yaml", "data_generation_config.yaml"):
        shutil.copy(PROJECT / name, folder)
    python(folder, "-m", "distillation.characters")


def lay_out_training(folder: Path, answers: Path, steps: int) -> None:
    """What the teacher has answered, to train on, and the configuration with so many steps."""
    rows = answers.read_text("utf-8").splitlines(keepends=True)
    run_folder = folder / "runs/local"
    (run_folder / "train.jsonl").write_text("".join(rows[:-HELD_BACK]), encoding="utf-8")
    (run_folder / "val.jsonl").write_text("".join(rows[-HELD_BACK:]), encoding="utf-8")
    every = min(steps, EVERY)
    python(folder, "-m", "distillation.config")
    python(
        folder, "-m", "distillation.config", "--set", f"steps={steps}", "--set", f"checkpoint_every={every}"
    )


def fastest(peer: Side, tries: Sequence[int]) -> int:
    """With how many requests in flight the peer is fastest; each is tried twice."""
    seconds = [(peer.turn(most)["seconds"], most) for most in (*tries, *reversed(tries))]
    return min(seconds)[1]


def turns(rounds: int, mine: Side, peer: Side, most: int) -> list[tuple[Figures, Figures]]:
    """Pairs of turns that followed one another, in an order that turns round each time."""
    found = []
    for number in range(rounds):
        if number % 2 == 0:
            ours = mine.turn()
            theirs = peer.turn(most)
        else:
            theirs = peer.turn(most)
            ours = mine.turn()
        found.append((ours, theirs))
        print(f"round {number + 1}: {ours['seconds']:.2f} s, peer {theirs['seconds']:.2f} s", file=sys.stderr)
    return found


def contest(
    mine: Side, peer: Side, rounds: int, tries: Sequence[int], same: str
) -> tuple[list[tuple[Figures, Figures]], str]:
    """Both sides warmed up, the best of the peers found, and all rounds.

    Args:
        mine, peer: the sides.
        rounds: turns of each.
        tries: requests in flight that the peer is tried with.
        same: the figure that shows that both did the same work.

    Returns:
        the pairs, and the name of the peer.
    """
    mine.turn()
    peer.turn(tries[0])
    most = fastest(peer, tries)
    pairs = turns(rounds, mine, peer, most)
    if different := [pair for pair in pairs if not math.isclose(pair[0][same], pair[1][same], rel_tol=0.01)]:
        raise SystemExit(f"the work was not the same: {different[0]}")
    return pairs, f"SDK, {most or 'all'} in flight"


def rate(name: str, unit: str, pairs: Sequence[tuple[Figures, Figures]], peer: str) -> Figure:
    """One line: what was done per second, ours in terms of the peer's."""
    mine, others = ([run[unit] / run["seconds"] for run in side] for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in zip(mine, others, strict=True)]
    peers = {peer: f"{statistics.median(others):.1f} {unit}/s ({min(others):.1f} .. {max(others):.1f})"}
    said = f"{name}: {unit}/s ({statistics.median(mine):.1f}, {min(mine):.1f} .. {max(mine):.1f})"
    return Figure(said, "x", statistics.median(ratios), LEAST, peers, ratios, at_least=True)


def generation(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """The teacher's answers, against the same requests with nothing around them."""
    with (
        started("teach", folder, options.questions) as mine,
        started("sample", folder, options.questions) as peer,
    ):
        pairs, name = contest(mine, peer, options.rounds, TRIED_QUESTIONS, "tokens")
    return [rate("generation", unit, pairs, name) for unit in ("answers", "tokens")]


def training(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """The student's steps, against the same requests with nothing around them."""
    with started("learn", folder, 0) as mine, started("step", folder, 0) as peer:
        pairs, name = contest(mine, peer, options.rounds, TRIED_STEPS, "loss")
    return [rate("training", "steps", pairs, name)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default: %(default)s)")
    parser.add_argument(
        "--questions", type=int, default=600, help="questions in a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="training steps in a turn (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures with all samples")
    parser.add_argument("--only", choices=("generation", "training"), help="measure only this part")
    options = parser.parse_args()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SystemExit(
            f"not installed: {', '.join(missing)}; pip install -r requirements.txt -c constraints.txt"
        )
    whole = options.steps >= 60 and (options.steps <= EVERY or options.steps % EVERY == 0)
    if options.questions <= HELD_BACK or not whole or options.rounds < 1:
        parser.error(
            f"a round at least, more than {HELD_BACK} questions, 60 to {EVERY} steps or a multiple of {EVERY}"
        )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="distillation-") as name:
        folder = Path(name) / "plan"
        lay_out(folder)
        if options.only != "training":
            figures += generation(folder, options)
        if options.only != "generation":
            answers = folder.with_name("teach1") / "chunk.jsonl"
            if not answers.exists():
                with started("teach", folder, options.questions) as teacher:
                    teacher.turn()
            lay_out_training(folder, answers, options.steps)
            figures += training(folder, options)
    return show(figures, options.json)


if __name__ == "__main__":
    sys.exit(main())
