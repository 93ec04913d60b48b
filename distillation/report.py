"""Step 20: ``RESULTS_REPORT.md`` and ``DEPLOYMENT.md``, with three figures, out of the files of the run.

Nothing is measured here, and no number is written by hand: each is taken from a file of the run folder and
stands beside its place. ``--check`` reads both documents, looks every number up where it is said to come
from, and makes sure that the figures are of these very files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from distillation import events, figures, report_tables, report_times, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.command import execute
from distillation.deployment import deployment
from distillation.errors import DistillationError
from distillation.facts import Facts, verify
from distillation.jsonl import write_bytes
from distillation.report_tables import METRICS, RESULTS, TRAINING

REPORT = "RESULTS_REPORT.md"
DEPLOYMENT = "DEPLOYMENT.md"

FIGURE_TEXTS = {
    "loss.png": "Loss of every training step, and of the validation examples at each checkpoint",
    "similarity.png": "How near the answers come to the teacher's, question by question",
    "cost.png": "What a thousand answers cost",
}


def results_report(facts: Facts, character: Character) -> str:
    """The text of ``RESULTS_REPORT.md``.

    Raises:
        DistillationError: a step before has not run.
    """
    parts = [
        _first_line(character),
        "What stands here was taken from the files of this run by a program. Behind each value stand the "
        "file and the place in it.",
        "## In short",
        facts.table(report_tables.in_short(facts)),
        "## What was done",
        facts.table(report_tables.done(facts)),
        _figure("loss.png"),
        "## How near the student is to the teacher",
        "The floor is the base model without a prompt, the ceiling a second answer of the teacher to the "
        "same question. A normalised value says where the student lies between the two. In parentheses: "
        "the confidence interval.",
        facts.table(report_tables.similarity(facts)),
        _figure("similarity.png"),
        "## What it costs to ask",
        _prices_of(facts),
        facts.table(report_tables.asking(facts)),
        _figure("cost.png"),
        "## What the run cost: estimate and actual",
        _bill_words(),
        facts.table(report_tables.bill(facts)),
        "## Where the time went",
        "Seconds of the work itself, the start of the engine included. Work that was interrupted or done "
        "again took what all its parts took together. Some work is done beside other work, so the sum is not "
        "the time from the first step to the last. What is not listed has no time in its report.",
        report_times.table(facts),
        facts.table(report_times.moments(facts)),
        "## A person's judgement",
        *report_tables.review(facts),
        "## What did not work, and what the numbers do not show",
        facts.table(report_tables.troubles(facts)),
        _limits(),
        "## Do it again",
        "```\npytest --steps all --steps-wait\n```",
        "The settings stand in `training_config.json` and `data_generation_config.yaml`, with their seeds.",
        "## Sources",
        "The files that the values were taken from, as they were.",
    ]
    return "\n\n".join([*parts, facts.sources()]) + "\n"


def _first_line(character: Character) -> str:
    if settings.engine() == "local":
        return (
            f"# Local engine: a rehearsal of distilling {character.full_name}\n\n"
            "A tiny model on this machine took the place of a real one. The steps are those of a real run; "
            "its results say nothing of a real model."
        )
    return f"# Hosted Tinker service: {character.full_name}, distilled"


def _figure(name: str) -> str:
    return f"![{FIGURE_TEXTS[name]}]({figures.FOLDER.as_posix()}/{name})"


def _prices_of(facts: Facts) -> str:
    if facts.value(f"{METRICS}#as_if_hosted"):
        return (
            "The local engine costs nothing: these are the hosted service's prices, as if it had been used."
        )
    return "At the prices of the hosted service."


def _bill_words() -> str:
    if settings.engine() == "local":
        return (
            "Nothing was charged. As if hosted: what the estimate says for the hosted service, and what the "
            "tokens of this run would have cost there."
        )
    return "In US dollars, at the listed prices; the invoice of the service is what counts."


def _limits() -> str:
    return "\n".join(
        [
            "- Being near to the teacher's words is not the same as being right, or liked.",
            "- All questions, also the held-out ones, come from the same templates, each without a "
            "conversation before it.",
            "- A prompt can be changed within a minute; the student must be trained again.",
            "- Where the service remembers the prompt's beginning, much of the saving needs no student.",
        ]
    )


def write(character: Character) -> dict[str, int]:
    """Draw the figures and write both documents.

    Returns:
        how many values each document holds.

    Raises:
        DistillationError: a step before has not run, or a document has a number without an origin.
    """
    folder = settings.run_folder()
    _demand_ours(Facts(folder), character)
    report_times.write(folder)
    texts = {
        REPORT: results_report(Facts(folder), character),
        DEPLOYMENT: deployment(Facts(folder), character),
    }
    figures.draw(folder)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    return {name: verify(folder / name, folder) for name in texts}


def _demand_ours(facts: Facts, character: Character) -> None:
    for name in (TRAINING, RESULTS, METRICS):
        if (there := facts.value(f"{name}#engine")) != settings.engine():
            raise DistillationError(f"{settings.run_folder() / name}: of engine {there}; run its step again")
    if (there := facts.value(f"{METRICS}#character")) != character.name:
        raise DistillationError(
            f"{settings.run_folder() / METRICS}: of {there}, not {character.name}; run step 16"
        )


def check(character: Character) -> list[str]:
    """Look up every number of both documents, in lines.

    Raises:
        DistillationError: a number has no origin or is another one there, or a figure is missing or old.
    """
    folder = settings.run_folder()
    _demand_ours(Facts(folder), character)
    counted = {name: verify(folder / name, folder) for name in (REPORT, DEPLOYMENT)}
    report_times.check(folder)
    text = (folder / REPORT).read_text(encoding="utf-8")
    first = text.splitlines()[0]
    if first != _first_line(character).splitlines()[0]:
        raise DistillationError(f"{folder / REPORT}:1: does not name the engine; run step 20 again")
    missing = [name for name in FIGURE_TEXTS if _figure(name) not in text]
    if missing:
        raise DistillationError(f"{folder / REPORT}: does not show {', '.join(missing)}; run step 20 again")
    return [
        f"values in report: {counted[REPORT]}",
        f"values in deployment: {counted[DEPLOYMENT]}",
        f"figures: {figures.check(folder)}",
        f"first line: {first.removeprefix('# ')}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 20."""
    parser = argparse.ArgumentParser(prog="python -m distillation.report", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="look every number up again")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.check:
        print("\n".join(check(character)))
        return
    counted = write(character)
    events.note(
        f"{settings.run_folder() / REPORT} with {counted[REPORT]} values and {len(FIGURE_TEXTS)} figures, "
        "each with its origin"
    )
    events.metric("values", sum(counted.values()))
    events.criterion("Results documented")


if __name__ == "__main__":
    execute(main)
