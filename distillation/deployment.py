"""``DEPLOYMENT.md``: how the student is served, and how to go back to the prompt."""

from __future__ import annotations

from distillation import settings
from distillation.characters import PROMPT_FILE, Character
from distillation.facts import Facts
from distillation.model_card import LICENCE

EXPORT = "export_report.json"
RESULTS = "evaluation_results.json"
METRICS = "metrics.json"


def deployment(facts: Facts, character: Character) -> str:
    """The text of ``DEPLOYMENT.md``.

    Raises:
        DistillationError: the model has not been exported, or evaluated.
    """
    folder = str(facts.value(f"{EXPORT}#folder"))
    merged = bool(facts.value(f"{EXPORT}#merged"))
    name = folder.rpartition("/")[2]
    parts = [
        _title(character),
        "## What is deployed",
        facts.table(
            [
                facts.row("Folder, below this one", "`{}`", f"{EXPORT}#folder"),
                facts.row("Base model", "`{}`", f"{EXPORT}#base_model"),
                facts.row("Checkpoint of step", "{}", f"{EXPORT}#checkpoint"),
                facts.row("Adapter: rank, bytes", "{}, {:,}", f"{EXPORT}#rank", f"{EXPORT}#adapter_bytes"),
                *([facts.row("Merged model, bytes", "{:,}", f"{EXPORT}#merged_bytes")] if merged else []),
                facts.row("Similarity to the teacher", "{:.1%}", f"{RESULTS}#similarity"),
                facts.row("In character", "{:.1%}", f"{METRICS}#in_character.student.value"),
                facts.row("Tokens of a prompt, mean", "{:.1f}", f"{METRICS}#tokens.student_prompt"),
            ]
        ),
        "Copy the folder as it is, and prove that it came whole:",
        f"```\ncd {name}\nsha256sum -c SHA256SUMS\n```",
        "## Try it",
        'With transformers and PyTorch:\n\n```\npython example.py "What is music to you?"\n```',
        "## Serve it",
        _serving(name, merged),
        "Send the question as the user's message, and **no system prompt**: the student has never seen "
        "one. Use the chat template of the tokenizer, thinking switched off, and the sampling settings of "
        "`data_generation_config.yaml`.",
        "## Watch it",
        "\n".join(
            [
                "- Have a sample of the answers judged by `distillation.persona`, as the evaluation did; "
                "compare with the share above.",
                "- Keep an eye on questions that are unlike the ones it was trained on, and on conversations "
                "of several turns: it learned from single questions.",
                "- Keep this run folder: it holds the data, the settings and the checksums.",
            ]
        ),
        "## Go back to the prompt",
        f"Put `{PROMPT_FILE}` of this folder in front of every question, as the system message, and take the "
        "adapter away: that is the teacher. Nothing else changes, so a server can hold both and a switch "
        "decides. The prompts then cost what the table in `RESULTS_REPORT.md` says for the teacher.",
        "## Licence",
        f"The dialogues of `{settings.DATASET}` are licensed `{LICENCE}`, for academic use only; this model "
        "was made in a plan that builds on them. Mind that, and the licence of the base model, before you "
        "publish or sell anything.",
        "## Sources",
    ]
    return "\n\n".join([*parts, facts.sources()]) + "\n"


def _title(character: Character) -> str:
    if settings.engine() == "local":
        return (
            f"# Local engine: a rehearsal of deploying {character.full_name}\n\n"
            "The student of this run is a tiny model that was made to try the steps out. Do not serve it to "
            "anybody; what follows is how it would be done with a real one."
        )
    return f"# Deploying {character.full_name}, distilled"


def _serving(name: str, merged: bool) -> str:
    texts = [
        "With vLLM, the base model and the adapter on it, so that one server has both students and teachers:",
        f"```\nvllm serve BASE_MODEL --enable-lora --lora-modules {name}=adapter\n```",
    ]
    if merged:
        texts += [
            "Or the merged model alone, which is a little faster and needs no PEFT:",
            f"```\nvllm serve ./merged --served-model-name {name}\n```",
        ]
    if settings.engine() == "tinker":
        texts.append(
            "Or leave the weights with the service, and sample from the address of the best checkpoint in "
            "`checkpoints/checkpoints.jsonl`. Mind how long it is kept."
        )
    return "\n\n".join(texts)
