"""Downloading the files of an export: one address per file, valid for a short time."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from distillation.errors import DistillationError

TIMEOUT = 120.0
"""Seconds without a byte after which a download has failed."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def fetch(urls: Mapping[str, str], target: Path) -> None:
    """Download every file.

    Args:
        urls: address by the file's path in the export.
        target: the folder for them.

    Raises:
        DistillationError: there are none, a path leads out of the folder, or a download failed.
    """
    if not urls:
        raise DistillationError("the service names no file of the export; run step 19 again")
    for name, url in sorted(urls.items()):
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name:
            raise DistillationError(f"the export names a file {name!r}, which leads out of its folder")
        place = target.joinpath(*path.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(name, url, place)


def _fetch(name: str, url: str, place: Path) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise DistillationError(f"{name}: its address is not https; nothing was downloaded")
    handlers = [urllib.request.ProxyHandler({})] if parts.hostname in LOOPBACK else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=TIMEOUT) as answer, place.open("wb") as file:
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as cause:
        reason = getattr(cause, "reason", None) or cause
        raise DistillationError(f"{name}: cannot be downloaded ({reason}); run step 19 again") from cause
    if expected is not None and place.stat().st_size != int(expected):
        raise DistillationError(f"{name}: {place.stat().st_size} of {expected} bytes came; run step 19 again")
