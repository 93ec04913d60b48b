"""Checkpoints in a root folder: ``<root>/<run>/<kind>/<name>/``, written whole or not at all.

Nothing is held in memory, so several engines can share a root: one trains while another samples what
the first has saved. A checkpoint whose time to live is over is as good as gone, and is removed when met.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from distillation.engine.refusals import Failed, Refused

TYPES = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}
"""What the SDK calls each kind of checkpoint."""

META = "checkpoint.json"
RUN = "run.json"

TTL_SECONDS = (3600, 10 * 366 * 24 * 3600)
"""The shortest and longest time to live, as on the hosted service."""

ROOM = "make room or mend it, then run the step again"

_PATH = re.compile(r"tinker://([\w:.-]+)/(weights|sampler_weights|external_weights)/([\w:.-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A ``tinker://run/kind/name`` path, taken apart."""

    run: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"tinker://{self.run}/{self.kind}/{self.name}"


def parse(path: object) -> Address:
    """Take a ``tinker://`` path apart.

    Raises:
        Refused: it is none, or it would lead out of the root folder.
    """
    found = _PATH.fullmatch(path) if isinstance(path, str) else None
    if found is None or any(not part.strip(".") for part in found.groups()):
        raise Refused(400, f"{path!r} is no checkpoint; it must be tinker://run/kind/name")
    return Address(*found.groups())


def expiry(ttl_seconds: object, now: datetime) -> str | None:
    """When a checkpoint with this time to live expires; ``None`` for never.

    Raises:
        Refused: the time is too short or too long.
    """
    if ttl_seconds is None:
        return None
    least, most = TTL_SECONDS
    if not isinstance(ttl_seconds, int) or not least <= ttl_seconds <= most:
        raise Refused(400, f"ttl_seconds must be between {least} and {most}, not {ttl_seconds}")
    return (now + timedelta(seconds=ttl_seconds)).isoformat()


class Store:
    """The checkpoints and training runs below ``root``."""

    def __init__(self, root: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self._now = now
        root.mkdir(parents=True, exist_ok=True)

    def save(
        self,
        address: Address,
        write: Callable[[Path], None],
        *,
        lora: Mapping[str, Any],
        ttl_seconds: object = None,
        user_metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> str:
        """Write a checkpoint and return its path.

        Args:
            address: where.
            write: puts the files into the folder it is given.
            lora: how the adapter is shaped, and of which base.
            ttl_seconds: until it expires; ``None`` for never.
            user_metadata: kept with it.
            overwrite: whether one of the same name may be replaced.

        Raises:
            Failed: there is one of that name, or the disk does not take it.
        """
        target = self._folder(address)
        expires_at = expiry(ttl_seconds, self._now())
        if target.exists() and not overwrite:
            self.meta_or_none(target)
            if target.exists():
                raise Failed(f"checkpoint {address} exists already; take another name")
        # The dot keeps a half-written one out of every list.
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            draft.mkdir(parents=True)
            write(draft)
            meta = {
                "checkpoint_id": f"{address.kind}/{address.name}",
                "checkpoint_type": TYPES[address.kind],
                "time": self._now().isoformat(),
                "tinker_path": str(address),
                "size_bytes": sum(file.stat().st_size for file in draft.iterdir()),
                "public": False,
                "user_metadata": user_metadata,
                "expires_at": expires_at,
                "lora": dict(lora),
            }
            (draft / META).write_text(json.dumps(meta), encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            draft.rename(target)
        except OSError as cause:
            shutil.rmtree(draft, ignore_errors=True)
            raise Failed(
                f"checkpoint {address} cannot be written: {cause.strerror or cause}; {ROOM}"
            ) from cause
        return str(address)

    def find(self, path: object) -> tuple[Path, dict[str, Any]]:
        """The folder of a checkpoint and what is known of it.

        Raises:
            Refused: 404, there is none, or it has expired.
        """
        address = parse(path)
        folder = self._folder(address)
        meta = self.meta_or_none(folder)
        if meta is None:
            raise Refused(404, f"checkpoint {address} is not there: never saved, deleted, or expired")
        return folder, meta

    def meta_or_none(self, folder: Path) -> dict[str, Any] | None:
        """What is known of the checkpoint in ``folder``; removes it when it has expired."""
        try:
            meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if meta["expires_at"] is not None and datetime.fromisoformat(meta["expires_at"]) <= self._now():
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return meta

    def all(self, run: str | None = None) -> list[dict[str, Any]]:
        """Every checkpoint, or those of one run, oldest first."""
        folders = (self._run_folder(run) if run else self.root).glob("*/*" if run else "*/*/*")
        found = [self.meta_or_none(folder) for folder in folders if not folder.name.startswith(".")]
        return sorted((meta for meta in found if meta is not None), key=lambda meta: str(meta["time"]))

    def delete(self, path: object) -> None:
        """Remove a checkpoint.

        Raises:
            Refused: there is none.
        """
        shutil.rmtree(self.find(path)[0])

    def set_ttl(self, path: object, ttl_seconds: object) -> None:
        """Change when a checkpoint expires, counted from now; ``None`` for never.

        Raises:
            Refused: there is none, or the time is out of range.
        """
        folder, meta = self.find(path)
        self._write(folder / META, meta | {"expires_at": expiry(ttl_seconds, self._now())})

    def save_run(self, run: str, record: Mapping[str, Any]) -> None:
        """Keep what is known of a training run.

        Raises:
            Failed: the disk does not take it.
        """
        folder = self._run_folder(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(folder / RUN, dict(record) | {"last_request_time": self._now().isoformat()})
        except OSError as cause:
            raise Failed(f"{folder / RUN}: {cause.strerror or cause}; {ROOM}") from cause

    def runs(self) -> list[dict[str, Any]]:
        """Every training run, the latest first."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.root.glob(f"*/{RUN}")]
        return sorted(found, key=lambda record: str(record["last_request_time"]), reverse=True)

    def run(self, run: str) -> dict[str, Any]:
        """One training run.

        Raises:
            Refused: there is none.
        """
        for record in self.runs():
            if record["training_run_id"] == run:
                return record
        raise Refused(404, f"training run {run} is not there")

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            draft.write_text(json.dumps(value), encoding="utf-8")
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _run_folder(self, run: str) -> Path:
        # A colon is no good in a file name everywhere, and the SDK puts them into run ids.
        return self.root / run.replace(":", "_")

    def _folder(self, address: Address) -> Path:
        return self._run_folder(address.run) / address.kind / address.name
