"""A plan as text: what runs when, what does not, and why."""

from __future__ import annotations

import pytest

from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.record.state import Records, StepState
from pytest_tinker_steps.report import waves

from ..record.sessions import a_list, a_plan, a_session, decide, true_steps
from . import golden

SPEC = a_list("Set up", "Fetch data", "Generate", "Train", "Monitor", "Report", "Publish", ticked=(1,))
YAML = """
step_2_fetch:
  needs: []
  main:
    command: ./fetch.sh
    timeout: 60
step_3_generate:
  needs: [1]
  pre_flight:
    - name: key
      env: TINKER_API_KEY
    - name: disk
      command: df .
      timeout: 5
    - name: readable
      explore: Is the brief readable?
  main:
    command: ./generate.sh
    success_criteria: [reads well, no duplicates]
  post_validation:
    - name: lines
      command: test -s data
step_4_train:
  needs: [2, 3]
  main: {command: ./train.sh, timeout: 3600}
  background:
    - {name: loss, command: tail -1 loss.csv}
    - {name: gpu, command: nvidia-smi}
step_6_report:
  needs: [4]
  main: {command: ./report.sh, timeout: 60}
"""


def test_a_plan_with_everything() -> None:
    plan = a_plan(SPEC, YAML)
    records = Records({"2": StepState("cut off", "task_2_1a2b3c4d", first_open_ns=5)})
    golden.check("plan_everything", waves.of(a_session(plan, decide(plan, records=records))))


def test_a_plan_of_some_steps_only() -> None:
    plan = a_plan(a_list("First", "Second", "Third", "Fourth"), true_steps(4))
    golden.check("plan_refused", waves.of(a_session(plan, decide(plan, Wishes("3-4")))))


def test_a_plan_that_assumes() -> None:
    plan = a_plan(a_list("First", "Second", "Third"), true_steps(3))
    golden.check("plan_assumed", waves.of(a_session(plan, decide(plan, Wishes("all", assume="1-2")))))


def test_a_plan_with_nothing_to_do() -> None:
    plan = a_plan(a_list("First", ticked=(1,)), true_steps(1))
    golden.check("plan_done", waves.of(a_session(plan, decide(plan))))


@pytest.mark.parametrize("count", [1, 300])
def test_a_chain_has_as_many_waves_as_steps(count: int) -> None:
    plan = a_plan(a_list(*map(str, range(count))), true_steps(count))
    text = waves.of(a_session(plan))
    assert sum(line.startswith(("Ready", "Wave")) for line in text) == count
