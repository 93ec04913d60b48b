"""Step 19: the student as files that others can load.

``python -m distillation.export`` has the service write the best checkpoint in the form of PEFT, downloads
it to ``models/<character>_distilled/adapter`` in the run folder, and merges it with its base model to
``merged``. Beside them stand ``example.py``, which needs nothing of this plan, a model card, and
``SHA256SUMS``.
``--check``, a process of its own, loads both and holds them against what the engine computed.

Merging and comparing need the base model's weights in memory. On the hosted service that is left out unless
``--merged`` asks for it; the check then says ``compared: 0``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distillation import chat, checkpoints, client, config, events, generation_config, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.checkpoints import Checkpoint
from distillation.command import execute
from distillation.download import fetch
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, read
from distillation.evaluation_results import RESULTS
from distillation.jsonl import read_json, read_rows, write_bytes, write_json, write_rows
from distillation.metrics import METRICS
from distillation.model_card import model_card
from distillation.model_files import (
    ADAPTER,
    ADAPTER_CONFIG,
    EXAMPLE,
    MERGED,
    check_sums,
    fingerprint,
    rebase,
    reference,
    tensors_in,
    write_sums,
)
from distillation.training_loop import LOSS_FUNCTION, awaited

REPORT = "export_report.json"
PROBES = "export_probes.jsonl"

PROMPTS = 20
"""Questions on which what was exported is held against the engine."""

LOGPROB_TOLERANCE = 1e-3
"""How much a token's log probability may differ from the engine's."""

LOGIT_TOLERANCE = 1e-4
"""How much a logit may differ between adapter and merged model."""

DAY = 86_400
EXAMPLE_SECONDS = 120.0


def model_folder(character: Character) -> Path:
    """Where the exported model of a character lies."""
    return settings.run_folder() / "models" / f"{character.name.casefold()}_distilled"


def probes_of(records: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    """Questions with the student's answers, as tokens.

    Raises:
        DistillationError: there are too few.
    """
    if len(records) < PROMPTS:
        raise DistillationError(f"{len(records)} evaluated questions, {PROMPTS} are needed; run step 15")
    return [
        {
            "id": record["id"],
            "tokens": chat.prompt_tokens(tokenizer, record["question"])
            + chat.answer_tokens(tokenizer, record["student"]["answer"]),
        }
        for record in records[:PROMPTS]
    ]


def obtain(
    best: Checkpoint, base: str, probes: Sequence[Mapping[str, Any]], target: Path
) -> list[dict[str, Any]]:
    """Have the service export a checkpoint, and download it.

    Args:
        best: the checkpoint.
        base: its base model.
        probes: what the engine computes log probabilities of.
        target: an empty folder.

    Returns:
        the probes with the engine's log probabilities, one fewer than tokens.

    Raises:
        DistillationError: the checkpoint is gone, or the service or the download failed.
    """
    types = importlib.import_module("tinker.types")
    patience = generation_config.load().answer_timeout
    rows = [
        types.Datum(
            model_input=types.ModelInput.from_ints(probe["tokens"][:-1]),
            loss_fn_inputs={
                "target_tokens": probe["tokens"][1:],
                "weights": [1.0] * (len(probe["tokens"]) - 1),
            },
        )
        for probe in probes
    ]
    with client.connected(base) as service:
        what = (
            f"the checkpoint of step {best.step} ({best.state}; if it has expired, train again with step 13)"
        )
        training = awaited(service.create_training_client_from_state(best.state), what, patience)
        computed = awaited(training.forward(rows, LOSS_FUNCTION), "log probabilities", patience)
        saved = awaited(
            training.save_weights_external(f"export-{best.step}", ttl_seconds=DAY), "export", patience
        )
        rest = client.rest_client(service)
        urls = awaited(rest.get_external_weights_urls(saved.path), "addresses of the export", patience).urls
        fetch(urls, target)
    outputs = [output["logprobs"] for output in computed.loss_fn_outputs]
    return [
        dict(probe) | {"logprobs": [float(value) for value in output.data]}
        for probe, output in zip(probes, outputs, strict=True)
    ]


def export(character: Character, merged: bool) -> dict[str, Any]:
    """Write the model folder, the probes and ``export_report.json``.

    Args:
        character: who was distilled.
        merged: whether to merge, which needs the base model's weights.

    Returns:
        the report.

    Raises:
        DistillationError: an earlier step has not run, or as ``obtain``.
    """
    folder, began = settings.run_folder(), time.monotonic()
    base = client.base_model(config.current().base_model)
    best = checkpoints.best(folder)
    records = [one for one in read(folder / ANSWERS) if one["character"] == character.name]
    evaluated = {one["sampler"] for one in records}
    if evaluated != {best.sampler}:
        raise DistillationError(
            f"{folder / ANSWERS}: not of the best checkpoint, that of step {best.step}; run step 15 again"
        )
    numbers = {name: read_json(folder / name) for name in (METRICS, RESULTS)}
    probes = probes_of(records, chat.tokenizer_of(base))
    with _draft(model_folder(character)) as draft:
        probes = obtain(best, base, probes, draft / ADAPTER)
        adapter = rebase(draft / ADAPTER / ADAPTER_CONFIG, reference(base))
        if merged:
            # Loads PyTorch, which nothing but this and the comparison needs.
            importlib.import_module("distillation.loading").merge(base, draft)
        shutil.copyfile(settings.DATA / EXAMPLE, draft / EXAMPLE)
        card = model_card(character, adapter, best.step, numbers[METRICS], numbers[RESULTS], merged)
        write_bytes(draft / "README.md", card.encode())
        write_sums(draft)
    write_rows(folder / PROBES, probes)
    report = {
        "engine": settings.engine(),
        "character": character.name,
        "base_model": reference(base),
        "checkpoint": best.step,
        "state": best.state,
        "rank": adapter.get("r"),
        "folder": model_folder(character).relative_to(folder).as_posix(),
        "merged": merged,
        "fingerprint": fingerprint(model_folder(character)),
        "adapter_bytes": _size(model_folder(character) / ADAPTER),
        "merged_bytes": _size(model_folder(character) / MERGED),
        "prompts": len(probes),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(folder / REPORT, report)
    return report


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A folder that takes the place of ``target`` when all went well.

    Raises:
        DistillationError: the disk does not take it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            (draft / ADAPTER).mkdir()
            yield draft
            draft.chmod(0o755)
            for path in draft.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            if target.exists():
                shutil.rmtree(target)
            draft.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(draft)
    except OSError as cause:
        raise DistillationError(
            f"{target}: {cause.strerror or cause}; make room or mend it, then run step 19 again"
        ) from cause


def check(character: Character) -> list[str]:
    """Load what was exported and hold it against the engine's numbers, in lines.

    Raises:
        DistillationError: a file is missing or changed, or a number is too far off. The lines are printed
            before that is said.
    """
    folder, target = settings.run_folder(), model_folder(character)
    report = read_json(folder / REPORT)
    if (report.get("engine"), report.get("character")) != (settings.engine(), character.name):
        raise DistillationError(f"{folder / REPORT}: of another engine or character; run step 19 again")
    if report.get("checkpoint") != checkpoints.best(folder).step:
        raise DistillationError(f"{folder / REPORT}: not of the best checkpoint; run step 19 again")
    lines = [f"files: {check_sums(target)}", f"tensors: {tensors_in(target / ADAPTER)}"]
    if fingerprint(target) != report.get("fingerprint"):
        raise DistillationError(f"{target}: is not the model of {REPORT}; run step 19 again")
    if not report.get("merged"):
        return [*lines, "compared: 0"]
    probes = _read_probes(folder / PROBES)
    found = importlib.import_module("distillation.loading").compare(str(report["base_model"]), target, probes)
    lines += [
        "compared: 1",
        f"prompts: {found.prompts}",
        f"tokens: {found.tokens}",
        f"logprob difference adapter: {found.adapter:.8f}",
        f"logprob difference merged: {found.merged:.8f}",
        f"logit difference: {found.logits:.8f}",
    ]
    for name, value, most in (
        ("the adapter's log probabilities differ from the engine's", found.adapter, LOGPROB_TOLERANCE),
        ("the merged model's log probabilities differ from the engine's", found.merged, LOGPROB_TOLERANCE),
        ("the logits of adapter and merged model differ", found.logits, LOGIT_TOLERANCE),
    ):
        if not value <= most:
            print("\n".join(lines), flush=True)
            raise DistillationError(f"{target}: {name} by {value:g}, at most {most:g}; run step 19 again")
    return lines


def _read_probes(path: Path) -> list[dict[str, Any]]:
    probes = []
    for row in read_rows(path):
        value = row.value or {}
        tokens, logprobs = value.get("tokens"), value.get("logprobs")
        if not isinstance(tokens, list) or not isinstance(logprobs, list) or len(tokens) != len(logprobs) + 1:
            raise DistillationError(f"{path}:{row.line}: {row.problem or 'is no probe'}; run step 19 again")
        probes.append(value)
    if len(probes) < PROMPTS:
        raise DistillationError(f"{path}: {len(probes)} prompts, {PROMPTS} are needed; run step 19 again")
    return probes


def check_example(character: Character) -> list[str]:
    """Run the example as somebody would who has the model folder and nothing else, in lines.

    Raises:
        DistillationError: it fails, or says nothing.
    """
    target = model_folder(character)
    command = [sys.executable, EXAMPLE, "What is music to you?"]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            cwd=target,
            env=kept | {"HF_HUB_OFFLINE": "1"} if settings.engine() == "local" else kept,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise DistillationError(f"{target / EXAMPLE}: {cause}; run step 19 again") from cause
    if done.returncode or not done.stdout.strip():
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DistillationError(f"{target / EXAMPLE}: exit code {done.returncode}: {reason}")
    return [f"example words: {len(done.stdout.split())}"]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 19."""
    parser = argparse.ArgumentParser(prog="python -m distillation.export", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument(
        "--merged",
        action=argparse.BooleanOptionalAction,
        default=settings.engine() == "local",
        help="merge with the base model too, which needs its weights in memory (default: local engine)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="load both and compare them with the engine")
    mode.add_argument("--check-example", action="store_true", help="run the example that is shipped")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.check:
        print("\n".join(check(character)))
        return
    if options.check_example:
        print("\n".join(check_example(character)))
        return
    report = export(character, options.merged)
    events.note(
        f"checkpoint of step {report['checkpoint']} exported to {model_folder(character)}, adapter of "
        f"{report['adapter_bytes']:,} bytes" + (", merged model beside it" if report["merged"] else "")
    )
    events.metric("adapter_bytes", report["adapter_bytes"])
    events.criterion("Model exported")


if __name__ == "__main__":
    execute(main)
