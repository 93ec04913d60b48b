"""What listens to a main while it runs: success criteria and progress in its output, and its monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..plan.model import Main
from .failure import PhaseFailed
from .mains.command import TextWatch
from .telling import Telling

if TYPE_CHECKING:
    import threading

    from .monitoring.monitors import Monitors
    from .progress import ProgressReader


class Listener:
    """Hears one main, from its start to its end.

    Args:
        main: whose plain-text criteria and progress are looked for.
        telling: is told what is found.
        emit: takes an event's name and its values.
        live: whether somebody watches the output as it comes.
        monitors: not started yet.
    """

    def __init__(
        self,
        main: Main,
        telling: Telling,
        emit: Callable[..., None],
        *,
        live: bool = False,
        monitors: Monitors | None = None,
    ) -> None:
        texts = tuple(item.text for item in main.criteria if item.check is None)
        self._main = main
        self._telling = telling
        self._emit = emit
        self._live = live
        self._monitors = monitors
        self._criteria = TextWatch(texts) if texts else None
        self._reader: ProgressReader | None = None

    def __enter__(self) -> Listener:
        if self._monitors is not None:
            self._monitors.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._monitors is not None:
            self._monitors.stop()
            self._drain()
        self._telling.finish()
        for text in sorted(self._criteria.found) if self._criteria else ():
            self._telling.criterion(text)

    @property
    def cancel(self) -> threading.Event | None:
        """Set when a monitor asks for the end of the main."""
        return None if self._monitors is None else self._monitors.stop_requested

    @property
    def stopped(self) -> str:
        """Why a monitor has asked for the end of the main; empty when none has."""
        if self._monitors is None or not self._monitors.stop_requested.is_set():
            return ""
        return f"stopped by {self._monitors.stop_reason}"

    def must_go_on(self) -> None:
        """Nothing more of the main may begin once a monitor has asked for its end.

        Raises:
            PhaseFailed: it has.
        """
        if why := self.stopped:
            raise PhaseFailed(None, f"main failed: {why}")

    def output(self, piece: str) -> None:
        """Take a piece of the main's output, redacted."""
        if self._criteria is not None:
            self._criteria.feed(piece)
        if self._monitors is not None:
            self._monitors.output(piece)
        if self._live:
            self._emit("output", text=piece)
        self._read(piece)

    def ended(self) -> None:
        """The process whose output was heard has ended; its last line need not have."""
        if self._reader is not None:
            self._read("\n")
        self._telling.ended()

    def metric(self, name: str, value: float) -> None:
        """A number that the main has reported."""
        if self._monitors is not None:
            self._monitors.metric(name, value)

    def poll(self) -> None:
        """Take what was said since the last time; to be called in the thread that may emit."""
        self._telling.poll()
        if self._monitors is not None:
            self._drain()

    def _read(self, piece: str) -> None:
        if self._reader is None:
            from .progress import ProgressReader  # most mains print nothing

            self._reader = ProgressReader(self._main.progress)
        found = self._reader.feed(piece)
        if found is not None:
            self._telling.seen(*found)

    def _drain(self) -> None:
        assert self._monitors is not None
        for event in self._monitors.take():
            values: dict[str, Any] = dict(event)
            self._emit(values.pop("event"), **values)
