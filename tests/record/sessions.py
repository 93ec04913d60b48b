"""Plans and frozen sessions for tests: from text, as a user would write it, but without pytest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_tinker_steps.plan import building, definitions, tasklist
from pytest_tinker_steps.plan.model import Definitions, Plan, Step
from pytest_tinker_steps.record import frozen
from pytest_tinker_steps.record.frozen import Decisions, Frozen, Wishes
from pytest_tinker_steps.record.job_ends import OpenJobs
from pytest_tinker_steps.record.state import Records


def a_list(*titles: str, ticked: tuple[int, ...] = ()) -> str:
    """A list with one step for each title, numbered from 1."""
    lines = [
        f"- [{'x' if number in ticked else ' '}] **STEP {number}**: {title}"
        for number, title in enumerate(titles, start=1)
    ]
    return "\n".join(["# A plan", "", *lines, ""])


def a_plan(spec: str | bytes, yaml: str = "") -> Plan:
    data = spec.encode() if isinstance(spec, str) else spec
    given = definitions.load(yaml.encode(), "steps.yaml") if yaml else Definitions(path="steps.yaml")
    return building.build(tasklist.parse(data, "SPEC.md"), given)


def true_steps(count: int, more: Mapping[int, str] | None = None) -> str:
    """Definitions whose mains do nothing; ``more`` adds lines to single ones."""
    return "".join(
        f"step_{number}:\n  main:\n    command: 'true'\n{(more or {}).get(number, '')}"
        for number in range(1, count + 1)
    )


def decide(
    plan: Plan,
    wishes: Wishes | None = None,
    records: Records | None = None,
    environ: Mapping[str, str] | None = None,
    missing: Mapping[str, str] | None = None,
    jobs: OpenJobs | None = None,
) -> Decisions:
    """The decision for a plan; ``missing`` says which outputs are missing, by step."""

    def assumable(step: Step) -> str:
        return (missing or {}).get(step.id, "")

    return frozen.decide(plan, wishes or Wishes(), records or Records(), environ or {}, assumable, jobs)


def a_session(
    plan: Plan, decisions: Decisions | None = None, folder: Path = Path("/plan"), **more: Any
) -> Frozen:
    made = decisions or decide(plan)
    values: dict[str, Any] = {
        "plan": plan,
        "selection": made.selection,
        "run_id": "run_0123456789ab",
        "mode": "run",
        "skips": made.skips,
        "refusals": made.refusals,
        "standing": made.standing,
        "identities": made.identities,
        "open_since": {},
        "task_ids": {name: f"task_{name}_0000000{name}" for name in made.selection.ids},
        "assumed": made.assumed,
        "steps": made.steps,
        "waiting": made.waiting,
        "folder": folder,
        "path": folder / "SPEC.md",
        "nodeid": "SPEC.md",
        "journal_name": ".task_execution.log",
        "command": "pytest",
    }
    return Frozen(**{**values, **more})
