"""One session over a plan, decided before it runs and frozen: what is selected, and what becomes of it.

The controller makes it once; workers get it as it is and parse nothing again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..plan import graph
from ..plan.model import Plan, PlanError, Step
from ..plan.selection import Selection, named, of_parts, select, typed
from ..plan.values import value
from . import state
from .state import Done, Records

if TYPE_CHECKING:
    from .job_ends import OpenJobs
    from .jobs import Job

Mode = Literal["run", "verify"]

NOT_TICKED = "not verified, since not ticked"
"""Why ``verify`` passes a step over that claims nothing."""


@dataclass(frozen=True)
class Frozen:
    """Attributes:
    plan: the whole plan.
    selection: what was asked for.
    run_id: of this session.
    mode: ``verify`` runs outputs and post-validations of ticked steps only.
    skips: selected ids that do not run, with the reason.
    refusals: selected ids that cannot start, with the error's text.
    standing: of every step, whether it is done and why.
    identities: of every step that has one.
    open_since: ids of steps with unfinished attempts, and when the first began (ns).
    spent: US dollars that unfinished attempts of earlier sessions have cost, by step.
    task_ids: of the first attempt of each selected step.
    jobs: open background jobs of earlier sessions, by step.
    fallen: jobs that have failed, or are lost, since a session last looked, by step.
    steps: selected steps whose needs this session has changed, and the ends of jobs (``13@ended``), by id.
    waiting: ends that the session waits for; the others are only looked at.
    assumed: ids taken as done for this run.
    folder: of the list.
    nodeid: of the list in this session.
    journal_name: as people type it.
    command: what to type for a session on this list, without its options.
    dry: nothing is run, recorded or ticked (``--collect-only``, ``--setup-plan``, ``--setup-only``).
    live: whether main's output is shown as it comes.
    strict: whether warned steps, and jobs that go on, count as failures.
    rerun: whether steps that are done run again.
    budget: US dollars for the session; None for no limit.
    untick: whether a tick that does not hold is taken back (``verify``).
    """

    plan: Plan
    selection: Selection
    run_id: str
    mode: Mode
    skips: dict[str, str]
    refusals: dict[str, str]
    standing: dict[str, Done]
    identities: dict[str, tuple[str, ...]]
    open_since: dict[str, int]
    task_ids: dict[str, str]
    assumed: frozenset[str]
    folder: Path
    path: Path
    nodeid: str
    journal_name: str
    command: str = "pytest"
    checks_parallel: int = 3
    secrets: tuple[str, ...] = ()
    dry: bool = False
    live: bool = False
    strict: bool = False
    untick: bool = False
    args: tuple[str, ...] | None = None
    spent: Mapping[str, float] = field(default_factory=dict)
    jobs: Mapping[str, Job] = field(default_factory=dict)
    fallen: Mapping[str, Job] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    rerun: bool = False
    budget: float | None = None

    @cached_property
    def by_id(self) -> dict[str, Step]:
        return {step.id: step for step in self.plan.steps} | dict(self.steps)

    @cached_property
    def ends(self) -> tuple[Step, ...]:
        """The ends of jobs that belong to this session."""
        return tuple(step for step in self.steps.values() if step.ends)

    @cached_property
    def selected(self) -> frozenset[str]:
        """Ids of the steps, and of the ends of jobs, that have items."""
        return frozenset(self.selection.ids).union(step.id for step in self.ends)

    @cached_property
    def holders(self) -> tuple[Step, ...]:
        """Steps whose jobs of earlier sessions run now, and keep what they have taken of the pools."""
        return tuple(self.by_id[name] for name, job in self.jobs.items() if job.live and name in self.by_id)

    @cached_property
    def pending(self) -> tuple[Step, ...]:
        """Selected steps that are not passed over, and the ends of jobs that the session waits for."""
        steps = [self.by_id[name] for name in self.selection.ids if name not in self.skips]
        return (*steps, *(step for step in self.ends if step.id in self.waiting))

    def nodeid_of(self, step: Step) -> str:
        """What pytest calls the item of a step."""
        return f"{self.nodeid}::{step.node_name}"

    def satisfied(self, name: str) -> bool:
        """Whether a need on this step holds without running it in this session."""
        return name in self.assumed or (name in self.standing and self.standing[name].done)

    def blocker(self, step: Step, verdicts: Mapping[str, str], started: Collection[str] = ()) -> str | None:
        """What keeps a step whose turn has come from running: ``step_4 (failed)``, or None.

        Args:
            verdicts: of the steps that are settled.
            started: ids of those whose jobs have become ready, whatever came of them.
        """
        reached = {
            name: "passed" if verdict == "done" else verdict
            for name in (need.step for need in step.needs)
            if (verdict := verdicts.get(name))
        }
        waited = frozenset(
            need.step
            for need in step.needs
            if need.step in self.selected and (need.step in reached or not self.satisfied(need.step))
        )
        found = graph.blocked_by(step, reached, waited, started)
        # The end of a job is the last word on its step, and people know the step.
        return found.replace("@ended (", " (") if found else None

    def lenient(self, step: Step) -> bool:
        """Whether a failure of a step is only a warning."""
        return not self.strict and step.definition is not None and step.definition.on_failure == "warn"

    def step_of(self, nodeid: str) -> Step | None:
        """The step that a node id names, if it is one of this list."""
        prefix = f"{self.nodeid}::step_"
        return self.by_id.get(nodeid[len(prefix) :]) if nodeid.startswith(prefix) else None

    def dump(self) -> str:
        """As one string of plain characters: workers only take exact builtin types."""
        import pickle  # only for workers

        return base64.b64encode(pickle.dumps(self, pickle.HIGHEST_PROTOCOL)).decode("ascii")

    @staticmethod
    def load(text: str) -> Frozen:
        import pickle

        frozen = pickle.loads(base64.b64decode(text))
        assert isinstance(frozen, Frozen)
        return frozen


@value
class Wishes:
    """What the options ask for.

    Attributes:
        only: ids given as node ids, in place of ``steps``.
        tracks, layers: names with commas between them; None for all.
        matches: whether a step is in what ``-m`` asks for; None when that says nothing of steps.
        wait: whether the session waits for all jobs at its end.
        command: what to type for a session on this list, without its options.
    """

    steps: str = "all"
    only: tuple[str, ...] | None = None
    verify: bool = False
    rerun: bool = False
    assume: str | None = None
    wait: bool = False
    command: str = "pytest"
    tracks: str | None = None
    layers: str | None = None
    matches: Callable[[Step], bool] | None = None


@value
class Decisions:
    """What the wishes come to for the state that the plan is in; the names are those of ``Frozen``."""

    selection: Selection
    standing: dict[str, Done]
    identities: dict[str, tuple[str, ...]]
    skips: dict[str, str]
    refusals: dict[str, str]
    assumed: frozenset[str]
    steps: dict[str, Step]
    waiting: frozenset[str]


def decide(
    plan: Plan,
    wishes: Wishes,
    records: Records,
    environ: Mapping[str, str],
    assumable: Callable[[Step], str],
    jobs: OpenJobs | None = None,
) -> Decisions:
    """Turn wishes into a selection with a reason for each step to run, to be skipped, or to be refused.

    Args:
        assumable: why a step cannot be taken as done, or an empty string.
        jobs: open background jobs; None when there are none.

    Raises:
        PlanError: the selection, or what is to be assumed, does not hold.
    """
    by_id = {step.id: step for step in plan.steps}
    identities: dict[str, tuple[str, ...]] = {}
    standing: dict[str, Done] = {}
    for step in plan.steps:
        values = state.identity(step.definition.identity, environ) if step.definition else ()
        identities[step.id] = values
        now = state.done(step.box, records.of(step.id), values)
        if step.id in standing and not now.done:
            standing[step.id] = now  # ids that repeat: not done while any of them is not
        else:
            standing.setdefault(step.id, now)
    running = {} if jobs is None else {name: jobs.standing(name) for name in jobs.open if name in standing}
    standing |= {name: Done(False, reason) for name, reason in running.items()}
    assumed = _assumed(plan, wishes, by_id, assumable)

    def satisfied(name: str) -> bool:
        return name in assumed or standing[name].done

    only = wishes.only
    selection = select(wishes.steps, plan, satisfied) if only is None else named(only, plan)
    if wishes.tracks is not None or wishes.layers is not None:
        selection = of_parts(selection, plan, wishes.tracks, wishes.layers)
    if wishes.matches is not None:
        ids = tuple(name for name in selection.ids if wishes.matches(by_id[name]))
        if selection.ids and not ids:
            raise PlanError(f"-m: none of {selection.text} is in the part that it asks for")
        selection = replace(selection, ids=ids)
    skips: dict[str, str] = {}
    refusals: dict[str, str] = {}
    chosen = set(selection.ids)
    changed: dict[str, Step] = {}
    if not wishes.verify and (jobs is not None or any(map(_ends_later, plan.steps))):
        from . import job_ends  # sessions without jobs do not pay for it

        changed = job_ends.arrange(
            plan,
            selection.ids,
            jobs.open if jobs else {},
            records,
            lambda name: name in assumed or (standing[name].done and not wishes.rerun),
        )
        by_id |= changed
        chosen |= {step.id for step in changed.values() if step.ends}
    for name in selection.ids:
        step = by_id[name]
        if wishes.verify:
            if not step.box.done:
                skips[name] = NOT_TICKED
            elif not standing[name].done and "done on" in standing[name].reason:
                skips[name] = f"not verified: {standing[name].reason}"
            elif step.definition is None:
                refusals[name] = no_definition(step, plan)
            continue
        if name in assumed:
            skips[name] = "assumed done for this run"
        elif standing[name].done and not wishes.rerun:
            skips[name] = standing[name].reason
        elif name in running and not wishes.rerun:
            skips[name] = running[name]
        elif name in running and jobs and jobs.open[name].live:
            refusals[name] = (
                f"step_{name}: {running[name]}; end it first: {wishes.command} --steps-stop {name}"
            )
        else:
            refusal = _refusal(step, plan, by_id, chosen, satisfied, wishes.command)
            if refusal:
                refusals[name] = refusal
    going = [by_id[name] for name in selection.ids if name not in skips and name not in refusals]
    needed = {need.step for step in going for need in step.needs}
    waiting = frozenset(
        step.id
        for step in changed.values()
        if step.ends and step.ends not in refusals and (wishes.wait or step.id in needed)
    )
    return Decisions(selection, standing, identities, skips, refusals, frozenset(assumed), changed, waiting)


def _ends_later(step: Step) -> bool:
    """Whether the step is a background one, or is content with the end of another, however that came."""
    background = step.definition is not None and step.definition.main.mode == "background"
    return background or any(need.state == "ended" for need in step.needs)


def _assumed(
    plan: Plan, wishes: Wishes, by_id: Mapping[str, Step], assumable: Callable[[Step], str]
) -> set[str]:
    if wishes.assume is None:
        return set()
    ids = select(wishes.assume, plan, lambda _: False, "--steps-assume").ids
    problems = []
    for name in ids:
        why = assumable(by_id[name])
        if why:
            problems.append(
                f"--steps-assume {wishes.assume}: step {name} cannot be taken as done: output {why}"
            )
    if problems:
        raise PlanError(*problems)
    return set(ids)


def _refusal(
    step: Step,
    plan: Plan,
    by_id: Mapping[str, Step],
    selected: Collection[str],
    satisfied: Callable[[str], bool],
    command: str,
) -> str:
    missing = graph.missing_needs(step, by_id, selected, satisfied)
    if missing:
        direct = [need.step for need in step.needs if need.step in missing]
        if not direct:  # one of its selected needs is refused for this; it will be blocked
            return ""
        names = " and ".join(f"step_{name}" for name in direct)
        wanted = typed([by_id[name] for name in missing], plan)
        both = typed(sorted((by_id[name] for name in (*missing, step.id)), key=lambda s: s.index), plan)
        return (
            f"step_{step.id} needs {names}, neither done nor selected; "
            f"run: {command} --steps {both} (or add --steps-assume {wanted})"
        )
    if step.definition is None:
        return no_definition(step, plan)
    return unrunnable(step)


def no_definition(step: Step, plan: Plan) -> str:
    """What to write, and where, for a step that has only a box."""
    words = "".join(c if c.isalnum() else " " for c in step.title.lower()).split()
    slug = "_".join(words[:3]) or "work"
    key = f"step_{step.id}_{slug}" if "/" not in step.id else f'"step_{step.id}"'
    return (
        f"step_{step.id} ({plan.tasklist.path}:{step.box.line}) has no definition; "
        f"write into {plan.definitions.path} what it does\n"
        f"  {key}:\n"
        f"    main:\n"
        f"      command: <what it runs>\n"
        f"    outputs: [<what it leaves>]"
    )


def unrunnable(step: Step) -> str:
    """Why a definition gives nothing that can be run, or an empty string."""
    definition = step.definition
    assert definition is not None
    main = definition.main
    if main.kind == "none":
        agent = " (no agent is set up that could do it)" if main.agent or main.objective else ""
        return (
            f"{definition.where}: step_{step.id}: its main has nothing to run{agent}; "
            "write command:, script: or python: below main:"
        )
    return ""
