"""Steps 14 and 15: ask teacher, base model and student the same unseen questions.

``--trial 5`` asks a few, before there is a trained student also one of two steps. ``--start N --size M
--output FILE`` asks the held-out questions N to N+M-1 of the best checkpoint; when the questions are over it
writes nothing and exits with 0. ``--enough FILE`` exits with 0 when the answers in that file suffice.
``--report`` writes ``evaluation_results.json`` again, ``--check`` scores all answers again, ``--check-trial``
those of the trial.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillation import checkpoints, client, config, evaluation_results, events, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.evaluation_answers import (
    ANSWERS,
    COMPARED,
    MEMORY,
    VOICES,
    Panel,
    Student,
    ask,
    merge,
    read,
    scores,
    speakers,
)
from distillation.jsonl import read_json, write_rows
from distillation.memory import Memory
from distillation.questions import Question, held_out_questions
from distillation.teacher import prepare
from distillation.training_trial import TRIAL as TRAINING_TRIAL
from distillation.work_time import EVALUATION, Clock

TRIAL = "evaluation_trial.jsonl"

REPORT_EVERY = 20
"""Answers between two reports of progress and cost."""


def best_student(folder: Path) -> Student:
    """The checkpoint with the lowest validation loss.

    Raises:
        DistillationError: there is none.
    """
    best = checkpoints.best(folder)
    return Student(best.step, best.sampler)


def trial_student(folder: Path) -> Student:
    """The best checkpoint so far; before the first one, the two steps of the training's trial.

    Raises:
        DistillationError: there is neither.
    """
    if checkpoints.read(folder):
        return best_student(folder)
    trial = read_json(folder / TRAINING_TRIAL)
    return Student(len(trial["steps"]) - 1, str(trial["sampler"]))


def answer(panel: Panel, questions: Sequence[Question], before: int, total: int) -> list[dict[str, Any]]:
    """Have all voices answer, and report progress and cost.

    Args:
        panel: who answers, and how.
        questions: which.
        before: questions that were answered before these.
        total: questions in all.

    Raises:
        DistillationError: as ``evaluation_answers.ask`` and ``speakers``.
    """
    unreported = 0.0

    def report(done: int, all_: int, cost_usd: float) -> None:
        nonlocal unreported
        unreported += cost_usd
        clock.lap(1)
        if done % REPORT_EVERY == 0 or done == all_:
            events.progress(before + done // len(VOICES), total)
            events.metric("cost_usd", unreported)
            unreported = 0.0

    folder = settings.run_folder()
    with (
        Memory(folder, MEMORY) as memory,
        Clock(folder, EVALUATION) as clock,
        client.connected(panel.asking.base) as service,
    ):
        return ask(panel, speakers(service, panel), questions, memory, report)


def trial(character: Character, count: int) -> None:
    """Ask ``count`` held-out questions and write ``evaluation_trial.jsonl``.

    Raises:
        DistillationError: as ``answer``, or there is no student at all.
    """
    folder = settings.run_folder()
    panel = Panel(prepare(character), trial_student(folder))
    records = answer(panel, held_out_questions(count), 0, count)
    write_rows(folder / TRIAL, records)
    events.note(
        f"{count} questions, {count * len(VOICES)} answers, student of step {panel.student.step}; "
        + ", ".join(f"{voice} {_mean(records, voice):.2f}" for voice in COMPARED)
        + " chrF against the teacher"
    )
    events.criterion("Teacher, base model and student asked the same questions")


def _mean(records: Sequence[dict[str, Any]], voice: str) -> float:
    return sum(float(one["scores"][voice]["chrf"]) for one in records) / len(records)


def batch(character: Character, start: int, size: int, output: Path) -> None:
    """Ask the held-out questions ``start`` to ``start + size - 1``, as far as there are any.

    Raises:
        DistillationError: as ``answer``, or there is no checkpoint.
    """
    folder, used = settings.run_folder(), config.current()
    questions = held_out_questions(min(start + size, used.evaluation_questions))[start:]
    if not questions:
        events.note(f"all {used.evaluation_questions} questions are asked")
        return
    panel = Panel(prepare(character), best_student(folder))
    records = answer(panel, questions, start, used.evaluation_questions)
    write_rows(output, records)
    merged = merge(folder, records, panel.ways())
    if len(merged) < 2:
        return
    found = evaluation_results.write(folder, merged, used)
    events.metric("similarity", found["similarity"])
    events.note(
        f"{found['questions']} questions, similarity {found['similarity']:.1%} (chrF "
        f"{found['normalised']['chrf']['value']:.1%}, F1 {found['normalised']['f1']['value']:.1%}) of the "
        f"checkpoint of step {found['checkpoint']}"
    )


def demand_enough(path: Path) -> str:
    """Whether the answers in ``path`` suffice. Those of another student than the best one do not count.

    Returns:
        how wide the interval is.

    Raises:
        DistillationError: there are too few, or the interval is too wide yet.
    """
    used, student = config.current(), best_student(settings.run_folder())
    records = [one for one in read(path) if one["sampler"] == student.sampler]
    if len(records) < evaluation_results.MIN_QUESTIONS:
        raise DistillationError(
            f"{len(records)} questions, at least {evaluation_results.MIN_QUESTIONS} are needed; go on"
        )
    found = evaluation_results.similarities(evaluation_results.score(records))
    said = ", ".join(f"{name} {one.value:.4f} +-{one.half_width:.4f}" for name, one in found.items())
    if not evaluation_results.is_enough(found, used):
        raise DistillationError(
            f"{said} after {len(records)} questions, +-{used.evaluation_interval:g} is wanted; go on"
        )
    return f"{said} after {len(records)} questions: enough"


def report() -> None:
    """Write ``evaluation_results.json`` from the answers of the run folder.

    Raises:
        DistillationError: there are no answers.
    """
    folder = settings.run_folder()
    evaluation_results.write(folder, read(folder / ANSWERS), config.current())


def check_trial() -> list[str]:
    """Score the answers of the trial again, in lines for the checks.

    Raises:
        DistillationError: a line is broken, a score is not that of its answers, or an answer is empty.
    """
    path = settings.run_folder() / TRIAL
    records = read(path)
    empty = sum(not one[voice]["answer"].strip() for one in records for voice in VOICES)
    scored = 0
    for one in records:
        if scores({voice: one[voice]["answer"] for voice in VOICES}) != one.get("scores"):
            raise DistillationError(f"{path}: the scores of {one['id']} are not those of its answers")
        scored += len(COMPARED)
    teacher = sum(one["teacher"]["prompt_tokens"] for one in records)
    student = sum(one["student"]["prompt_tokens"] for one in records)
    return [
        f"questions: {len(records)}",
        f"answers: {len(records) * len(VOICES)}",
        f"scored: {scored}",
        f"empty: {empty}",
        f"teacher prompt tokens: {teacher}",
        f"student prompt tokens: {student}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The commands of steps 14 and 15."""
    parser = argparse.ArgumentParser(prog="python -m distillation.evaluate", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="questions that come before the batch")
    parser.add_argument("--size", type=int, help="questions in the batch")
    parser.add_argument("--output", type=Path, help="file for the batch's answers")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--trial", type=int, metavar="N", help="ask N questions")
    mode.add_argument("--enough", type=Path, metavar="FILE", help="exit with 0 when these answers suffice")
    mode.add_argument("--report", action="store_true", help="write the results again")
    mode.add_argument("--check", action="store_true", help="score all answers again")
    mode.add_argument("--check-trial", action="store_true", help="score the answers of the trial again")
    options = parser.parse_args(argv)
    if options.enough is not None:
        print(demand_enough(options.enough))
    elif options.report:
        report()
    elif options.check:
        print("\n".join(evaluation_results.check(settings.run_folder(), config.current())))
    elif options.check_trial:
        print("\n".join(check_trial()))
    elif options.trial is not None:
        trial(find(options.character), options.trial)
    elif options.size is not None and options.output is not None:
        batch(find(options.character), options.start, options.size, options.output)
    else:
        parser.error("say --trial N, --start N --size M --output FILE, --enough FILE, --report or --check")


if __name__ == "__main__":
    execute(main)
