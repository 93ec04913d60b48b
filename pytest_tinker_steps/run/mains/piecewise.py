"""Chunked and streamed mains of a step: what their pieces run with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...plan.model import Check, Command, Definition, Runner
from ..listening import Listener
from ..phases import Setting, failures, listen, run_checks
from . import pieces

if TYPE_CHECKING:
    from ..process import Ended


class StepPieces:
    """Runs the pieces of one main, with the step's deadlines, logs, monitors and budgets.

    Args:
        listener: to the main; it is entered.
        may_begin: raises when a budget does not let a piece begin.
    """

    def __init__(self, at: Setting, listener: Listener, may_begin: Callable[[str], None]) -> None:
        self._at = at
        self._listener = listener
        self._may_begin = may_begin

    def process(
        self, command: Command, env: Mapping[str, str], log: str, runner: Runner | None = None
    ) -> Ended:
        at = self._at
        at.telling.part = whole_of(env)
        return listen(
            at,
            "main",
            command,
            env=env,
            timeout=at.definition.main.timeout,
            log=log,
            listener=self._listener,
            runner=runner,
        )

    def check(self, phase: str, checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
        return failures(run_checks(self._at, phase, checks, env=env, fail_fast=False))

    def emit(self, event: str, **more: Any) -> None:
        if event == "progress":
            self._at.telling.advanced(more["done"], more["total"])
        else:
            self._at.emit(event, **more)

    def may_begin(self, what: str) -> None:
        self._listener.must_go_on()
        self._may_begin(what)


def run(
    at: Setting,
    listener: Listener,
    *,
    step_id: str,
    identity: Sequence[str],
    anew: bool,
    may_begin: Callable[[str], None],
) -> None:
    """Carry out a chunked or streamed main.

    Args:
        listener: to the main; it is entered.
        anew: whether what attempts of earlier sessions have recorded does not count.
        may_begin: raises when a budget does not let a piece begin; it is given the piece's name.

    Raises:
        PhaseFailed: it did not come to its end.
    """
    from . import chunked, stream

    main = at.definition.main
    what = chunked.run if main.mode == "chunked" else stream.run
    what(
        main,
        folder=at.around.folder,
        store=pieces.store_of(at.around.state, step_id),
        spec=spec_of(at.definition, identity),
        anew=anew,
        session=at.around.run_id,
        env=at.env,
        pieces=StepPieces(at, listener, may_begin),
        output=main.output,
        interpreter=at.around.interpreter,
    )


def spec_of(definition: Definition, identity: Sequence[str]) -> str:
    """Digest of what must be as it was for the pieces of an earlier attempt to count."""
    main = definition.main
    sizes = (main.batch_size,) if main.mode == "stream" else (main.chunks, main.checkpoint_every)
    said = [main.mode, main.command, main.script, main.args, definition.env, main.env, sizes, main.output]
    return hashlib.sha256(json.dumps([*said, list(identity)]).encode()).hexdigest()


def whole_of(env: Mapping[str, str]) -> Callable[[float, float], tuple[float, float]]:
    """From the progress that the process of one piece reports to that of the whole main.

    Args:
        env: of the process; says which piece it is.
    """
    kind = "CHUNK" if "CHUNK_SIZE" in env else "BATCH"
    start, size = int(env[f"{kind}_START"]), int(env[f"{kind}_SIZE"])
    total = int(env[f"{kind}_TOTAL"] or 0)

    def whole(done: float, of: float) -> tuple[float, float]:
        within = size * done / of if of else done
        return start + min(float(size), within), float(total)

    return whole
