"""Results that are asked for later: one per request id, kept until collected and not for ever.

A request id that was seen is not worked on again: the SDK repeats a request whose answer got lost. All
of it lives on the server's event loop, so nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from distillation.engine.protocol import JSON
from distillation.engine.refusals import Refused

LONG_POLL = 20.0
"""Seconds that a question for a result waits before it is told to ask again; the SDK gives up after 45."""

KEPT_AFTER_COLLECTION = 60.0
"""Seconds that a collected result stays, for the case that its answer got lost on the way."""

KEPT_UNCOLLECTED = 3600.0
"""Seconds after which a result that nobody asked for is dropped."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished request's answer as it goes over the wire."""

    payload: bytes
    content_type: str = JSON
    failed: bool = False


@dataclass(slots=True)
class _Entry:
    done: asyncio.Event = field(default_factory=asyncio.Event)
    result: Result | None = None
    drop_at: float | None = None


class Futures:
    """The results by request id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._swept_at = clock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._entries

    def open(self, request_id: str) -> bool:
        """Start to expect a result; ``False`` when this request is known already."""
        self._sweep()
        if request_id in self._entries:
            return False
        self._entries[request_id] = _Entry()
        return True

    def finish(self, request_id: str, result: Result) -> None:
        """Hand in a result and wake whoever waits for it."""
        entry = self._entries.get(request_id)
        if entry is None or entry.result is not None:
            return
        entry.result = result
        entry.drop_at = self._clock() + KEPT_UNCOLLECTED
        entry.done.set()

    async def collect(self, request_id: str, patience: float = LONG_POLL) -> Result | None:
        """Wait for a result; ``None`` when it is not there yet after ``patience`` seconds.

        Raises:
            Refused: 410, no such request is known (any more): the SDK sends it again.
        """
        entry = self._entries.get(request_id)
        if entry is None:
            raise Refused(410, f"request {request_id} is not known (any more)")
        try:
            await asyncio.wait_for(entry.done.wait(), patience)
        except TimeoutError:
            return None
        entry.drop_at = self._clock() + KEPT_AFTER_COLLECTION
        return entry.result

    def forget(self, session_id: str) -> None:
        """A session is over: nobody asks for the results of its requests any more."""
        for request_id in [name for name in self._entries if name.startswith(f"{session_id}:")]:
            del self._entries[request_id]

    def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept_at < 1.0:
            return
        self._swept_at = now
        for request_id in [k for k, e in self._entries.items() if e.drop_at is not None and e.drop_at < now]:
            del self._entries[request_id]


def target_of(sampler: str, copy: int) -> str:
    """Under which the results for one copy of a sampling client are told; 0 is the client itself."""
    return f"{sampler}/{copy}"


class Completions:
    """Which requests of each sampling session have finished, in order, for the SDK's poller.

    A poll names how far it has read; what is before that is forgotten.
    """

    def __init__(self) -> None:
        self._finished: dict[str, list[tuple[int, str, int | None]]] = {}
        self._count: dict[str, int] = {}
        self._news: dict[str, asyncio.Event] = {}

    def add(self, target: str, request_id: str, size: int | None) -> None:
        """A request has finished; ``size`` of its answer in bytes, ``None`` when it failed."""
        number = self._count.get(target, 0) + 1
        self._count[target] = number
        self._finished.setdefault(target, []).append((number, request_id, size))
        self._news.setdefault(target, asyncio.Event()).set()

    async def after(self, target: str, cursor: int, patience: float) -> tuple[list[dict[str, object]], int]:
        """What has finished since ``cursor``, and the cursor to go on with; waits for news at first."""
        waiting = [one for one in self._finished.get(target, []) if one[0] > cursor]
        self._finished[target] = waiting
        if not waiting and patience > 0:
            news = self._news.setdefault(target, asyncio.Event())
            news.clear()
            try:
                await asyncio.wait_for(news.wait(), patience)
            except TimeoutError:
                return [], cursor
            waiting = [one for one in self._finished.get(target, []) if one[0] > cursor]
        completions: list[dict[str, object]] = [
            {"state": "failed", "request_id": request_id}
            if size is None
            else {"state": "finished", "request_id": request_id, "response_payload_uncompressed_size": size}
            for _, request_id, size in waiting
        ]
        return completions, max([cursor, *(number for number, _, _ in waiting)])

    def forget(self, target: str) -> None:
        """A sampling client is gone."""
        for kept in (self._finished, self._count, self._news):
            kept.pop(target, None)
