"""A plan as JSON, for other programs: see docs/plan-formats.md."""

from __future__ import annotations

import json
from typing import Any

from ..plan import graph
from .plan_view import STATUSES, PlannedStep, PlanView

VERSION = 1
"""Counted up when a key changes its meaning or goes; new keys may come at any time."""


def of(view: PlanView) -> list[str]:
    """One JSON object, line by line."""
    return json.dumps(data(view), indent=2).splitlines()


def data(view: PlanView) -> dict[str, Any]:
    """The object, as builtin values."""
    frozen = view.frozen
    return {
        "version": VERSION,
        "plan": frozen.plan.tasklist.path,
        "definitions": frozen.plan.definitions.path,
        "mode": frozen.mode,
        "selection": {"text": frozen.selection.text, "ids": list(view.selected)},
        "workers": view.workers,
        "pools": dict(frozen.plan.definitions.pools),
        "waves": [[step.id for step in wave.steps] for wave in view.waves if wave.steps],
        "steps": [_step(one, view) for one in view.steps],
        "critical_path": [step.id for step in view.path],
        "expected_seconds": _rounded(view.known_seconds),
        "unknown_durations": [step.id for step in view.unknown],
        "estimated_cost_usd": round(view.usd, 2),
        "estimated_cost_usd_with": {name: round(usd, 2) for name, usd in view.usd_with.items()},
        "budget_usd": frozen.budget,
        "counts": {status: len(view.of(status)) for status in STATUSES},
        "total": len(view.selected),
        "warnings": list(frozen.plan.warnings),
    }


def _step(one: PlannedStep, view: PlanView) -> dict[str, Any]:
    step = one.step
    return {
        "id": step.id,
        "title": step.title,
        "file": view.frozen.plan.tasklist.path,
        "line": step.box.line,
        "track": step.track or None,
        "layer": step.layer or None,
        "needs": [{"step": need.step, "state": need.state} for need in one.needs],
        "selected": one.selected,
        "status": one.status,
        "reason": one.reason,
        "wave": one.wave or None,
        "seconds": _rounded(one.seconds),
        "resources": {name: amount for name, amount, _ in one.taken},
        "exclusive": graph.is_exclusive(step),
        "cost": _cost(one),
        "changed_inputs": list(one.changed),
    }


def _cost(one: PlannedStep) -> dict[str, Any] | None:
    cost = one.cost
    if cost is None:
        return None
    return {"usd": cost.usd, "assuming": cost.assuming, "when": cost.when, "applies": one.costs}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
