"""Mains that are done in pieces of known sizes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...plan.model import Main
from .piece_runs import PieceRuns, Piecework
from .pieces import Piece, Store


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
    """Do every piece that is not recorded as good, in order, and join them all.

    Args:
        main: with ``chunks``.
        folder: of the task list; ``output`` is relative to it.
        store: the folder in which the pieces are kept.
        spec: digest of what must be the same for the pieces of an earlier attempt to count.
        anew: none of them count, but those of this session.
        session: its id.
        env: of the step's processes.
        pieces: runs them.
        output: the file in which the pieces are joined; None when they have no files to join.
        interpreter: the Python that runs scripts.

    Raises:
        PhaseFailed: the main did not come to its end; what is good so far stays recorded.
    """
    assert main.chunks, "definitions without chunks are refused: nothing done must not pass"
    todo = cut(main.chunks, main.checkpoint_every)
    kept = Store(store, spec, output, session)
    work = Piecework(
        "chunk",
        main,
        kept,
        env=env,
        runs=pieces,
        interpreter=interpreter,
        output=output,
        of=len(todo),
        total=sum(main.chunks),
    )
    resumed = work.resume(
        anew, lambda found: [one for one in found.good if todo[one.index : one.index + 1] == [one.piece]]
    )
    good = {one.index: one for one in resumed}
    for piece in todo:
        if piece.index not in good:
            made = work.carry_out(piece)
            assert made is not None  # only batches end an input
            good[piece.index] = made
    if output is not None:
        work.publish([good[piece.index] for piece in todo], folder, output)


def cut(sizes: Sequence[int], largest: int | None) -> list[Piece]:
    """The pieces of a main; one that is larger than ``largest`` becomes several."""
    pieces: list[Piece] = []
    start = 0
    for size in sizes:
        end = start + size
        while start < end:
            part = min(largest or size, end - start)
            pieces.append(Piece(len(pieces), start, part))
            start += part
    return pieces
