"""Training runs: their requests are done in strict order of sequence ids, whatever order they come in.

Large batches reach the server as several requests at once, the first one last. A request that is refused
has used up its id too: the SDK counts on, and would wait for ever for a request behind a gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distillation.engine.refusals import Failed, Refused

if TYPE_CHECKING:
    from distillation.engine.backend import Adapter, LoraShape

Task = Callable[[], None]
"""Work that reports its own outcome and lets nothing escape."""


@dataclass(slots=True)
class Run:
    """A training run of this engine.

    Attributes:
        id: ``session:train:number``.
        shape: of its adapter.
        adapter: there once the worker has made it.
        next_id: the sequence id that is done next; the first is 1.
        waiting: requests that came before their turn.
        over: whether its session is; what is submitted still is not worked on then.
    """

    id: str
    shape: LoraShape
    adapter: Adapter | None = None
    next_id: int = 1
    waiting: dict[int, Task] = field(default_factory=dict)
    over: bool = False

    def ready(self) -> Adapter:
        """The adapter.

        Raises:
            Failed: making it did not succeed, or the session is over.
        """
        if self.adapter is None or self.over:
            raise Failed(f"training run {self.id} has no adapter: it was not made, or its session is over")
        return self.adapter


class Runs:
    """The training runs by id. ``execute`` is given what can be done now, in order."""

    def __init__(self, execute: Callable[[Task], None]) -> None:
        self._execute = execute
        self._runs: dict[str, Run] = {}

    def open(self, run_id: str, shape: LoraShape) -> Run | None:
        """Begin a run; ``None`` when it exists, because the request was sent twice."""
        if run_id in self._runs:
            return None
        run = self._runs[run_id] = Run(run_id, shape)
        return run

    def find(self, run_id: object) -> Run:
        """The run of this id.

        Raises:
            Refused: 404, this engine has no such run.
        """
        run = self._runs.get(run_id) if isinstance(run_id, str) else None
        if run is None:
            raise Refused(404, f"training run {run_id} is not open here; create it or load its weights")
        return run

    def submit(self, run: Run, seq_id: object, task: Task) -> None:
        """Do ``task`` when its turn comes.

        Raises:
            Refused: the id is none, or its turn has been.
        """
        if not isinstance(seq_id, int) or isinstance(seq_id, bool) or seq_id < 1:
            raise Refused(400, f"seq_id must be a number from 1 on, not {seq_id!r}")
        if seq_id < run.next_id or seq_id in run.waiting:
            raise Refused(410, f"request {seq_id} of {run.id} has been done, and its result is gone")
        run.waiting[seq_id] = task
        while (due := run.waiting.pop(run.next_id, None)) is not None:
            run.next_id += 1
            self._execute(due)

    def close(self, run_id: str) -> Run | None:
        """Forget a run, and return it so that its adapter can be freed."""
        run = self._runs.pop(run_id, None)
        if run is not None:
            run.over = True
            run.waiting.clear()
        return run
