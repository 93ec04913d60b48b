"""The files of an exported model: their names, checksums and what an adapter says of itself."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_bytes, write_json

ADAPTER = "adapter"
MERGED = "merged"
EXAMPLE = "example.py"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SUMS = "SHA256SUMS"

MOST_HEADER = 100_000_000
"""Bytes of a safetensors file's header, as the format allows."""

_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")


def reference(base: str) -> str:
    """How a base model is named for others: a folder below the current one from there, all else as it is."""
    folder = Path(base)
    if folder.is_absolute() and folder.is_relative_to(Path.cwd()):
        return folder.relative_to(Path.cwd()).as_posix()
    return base


def rebase(path: Path, base: str) -> dict[str, Any]:
    """Have an adapter's configuration name its base as it is named for others.

    Args:
        path: the adapter's ``adapter_config.json``.
        base: the base model, see ``reference``.

    Returns:
        the configuration.

    Raises:
        DistillationError: the service exported none.
    """
    try:
        known = read_json(path)
    except DistillationError as cause:
        raise DistillationError(
            f"the export is no PEFT adapter: {path.name} is missing or spoilt; run step 19 again"
        ) from cause
    changed = known | {"base_model_name_or_path": base}
    write_json(path, changed)
    return changed


def tensors_in(folder: Path) -> int:
    """How many tensors an adapter has, by the header of its file.

    Raises:
        DistillationError: the file is none of its format, or shorter than its header says.
    """
    path = folder / ADAPTER_WEIGHTS
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length < MOST_HEADER else {}
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        whole = max(value["data_offsets"][1] for value in tensors.values()) + 8 + length
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run step 19") from cause
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DistillationError(f"{path}: is no safetensors file; run step 19 again") from cause
    if path.stat().st_size != whole:
        raise DistillationError(f"{path}: {path.stat().st_size} of {whole} bytes; run step 19 again")
    return len(tensors)


def write_sums(folder: Path) -> None:
    """Write the checksum of every file, in the form of ``sha256sum``."""
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    write_bytes(folder / SUMS, "".join(lines).encode())


def check_sums(folder: Path) -> int:
    """Hold every file against its checksum.

    Returns:
        how many files there are.

    Raises:
        DistillationError: one is missing, changed, or has no checksum.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise DistillationError(f"{path}: cannot be read ({cause}); run step 19") from cause
    known = {}
    for number, line in enumerate(lines, 1):
        found = _SUM.fullmatch(line)
        if found is None:
            raise DistillationError(f"{path}:{number}: is no checksum; run step 19 again")
        known[found[2]] = found[1]
    there = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    for name in sorted(set(known) ^ set(there)):
        reason = "is missing" if name in known else "has no checksum"
        raise DistillationError(f"{folder / name}: {reason}; run step 19 again")
    for name, file in there.items():
        if _digest(file) != known[name]:
            raise DistillationError(f"{file}: was changed after the export; run step 19 again")
    return len(there)


def fingerprint(folder: Path) -> str:
    """The checksum of the checksums."""
    return _digest(folder / SUMS)[:16]


def _files(folder: Path) -> list[Path]:
    # Running the example may leave what Python compiled.
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in found if path.name != SUMS)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
