"""What the scheduler needs of the session that it works in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from .plan.model import Step

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController


class Around(Protocol):
    """What the scheduler asks of the session around it, and tells it."""

    def verdicts(self) -> dict[str, str]:
        """Of the steps that are settled."""

    def started(self) -> Collection[str]:
        """Ids of steps whose jobs have become ready, whatever came of them."""

    def report(self, nodeid: str, step: Step, reason: str) -> None:
        """A step is skipped, and why."""

    def settle(self) -> None:
        """Record the steps that have ended; their verdicts stand from then on."""

    def turn_ends_later(self, node: WorkerController, seconds: float) -> bool:
        """Have ``END_OF_TURN`` completed, then or after what else has happened by now.

        Args:
            node: any; an item is completed by somebody.

        Returns:
            False when nothing else has happened, and no time is given.
        """

    def stopped(self) -> str:
        """Why nothing more may be started, or an empty string."""

    def concluded(self, step: Step) -> bool:
        """Whether nothing has to be run for the end of a job, which has a verdict then."""

    def crashed(self, step: Step, worker: str) -> bool:
        """A worker died in the middle of a step; whether the step is tried again."""

    def given(self, step: Step, node: WorkerController) -> None:
        """A worker is about to be sent a step."""

    def changed(self) -> None:
        """Something was started, or has ended."""
