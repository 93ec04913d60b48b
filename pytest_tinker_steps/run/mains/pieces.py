"""What is kept of a main that is done in pieces: their files, and the manifest that vouches for them.

A piece counts when its line stands in the manifest and its file is still what that line says. The line
is written last, when the file and its name are on the disk, so whatever is cut off leaves at most a file
without a line, or half a line: both count for nothing. Everything else that lies in the store can be
made again from the pieces.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from ..failure import PhaseFailed

MANIFEST = "manifest.jsonl"
VERSION = 1

LINES = frozenset({".jsonl", ".txt", ".csv"})
"""Suffixes of files in which two pieces never share a line."""

_PLAIN_ID = re.compile(r"[0-9A-Z][0-9A-Z._-]{0,59}")
_COPIED = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the work, as it is asked for.

    Attributes:
        index: from 0.
        start: examples before it in the whole main.
        size: examples in it.
    """

    index: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class GoodPiece:
    """A recorded piece: a line of the manifest.

    Attributes:
        attempt: number of the try that was good, from 1.
        file: name of its file in the store; empty when it left none.
        bytes, sha256: of that file.
    """

    index: int
    start: int
    size: int
    attempt: int
    file: str
    bytes: int
    sha256: str

    @property
    def piece(self) -> Piece:
        return Piece(self.index, self.start, self.size)


@dataclass(frozen=True, slots=True)
class Found:
    """What earlier attempts have left.

    Attributes:
        good: recorded pieces whose files are as recorded, by index.
        damaged: number of recorded pieces whose files are not.
        outdated: whether there were pieces of another definition; they are gone.
    """

    good: tuple[GoodPiece, ...] = ()
    damaged: int = 0
    outdated: bool = False


class Store:
    """The folder in which the pieces of one main are kept.

    Args:
        folder: made when something is kept.
        spec: digest of what must be the same for pieces of an earlier attempt to count.
        output: name of the file in which the pieces are joined; None when they stay where they are.
        session: id of the session; without one, pieces of this session cannot be told from others.
    """

    def __init__(self, folder: Path, spec: str, output: str | None, session: str = "") -> None:
        self.folder = folder.absolute()
        self.suffix = Path(output).suffix if output else ""
        self._header = {"v": VERSION, "spec": spec, "output": output, "session": session}
        # A process of an earlier session that escaped its end must not write into a file of this one.
        self._token = secrets.token_hex(3)

    def open(self, *, anew: bool) -> Found:
        """Look at what is there; pieces of another definition are removed.

        Args:
            anew: whether those of other sessions are removed too. Within one session every attempt goes on
                from the one before, also when that one's process died.

        Raises:
            PhaseFailed: the folder cannot be read or written.
        """
        with disk("the store of its pieces"):
            header, recorded = _read(self.folder / MANIFEST)
            session = self._header["session"]
            anew = anew and not (session and header.get("session") == session)
            if anew or header.get("spec") != self._header["spec"]:
                _remove(self.folder)
                return Found(outdated=bool(recorded) and not anew)
            good = tuple(one for _, one in sorted(recorded.items()) if self._holds(one))
            return Found(good, len(recorded) - len(good))

    def keep(self, pieces: Iterable[GoodPiece]) -> None:
        """Begin a session with these pieces; everything else in the folder is removed.

        Raises:
            PhaseFailed: the folder cannot be written.
        """
        kept = tuple(pieces)
        with disk("the store of its pieces"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = b"".join(_line(record) for record in (self._header, *map(asdict, kept)))
            with _replacing(self.folder / MANIFEST, self.folder / f"{MANIFEST}.tmp", 0o600) as stream:
                stream.write(lines)
            names = {MANIFEST, *(one.file for one in kept)}
            for path in self.folder.iterdir():
                if path.name not in names:
                    _remove(path)

    def path_for(self, piece: Piece, attempt: int) -> Path:
        """An absolute path that no other try of any piece was ever given."""
        return self.folder / f"{piece.index:05d}-{attempt}-{self._token}{self.suffix}"

    def forget(self, path: Path) -> None:
        """Remove what a try has left that was not good.

        Raises:
            PhaseFailed: it cannot be removed.
        """
        with disk("the store of its pieces"):
            _remove(path)

    def add(self, piece: Piece, attempt: int, path: Path) -> GoodPiece:
        """Record a good piece; when this returns, it survives whatever happens.

        Args:
            path: of its file in the store; a missing one is recorded as such.

        Raises:
            PhaseFailed: nothing could be recorded.
        """
        with disk(f"piece {piece.index + 1} cannot be recorded"):
            name, size, digest = "", 0, ""
            if os.path.lexists(path):
                name, (size, digest) = path.name, _measured(path, sync=True)
            good = GoodPiece(**asdict(piece), attempt=attempt, file=name, bytes=size, sha256=digest)
            _sync_folder(self.folder)
            with (self.folder / MANIFEST).open("ab", buffering=0) as stream:
                line = _line(asdict(good))
                if stream.write(line) != len(line):
                    raise OSError(0, "the disk is full")
                os.fsync(stream.fileno())
        return good

    def join(self, pieces: Iterable[GoodPiece], target: Path) -> int:
        """Put the files of pieces, one after the other, in place of a file; returns its size in bytes.

        The file is replaced as a whole or not at all. A link is followed, never replaced.

        Raises:
            PhaseFailed: it cannot be written, or a file of a piece is not what was recorded.
        """
        with disk(f"{target} cannot be written"):
            target = Path(os.path.realpath(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            # One name for each store, so that what a killed session left is overwritten by the next.
            temporary = target.with_name(f".{target.name}.{self.folder.name}.tmp")
            with _replacing(target, temporary, 0o666) as stream:
                open_line = False
                for good in pieces:
                    open_line = self.copy(good, stream, open_line)
                return stream.tell()

    def copy(self, good: GoodPiece, stream: BinaryIO, open_line: bool) -> bool:
        """Append the file of one piece to another file.

        Args:
            open_line: whether the piece before it ended within a line.

        Returns:
            Whether this one does.

        Raises:
            PhaseFailed: the file is not what was recorded.
        """
        if not good.bytes:
            return open_line
        if open_line:
            stream.write(b"\n")
        digest, last, size = hashlib.sha256(), b"", 0
        path = self.folder / good.file
        with path.open("rb", buffering=0) if is_file(path) else io.BytesIO() as source:
            while chunk := source.read(_COPIED):
                digest.update(chunk)
                stream.write(chunk)
                last, size = chunk[-1:], size + len(chunk)
        if (size, digest.hexdigest()) != (good.bytes, good.sha256):
            why = f"the file of piece {good.index + 1} has changed since it was recorded"
            raise PhaseFailed("exit", f"main failed: {why}; the next attempt does that piece again")
        return self.suffix.lower() in LINES and last != b"\n"

    def _holds(self, good: GoodPiece) -> bool:
        if not good.file:
            return True
        path = self.folder / good.file
        try:
            # The cheap question first.
            if not is_file(path) or path.stat().st_size != good.bytes:
                return False
            return _measured(path) == (good.bytes, good.sha256)
        except OSError:
            return False


def store_of(state: Path, step_id: str) -> Path:
    """The store of a step: a folder whose name is plain, and no other step's, whatever the id is.

    Args:
        state: the folder of this list's state.
    """
    name = step_id
    if not _PLAIN_ID.fullmatch(step_id):
        # Small letters are not plain: two ids may only differ in them, and some disks do not mind.
        slug = re.sub(r"[^A-Za-z0-9]+", "-", step_id)[:40].strip("-")
        name = f"{slug}~{hashlib.sha256(step_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return state / "pieces" / name


def discard(state: Path, step_id: str) -> None:
    """Remove the store of a step that has passed; one whose pieces were not joined anywhere is left.

    Raises:
        OSError: it cannot be removed.
    """
    folder = store_of(state, step_id)
    header, recorded = _read(folder / MANIFEST)
    if header.get("output") or not any(good.file for good in recorded.values()):
        _remove(folder)


def is_file(path: Path) -> bool:
    """Whether a regular file is there; a link to one is none, since it may change behind our back."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """What the disk refuses is a failure of the main that another attempt would not mend.

    Args:
        what: could not be done, or was being used.
    """
    try:
        yield
    except OSError as error:
        raise PhaseFailed(None, f"main failed: {what}: {error.strerror or error}") from None


# -- files


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _read(path: Path) -> tuple[dict[str, Any], dict[int, GoodPiece]]:
    """The header and the recorded pieces of a manifest; lines that are not whole are passed over."""
    header: dict[str, Any] = {}
    pieces: dict[int, GoodPiece] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return header, pieces
    for number, line in enumerate(lines[:-1]):  # what follows the last line's end is torn, or nothing
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if number == 0 and isinstance(record, dict) and record.get("v") == VERSION:
            header = record
        elif good := _good(record):
            pieces[good.index] = good
    return header, pieces


def _good(record: Any) -> GoodPiece | None:
    if not isinstance(record, dict) or record.keys() != {field.name for field in fields(GoodPiece)}:
        return None
    texts = ("file", "sha256")
    if any(type(value) is not (str if name in texts else int) for name, value in record.items()):
        return None
    good = GoodPiece(**record)
    return good if good.index >= 0 and Path(good.file).name == good.file else None


def _measured(path: Path, *, sync: bool = False) -> tuple[int, str]:
    """Size and digest of a file, of the same bytes."""
    with path.open("rb", buffering=0) as stream:
        if sync:
            os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), digest


@contextlib.contextmanager
def _replacing(target: Path, temporary: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file that takes the place of another when all is written and on the disk."""
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, mode), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
