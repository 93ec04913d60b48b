"""From pytest's configuration to an active session."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import keywords
from .active import ACTIVE, Active
from .plan import graph
from .plan.model import Plan, PlanError
from .record import frozen, journal, state
from .record.frozen import Decisions, Frozen, Wishes
from .record.places import JOBS, STATE
from .run.attempt import new_task_id

if TYPE_CHECKING:
    from .locating import Target
    from .record.job_ends import OpenJobs

JOURNAL = ".task_execution.log"
MOST_WORKERS = 6
"""Of ``-n auto``."""

_FOUND = pytest.StashKey[tuple[Frozen, bytes, state.Records]]()


def activate(config: pytest.Config) -> Active | None:
    """Make the session active if it is to have steps.

    Raises:
        pytest.UsageError: one line for each mistake of the user's.
    """
    try:
        workerinput = getattr(config, "workerinput", None)
        if workerinput is not None:
            active = Active(config, Frozen.load(workerinput["tinker_steps"]))
        else:
            found = _decide(config)
            if found is None:
                return None
            active = found
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    if active.frozen.args is not None:
        config.args = list(active.frozen.args)
        config.args_source = pytest.Config.ArgsSource.ARGS
    for name in dict.fromkeys(name for step in active.frozen.plan.steps for name in keywords.marks_of(step)):
        config.addinivalue_line("markers", f"{name}: steps of this {name.partition('_')[0]} of the task list")
    config.stash[ACTIVE] = active
    return active


def _decide(config: pytest.Config) -> Active | None:
    found = _session(config)
    if found is None:
        return None
    session, data, records = found
    active = Active(config, session)
    active.know(data, records)
    return active


def workers(config: pytest.Config) -> int | None:
    """How many workers ``-n auto`` means: as many as steps run side by side, and at most six.

    None where that is for xdist to say: there are no steps, or other tests too.
    """
    try:
        found = _session(config)
    except PlanError:
        return None  # told when the session begins
    if found is None or found[0].args is None or len(found[0].args) > 1:
        return None
    config.stash[_FOUND] = found
    session = found[0]
    sizes = dict(session.plan.definitions.pools)
    # What runs in the session is waited for, also where it was done before.
    return max(1, min(MOST_WORKERS, graph.widest(session.pending, sizes, lambda _: False)))


def _session(config: pytest.Config) -> tuple[Frozen, bytes, state.Records] | None:
    """The session as the command line asks for it, with what was read for it; None without steps."""
    found = config.stash.get(_FOUND, None)
    if found is not None:
        del config.stash[_FOUND]
        return found
    from . import locating  # workers have nothing to read
    from .run import artefacts

    option = config.option
    if option.steps_untick and not option.steps_verify:
        raise PlanError("--steps-untick goes with --steps-verify: it takes back ticks that do not hold")
    target = locating.target(config)
    if target is None:
        for given, name in ((option.steps_rerun, "rerun"), (option.steps_assume is not None, "assume")):
            if given:
                raise PlanError(f"--steps-{name} goes with a selection of steps: add --steps, or name a step")
        return None
    only = target.only
    matches = keywords.matching(option.markexpr) if keywords.about_parts(option.markexpr or "") else None
    if target.maybe and only is not None:
        only = locating.ids_in(target.path, only)
        if not only:
            return None
    try:
        data, plan = locating.load(config, target.path)
    except PlanError:
        if target.maybe and only is None:
            return None
        raise
    if target.maybe and matches and not any(map(matches, plan.steps)):
        return None
    folder = target.path.parent
    records = state.fold(journal.read(folder / JOURNAL))
    wishes = Wishes(
        steps="all" if option.steps is None else option.steps,
        only=only,
        verify=option.steps_verify,
        rerun=option.steps_rerun,
        assume=option.steps_assume,
        wait=bool(os.environ.get("CI")) if option.steps_wait is None else option.steps_wait,
        command=locating.command_for(config, target.path),
        tracks=option.steps_track,
        layers=option.steps_layer,
        matches=matches,
    )
    jobs = _jobs(folder, records)
    decisions = frozen.decide(
        plan, wishes, records, os.environ, lambda s: artefacts.assumable(s, folder), jobs
    )
    return _freeze(config, target, plan, decisions, records, jobs), data, records


def _jobs(folder: Path, records: state.Records) -> OpenJobs | None:
    if not (folder / STATE / JOBS).is_dir():
        return None
    from .record import job_ends  # only where there were jobs
    from .run.background.jobs import look_all

    return job_ends.sort_out(look_all(folder / STATE), records)


def _freeze(
    config: pytest.Config,
    target: Target,
    plan: Plan,
    decisions: Decisions,
    records: state.Records,
    jobs: OpenJobs | None,
) -> Frozen:
    from . import locating

    option = config.option
    ci = bool(os.environ.get("CI"))
    return Frozen(
        plan=plan,
        selection=decisions.selection,
        run_id=f"run_{uuid.uuid4().hex[:12]}",
        mode="verify" if option.steps_verify else "run",
        skips=decisions.skips,
        refusals=decisions.refusals,
        standing=decisions.standing,
        identities=decisions.identities,
        open_since={name: s.first_open_ns for name, s in records.steps.items() if s.first_open_ns},
        task_ids={name: new_task_id(name) for name in decisions.selection.ids},
        assumed=decisions.assumed,
        folder=target.path.parent,
        path=target.path,
        nodeid=locating.nodeid(config, target.path),
        journal_name=JOURNAL,
        command=locating.command_for(config, target.path),
        checks_parallel=_checks_parallel(config),
        secrets=(*plan.definitions.secrets, *config.getini("steps_secrets")),
        dry=locating.dry(config),
        live=config.get_verbosity() > 0 or getattr(option, "capture", "no") == "no",
        strict=ci if option.steps_strict is None else option.steps_strict,
        untick=option.steps_untick,
        args=target.args,
        spent={name: s.spent for name, s in records.steps.items() if s.spent},
        jobs=jobs.open if jobs else {},
        fallen=jobs.fallen if jobs else {},
        steps=decisions.steps,
        waiting=decisions.waiting,
        rerun=option.steps_rerun,
        budget=option.steps_budget,
    )


def _checks_parallel(config: pytest.Config) -> int:
    text = config.getini("steps_checks_parallel")
    if not text.isdecimal() or int(text) < 1:
        raise PlanError(f"steps_checks_parallel = {text}: give a number of checks from 1")
    return int(text)


def planned(config: pytest.Config) -> tuple[Frozen, state.Records]:
    """The session as it would be, for showing it; nothing is written.

    Raises:
        PlanError: as for a session.
    """
    found = _session(config)
    assert found is not None  # the option asks for steps
    session, _, records = found
    return replace(session, dry=True), records
