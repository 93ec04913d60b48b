"""One session over a plan, decided before it runs and frozen: what is selected, and what becomes of it.

The controller makes it once; workers get it as it is and parse nothing again.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from ..plan import graph
from ..plan.model import Plan, PlanError, Step
from ..plan.selection import Selection, named, select, typed
from . import state
from .state import Done, Records

Mode = Literal["run", "verify"]

NOT_TICKED = "not verified, since not ticked"
"""Why ``verify`` passes a step over that claims nothing."""

STATE = ".steps"
"""Folder beside the task list: the lock, and the logs of every attempt."""


def logs_of(task_id: str) -> str:
    """Folder of an attempt's logs, relative to that of the task list."""
    return f"{STATE}/logs/{task_id}"


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
    task_ids: of the first attempt of each selected step.
    assumed: ids taken as done for this run.
    folder: of the list.
    nodeid: of the list in this session.
    journal_name: as people type it.
    command: what to type for a session on this list, without its options.
    dry: nothing is run, recorded or ticked (``--collect-only``, ``--setup-plan``, ``--setup-only``).
    live: whether main's output is shown as it comes.
    strict: whether warned steps count as failures.
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

    @cached_property
    def by_id(self) -> dict[str, Step]:
        return {step.id: step for step in self.plan.steps}

    @cached_property
    def selected(self) -> frozenset[str]:
        return frozenset(self.selection.ids)

    def satisfied(self, name: str) -> bool:
        """Whether a need on this step holds without running it in this session."""
        return name in self.assumed or self.standing[name].done

    def step_of(self, nodeid: str) -> Step | None:
        """The step that a node id names, if it is one of this list."""
        prefix = f"{self.nodeid}::step_"
        return self.by_id.get(nodeid[len(prefix) :]) if nodeid.startswith(prefix) else None

    def dump(self) -> str:
        """As one string of plain characters: workers only take exact builtin types."""
        return base64.b64encode(pickle.dumps(self, pickle.HIGHEST_PROTOCOL)).decode("ascii")

    @staticmethod
    def load(text: str) -> Frozen:
        frozen = pickle.loads(base64.b64decode(text))
        assert isinstance(frozen, Frozen)
        return frozen


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options ask for.

    Attributes:
        only: ids given as node ids, in place of ``steps``.
        command: what to type for a session on this list, without its options.
    """

    steps: str = "all"
    only: tuple[str, ...] | None = None
    verify: bool = False
    rerun: bool = False
    assume: str | None = None
    command: str = "pytest"


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the wishes come to for the state that the plan is in."""

    selection: Selection
    standing: dict[str, Done]
    identities: dict[str, tuple[str, ...]]
    skips: dict[str, str]
    refusals: dict[str, str]
    assumed: frozenset[str]


def decide(
    plan: Plan,
    wishes: Wishes,
    records: Records,
    environ: Mapping[str, str],
    assumable: Callable[[Step], str],
) -> Decisions:
    """Turn wishes into a selection with a reason for each step to run, to be skipped, or to be refused.

    Args:
        assumable: why a step cannot be taken as done, or an empty string.

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
    assumed = _assumed(plan, wishes, by_id, assumable)

    def satisfied(name: str) -> bool:
        return name in assumed or standing[name].done

    only = wishes.only
    selection = select(wishes.steps, plan, satisfied) if only is None else named(only, plan)
    skips: dict[str, str] = {}
    refusals: dict[str, str] = {}
    chosen = set(selection.ids)
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
        else:
            refusal = _refusal(step, plan, by_id, chosen, satisfied, wishes.command)
            if refusal:
                refusals[name] = refusal
    return Decisions(selection, standing, identities, skips, refusals, frozenset(assumed))


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
    if main.mode != "foreground":
        return (
            f"{definition.where}: step_{step.id}: mode: {main.mode} cannot be run by this version; "
            "take it out to run the main in the foreground"
        )
    if main.kind == "none":
        agent = " (no agent is set up that could do it)" if main.agent or main.objective else ""
        return (
            f"{definition.where}: step_{step.id}: its main has nothing to run{agent}; "
            "write command:, script: or python: below main:"
        )
    return ""
