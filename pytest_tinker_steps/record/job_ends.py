"""The ends of background jobs in a session: items of their own, since a job outlives the item that starts it.

Step 13 ends as ``started`` once its job is ready. ``13@ended``, the word that ``needs`` has for it, is the
item that waits for the job, runs the post-validations, and gives the step its last verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from ..plan.model import Need, Plan, Step
from . import job_pools
from .jobs import PASSED, STARTING, UNSUPERVISED, Job
from .state import Records

OVER = ("failed", "warned", "cut off", "interrupted")
"""Verdicts of the journal with which a step has ended, though it did not pass."""


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """Jobs of attempts that have no last verdict yet, by the id of their step.

    Attributes:
        open: they run, or have ended well and wait for their post-validations.
        fallen: they have failed, or are lost, since a session last looked.
    """

    open: Mapping[str, Job]
    fallen: Mapping[str, Job]

    def standing(self, name: str) -> str:
        """How the step of an open job stands, for people."""
        return standing(self.open[name])


def sort_out(jobs: Iterable[Job], records: Records) -> OpenJobs:
    """Which jobs are still to be settled, by what the journal says of their attempts."""
    current: dict[str, Job] = {}
    fallen: dict[str, Job] = {}
    for job in jobs:
        state = records.of(job.step)
        if state.task_id != job.task_id or state.verdict not in ("started", "cut off"):
            continue
        (current if job.live or job.state == PASSED else fallen)[job.step] = job
    return OpenJobs(current, fallen)


def standing(job: Job) -> str:
    """How the step of an open job stands, for people."""
    if job.state == PASSED:
        return "its job has ended well and is not validated yet"
    if job.state == UNSUPERVISED:
        return f"its job is running without its supervisor (pid {job.pid})"
    word = "starting" if job.state == STARTING else "running"
    return f"its job is {word} (pid {job.pid})"


def end_of(name: str) -> str:
    """Id of the item that is the end of a step's job."""
    return f"{name}@ended"


def arrange(
    plan: Plan,
    chosen: Collection[str],
    jobs: Mapping[str, Job],
    records: Records,
    satisfied: Callable[[str], bool],
) -> dict[str, Step]:
    """Work out which jobs' ends belong to a session, and who waits for them.

    Args:
        chosen: ids of the selected steps.
        jobs: open jobs of earlier sessions.
        satisfied: whether a step is done, or counts as done.

    Returns:
        by id, the chosen steps whose needs differ from the plan's, and the ends.
    """
    by_id = {step.id: step for step in plan.steps}
    todo = [by_id[name] for name in chosen if not satisfied(name)]
    holders = [by_id[name] for name, job in jobs.items() if job.live and name in by_id]
    coming = [step for step in todo if _is_background(step)]
    apart = job_pools.waits(todo, holders, dict(plan.definitions.pools)) if coming or holders else {}
    behind = {name: tuple(Need(other, "over") for other in others) for name, others in apart.items()}
    pending = [
        replace(step, needs=step.needs + behind[step.id]) if step.id in behind else step for step in todo
    ]
    wanted: dict[str, list[Step]] = {}
    for step in pending:
        for need in step.needs:
            if need.state != "started":
                wanted.setdefault(need.step, []).append(step)
    ends: dict[str, Step] = {}
    for name in dict.fromkeys([*jobs, *(step.id for step in coming)]):
        job = jobs.get(name)
        if name not in by_id or (name not in chosen and name not in wanted and job and job.state != PASSED):
            continue
        ends[name] = _end(by_id[name], job, wanted.get(name, ()), name in chosen, len(plan.steps))
    changed: dict[str, Step] = {}
    for step in pending:
        needs = tuple(
            found
            for need in step.needs
            if (found := _resolved(need, ends, chosen, jobs, records)) is not None
        )
        if needs != by_id[step.id].needs:
            changed[step.id] = replace(step, needs=needs)
    return changed | {end.id: end for end in ends.values()}


def _end(step: Step, job: Job | None, wanted: Iterable[Step], chosen: bool, last: int) -> Step:
    """Its place is before the first that waits for it; otherwise, while the job may run, behind all steps."""
    if job is not None and job.state == PASSED:
        place = step.index
    else:
        place = max(step.index, min((other.index for other in wanted), default=last))
    needs = (Need(step.id, "started"),) if chosen else ()
    return Step(end_of(step.id), place, step.box, step.definition, needs, ends=step.id)


def _resolved(
    need: Need, ends: Mapping[str, Step], chosen: Collection[str], jobs: Mapping[str, Job], records: Records
) -> Need | None:
    """What a need comes to in this session; None when it holds already."""
    if need.state == "started":
        return None if need.step in jobs and need.step not in chosen else need
    if need.step in ends:
        return replace(need, step=end_of(need.step))
    if need.state == "over" and need.step not in chosen:
        return None
    if need.state == "ended" and need.step not in chosen and records.of(need.step).verdict in OVER:
        return None
    return need


def _is_background(step: Step) -> bool:
    return step.definition is not None and step.definition.main.mode == "background"
