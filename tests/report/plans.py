"""Plans that the tests of the three formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.record.state import Records, StepState
from pytest_tinker_steps.report import plan_view
from pytest_tinker_steps.report.plan_view import PlanView

from ..record.sessions import a_list, a_plan, a_session, decide

TITLES = ("Set up", "Fetch", "Clean", "Small model", "Large model", "Serve", "Compare", "Publish", "Tell")
TRACKS = """
pools: {gpu: 1}
step_1: {main: {command: ./set-up.sh, timeout: 60}, inputs: [config.yaml]}
step_2: {track: A, main: {command: ./fetch.sh, timeout: 60}}
step_3: {track: A, main: {command: ./clean.sh, timeout: 60}}
step_4:
  track: B
  main: {command: ./small.sh, timeout: 60}
  resources: {gpu: 1}
  cost: {usd: 12.4, assuming: 500 calls of 2000 tokens}
step_5:
  track: C
  main: {command: ./large.sh, timeout: 60}
  resources: {gpu: 1}
  cost: {usd: 34.2, when: TINKER_API_KEY}
step_6: {main: {command: ./serve.sh, mode: background, timeout: 60, max_runtime: 1h}}
step_7: {needs: ["6@started"], main: {command: ./compare.sh, timeout: 60}}
step_8: {needs: [6, 7], exclusive: true, main: {command: ./publish.sh, timeout: 60}}
"""
SECONDS = {"1": 30.0, "2": 60.0, "3": 120.0, "4": 600.0, "5": 300.0, "6": 900.0, "7": 45.0}


def with_tracks(
    workers: int = 1, environ: Mapping[str, str] | None = None, selected: str = "all", **more: Any
) -> PlanView:
    """A plan with tracks, a pool, a job and costs; its first step is done."""
    plan = a_plan(a_list(*TITLES, ticked=(1,)), TRACKS)
    done = StepState("passed", "task_1_1a2b3c4d", "2026-11-20T23:42:00.000Z", ticked=True)
    decisions = decide(plan, Wishes(selected), records=Records({"1": done}))
    return plan_view.make(
        a_session(plan, decisions, **more),
        seconds=lambda name: SECONDS.get(name, 0.0),
        workers=workers,
        environ=environ,
        changed={"1": ("config.yaml",)},
    )
