"""Mains that are done in batches until there are enough of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...plan.model import Main
from .piece_runs import PieceRuns, Piecework
from .pieces import GoodPiece, Piece, Store, disk


def run(
    main: Main,
    *,
    folder: Path,
    store: Path,
    spec: str,
    anew: bool,
    session: str = "",
    env: Mapping[str, str],
    pieces: PieceRuns,
    output: str | None,
    interpreter: str = sys.executable,
) -> None:
    """Do batches until the main's ``stop_when`` passes, its ``total`` is reached, or its input ends.

    The arguments and errors are those of a chunked main. Without an ``output`` the results stay in the store.
    """
    kept = Store(store, spec, output, session)
    results = Results(kept)
    work = Piecework(
        "batch",
        main,
        kept,
        env=env,
        runs=pieces,
        interpreter=interpreter,
        output=output,
        of=None if main.total is None else -(-main.total // main.batch_size),
        total=main.total,
        results=results.path,
    )
    good = work.resume(anew, lambda found: unbroken(found.good))
    results.begin(good)
    while not (why := _ended(main, work, kept, good, pieces)):
        left = main.batch_size if main.total is None else main.total - work.done
        batch = Piece(len(good), work.done, min(main.batch_size, left))
        made = work.carry_out(batch)
        if made is None:
            why = "its input ended"
            break
        results.add(made)
        good.append(made)
    text = f"ended after {len(good)} {'batch' if len(good) == 1 else 'batches'}: {why}"
    if output is not None:
        work.publish(good, folder, output)
    else:
        text += f"; results: {results.path}"
    pieces.emit("note", text=text)


def unbroken(found: Iterable[GoodPiece]) -> list[GoodPiece]:
    """Batches up to the first gap: what came after it was made with other results at hand."""
    good: list[GoodPiece] = []
    start = 0
    for one in found:
        if (one.index, one.start) != (len(good), start):
            break
        good.append(one)
        start += one.size
    return good


def _ended(main: Main, work: Piecework, kept: Store, good: list[GoodPiece], pieces: PieceRuns) -> str:
    """Why no further batch is needed; empty when one is."""
    if good and main.stop_when:
        last = good[-1]
        env = work.environ(last.piece, last.attempt, kept.folder / last.file)
        if not pieces.check("stop_when", main.stop_when, env):
            return "stop_when passed"
    if main.total is not None and work.done >= main.total:
        return f"all {main.total} examples are done"
    return ""


class Results:
    """The file of all good batches so far, in which commands and checks read.

    It is a copy. What counts are the batches in the store: from them it is made anew in every session, and
    nothing that somebody else writes into it lasts.
    """

    def __init__(self, store: Store) -> None:
        self.path = store.folder / f"results{store.suffix}"
        self._store = store
        self._length = 0
        self._open_line = False

    def begin(self, good: Iterable[GoodPiece]) -> None:
        self._length = self._store.join((), self.path)
        for one in good:
            self.add(one)

    def add(self, good: GoodPiece) -> None:
        with disk(f"{self.path} cannot be written"), self.path.open("r+b") as stream:
            stream.truncate(self._length)
            stream.seek(self._length)
            self._open_line = self._store.copy(good, stream, self._open_line)
            self._length = stream.tell()
