"""The figures of the report, drawn with matplotlib straight from the files of the run.

Each carries a fingerprint of those files, so that a figure of an earlier run is found out.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, read
from distillation.jsonl import read_json, write_bytes
from distillation.metrics import METRICS
from distillation.training_log import METRICS as STEPS
from distillation.training_log import VALIDATION, read_steps, read_validations

FOLDER = Path("figures")

WINDOW = 20
"""Steps in the moving mean of the loss."""

BINS = 25
PNG = b"\x89PNG\r\n\x1a\n"
COLOURS = {"student": "#0072b2", "second_teacher": "#009e73", "base": "#d55e00"}
"""Of the palette of Okabe and Ito, which the colour-blind can tell apart."""

NAMES = {"student": "student", "second_teacher": "teacher, second answer", "base": "base without prompt"}


def draw(folder: Path) -> list[Path]:
    """Draw every figure.

    Args:
        folder: the run folder.

    Returns:
        their paths in the run folder.

    Raises:
        DistillationError: matplotlib or a file of the run is missing.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure
    except ImportError as cause:
        raise DistillationError("matplotlib is not installed; run step 2") from cause
    paths = []
    for name, (plot, sources) in FIGURES.items():
        canvas = figure(figsize=(8, 4.5), layout="constrained")
        axes = canvas.add_subplot()
        plot(axes, folder)
        axes.spines[["top", "right"]].set_visible(False)
        picture = io.BytesIO()
        # Without a screen and without pyplot's global state: a Figure of its own draws with Agg.
        canvas.savefig(picture, format="png", dpi=120, metadata={"Source": _fingerprint(folder, sources)})
        write_bytes(folder / FOLDER / name, picture.getvalue())
        paths.append(FOLDER / name)
    return paths


def check(folder: Path) -> int:
    """Make sure that every figure is a picture of the files that are there now.

    Returns:
        how many there are.

    Raises:
        DistillationError: one is missing, no picture, or of other files.
    """
    for name, (_, sources) in FIGURES.items():
        path = folder / FOLDER / name
        try:
            content = path.read_bytes()
        except OSError as cause:
            raise DistillationError(f"{path}: {cause.strerror or cause}; run step 20") from cause
        if not content.startswith(PNG) or b"IEND" not in content[-12:]:
            raise DistillationError(f"{path}: is no whole picture; run step 20 again")
        if _fingerprint(folder, sources).encode() not in content:
            raise DistillationError(f"{path}: is of other files than those here; run step 20 again")
    return len(FIGURES)


def _fingerprint(folder: Path, sources: Sequence[Path | str]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        try:
            digest.update((folder / source).read_bytes())
        except OSError as cause:
            reason = cause.strerror or cause
            raise DistillationError(f"{folder / source}: {reason}; run the step that writes it") from cause
    return f"sha256:{digest.hexdigest()}"


def _loss(axes: Any, folder: Path) -> None:
    steps = read_steps(folder)
    numbers, losses = [one.step for one in steps], [one.loss for one in steps]
    axes.plot(numbers, losses, color="#bbbbbb", linewidth=0.8, label="each step")
    means = [statistics.fmean(losses[max(0, at - WINDOW) : at]) for at in range(1, len(losses) + 1)]
    axes.plot(numbers, means, color=COLOURS["student"], label=f"mean of {WINDOW} steps")
    validations = read_validations(folder)
    axes.plot(
        [one.step for one in validations],
        [one.loss for one in validations],
        "o--",
        color=COLOURS["base"],
        label="validation",
    )
    axes.set(title="Training loss", xlabel="step", ylabel="loss per token")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _similarity(axes: Any, folder: Path) -> None:
    records = read(folder / ANSWERS)
    edges = [number / BINS for number in range(BINS + 1)]
    for voice, name in NAMES.items():
        scores = [float(one["scores"][voice]["chrf"]) for one in records]
        axes.hist(scores, bins=edges, alpha=0.55, color=COLOURS[voice], label=name)
    axes.set(title="Likeness to the teacher's answer", xlabel="chrF, raw", ylabel="questions")
    axes.legend(frameon=False)


def _cost(axes: Any, folder: Path) -> None:
    found = read_json(folder / METRICS)
    usd = found["usd_per_thousand_answers"]
    bars = {
        "teacher": (usd["teacher"]["prompt"], usd["teacher"]["answer"]),
        "teacher,\nprompt cached": (usd["teacher"]["prompt_cached"], usd["teacher"]["answer"]),
        "student": (usd["student"]["prompt"], usd["student"]["answer"]),
    }
    prompts, answers = ([pair[place] for pair in bars.values()] for place in (0, 1))
    axes.bar(list(bars), prompts, color=COLOURS["base"], label="prompts")
    axes.bar(list(bars), answers, bottom=prompts, color=COLOURS["student"], label="answers")
    model = found["price"]["model"]
    axes.set(title=f"A thousand answers at the prices of {model}", ylabel="US dollars")
    axes.legend(frameon=False)


FIGURES: dict[str, tuple[Callable[[Any, Path], None], tuple[Path | str, ...]]] = {
    "loss.png": (_loss, (STEPS, VALIDATION)),
    "similarity.png": (_similarity, (ANSWERS,)),
    "cost.png": (_cost, (METRICS,)),
}
"""How each is drawn, and from which files."""
