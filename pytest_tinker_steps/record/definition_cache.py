"""Definitions that were read before, in the user's cache folder: reading them anew takes longer than all else
that comes before the first step.

An entry is found only under the same bytes, the same path and the same code, and only where nobody but the
user can have written it. Whatever is wrong with it, or with the folder, is as if it were not there.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from .. import __version__
from ..plan import codec
from ..plan.model import Definitions

FOLDER = "pytest-tinker-steps"
"""Below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
ENTRIES = 64
"""As many are kept; the oldest go."""

_CODE, _SHAPES = Path(__file__).parents[1] / "plan", "shapes"
_READERS = (("pydantic", "version.py"), ("yaml", "__init__.py"))
"""Packages that take part in the reading, and where each says its version: importing it would be slow."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def find(data: bytes, path: str) -> Definitions | None:
    """What was kept of a definitions file; None when it has to be read.

    Args:
        data: the bytes of the file.
        path: as shown to people; it stands in what was kept.
    """
    # Nothing that can go wrong here is worth more than a second reading.
    with contextlib.suppress(Exception), _collection_paused(), _folder() as folder:
        name = _name(data, path)
        fd = os.open(name, _READ, dir_fd=folder)
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(_own(fd)):
                return None
            return _parsed(name, stream.read())
    return None


def keep(data: bytes, path: str, definitions: Definitions) -> None:
    """Keep what was read from these bytes, if that is possible."""
    with contextlib.suppress(Exception), _collection_paused():
        base = _base()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (base / FOLDER).mkdir(mode=0o700)
        name = _name(data, path)
        content = _content(name, definitions)
        # What would come back as something else is not kept.
        if _parsed(name, content) != definitions:
            return
        with _folder() as folder:
            _write(folder, name, content)
            _drop_oldest(folder)


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector still while thousands of things are made that stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _base() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return Path(given) if given.startswith("/") else Path("~/.cache").expanduser()


@contextlib.contextmanager
def _folder() -> Iterator[int]:
    """A descriptor of the folder, so that it cannot become another one between looking and reading.

    Raises:
        OSError: it is not there, or somebody else may have written in it.
    """
    fd = os.open(_base() / FOLDER, _FOLDER_FLAGS)
    try:
        _own(fd)
        yield fd
    finally:
        os.close(fd)


def _own(fd: int) -> int:
    """The mode of what is ours alone to write.

    Raises:
        PermissionError: it is not.
    """
    state = os.fstat(fd)
    if state.st_uid != os.geteuid() or state.st_mode & _OTHERS_WRITE:
        raise PermissionError("others may have written it")
    return state.st_mode


def _name(data: bytes, path: str) -> str:
    """The entry's name: a digest of all that decides what the reading comes to."""
    digest = hashlib.sha256(repr((path, __version__, str(_CODE), sys.version)).encode("utf-8", "replace"))
    for folder in (_CODE, _CODE / _SHAPES):
        with os.scandir(folder) as entries:
            code = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".py")]
        for file, state in sorted(code):
            digest.update(f"\n{file} {state.st_size} {state.st_mtime_ns}".encode())
    for package, file in _READERS:
        found = find_spec(package)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(package)
        digest.update(b"\0" + Path(found.origin).with_name(file).read_bytes())
    digest.update(b"\0" + data)
    return digest.hexdigest()


def _content(name: str, definitions: Definitions) -> bytes:
    body = json.dumps(codec.encode(definitions), separators=(",", ":")).encode("ascii")
    return _sum(name, body) + b"\n" + body


def _parsed(name: str, content: bytes) -> Definitions | None:
    total, _, body = content.partition(b"\n")
    if total != _sum(name, body):
        return None
    definitions = codec.decode(Definitions, json.loads(body))
    assert isinstance(definitions, Definitions)
    return definitions


def _sum(name: str, body: bytes) -> bytes:
    """Tells a whole entry in its own place from a torn one, or one that was moved."""
    return hashlib.sha256(name.encode("ascii") + body).hexdigest().encode("ascii")


def _write(folder: int, name: str, content: bytes) -> None:
    temporary = f"{name}.{os.getpid()}.tmp"
    with os.fdopen(os.open(temporary, _WRITE, 0o600, dir_fd=folder), "wb") as stream:
        try:
            stream.write(content)
            stream.flush()
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise


def _drop_oldest(folder: int) -> None:
    """Entries that are too many, and what killed runs left of theirs."""
    with os.scandir(folder) as entries:
        ages = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in entries)
    for _, name in ages[:-ENTRIES]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
