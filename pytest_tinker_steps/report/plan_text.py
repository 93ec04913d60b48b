"""A plan as text: waves, the reason of each step to run or not, and what to expect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

from ..plan import graph
from ..plan.model import DEFAULT_CHECK_TIMEOUT, Main, Step
from .lines import duration
from .plan_view import PlannedStep, PlanView, Wave, place_name

LONGEST_PATH = 12
"""Steps of the critical path that are shown; of a longer one, its beginning and its end."""

NOWHERE = ("", "")
"""The place of a step that is in no layer and no track."""


def of(view: PlanView) -> list[str]:
    """The plan of a session, line by line."""
    frozen = view.frozen
    done = sum(standing.done for standing in frozen.standing.values())
    lines = [
        f"Plan of {frozen.plan.tasklist.path}: {_count(frozen.plan.steps)}, {done} done; "
        f"selected: {frozen.selection.text}",
        "",
    ]
    if not view.selected and frozen.selection.remaining:
        lines += ["nothing left to do", ""]
    stretches = _stretches(view)
    for wave in view.waves:
        lines += [*_wave(wave, view, stretches), ""]
    refused = view.of("refused")
    if refused:
        lines += ["Cannot run:", *_refused([one.step for one in refused], view), ""]
    blocked = view.of("blocked")
    if blocked:
        lines += ["Would be blocked:", *map(_not_run, blocked), ""]
    skipped = view.of("done", "skipped")
    if skipped:
        lines += ["Does not run:", *map(_not_run, skipped), ""]
    lines += [f"warning: {warning}" for warning in frozen.plan.warnings]
    lines += _expected(view)
    lines.append(
        f"Total: {_count(view.selected, 'task')}; {len(view.of('run'))} to run, "
        f"{len(skipped)} done or skipped, {len(refused) + len(blocked)} that cannot run"
    )
    return lines


# -- what runs


def _wave(wave: Wave, view: PlanView, stretches: dict[int, list[str]]) -> Iterator[str]:
    if not wave.number:
        yield "Waiting for jobs:"
    elif wave.number == 1:
        yield "Ready to execute (wave 1):"
    else:
        yield f"Waiting on dependencies (wave {wave.number}):"
    yield from stretches.get(wave.number, ())
    waits: Sequence[Step] = ()
    after = ""
    for step in wave.steps:
        one = view.by_id[step.id]
        if one.waits is not waits:  # a whole layer waits for the same
            waits, after = one.waits, f"; waits for {named(one.waits)}" if one.waits else ""
        yield from _step(one, after)
    for end in wave.ends:
        yield f"  {end.node_name}  the end of its job, then its post-validations"


def _stretches(view: PlanView) -> dict[int, list[str]]:
    """By wave, a line for each track with what goes on from there without waiting for other tracks.

    A step belongs to the wave of the step of its own track that it follows, unless it waits for others too.
    """
    running = sorted((one for one in view.steps if one.status == "run"), key=lambda one: one.wave)
    begins: dict[str, int] = {}
    found: dict[int, dict[tuple[str, str], list[Step]]] = {}
    for one in running:
        place = _place(one.step)
        same = [other for other in one.waits if _place(other) == place and not other.ends]
        follows = place != NOWHERE and same and len(same) == len(one.waits)
        begins[one.step.id] = max(begins[other.id] for other in same) if follows else one.wave
        found.setdefault(begins[one.step.id], {}).setdefault(place, []).append(one.step)
    return {
        number: [_stretch(place, steps) for place, steps in places.items()]
        for number, places in found.items()
        if places.keys() != {NOWHERE}
    }


def _stretch(place: tuple[str, str], steps: Sequence[Step]) -> str:
    in_order = sorted(steps, key=lambda step: step.index)
    return f"  {place_name(*place)}: {named(in_order)} ({_count(steps, 'task')})"


def _place(step: Step) -> tuple[str, str]:
    return step.layer, step.track


def named(steps: Sequence[Step]) -> str:
    """Steps for people, neighbours of the list as ranges: ``step_2, step_4-6``."""
    runs = graph.neighbours([step for step in steps if not step.ends])
    names = ["-".join(dict.fromkeys([run[0].id, run[-1].id])) for run in runs]
    return ", ".join(f"step_{name}" for name in [*names, *(step.id for step in steps if step.ends)])


def _step(one: PlannedStep, after: str) -> list[str]:
    return [
        f"  {one.step.node_name}  {one.step.title}  ({one.reason}{after}{_changed(one)})",
        *_takes(one),
        *_cost(one),
        *_details(one.step),
    ]


def _takes(one: PlannedStep) -> Iterator[str]:
    step = one.step
    parts = ["runs alone"] if graph.is_exclusive(step) else []
    parts += [f"takes {name} {amount} of {size}" for name, amount, size in one.taken]
    if one.lack:
        parts.append(f"may have to wait: {one.lack}")
    if parts:
        yield f"      {'; '.join(parts)}"


def _cost(one: PlannedStep) -> Iterator[str]:
    if one.costs and one.cost is not None:
        assuming = f" (assuming {one.cost.assuming})" if one.cost.assuming else ""
        yield f"      cost: about {_usd(one.cost.usd)}{assuming}"


def _changed(one: PlannedStep) -> str:
    return f"; inputs changed since: {', '.join(one.changed)}" if one.changed else ""


def _details(step: Step) -> list[str]:
    """What the definition leaves to a default, to an agent, or to the main's own word."""
    definition = step.definition
    if definition is None:
        return []
    lines: list[str] = []
    checks = definition.pre_flight + definition.post_validation
    for check in checks:
        if check.kind == "prose":
            lines.append(f"      {check.name}: not run: no agent ({check.prose})")
    defaulted = [check.name for check in checks if not check.timeout_given and check.kind != "prose"]
    if defaulted:
        limit = duration(DEFAULT_CHECK_TIMEOUT)
        lines.append(f"      no timeout given, so {limit} each: {', '.join(defaulted)}")
    if definition.main.runner is not None:
        lines.append(f"      main: handed to {definition.main.runner.name}")
    lines += _deadlines(definition.main)
    unverified = [item.text for item in definition.main.criteria if item.check is None]
    if unverified:
        lines.append(f"      unverified unless the main reports it: {'; '.join(unverified)}")
    if definition.background:
        names = ", ".join(monitor.name for monitor in definition.background)
        lines.append(f"      monitors: {names}")
    if definition.budget_usd is not None:
        lines.append(f"      budget: {_usd(definition.budget_usd)}")
    return lines


def _deadlines(main: Main) -> list[str]:
    what = {"background": "start of its job", "chunked": "each piece", "stream": "each batch"}.get(main.mode)
    lines = []
    if not main.timeout_given:
        lines.append(f"      {what or 'main'}: no timeout given, so {duration(main.timeout)}")
    if what:
        sizes = f" in {len(main.chunks)} chunks" if main.chunks else ""
        lines.append(f"      {main.mode}{sizes}: ends after {duration(main.max_runtime)} at the latest")
    return lines


# -- what does not


def _not_run(one: PlannedStep) -> str:
    return f"  - {one.step.node_name}  {one.step.title}  ({one.reason}{_changed(one)})"


def _refused(steps: list[Step], view: PlanView) -> list[str]:
    refusals = view.frozen.refusals
    lines: list[str] = []
    undefined = [step for step in steps if step.definition is None]
    for step in steps:
        first, *rest = refusals[step.id].splitlines()
        if step in undefined[1:] and rest:
            continue  # one example is enough
        lines += [f"  ✗ {first}", *(f"    {line}" for line in rest), *_details(step)]
    others = [step for step in undefined[1:] if "\n" in refusals[step.id]]
    if others:
        lines.append(f"  ✗ no definition either: {graph.describe(others)}")
    return lines


# -- what to expect


def _expected(view: PlanView) -> Iterator[str]:
    yield from _estimate(view)
    if len(view.path) > 1:
        names = [step.node_name for step in view.path]
        if len(names) > LONGEST_PATH:
            names = [*names[: LONGEST_PATH - 2], "...", names[-1]]
        yield f"Critical path: {' -> '.join(names)}{_path_time(view)}"
    if view.forecast is None or not view.of("run"):
        return
    unknown = f"{_count(view.unknown)} without a known duration" if view.unknown else ""
    if view.known_seconds is None:
        yield from [f"Expected: {unknown}"] if unknown else []
        return
    workers = f" with {view.workers} workers" if view.workers > 1 else ""
    yield f"Expected: about {about(view.known_seconds)}{workers}{f', and {unknown}' if unknown else ''}"


def _path_time(view: PlanView) -> str:
    known = [one.seconds for step in view.path if (one := view.by_id[step.id]).seconds is not None]
    steps = f"{len(view.path)} steps" if len(view.path) > LONGEST_PATH else ""
    time = f"about {about(sum(s for s in known if s))}" if known else ""
    more = f"{len(view.path) - len(known)} of unknown duration" if 0 < len(known) < len(view.path) else ""
    said = ", ".join(filter(None, (steps, time, more)))
    return f" ({said})" if said else ""


def about(seconds: float) -> str:
    """A time to expect, no more exact than it is known: ``45s``, ``12m``, ``2h15m``."""
    if seconds < 60:
        return f"{max(1, round(seconds))}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def _estimate(view: PlanView) -> Iterator[str]:
    budget = view.frozen.budget
    word = " more" if view.usd else ""
    more = [f"{_usd(usd)}{word} where {name} is set" for name, usd in view.usd_with.items()]
    if view.usd:
        text = f"{_usd(view.usd)} of what runs" + "".join(f"; about {one}" for one in more)
    elif more:
        text = "nothing here" + "".join(f"; about {one}" for one in more)
    elif budget is None:
        return
    else:
        text = "not said by what runs"
    if budget is not None:
        text += f"; budget {_usd(budget)}"
        if view.usd > budget:
            text += ", not enough for all of it"
    yield f"Estimated cost: {text}"


def _usd(number: float) -> str:
    return f"${number:.2f}"


def _count(counted: Sized, noun: str = "step") -> str:
    return f"1 {noun}" if len(counted) == 1 else f"{len(counted)} {noun}s"
