"""One piece after the other: each is tried until it is good, and recorded before anything else happens.

Which pieces there are, and when there are enough of them, is decided by who asks.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...plan.model import Check, Command, Main, Runner
from ..failure import PhaseFailed, process_failed
from .command import command_of, shown
from .pieces import Found, GoodPiece, Piece, Store, is_file
from .placeholders import filled, filled_command

if TYPE_CHECKING:
    from ..process import Ended

_FAILURES_KEPT = 16_384
"""Characters of failed checks that a fix is told; an environment does not take everything."""


class PieceRuns(Protocol):
    """What pieces are run with."""

    def process(
        self, command: Command, env: Mapping[str, str], log: str, runner: Runner | None = None
    ) -> Ended:
        """Run a process to its end, in the folder and with the deadline of the main.

        Args:
            log: name of the file, among the logs of the attempt, to which its output goes.
            runner: that it is handed to.
        """

    def check(self, phase: str, checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
        """Run checks; a line for each critical one that failed.

        Args:
            phase: ``quality`` or ``stop_when``.
        """

    def emit(self, event: str, **more: Any) -> None: ...

    def may_begin(self, what: str) -> None:
        """Asked before anything is spent on a piece.

        Raises:
            PhaseFailed: nothing more may begin.
        """


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try that was not good.

    Attributes:
        cause: ``exit`` also stands for an output that is not there; None cannot be tried again.
        why: one line.
        detail: the whole story for people.
        lines: of the quality checks that failed.
    """

    cause: Literal["exit", "timeout", "quality"] | None
    why: str
    detail: str = ""
    lines: tuple[str, ...] = ()


class Piecework:
    """The pieces of one main in one attempt.

    Args:
        kind: what a piece is called in placeholders and in the environment.
        main: a command or a script; its ``max_runtime`` begins now.
        store: where the pieces are kept.
        env: of the step's processes.
        runs: runs them.
        interpreter: the Python that runs scripts.
        of: number of all pieces, if it is known.
        total: number of all examples, if it is known.
        results: file of the pieces that are good so far, for mains that are given one.
    """

    def __init__(
        self,
        kind: Literal["chunk", "batch"],
        main: Main,
        store: Store,
        *,
        env: Mapping[str, str],
        runs: PieceRuns,
        interpreter: str,
        output: str | None,
        of: int | None,
        total: int | None,
        results: Path | None = None,
    ) -> None:
        self.done = 0
        self._kind = kind
        self._main = main
        self._store = store
        self._env = env
        self._runs = runs
        self._interpreter = interpreter
        self._output = output
        self._of = of
        self._total = total
        self._results = results
        self._good = 0
        self._deadline = time.monotonic() + main.max_runtime

    def resume(self, anew: bool, fitting: Callable[[Found], Iterable[GoodPiece]]) -> list[GoodPiece]:
        """Take over what earlier attempts have recorded.

        Args:
            anew: take nothing over.
            fitting: chooses the pieces that this main can go on from.
        """
        found = self._store.open(anew=anew)
        kept = list(fitting(found))
        self._store.keep(kept)
        if found.outdated:
            text = "pieces of an earlier attempt are not used: its definition has changed"
            self._runs.emit("note", text=text)
        if found.damaged:
            text = f"recorded pieces whose files have changed are not used: {found.damaged}"
            self._runs.emit("note", text=text)
        if kept:
            self._runs.emit("pieces_resumed", kind=self._kind, count=len(kept), of=self._of)
        self._good = len(kept)
        self.done = sum(one.size for one in kept)
        return kept

    def carry_out(self, piece: Piece) -> GoodPiece | None:
        """Try a piece until it is good, and record it.

        Returns:
            None when a batch left no output: the input has ended.

        Raises:
            PhaseFailed: it was not good within its tries, its main's time is over, or nothing may begin.
        """
        retry, name = self._main.retry, self.name(piece.index)
        failed: _Failed | None = None
        fixed = False
        number = 0
        while True:
            number += 1
            self._runs.may_begin(name)
            self._in_time()
            if failed:
                if failed.cause == "quality" and self._main.fix and not fixed:
                    fixed = True
                    self._fix(piece, number - 1, failed)
                self._store.forget(self._store.path_for(piece, number - 1))
            began = time.monotonic()
            path = self._store.path_for(piece, number)
            outcome = self._try(piece, number, path)
            if outcome is None:
                return None
            seconds = time.monotonic() - began
            if isinstance(outcome, GoodPiece):
                self._report(piece, number, "passed", seconds)
                self._good += 1
                self.done += piece.size
                self._runs.emit("progress", done=self.done, total=self._total or 0, rate=0.0)
                return outcome
            failed = outcome
            self._report(piece, number, "failed", seconds, failed.why)
            if number >= self._tries(failed):
                often = "once" if number == 1 else f"{number} times"
                where = f"{name} (start {piece.start}, size {piece.size})"
                text = f"main failed: {where} failed {often}: {failed.why}"
                raise PhaseFailed(None, "\n".join(filter(None, (text, failed.detail))))
            pause = retry.delay * retry.backoff ** (number - 1) * (1 + retry.jitter * random.random())
            time.sleep(max(0.0, min(pause, self._deadline - time.monotonic())))

    def publish(self, pieces: Sequence[GoodPiece], folder: Path, output: str) -> None:
        """Join pieces into the main's output.

        Args:
            folder: to which ``output`` is relative.
        """
        size = self._store.join(pieces, folder / output)
        self._runs.emit("joined", kind=self._kind, path=output, pieces=len(pieces), bytes=size)

    def name(self, index: int) -> str:
        """``piece 3 of 10``, counted from 1 as people do."""
        word = "piece" if self._kind == "chunk" else "batch"
        return f"{word} {index + 1}" + (f" of {self._of}" if self._of is not None else "")

    def environ(self, piece: Piece, attempt: int, path: Path) -> dict[str, str]:
        """The environment of the processes and checks of one try."""
        values = self._values(piece, attempt, path)
        return {**self._env, **{f"{self._kind}_{name}".upper(): value for name, value in values.items()}}

    def _values(self, piece: Piece, attempt: int, path: Path) -> dict[str, str]:
        values = {
            "index": str(piece.index),
            "start": str(piece.start),
            "size": str(piece.size),
            "attempt": str(attempt),
            "output": str(path),
            "total": "" if self._total is None else str(self._total),
        }
        return values if self._results is None else {**values, "results": str(self._results)}

    def _placeholders(self, piece: Piece, attempt: int, path: Path) -> dict[str, str]:
        return {f"{self._kind}.{name}": value for name, value in self._values(piece, attempt, path).items()}

    def _in_time(self) -> None:
        if time.monotonic() >= self._deadline:
            of = "" if self._of is None else f" of {self._of}"
            what = "pieces" if self._kind == "chunk" else "batches"
            text = f"main failed: no end after {self._main.max_runtime:g} s; {self._good}{of} {what} are good"
            raise PhaseFailed("timeout", f"{text} and need not be done again")

    def _tries(self, failed: _Failed) -> int:
        """How often a piece is tried at most, now that it has failed in this way."""
        retry = self._main.retry
        if failed.cause == "quality":
            # As with checks, a fix gives one more try to what has no retries.
            return max(retry.attempts, 2 if self._main.fix else 1)
        return retry.attempts if failed.cause in retry.when else 1

    def _try(self, piece: Piece, number: int, path: Path) -> GoodPiece | _Failed | None:
        env = self.environ(piece, number, path)
        main = filled(self._main, self._placeholders(piece, number, path))
        command = command_of(main, self._interpreter)
        log = f"{self._kind}-{piece.index}-{number}.log"
        runner = main.runner
        ended = self._runs.process(command, env, log, runner)
        if ended.reason != "exit" or ended.exit != 0:
            detail = process_failed("main", "exit", shown(command, runner), ended, log).message.partition(
                "\n"
            )[2]
            if ended.reason == "cancelled":
                self._runs.may_begin(self.name(piece.index))  # who cancelled it says why
                return _Failed(None, ended.error, detail)
            return _Failed("timeout" if ended.reason == "timeout" else "exit", ended.error, detail)
        written = is_file(path)
        if not written and os.path.lexists(path):
            return _Failed("exit", "its output is no regular file", f"output: {path}")
        if self._kind == "batch" and not (written and path.stat().st_size):
            return None
        if self._output and not written:
            return _Failed("exit", "exit 0, but it has not written its output", f"output: {path}")
        lines = self._runs.check("quality", self._main.quality, env) if self._main.quality else []
        if lines:
            detail = "\n".join([*lines, *([f"output: {path}"] if written else ())])
            return _Failed("quality", f"quality: {lines[0]}", detail, tuple(lines))
        return self._store.add(piece, number, path)

    def _fix(self, piece: Piece, number: int, failed: _Failed) -> None:
        """Let the fix look at the try that failed; whether it goes well itself decides nothing."""
        assert self._main.fix is not None
        path = self._store.path_for(piece, number)
        command = filled_command(self._main.fix, self._placeholders(piece, number, path))
        told = "\n".join(failed.lines).replace("\0", "")[:_FAILURES_KEPT]
        env = {**self.environ(piece, number, path), "QUALITY_FAILURES": told}
        ended = self._runs.process(command, env, f"{self._kind}-{piece.index}-fix.log")
        passed = ended.reason == "exit" and ended.exit == 0
        self._runs.emit(
            "recover",
            command=shown(command),
            status="passed" if passed else "failed",
            seconds=ended.seconds,
            message=ended.error,
        )

    def _report(self, piece: Piece, number: int, status: str, seconds: float, message: str = "") -> None:
        self._runs.emit(
            "piece",
            kind=self._kind,
            index=piece.index,
            start=piece.start,
            size=piece.size,
            attempt=number,
            status=status,
            seconds=seconds,
            message=message,
            of=self._of,
        )
