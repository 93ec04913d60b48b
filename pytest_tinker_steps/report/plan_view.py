"""What a plan comes to before it runs: the data that its text, its picture and its JSON show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from ..plan import forecast, graph
from ..plan.forecast import Forecast
from ..plan.model import Cost, Need, Step
from ..record.frozen import Frozen

Status = Literal["done", "run", "blocked", "refused", "skipped"]

STATUSES: tuple[Status, ...] = ("done", "run", "blocked", "refused", "skipped")


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of the plan.

    Attributes:
        needs: as the plan has them, whatever the session makes of them.
        status: what becomes of it; a step that is not selected is ``done`` or ``skipped``.
        reason: of the status, in words.
        wave: number of its wave, from 1; 0 when it does not run.
        waits: what of this session it waits for.
        taken: what it takes while it runs: name of the pool, how much, and of how much.
        lack: what it may have to wait for besides, since a step of its wave takes it first; in words.
        seconds: how long it took when it last passed; None when nobody knows.
        changed: declared inputs that are newer than its pass.
        costs: whether what it is said to cost is spent when it runs.
    """

    step: Step
    needs: tuple[Need, ...]
    status: Status
    reason: str
    selected: bool
    wave: int = 0
    waits: tuple[Step, ...] = ()
    taken: tuple[tuple[str, int, int], ...] = ()
    lack: str = ""
    seconds: float | None = None
    changed: tuple[str, ...] = ()
    costs: bool = False

    @property
    def cost(self) -> Cost | None:
        return self.step.definition.cost if self.step.definition is not None else None


@dataclass(frozen=True, slots=True)
class Wave:
    """Steps of which none waits for another.

    Attributes:
        number: from 1; 0 when there is no step in it but only ends of jobs.
        ends: of jobs: items that wait for what earlier waves have started.
    """

    number: int
    steps: tuple[Step, ...]
    ends: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanView:
    """A session, before it runs.

    Attributes:
        steps: all of the plan, in list order.
        by_id: the same.
        path: the longest chain of work; ends of jobs are left out.
        forecast: None where past durations say nothing, as for verifying.
        unknown: steps that run and whose duration nobody knows.
        workers: how many steps run side by side.
        usd: what the steps that run are expected to cost.
        usd_with: what they would cost besides, by the environment variable that is not set.
    """

    frozen: Frozen
    steps: tuple[PlannedStep, ...]
    by_id: Mapping[str, PlannedStep]
    waves: tuple[Wave, ...]
    path: tuple[Step, ...]
    forecast: Forecast | None
    unknown: tuple[Step, ...]
    workers: int
    usd: float
    usd_with: Mapping[str, float]

    def of(self, *statuses: Status) -> list[PlannedStep]:
        """The selected steps with one of these statuses."""
        return [self.by_id[name] for name in self.selected if self.by_id[name].status in statuses]

    @property
    def selected(self) -> tuple[str, ...]:
        return self.frozen.selection.ids

    @property
    def known_seconds(self) -> float | None:
        """The time to expect; None when no step that runs has a known duration."""
        return self.forecast.seconds if self.forecast and self.forecast.seconds else None


def make(
    frozen: Frozen,
    seconds: Callable[[str], float] = lambda _: 0.0,
    workers: int = 1,
    environ: Mapping[str, str] | None = None,
    changed: Mapping[str, tuple[str, ...]] | None = None,
) -> PlanView:
    """Work out what a session would do.

    Args:
        seconds: how long a step took when it last passed, by id; 0 when nobody knows.
        workers: how many steps run side by side.
        environ: decides which steps cost something.
        changed: declared inputs that are newer than their step's pass, by id.
    """
    verify = frozen.mode == "verify"

    def known(step: Step) -> float | None:
        # A verification takes another time than the work that it looks at.
        return None if verify else seconds(step.ends or step.id) or None

    runs, blocked = _sorted_out(frozen)
    waves = _waves(runs)
    pools = dict(frozen.plan.definitions.pools)
    held = frozen.holders
    expected = None if verify else forecast.simulate(runs, known, workers, pools, held)
    lacks = _lacks(waves, pools, held)
    going = {step.id: step for step in runs}
    wave_of = {step.id: wave.number for wave in waves for step in wave.steps}
    planned: list[PlannedStep] = []
    waits = {
        step.id: waited
        for needs, alike in graph.by_needs(runs)
        for waited in [tuple(going[need.step] for need in needs if need.step in going)]
        for step in alike
    }
    for listed in frozen.plan.steps:
        step = frozen.steps.get(listed.id, listed)
        status, reason = _fate(step, frozen, going, blocked)
        does = status == "run"
        cost = step.definition.cost if step.definition else None
        planned.append(
            PlannedStep(
                step,
                listed.needs,
                status,
                reason,
                selected=step.id in frozen.selected,
                wave=wave_of.get(step.id, 0),
                waits=waits[step.id] if does else (),
                taken=tuple((name, n, pools.get(name, 0)) for name, n in graph.amounts(step).items()),
                lack=lacks.get(step.id, ""),
                seconds=known(step),
                changed=(changed or {}).get(step.id, ()),
                costs=does and not verify and cost is not None and _applies(cost, environ or {}),
            )
        )
    by_id = {one.step.id: one for one in planned}
    usd, usd_with = (0.0, {}) if verify else _costs(by_id)
    return PlanView(
        frozen=frozen,
        steps=tuple(planned),
        by_id=by_id,
        waves=waves,
        path=tuple(step for step in forecast.critical_path(runs, known) if not step.ends),
        forecast=expected,
        unknown=() if verify else tuple(step for step in runs if not step.ends and known(step) is None),
        workers=workers,
        usd=usd,
        usd_with=usd_with,
    )


def _sorted_out(frozen: Frozen) -> tuple[list[Step], dict[str, str]]:
    """Steps that would run, and those behind a step that cannot, with the id of what blocks them."""
    pending = frozen.pending
    runs: list[Step] = []
    blocked: dict[str, str] = {}

    def blocker(step: Step) -> str | None:
        for need in step.needs:
            if need.state == "over":
                continue
            name = frozen.by_id[need.step].ends or need.step
            # A step that is refused fails, and that is an end of it.
            if name in blocked or (name in frozen.refusals and need.state != "ended"):
                return name
        return None

    for step in chain.from_iterable(graph.waves(pending, lambda _: False)):
        if step.id in frozen.refusals:
            continue
        by = blocker(step) if frozen.mode == "run" else None
        if by is None:
            runs.append(step)
        elif not step.ends:
            blocked[step.id] = by
    return runs, blocked


def _waves(runs: list[Step]) -> tuple[Wave, ...]:
    waves: list[Wave] = []
    number = 0
    for found in graph.waves(runs, lambda _: False):
        steps = tuple(step for step in found if not step.ends)
        number += bool(steps)
        waves.append(Wave(number if steps else 0, steps, tuple(step for step in found if step.ends)))
    return tuple(waves)


def _lacks(waves: Collection[Wave], sizes: Mapping[str, int], held: Collection[Step]) -> dict[str, str]:
    """What the steps of each wave may have to wait for, since others of the wave take it first."""
    found: dict[str, str] = {}
    for number, wave in enumerate(waves):
        pools = graph.Pools(sizes)
        for step in held if number == 0 else ():
            pools.take(step)
        for step in wave.steps:
            why = pools.lacks(step)
            if why:
                found[step.id] = why
            else:
                pools.take(step)
    return found


def _fate(
    step: Step, frozen: Frozen, going: Collection[str], blocked: Mapping[str, str]
) -> tuple[Status, str]:
    name = step.id
    standing = frozen.standing[name]
    if name in going:
        return "run", f"{standing.reason}; runs again" if _again(name, frozen) else standing.reason
    if name in frozen.refusals:
        return "refused", frozen.refusals[name].splitlines()[0]
    if name in blocked:
        return "blocked", f"blocked by step_{blocked[name]}"
    done = standing.done and name not in frozen.assumed
    if name in frozen.skips:
        return "done" if done and frozen.mode == "run" else "skipped", frozen.skips[name]
    return ("done", standing.reason) if done else ("skipped", f"not selected; {standing.reason}")


def _again(name: str, frozen: Frozen) -> bool:
    return frozen.mode == "run" and frozen.standing[name].done


def _applies(cost: Cost, environ: Mapping[str, str]) -> bool:
    return cost.when is None or bool(environ.get(cost.when))


def _costs(planned: Mapping[str, PlannedStep]) -> tuple[float, dict[str, float]]:
    usd = 0.0
    usd_with: dict[str, float] = {}
    for step in planned.values():
        if step.status != "run" or step.cost is None:
            continue
        if step.costs:
            usd += step.cost.usd
        elif step.cost.when:
            usd_with[step.cost.when] = usd_with.get(step.cost.when, 0.0) + step.cost.usd
    return usd, usd_with


def place_name(layer: str, track: str) -> str:
    """A track, a layer or both for people: ``Layer 1, track A``."""
    parts = [
        name if name.lower().startswith(kind) else f"{kind} {name}"
        for kind, name in (("layer", layer), ("track", track))
        if name
    ]
    text = ", ".join(parts) or "without a track"
    return text[:1].upper() + text[1:]
