"""The two ways in which the engine says no."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not taken: answered at once, with an HTTP status.

    Attributes:
        status: 400 for what is wrong, 404 for what is not there, 410 for what is gone.
        detail: one line.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Failed(Exception):
    """Work that was taken and cannot be done, through the fault of who asked: one line."""
