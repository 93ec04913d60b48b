"""Step 3: bring the characters' dialogues into the run folder and say what they look like.

The public dataset is used when it can be had; else the sample that ships with the plan, and the note
says which of the two it was and why. Files are copied byte for byte: step 4 judges the lines.
``--check`` counts again and holds the count against the report.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distillation import events, settings
from distillation.characters import CHARACTERS, Character
from distillation.command import execute
from distillation.dialogue import END_OF_TURN
from distillation.errors import DistillationError
from distillation.jsonl import Row, read_json, read_rows, write_bytes, write_json

Kind = Literal["hub", "folder", "sample"]

FOLDER = "dataset"
REPORT = "dataset_report.json"
LICENCES = {
    "hub": "CC BY-NC 4.0, academic use only",
    "folder": "as its owner says",
    "sample": "as the project",
}

PROBE_TIMEOUT = 5.0
"""Seconds to find out that the hub is out of reach; its own client tries for half a minute per file."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the dialogues come from.

    Attributes:
        kind: ``hub`` for the public dataset, ``folder`` for a copy of it, ``sample`` for what ships.
        files: one file per character, by name.
        reason: why it is not the public dataset; empty when it is.
    """

    kind: Kind
    files: dict[str, Path]
    reason: str = ""


def file_in_dataset(character: Character) -> str:
    """Path of a character's file inside the public dataset."""
    return f"prompted/prompted_agent_dialogue_{character.name}.jsonl"


def choose(wanted: str, characters: Sequence[Character] = CHARACTERS) -> Source:
    """Find the dialogues.

    Args:
        wanted: ``auto`` (the hub, else the sample), ``hub``, ``sample``, or a folder that holds a copy.

    Raises:
        DistillationError: what was asked for by name cannot be had.
    """
    if wanted == "sample":
        return _sample(characters, "asked for")
    if wanted not in ("auto", "hub"):
        folder = Path(wanted)
        files = {c.name: folder / file_in_dataset(c) for c in characters}
        for path in files.values():
            if not path.is_file():
                raise DistillationError(f"{path}: no such file; give the folder that holds prompted/")
        return Source("folder", files, f"the copy in {folder}")
    try:
        return Source("hub", _from_hub(characters))
    except Exception as cause:
        # Whatever the hub's client raises (it has a dozen classes), the answer is the same: do without it.
        reason = f"{settings.DATASET} could not be had: {_first_line(cause)}"
        if wanted == "hub":
            raise DistillationError(f"{reason}; check the network, or leave out --source hub") from cause
        return _sample(characters, reason)


def _sample(characters: Sequence[Character], reason: str) -> Source:
    return Source(
        "sample", {c.name: settings.DATA / "sample" / file_in_dataset(c) for c in characters}, reason
    )


def _from_hub(characters: Sequence[Character]) -> dict[str, Path]:
    hub = importlib.import_module("huggingface_hub")
    in_reach = hub_answers()
    files = {}
    for character in characters:
        try:
            # Out of reach, only the client's cache is asked, which answers at once.
            path = hub.hf_hub_download(
                settings.DATASET,
                file_in_dataset(character),
                repo_type="dataset",
                etag_timeout=PROBE_TIMEOUT,
                local_files_only=not in_reach,
            )
        except Exception as cause:
            if in_reach:
                raise
            raise ConnectionError("the hub is out of reach") from cause
        files[character.name] = Path(path)
    return files


def hub_answers(timeout: float = PROBE_TIMEOUT) -> bool:
    """Whether the hub is in reach: any HTTP answer within ``timeout`` seconds will do."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _first_line(cause: Exception) -> str:
    if isinstance(cause, ModuleNotFoundError):
        return f"{cause.name} is not installed"
    if isinstance(cause, ConnectionError):
        return str(cause)
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[0][:120]}" if text else type(cause).__name__


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """Number of examples, their keys and lengths (characters; turns of the output)."""
    examples = [row.value for row in rows if row.value is not None]
    outputs = [str(example.get("output", "")) for example in examples]
    return {
        "examples": len(examples),
        "broken_lines": len(rows) - len(examples),
        "keys": sorted({key for example in examples for key in example}),
        "prompt_chars": _spread([len(str(example.get("prompt", ""))) for example in examples]),
        "output_chars": _spread([len(output) for output in outputs]),
        "turns": _spread([output.count(END_OF_TURN) for output in outputs]),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def bring(source: Source) -> dict[str, Any]:
    """Copy the source's files into the run folder and write the report next to them.

    Returns:
        the report.

    Raises:
        DistillationError: a character has no example at all.
    """
    folder = settings.run_folder() / FOLDER
    parts: dict[str, Any] = {}
    for done, (name, path) in enumerate(source.files.items(), 1):
        target = folder / f"{name}.jsonl"
        write_bytes(target, path.read_bytes())
        parts[name] = {"file": target.as_posix(), **describe(read_rows(target))}
        if not parts[name]["examples"]:
            raise DistillationError(f"{path}: holds no example; get the file again")
        events.progress(done, len(source.files))
    report = {
        "source": source.kind,
        "dataset": settings.DATASET,
        "reason": source.reason,
        "licence": LICENCES[source.kind],
        "examples": sum(part["examples"] for part in parts.values()),
        "broken_lines": sum(part["broken_lines"] for part in parts.values()),
        "characters": parts,
    }
    write_json(settings.run_folder() / REPORT, report)
    return report


def check_report() -> dict[str, Any]:
    """Count the files of the run folder again.

    Returns:
        the report.

    Raises:
        DistillationError: a file is missing or is not what the report says.
    """
    path = settings.run_folder() / REPORT
    report = read_json(path)
    parts = report.get("characters")
    if not isinstance(parts, dict) or not parts:
        raise DistillationError(f"{path}: names no character; run step 3 again")
    for name, part in parts.items():
        file = settings.run_folder() / FOLDER / f"{name}.jsonl"
        counted = describe(read_rows(file))
        for key in ("examples", "broken_lines"):
            if counted[key] != part.get(key):
                raise DistillationError(
                    f"{file}: {counted[key]} {key.replace('_', ' ')}, and {path} says {part.get(key)}; "
                    "run step 3 again"
                )
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 3."""
    parser = argparse.ArgumentParser(prog="python -m distillation.dataset", description=__doc__)
    parser.add_argument(
        "--source", default="auto", help="auto, hub, sample, or a folder with a copy (default: %(default)s)"
    )
    parser.add_argument("--check", action="store_true", help="count again and compare with the report")
    options = parser.parse_args(argv)
    if options.check:
        report = check_report()
        print(f"broken lines: {report['broken_lines']}\ncharacters: {len(report['characters'])}")
        print(f"examples: {report['examples']}\nsource: {report['source']}")
        return
    source = choose(options.source)
    report = bring(source)
    counts = ", ".join(f"{name} {part['examples']}" for name, part in report["characters"].items())
    if source.kind == "hub":
        events.note(f"{report['examples']} examples of {settings.DATASET} ({counts})")
    elif source.kind == "folder":
        events.note(f"{report['examples']} examples from {source.reason} ({counts})")
    else:
        events.note(f"{report['examples']} examples of the shipped sample ({counts}); {source.reason}")
    events.metric("examples", report["examples"])
    events.criterion("Dataset read and described")


if __name__ == "__main__":
    execute(main)
