"""A plan as text: waves, and the reason of each step to run or not."""

from __future__ import annotations

from ..plan import graph
from ..plan.model import DEFAULT_CHECK_TIMEOUT, Main, Step
from ..record.frozen import Frozen
from .lines import duration


def of(frozen: Frozen) -> list[str]:
    """The plan of a session, line by line."""
    by_id = frozen.by_id
    done = sum(standing.done for standing in frozen.standing.values())
    lines = [
        f"Plan of {frozen.plan.tasklist.path}: {len(frozen.plan.steps)} steps, {done} done; "
        f"selected: {frozen.selection.text}",
        "",
    ]
    runs, blocked = _sorted_out(frozen)
    for number, wave in enumerate(graph.waves(runs, frozen.satisfied), start=1):
        lines.append("Ready to execute:" if number == 1 else f"Wave {number}, waiting on dependencies:")
        for step in wave:
            lines += _step(step, frozen, number)
        lines.append("")
    refused = [by_id[name] for name in frozen.selection.ids if name in frozen.refusals]
    if refused:
        lines += ["Cannot run:", *_refused(refused, frozen), ""]
    if blocked:
        lines.append("Would be blocked:")
        lines += [f"  - {step.node_name}  {step.title}  (by step_{by})" for step, by in blocked]
        lines.append("")
    skipped = [by_id[name] for name in frozen.selection.ids if name in frozen.skips]
    if skipped:
        lines.append("Does not run:")
        lines += [f"  - {step.node_name}  {step.title}  ({frozen.skips[step.id]})" for step in skipped]
        lines.append("")
    lines += [f"warning: {warning}" for warning in frozen.plan.warnings]
    to_run = sum(not step.ends for step in runs)
    lines.append(
        f"Total: {len(frozen.selection.ids)} tasks; {to_run} to run, {len(skipped)} done or skipped, "
        f"{len(refused) + len(blocked)} that cannot run"
    )
    return lines


def _sorted_out(frozen: Frozen) -> tuple[list[Step], list[tuple[Step, str]]]:
    """Steps that would run, and those behind a step that cannot, with the id of what blocks them."""
    pending = [frozen.by_id[name] for name in frozen.selection.ids if name not in frozen.skips]
    pending += [step for step in frozen.ends if step.id in frozen.waiting]
    stopped = set(frozen.refusals)
    runs: list[Step] = []
    blocked: list[tuple[Step, str]] = []
    for wave in graph.waves(pending, frozen.satisfied):
        for step in wave:
            by = next((need.step for need in step.needs if need.step in stopped), None)
            if step.id in frozen.refusals:
                continue
            if step.ends in stopped:
                stopped.add(step.id)
            elif by is None:
                runs.append(step)
            else:
                stopped.add(step.id)
                blocked.append((step, by))
    return runs, blocked


def _refused(steps: list[Step], frozen: Frozen) -> list[str]:
    lines: list[str] = []
    undefined = [step for step in steps if step.definition is None]
    for step in steps:
        first, *rest = frozen.refusals[step.id].splitlines()
        if step in undefined[1:] and rest:
            continue  # one example is enough
        lines += [f"  ✗ {first}", *(f"    {line}" for line in rest), *_details(step)]
    others = [step for step in undefined[1:] if "\n" in frozen.refusals[step.id]]
    if others:
        lines.append(f"  ✗ no definition either: {graph.describe(others)}")
    return lines


def _step(step: Step, frozen: Frozen, wave: int) -> list[str]:
    waits = [need.step for need in step.needs if need.step in frozen.selected]
    waits = [name for name in waits if not frozen.satisfied(name)]
    after = f"; waits for {', '.join(f'step_{name}' for name in waits)}" if wave > 1 and waits else ""
    if step.ends:
        return [f"  {step.node_name}  the end of its job, then its post-validations"]
    return [f"  step_{step.id}  {step.title}  ({frozen.standing[step.id].reason}{after})", *_details(step)]


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
    lines += _deadlines(definition.main)
    unverified = [item.text for item in definition.main.criteria if item.check is None]
    if unverified:
        lines.append(f"      unverified unless the main reports it: {'; '.join(unverified)}")
    if definition.background:
        names = ", ".join(monitor.name for monitor in definition.background)
        lines.append(f"      monitors: {names}")
    if definition.budget_usd is not None:
        lines.append(f"      budget: ${definition.budget_usd:.2f}")
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
