"""The tables of the report: which values it tells, and where each stands in the run folder."""

from __future__ import annotations

from distillation import settings
from distillation.facts import Facts
from distillation.review import NOT_YET
from distillation.review_sheet import CRITERIA

ENGINE = "engine.json"
GENERATED = "generation_report.json"
AUDIT = "audit_report.json"
SPLIT = "split_report.json"
ESTIMATE = "cost_estimate.json"
TRAINING = "training_report.json"
TRAINING_TRIAL = "training_trial.json"
RESULTS = "evaluation_results.json"
METRICS = "metrics.json"
DEMO = "demo_report.json"
REVIEW = "review_result.json"
SHEET = "review_sheet.json"
EXPORT = "export_report.json"

SPENDING: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("Generation, with its trial", (6, 8), f"{GENERATED}#spent_usd"),
    ("Trial of the training", (12,), f"{TRAINING_TRIAL}#cost_usd"),
    ("Training", (13,), f"{TRAINING}#cost_usd"),
    ("Evaluation, with its trial", (14, 15), f"{RESULTS}#cost_usd"),
    ("Demo", (17,), f"{DEMO}#cost_usd"),
)
"""What was paid for: name, steps of the estimate, and where the actual sum stands."""

HOSTED: dict[str, tuple[int, ...]] = {"generation": (6, 8), "training": (13,), "evaluation": (14, 15)}
"""Steps of the estimate by the names in ``metrics.json`` of what the distillation would have cost."""


def in_short(facts: Facts) -> list[str]:
    """The numbers that decide."""
    return [
        facts.row("Similarity, the lower of both measures", "{:.1%}", f"{RESULTS}#similarity"),
        facts.row(
            "Expected, from and to",
            "{:.1%} to {:.1%}",
            f"{RESULTS}#similarity_min",
            f"{RESULTS}#similarity_max",
        ),
        facts.row("Similarity is high enough", "{}", f"{RESULTS}#reached"),
        facts.row("Prompt tokens saved", "{:.1%}", f"{METRICS}#prompt_tokens_saved"),
        facts.row("Prompts are cheaper by a factor of", "{:.1f}", f"{METRICS}#prompt_ratio"),
        facts.row(
            "Expected factor, from and to",
            "{:g} to {:g}",
            f"{METRICS}#guide_ratio.0",
            f"{METRICS}#guide_ratio.1",
        ),
        facts.row("The factor is as high as expected", "{}", f"{METRICS}#guide_ratio_reached"),
        facts.row("Student in character", "{:.1%}", f"{METRICS}#in_character.student.value"),
        facts.row("Loss at the end, as a share of that at the beginning", "{:.1%}", f"{TRAINING}#loss_ratio"),
        facts.row("The run has paid for itself after answers", "{:,}", f"{METRICS}#payback_answers"),
    ]


def done(facts: Facts) -> list[str]:
    """What was made and trained."""
    checkpoints = range(facts.value(f"{TRAINING}#checkpoints.length"))
    places = [f"{TRAINING}#checkpoints.{number}.step" for number in checkpoints]
    rows = []
    if facts.has(f"{ENGINE}#host") and facts.value(f"{ENGINE}#host"):
        rows.append(facts.row("Engine and host", "`{}`, `{}`", f"{ENGINE}#engine", f"{ENGINE}#host"))
    rows += [
        facts.row("Base model", "`{}`", f"{TRAINING}#base_model"),
        facts.row("Answers of the teacher", "{:,}", f"{GENERATED}#records"),
        facts.row("Of these in character", "{:.1%}", f"{GENERATED}#in_character_share"),
        facts.row("Good after the audit", "{:,}", f"{AUDIT}#audited"),
        facts.row("Duplicates", "{:.2%}", f"{AUDIT}#duplicate_share"),
        facts.row(
            "Training and validation examples", "{:,} and {:,}", f"{SPLIT}#train", f"{SPLIT}#validation"
        ),
        facts.row(
            "Steps, of so many examples each",
            "{:,} of {:,}",
            f"{TRAINING}#steps",
            f"{TRAINING}#settings.batch_size",
        ),
        facts.row(
            "Rank and first learning rate",
            "{} and {:g}",
            f"{TRAINING}#settings.rank",
            f"{TRAINING}#settings.learning_rate",
        ),
        facts.row("Checkpoints of steps", ", ".join(["{}"] * len(places)), *places),
        facts.row(
            "Loss, mean of the first and of the last steps",
            "{:.4f} and {:.4f}",
            f"{TRAINING}#loss_first",
            f"{TRAINING}#loss_last",
        ),
        facts.row(
            "Best checkpoint, of step and with validation loss",
            "{} with {:.4f}",
            f"{TRAINING}#best_checkpoint",
            f"{TRAINING}#best_validation_loss",
        ),
    ]
    if facts.has(f"{EXPORT}#adapter_bytes"):
        rows.append(facts.row("Exported adapter, bytes", "{:,}", f"{EXPORT}#adapter_bytes"))
    return rows


def similarity(facts: Facts) -> list[str]:
    """How near the student is to the teacher, by measure."""
    rows = [facts.row("Questions, held out", "{:,}", f"{METRICS}#questions")]
    names = {"chrf": "chrF", "f1": "Words in common (F1)"}
    for measure in facts.value(f"{METRICS}#similarity"):
        at = f"{METRICS}#similarity.{measure}"
        rows.append(
            facts.row(
                f"{names.get(measure, measure)}, normalised",
                "{:.1%} ({:.1%} to {:.1%})",
                f"{at}.value",
                f"{at}.low",
                f"{at}.high",
            )
        )
        raw = [f"{RESULTS}#raw.{voice}.{measure}" for voice in ("base", "student", "second_teacher")]
        what = f"{names.get(measure, measure)}, raw: floor, student, ceiling"
        rows.append(facts.row(what, "{:.4f}, {:.4f}, {:.4f}", *raw))
    for voice in facts.value(f"{METRICS}#in_character"):
        at = f"{METRICS}#in_character.{voice}"
        what = f"In character: {voice.replace('_', ' ')}"
        rows.append(facts.row(what, "{:.1%} ({:.1%} to {:.1%})", f"{at}.value", f"{at}.low", f"{at}.high"))
    return rows


def asking(facts: Facts) -> list[str]:
    """What questions and answers cost."""
    usd, tokens = f"{METRICS}#usd_per_thousand_answers", f"{METRICS}#tokens"
    voices = (("Teacher", "teacher"), ("Student", "student"))
    return [
        facts.row(
            "Prices of the model and day", "`{}`, `{}`", f"{METRICS}#price.model", f"{METRICS}#price.date"
        ),
        *(
            facts.row(
                f"{name}: tokens of a prompt and of an answer",
                "{:.1f} and {:.1f}",
                f"{tokens}.{voice}_prompt",
                f"{tokens}.{voice}_answer",
            )
            for name, voice in voices
        ),
        *(
            facts.row(
                f"{name}: a thousand prompts, and their answers",
                "${:.4f} and ${:.4f}",
                f"{usd}.{voice}.prompt",
                f"{usd}.{voice}.answer",
            )
            for name, voice in voices
        ),
        facts.row("Teacher: a thousand prompts, cached", "${:.4f}", f"{usd}.teacher.prompt_cached"),
        facts.row(
            "Prompts are cheaper by a factor of, and against cached ones",
            "{:.2f} and {:.2f}",
            f"{METRICS}#prompt_ratio",
            f"{METRICS}#prompt_ratio_cached",
        ),
        facts.row(
            "Prompts with answers are cheaper by a factor of, and against cached ones",
            "{:.2f} and {:.2f}",
            f"{METRICS}#total_ratio",
            f"{METRICS}#total_ratio_cached",
        ),
        facts.row(
            "Paid back after answers, and against cached ones",
            "{:,} and {:,}",
            f"{METRICS}#payback_answers",
            f"{METRICS}#payback_answers_cached",
        ),
    ]


def bill(facts: Facts) -> list[str]:
    """What the run was to cost, and what it did."""
    at = {facts.value(f"{ESTIMATE}#steps.{number}.step"): number for number in _numbers(facts)}
    rows, actual, planned = [], [], []
    for name, steps, place in SPENDING:
        estimated = [f"{ESTIMATE}#steps.{at[step]}.usd" for step in steps if step in at]
        if estimated and facts.has(place):
            rows.append(facts.row(name, "${:.4f} estimated, ${:.4f} actual", " + ".join(estimated), place))
            actual.append(place)
            planned += estimated
    rows.append(
        facts.row("Together", "${:.4f} estimated, ${:.4f} actual", " + ".join(planned), " + ".join(actual))
    )
    rows.append(facts.row("Budget", "${:,.2f}", f"{ESTIMATE}#budget_usd"))
    if settings.engine() == "local":
        for name, steps in HOSTED.items():
            places = [f"{ESTIMATE}#steps.{at[step]}.hosted_usd" for step in steps if step in at]
            rows.append(
                facts.row(
                    f"As if hosted: {name}",
                    "${:.4f} estimated, ${:.4f} by its tokens",
                    " + ".join(places),
                    f"{METRICS}#distillation_usd.{name}",
                )
            )
    return rows


def _numbers(facts: Facts) -> range:
    return range(facts.value(f"{ESTIMATE}#steps.length"))


def review(facts: Facts) -> list[str]:
    """Paragraphs on what a person says of the answers."""
    if not facts.has(f"{REVIEW}#status"):
        return ["No sheet was made for a review."]
    rows = [
        facts.row("State", "`{}`", f"{REVIEW}#status"),
        facts.row("Answers judged, of all on the sheet", "{} of {}", f"{REVIEW}#judged", f"{REVIEW}#answers"),
    ]
    for voice in ("student", "teacher"):
        if facts.value(f"{REVIEW}#means.{voice}") is not None:
            places = [f"{REVIEW}#means.{voice}.{name}" for name in (*CRITERIA, "all")]
            text = ", ".join(["{:.2f}"] * len(places))
            rows.append(facts.row(f"{voice.capitalize()}: {', '.join(CRITERIA)}, all", text, *places))
    pairs = [f"{REVIEW}#pairs.{name}" for name in ("student_better", "equal", "teacher_better")]
    rows.append(facts.row("Pairs: student better, equal, teacher better", "{}, {}, {}", *pairs))
    for voice in ("student", "teacher"):
        at = f"{SHEET}#pre_scores.{voice}"
        if facts.has(at):
            rows.append(
                facts.row(
                    f"Without a person: {voice} in character, words of an answer",
                    "{:.1%}, {:.1f}",
                    f"{at}.in_character",
                    f"{at}.words",
                )
            )
    parts = [facts.table(rows)]
    if facts.value(f"{REVIEW}#status") == NOT_YET:
        parts.insert(
            0,
            "Nobody has judged the answers yet. Fill in `review_sheet.md`, run "
            "`python -m distillation.review --read` and then this step again.",
        )
    return parts


def troubles(facts: Facts) -> list[str]:
    """What should be looked at twice."""
    rows = [
        facts.row("Similarity is suspiciously high", "{}", f"{RESULTS}#suspiciously_high"),
        facts.row("Evaluated questions that were in the training data", "{}", f"{RESULTS}#in_training_data"),
        facts.row(
            "Answers of the student that are empty, or cut off",
            "{} and {}",
            f"{RESULTS}#empty.student",
            f"{RESULTS}#cut_off.student",
        ),
        facts.row("Answers that the audit flagged", "{:,}", f"{AUDIT}#flagged"),
        facts.row("Broken lines of the teacher's data", "{:,}", f"{AUDIT}#rejected"),
        facts.row("Interruptions of the training", "{}", f"{TRAINING}#interruptions.length"),
        facts.row(
            "Lowered learning rates after a loss that was not a number", "{}", f"{TRAINING}#lowered.length"
        ),
        facts.row("Pauses of the training", "{}", f"{TRAINING}#pauses.length"),
        facts.row("The factor is higher than expected", "{}", f"{METRICS}#guide_ratio_exceeded"),
    ]
    if facts.has("dataset_report.json#source"):
        rows.append(facts.row("Source of the dataset", "`{}`", "dataset_report.json#source"))
    return rows
