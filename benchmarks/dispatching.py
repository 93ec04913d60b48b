"""What a step costs the scheduler alone.

There are neither workers nor processes: the scheduler is told that its steps have ended.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring import Figure, load

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pytest_tinker_steps.distribution import DistributionHooks
from pytest_tinker_steps.plan.model import Step
from pytest_tinker_steps.record.frozen import Frozen
from tests.record.sessions import a_list, a_plan, a_session, decide, true_steps
from tests.test_scheduling import Around, Session

FEW, MANY = 100, 5_000
"""Steps of the two plans that are compared."""
SAMPLE = 1_000
"""Steps over which a plan is measured."""
TRACKS = 6
LAYERS = 10
WORKERS = 6


class Telling(Around):
    """Has the line of the whole session made by who makes it in a session; it is not painted.

    Attributes:
        lines: all that were made.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.lines: list[str] = []
        console = SimpleNamespace(paints_overall=False, overall=self.lines.append)
        active: Any = SimpleNamespace(frozen=session.frozen, controller=session, console=console)
        self._hooks = DistributionHooks(active, self._settle, lambda _: None)
        self._hooks._scheduling = session.scheduling

    def _settle(self) -> list[Step]:
        ended = [self.session.frozen.by_id[name] for name in self.session.ended]
        super().settle()
        return ended

    def settle(self) -> None:
        self._hooks.settle()

    def changed(self) -> None:
        self._hooks.changed()


def dispatch(rounds: int) -> list[Figure]:
    """What a step costs the scheduler in a short and in a long plan, and the line that tells of it."""
    figures = []
    for name, line, told in (
        (f"{TRACKS} tracks", "  track: t{track}\n", False),
        (f"{LAYERS} layers", "  layer: L{layer}\n", False),
        ("no order", "  needs: []\n", False),
        ("no order, with the line of the session", "  needs: []\n", True),
    ):
        plans = {count: decided(count, line) for count in (FEW, MANY)}
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        for _ in range(1 + rounds):
            # As many steps of either, so that both samples are equally exact.
            times[FEW].append(statistics.mean(per_step(plans[FEW], told) for _ in range(SAMPLE // FEW)))
            times[MANY].append(per_step(plans[MANY], told))
        found = [many / few for few, many in zip(times[FEW][1:], times[MANY][1:], strict=True)]
        shown = {f"{count:,} steps": f"{statistics.median(times[count][1:]):.1f} us" for count in times}
        figures.append(
            Figure(
                f"dispatch of a step, {name}: {MANY:,} steps / {FEW}",
                "x",
                statistics.median(found),
                1.5,
                shown | {"load": load()},
                found,
            )
        )
    return figures


def decided(count: int, line: str) -> Frozen:
    """A session over so many steps, without pytest, as the scheduler's own tests make one."""
    more = {
        number: line.format(track=number % TRACKS, layer=LAYERS * (number - 1) // count)
        for number in range(1, count + 1)
    }
    plan = a_plan(a_list(*(f"Work {n}" for n in range(1, count + 1))), true_steps(count, more))
    return a_session(plan, decide(plan))


def per_step(plan: Frozen, told: bool) -> float:
    """Microseconds of processor time that the scheduler takes for a step, over at most `SAMPLE` of them.

    Args:
        told: whether the line of the whole session is made each time, too.

    Raises:
        SystemExit: steps were left out, or lines, so there is nothing to measure.
    """
    session = Session(plan, nodes=WORKERS)
    telling = Telling(session)
    if told:
        session.scheduling._around = telling
    gc.collect()
    gc.freeze()  # as a session does
    try:
        seconds = _dispatched(session)
    finally:
        gc.unfreeze()
    if told and len(telling.lines) < len(session.verdicts):
        raise SystemExit("not every end is told: this is no measurement")
    return seconds / len(session.verdicts) * 1e6


def _dispatched(session: Session) -> float:
    scheduling: Any = session.scheduling
    began = time.process_time()
    while not scheduling.tests_finished and len(session.verdicts) < SAMPLE:
        before = len(session.verdicts)
        for node in session.nodes:
            if scheduling._given[node]:
                session.end(node)
        if len(session.verdicts) == before:
            raise SystemExit("nothing is dispatched: this is no measurement")
    return time.process_time() - began
