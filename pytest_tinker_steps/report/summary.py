"""The header and the summary of a session."""

from __future__ import annotations

from collections.abc import Mapping

from ..plan import graph
from ..plan.selection import typed
from ..record.controller import Controller
from ..record.frozen import NOT_TICKED, Frozen
from ..record.state import COST
from .lines import MARKS, duration

Line = tuple[str, dict[str, bool]]
PLAIN: dict[str, bool] = {}
COLOURS: Mapping[str, dict[str, bool]] = {
    "passed": {"green": True},
    "failed": {"red": True},
    "warned": {"yellow": True},
    "blocked": {"yellow": True},
    "started": {"cyan": True},
}


def header(frozen: Frozen, short_secrets: tuple[str, ...]) -> list[str]:
    """Lines for the session's header."""
    total = len(frozen.plan.steps)
    done = sum(standing.done for standing in frozen.standing.values())
    selected = len(frozen.selection.ids)
    what = "verifying" if frozen.mode == "verify" else "running"
    lines = [
        f"steps: {frozen.plan.tasklist.path}, {done} of {total} done; {what} {frozen.selection.text} "
        f"({selected} step{'' if selected == 1 else 's'})"
    ]
    if frozen.assumed:
        names = graph.describe([step for step in frozen.plan.steps if step.id in frozen.assumed])
        lines.append(f"steps: assumed done for this run: {names}")
    lines += [f"steps: {warning}" for warning in frozen.plan.warnings]
    lines += [f"steps: step_{name}: {frozen.standing[name].reason}" for name in frozen.jobs]
    if frozen.budget is not None:
        lines.append(f"steps: budget ${frozen.budget:.2f}")
    if short_secrets:
        lines.append(f"steps: values under 8 characters are not hidden in output: {', '.join(short_secrets)}")
    return lines


def of(frozen: Frozen, controller: Controller) -> tuple[str, list[Line]]:
    """Title and lines of the summary: what became of each selected step, and what to type next."""
    by_id = frozen.by_id
    lines: list[Line] = []
    done = [name for name in frozen.selection.ids if controller.tale(name).verdict == "done"]
    if done:
        lines.append((f"- already done: {graph.describe([by_id[name] for name in done])}", PLAIN))
    unticked = [name for name in frozen.selection.ids if frozen.skips.get(name) == NOT_TICKED]
    if unticked:
        lines.append((f"- {NOT_TICKED}: {graph.describe([by_id[name] for name in unticked])}", PLAIN))
    told = {*done, *unticked}
    # A job of an earlier session may have ended in this one, whatever was selected.
    others = [step.ends for step in frozen.ends if step.ends not in frozen.selection.ids]
    names = [*frozen.selection.ids, *(name for name in others if controller.tale(name).verdict)]
    width = max((len(by_id[name].node_name) for name in names), default=0)
    for name in names:
        if name not in told:
            lines += _step(frozen, controller, name, width)
    if not frozen.selection.ids:
        lines.append(("nothing left to do", {"green": True}))
    lines += _costs(frozen, controller)
    lines += [(f"! {problem}", {"yellow": True}) for problem in controller.tick_problems]
    if controller.broken:
        lines.append((f"✗ {controller.broken}; what is not recorded is not ticked", {"red": True}))
    lines += _next(frozen, controller)
    ticked = sum(_is_done(frozen, controller, name) for name in frozen.standing)
    if frozen.mode == "verify":
        held = sum(verdict == "passed" for verdict in controller.verdicts.values())
        checked = sum(verdict in ("passed", "failed") for verdict in controller.verdicts.values())
        return f"{frozen.plan.tasklist.path}: {held} of {checked} ticks hold", lines
    return f"{frozen.plan.tasklist.path}: {ticked} of {len(frozen.plan.steps)} steps done", lines


def _is_done(frozen: Frozen, controller: Controller, name: str) -> bool:
    tale = controller.tales.get(name)
    return tale.verdict == "passed" if tale and tale.task_id else frozen.standing[name].done


def _step(frozen: Frozen, controller: Controller, name: str, width: int) -> list[Line]:
    tale = controller.tale(name)
    begun = tale.task_id or tale.attempt  # no task id while another attempt follows on one whose worker died
    verdict = tale.verdict or ("interrupted" if begun else "not run")
    mark = MARKS.get(verdict, "-" if verdict in ("blocked", "not verified") else "✗" if begun else "-")
    parts = [f"{mark} {frozen.by_id[name].node_name:<{width}}"]
    task_id = tale.job.task_id if tale.job else tale.task_id
    if task_id or not tale.reason.startswith(verdict):
        parts.append(f"{verdict:<8}")
    if task_id:
        where = tale.job.log if tale.job else controller.logs(task_id)
        parts += [f"{duration(tale.seconds):>6}", task_id, where]
    elif tale.reason:
        parts.append(tale.reason)
    lines: list[Line] = [("  ".join(parts).rstrip(), COLOURS.get(verdict, PLAIN))]
    if verdict == "started" and tale.job:
        from ..record.job_ends import standing  # only sessions with jobs pay for it

        watch = f"watch it: {frozen.command} --steps-follow"
        lines.append((f"    {standing(tale.job)}; {watch}", PLAIN))
        if frozen.strict:
            lines.append(("    counts as a failure: the session is strict", {"red": True}))
    if tale.task_id and verdict in ("failed", "warned", "skipped") and tale.reason:
        lines.append((f"    {tale.reason}", PLAIN))
    if tale.notes and verdict == "passed":
        lines.append((f"    {'; '.join(tale.notes)}", PLAIN))
    lines += [(f"    unverified: {text}", {"yellow": True}) for text in tale.unverified]
    lines += [(f"    {text}", {"yellow": True}) for text in tale.warnings]
    return lines


def _costs(frozen: Frozen, controller: Controller) -> list[Line]:
    if controller.cost is None:
        return []
    costs = {name: t.metrics[COST] for name, t in controller.tales.items() if COST in t.metrics}
    each = ", ".join(f"step_{name} ${cost:.2f}" for name, cost in costs.items())
    limit = "" if frozen.budget is None else f" of ${frozen.budget:.2f}"
    return [(f"cost: ${controller.cost:.2f}{limit}" + (f" ({each})" if len(costs) > 1 else ""), PLAIN)]


def _next(frozen: Frozen, controller: Controller) -> list[Line]:
    if frozen.mode == "verify":
        failed = [n for n, verdict in controller.verdicts.items() if verdict == "failed"]
        if not failed:
            return []
        steps = typed([step for step in frozen.plan.steps if step.id in failed], frozen.plan)
        return [(f"next: {frozen.command} --steps {steps} --steps-rerun", PLAIN)]
    open_steps = [
        step
        for step in frozen.plan.steps
        if not _is_done(frozen, controller, step.id) and not step.box.optional
    ]
    if not open_steps:
        return [("all steps are done", {"green": True})]
    return [(f"next: {frozen.command} --steps continue", PLAIN)]
