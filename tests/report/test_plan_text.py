"""A plan as text: what runs when, what does not, why, and what to expect."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tinker_steps.plan.model import Plan
from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.record.state import Records, StepState
from pytest_tinker_steps.report import plan_text, plan_view

from ..record.sessions import a_list, a_plan, a_session, decide, true_steps
from . import golden
from .plans import with_tracks

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


def text(plan: Plan, wishes: Wishes | None = None, records: Records | None = None) -> list[str]:
    return plan_text.of(plan_view.make(a_session(plan, decide(plan, wishes, records))))


def starting(lines: list[str], *words: str) -> list[str]:
    return [line.strip() for line in lines if line.strip().startswith(words)]


def test_a_plan_with_everything() -> None:
    records = Records({"2": StepState("cut off", "task_2_1a2b3c4d", first_open_ns=5)})
    golden.check("plan_everything", text(a_plan(SPEC, YAML), records=records))


def test_a_plan_of_some_steps_only() -> None:
    plan = a_plan(a_list("First", "Second", "Third", "Fourth"), true_steps(4))
    golden.check("plan_refused", text(plan, Wishes("3-4")))


def test_a_plan_that_assumes() -> None:
    plan = a_plan(a_list("First", "Second", "Third"), true_steps(3))
    golden.check("plan_assumed", text(plan, Wishes("all", assume="1-2")))


def test_a_plan_with_nothing_to_do() -> None:
    golden.check("plan_done", text(a_plan(a_list("First", ticked=(1,)), true_steps(1))))


def test_a_plan_with_tracks_durations_costs_a_pool_and_a_job() -> None:
    golden.check("plan_tracks", plan_text.of(with_tracks(workers=4, budget=10.0)))


def test_one_is_not_many() -> None:
    lines = text(a_plan(a_list("First"), true_steps(1)))
    assert lines[0] == "Plan of SPEC.md: 1 step, 0 done; selected: all"
    assert lines[-1] == "Total: 1 task; 1 to run, 0 done or skipped, 0 that cannot run"


def test_nothing_left_to_do_is_said_where_only_what_is_left_was_asked_for() -> None:
    plan = a_plan(a_list("First", ticked=(1,)), true_steps(1))
    assert "nothing left to do" in text(plan, Wishes("continue"))
    assert "nothing left to do" not in text(plan, Wishes("all"))


@pytest.mark.parametrize("count", [1, 300])
def test_a_chain_has_as_many_waves_as_steps(count: int) -> None:
    lines = text(a_plan(a_list(*map(str, range(count))), true_steps(count)))
    assert sum(line.startswith(("Ready", "Waiting")) for line in lines) == count


def test_steps_that_run_again_are_in_waves_as_they_were_the_first_time() -> None:
    plan = a_plan(a_list("First", "Second", ticked=(1, 2)), true_steps(2))
    lines = text(plan, Wishes("all", rerun=True))
    assert starting(lines, "Ready", "Waiting", "step_") == [
        "Ready to execute (wave 1):",
        "step_1  First  (done, no record here; runs again)",
        "Waiting on dependencies (wave 2):",
        "step_2  Second  (done, no record here; runs again; waits for step_1)",
    ]


# -- tracks


TRACKS = a_list(*(f"Work {number}" for number in range(1, 10)))


def track(name: str, *more: int, needs: str = "[]", layer: str = "") -> str:
    where = f", layer: '{layer}'" if layer else ""
    first, *rest = more
    lines = [f"step_{first}: {{main: 'true', track: {name}{where}, needs: {needs}}}"]
    lines += [
        f"step_{after}: {{main: 'true', track: {name}{where}, needs: [{before}]}}"
        for before, after in zip(more, rest, strict=False)
    ]
    return "\n".join(lines) + "\n"


def stretches(yaml: str) -> list[str]:
    return starting(text(a_plan(TRACKS, yaml)), "Ready", "Waiting", "Track", "Layer", "Without")


def test_a_track_is_shown_where_it_begins_with_all_that_follows_without_waiting_for_others() -> None:
    found = stretches(track("A", 2, 4, 5, 6) + track("B", 7, 8) + "step_1: {main: 'true', needs: []}\n")
    assert found[:5] == [
        "Ready to execute (wave 1):",
        "Without a track: step_1 (1 task)",
        "Track A: step_2, step_4-6 (4 tasks)",
        "Track B: step_7-8 (2 tasks)",
        "Waiting on dependencies (wave 2):",
    ]
    assert not [line for line in found[5:] if not line.startswith("Waiting")]


def test_a_step_that_waits_for_another_track_too_begins_a_stretch_in_its_own_wave() -> None:
    found = stretches(track("A", 1, 2) + track("B", 3, 4, needs="[1]") + track("C", 5, needs="[2, 4]"))
    assert found == [
        "Ready to execute (wave 1):",
        "Track A: step_1-2 (2 tasks)",
        "Waiting on dependencies (wave 2):",
        "Track B: step_3-4 (2 tasks)",
        "Waiting on dependencies (wave 3):",
        "Waiting on dependencies (wave 4):",
        "Track C: step_5 (1 task)",
    ]


def test_tracks_are_named_with_their_layers() -> None:
    found = stretches(track("A", 1, 2, layer="1") + track("'Track B: models'", 3, layer="2", needs="[2]"))
    assert "Layer 1, track A: step_1-2 (2 tasks)" in found
    assert "Layer 2, Track B: models: step_3 (1 task)" in found


# -- what steps take, and may have to wait for


def test_of_steps_of_one_wave_that_share_a_pool_the_later_ones_may_have_to_wait() -> None:
    yaml = "pools: {gpu: 4}\n" + "".join(
        f"step_{n}: {{main: {{command: 'true', timeout: 5}}, needs: [], resources: {{gpu: {amount}}}}}\n"
        for n, amount in ((1, 2), (2, 2), (3, 1), (4, 4))
    )
    assert starting(text(a_plan(TRACKS, yaml)), "takes") == [
        "takes gpu 2 of 4",
        "takes gpu 2 of 4",
        "takes gpu 1 of 4; may have to wait: pool gpu: 4 of 4 taken by step_1, step_2",
        "takes gpu 4 of 4; may have to wait: pool gpu: 4 of 4 taken by step_1, step_2",
    ]


def test_a_step_that_runs_alone_says_so_and_the_others_of_its_wave_may_have_to_wait() -> None:
    yaml = (
        "step_1: {main: {command: 'true', timeout: 5}, needs: [], exclusive: true}\n"
        "step_2: {main: {command: 'true', timeout: 5}, needs: []}\n"
    )
    lines = starting(text(a_plan(TRACKS, yaml)), "runs alone", "may have")
    assert lines == ["runs alone", "may have to wait: step_1 runs alone"]


# -- what to expect


def expected(**more: Any) -> str:
    return starting(plan_text.of(with_tracks(**more)), "Expected")[0]


def test_the_time_to_expect_depends_on_the_workers() -> None:
    # One worker does all but wait for the job in turn; with four, the pool is what the long steps wait for.
    assert expected(workers=1) == "Expected: about 33m, and 1 step without a known duration"
    assert expected(workers=4) == "Expected: about 30m with 4 workers, and 1 step without a known duration"


def test_without_any_known_duration_there_is_no_time_to_expect() -> None:
    lines = text(a_plan(a_list("First", "Second"), true_steps(2)))
    assert starting(lines, "Expected", "Critical") == [
        "Critical path: step_1 -> step_2",
        "Expected: 2 steps without a known duration",
    ]


def test_a_long_critical_path_is_shown_by_its_beginning_and_its_end() -> None:
    lines = text(a_plan(a_list(*map(str, range(40))), true_steps(40)))
    path = starting(lines, "Critical path")[0]
    assert path.endswith("step_9 -> step_10 -> ... -> step_40 (40 steps)")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1s"), (59.4, "59s"), (60, "1m"), (719, "12m"), (3599, "1h00m"), (8100, "2h15m")],
)
def test_a_time_is_no_more_exact_than_it_is_known(seconds: float, said: str) -> None:
    assert plan_text.about(seconds) == said


def estimate(environ: dict[str, str] | None = None, selected: str = "all", **more: Any) -> list[str]:
    return starting(plan_text.of(with_tracks(environ=environ, selected=selected, **more)), "Estimated")


def test_costs_are_added_up_for_what_runs_and_what_it_would_cost_elsewhere_is_said() -> None:
    assert estimate() == [
        "Estimated cost: $12.40 of what runs; about $34.20 more where TINKER_API_KEY is set"
    ]
    assert estimate({"TINKER_API_KEY": ""}) == estimate()
    assert estimate({"TINKER_API_KEY": "x"}) == ["Estimated cost: $46.60 of what runs"]
    assert estimate(selected="5") == [
        "Estimated cost: nothing here; about $34.20 where TINKER_API_KEY is set"
    ]
    assert estimate(selected="1-3") == []


def test_a_budget_is_shown_beside_the_costs() -> None:
    assert estimate(selected="4", budget=50.0) == ["Estimated cost: $12.40 of what runs; budget $50.00"]
    assert estimate(selected="4", budget=5.0) == [
        "Estimated cost: $12.40 of what runs; budget $5.00, not enough for all of it"
    ]
    assert estimate(selected="1-3", budget=5.0) == ["Estimated cost: not said by what runs; budget $5.00"]


def test_a_verification_has_neither_costs_nor_a_time_to_expect() -> None:
    plan = a_plan(
        a_list("First", "Second", ticked=(1,)),
        "step_1: {main: 'true', cost: {usd: 5}}\nstep_2: {main: 'true'}\n",
    )
    session = a_session(plan, decide(plan, Wishes("all", verify=True)), mode="verify")
    lines = plan_text.of(plan_view.make(session, seconds=lambda _: 5.0))
    assert starting(lines, "Estimated", "cost", "Expected") == []
    assert starting(lines, "step_1", "- step_2") == [
        "step_1  First  (done, no record here)",
        "- step_2  Second  (not verified, since not ticked)",
    ]


def test_a_step_waits_for_the_end_of_a_job_that_has_what_it_takes() -> None:
    yaml = (
        "pools: {gpu: 1}\n"
        "step_1: {main: {command: a, timeout: 5}, needs: [2], resources: {gpu: 1}}\n"
        "step_2: {main: {command: b, mode: background, timeout: 5}, needs: [], resources: {gpu: 1}}\n"
    )
    plan = a_plan(a_list("First", "Second"), yaml.replace("needs: [2]", "needs: ['2@started']"))
    assert starting(text(plan), "step_1") == ["step_1  First  (not done; waits for step_2, step_2@ended)"]
    assert starting(text(plan), "takes")[-1] == "takes gpu 1 of 1"


def test_a_step_whose_inputs_have_changed_is_still_done_and_it_is_said() -> None:
    lines = starting(plan_text.of(with_tracks()), "- step_1")
    assert lines == [
        "- step_1  Set up  (done 2026-11-20 by task_1_1a2b3c4d; inputs changed since: config.yaml)"
    ]
