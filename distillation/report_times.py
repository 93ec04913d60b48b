"""Where the time of a run went: ``time_report.json`` out of the other reports, and its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.facts import Facts
from distillation.jsonl import read_json, write_json
from distillation.report_tables import (
    AUDIT,
    DEMO,
    EXPORT,
    GENERATED,
    RESULTS,
    SPLIT,
    TRAINING,
    TRAINING_TRIAL,
)

TIMES = "time_report.json"

HEADINGS = ("step", "seconds", "share", "rate")

NO_RATE = "–"


@dataclass(frozen=True, slots=True)
class Timed:
    """Work whose report has its ``seconds``.

    Attributes:
        key: its name in ``time_report.json``.
        name: for people.
        file: the report.
        done: where in it the number stands of what was done in this time; empty where a rate says nothing.
        unit: what was done.
    """

    key: str
    name: str
    file: str
    done: str = ""
    unit: str = ""


WORK = (
    Timed("generation", "Generation, with its trial", GENERATED, "seconds_done", "answers/s"),
    Timed("audit", "Audit", AUDIT, "lines", "lines/s"),
    Timed("split", "Split", SPLIT, "train", "training examples/s"),
    Timed("training_trial", "Trial of the training", TRAINING_TRIAL),
    Timed("training", "Training, with validation and checkpoints", TRAINING, "seconds_done", "steps/s"),
    Timed("evaluation", "Evaluation, with its trial", RESULTS, "seconds_done", "answers/s"),
    Timed("demo", "Demo", DEMO),
    Timed("export", "Export", EXPORT),
)


def times(folder: Path) -> dict[str, Any]:
    """The content of ``time_report.json``, counted from the other reports.

    Args:
        folder: the run folder.

    Returns:
        ``seconds`` of all work, and by its name what of that each took, as a share and as a rate.
    """
    facts = Facts(folder)
    timed = [one for one in WORK if facts.has(f"{one.file}#seconds")]
    took = {one.key: float(facts.value(f"{one.file}#seconds")) for one in timed}
    together = sum(took.values())
    found: dict[str, dict[str, float]] = {}
    for one in timed:
        seconds = took[one.key]
        found[one.key] = {"share": round(seconds / together, 6) if together else 0.0}
        if one.done and seconds and facts.has(f"{one.file}#{one.done}"):
            found[one.key]["rate"] = round(facts.value(f"{one.file}#{one.done}") / seconds, 4)
    return {"seconds": round(together, 2), "work": found}


def write(folder: Path) -> None:
    """Write ``time_report.json``."""
    write_json(folder / TIMES, times(folder))


def check(folder: Path) -> None:
    """Count ``time_report.json`` again.

    Raises:
        DistillationError: it says something else.
    """
    if read_json(folder / TIMES) != times(folder):
        raise DistillationError(f"{folder / TIMES}: is not what the reports say; run step 20 again")


def table(facts: Facts) -> str:
    """Seconds, share and rate of all work whose time is known, and all of it together."""
    rows = []
    for one in WORK:
        share = f"{TIMES}#work.{one.key}.share"
        if not facts.has(share):
            continue
        values = [("{:,.1f}", f"{one.file}#seconds"), ("{:.1%}", share)]
        rate = f"{TIMES}#work.{one.key}.rate"
        if facts.has(rate):
            values.append((f"{{:,.2f}} {one.unit}", rate))
        rows.append(_row(facts, one.name, values))
    rows.append(_row(facts, "Together", [("{:,.1f}", f"{TIMES}#seconds")]))
    return facts.table(rows, HEADINGS)


def _row(facts: Facts, what: str, values: list[tuple[str, str]]) -> str:
    texts = [text for text, _ in values] + [NO_RATE] * (len(HEADINGS) - 1 - len(values))
    return facts.row(what, " | ".join(texts), *(place for _, place in values))


def moments(facts: Facts) -> list[str]:
    """Rows on times that are no part of the sum."""
    rows = [facts.row("A training step, median of seconds", "{:.4f}", f"{TRAINING}#seconds_per_step")]
    if facts.has(f"{DEMO}#slowest_seconds"):
        rows.append(
            facts.row(
                "Slowest answer of the student in the demo, seconds", "{:.3f}", f"{DEMO}#slowest_seconds"
            )
        )
    return rows
