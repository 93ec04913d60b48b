"""Sessions of clients: what each has opened, and whether it is still alive.

A client says every ten seconds that it lives. One that has been silent for long is taken for dead, and
what it had opened is closed, so that a killed training does not hold memory for ever.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from distillation.engine.refusals import Refused

SILENCE = 120.0
"""Seconds without a sign of life after which a client is taken for dead."""


@dataclass(slots=True)
class Session:
    """A client's session.

    Attributes:
        id: as the client knows it.
        heard: when it last said something.
        over: whether it is closed.
        runs: its training runs' ids.
        samplers: its sampling sessions' ids.
    """

    id: str
    heard: float
    over: bool = False
    runs: set[str] = field(default_factory=set)
    samplers: set[str] = field(default_factory=set)


class Sessions:
    """The sessions by id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._sessions: dict[str, Session] = {}

    def open(self) -> Session:
        """Begin a session."""
        session = Session(uuid.uuid4().hex, self._clock())
        self._sessions[session.id] = session
        return session

    def heard(self, session_id: object) -> Session:
        """A client said something.

        Raises:
            Refused: 404, there is no such session (any more).
        """
        session = self._sessions.get(session_id) if isinstance(session_id, str) else None
        if session is None:
            raise Refused(404, f"session {session_id} is not open; connect again")
        session.heard = self._clock()
        return session

    def close(self, session_id: str) -> Session | None:
        """End a session; ``None`` when it is over already."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.over = True
        return session

    def silent(self, limit: float = SILENCE) -> list[str]:
        """Ids of the sessions that have not been heard for ``limit`` seconds. To be called far more often."""
        now = self._clock()
        if now - self._looked > limit / 2:
            # It was the engine that was away, halted with its clients perhaps: they get their time anew.
            for session in self._sessions.values():
                session.heard = now
        self._looked = now
        return [session.id for session in self._sessions.values() if now - session.heard > limit]
