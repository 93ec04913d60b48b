"""The ends of background jobs: which belong to a session, where they stand, and who waits for them."""

from __future__ import annotations

import pytest

from pytest_tinker_steps.plan.model import Need, Plan
from pytest_tinker_steps.record import job_ends
from pytest_tinker_steps.record.frozen import Decisions, Wishes
from pytest_tinker_steps.record.job_ends import OpenJobs
from pytest_tinker_steps.record.jobs import Job
from pytest_tinker_steps.record.state import Records, StepState

from .sessions import a_list, a_plan, decide


def a_training(*needs: str, job: int = 2, on_failure: str = "fail") -> Plan:
    """Four steps, one of which is a background job; the last one has these needs."""
    texts = []
    for number in (1, 2, 3, 4):
        mode = "mode: background, " if number == job else ""
        more = f"  needs: [{', '.join(needs)}]\n" if number == 4 and needs else ""
        texts.append(f"step_{number}:\n  main: {{{mode}command: 'true'}}\n  on_failure: {on_failure}\n{more}")
    return a_plan(a_list("First", "Train", "Third", "Fourth"), "".join(texts))


def a_job(state: str = "running", step: str = "2") -> Job:
    return Job(step=step, task_id=f"task_{step}_aaaaaaaa", state=state, pid=4711, ready=True, log="main.log")


def with_job(plan: Plan, job: Job, wishes: Wishes = Wishes(), verdict: str = "started") -> Decisions:  # noqa: B008
    records = Records({job.step: StepState(verdict, job.task_id)})
    return decide(plan, wishes, records, jobs=job_ends.sort_out([job], records))


def order(made: Decisions) -> dict[str, int]:
    return {name: step.index for name, step in made.steps.items() if step.ends}


# -- jobs that this session starts


def test_a_step_that_needs_the_job_waits_for_its_end_and_the_end_stands_before_it() -> None:
    made = decide(a_training('"2"'), Wishes("all"))
    assert made.steps["4"].needs == (Need("2@ended"),)
    assert made.steps["2@ended"].needs == (Need("2", "started"),)
    assert made.steps["2@ended"].ends == "2"
    assert order(made) == {"2@ended": 3}
    assert made.waiting == {"2@ended"}


def test_the_next_step_in_the_list_waits_for_the_start_only() -> None:
    made = decide(a_training(), Wishes("all"))
    assert made.waiting == set()
    assert set(made.steps) == {"2@ended"}
    assert order(made) == {"2@ended": 4}, "looked at when all else is over"


def test_an_edge_to_the_start_stays_one() -> None:
    made = decide(a_training('"2@started"'), Wishes("all"))
    assert "4" not in made.steps
    assert made.waiting == set()


def test_an_edge_to_the_end_in_whatever_way_is_one_to_the_job_s_end() -> None:
    made = decide(a_training('"2@ended"'), Wishes("all"))
    assert made.steps["4"].needs == (Need("2@ended", "ended"),)


def test_a_session_that_waits_at_its_end_waits_for_every_job() -> None:
    assert decide(a_training(), Wishes("1-2", wait=True)).waiting == {"2@ended"}


def test_a_verification_has_no_ends() -> None:
    assert decide(a_training('"2"'), Wishes(verify=True)).steps == {}


# -- jobs of earlier sessions


def test_a_job_that_runs_is_not_started_again_but_can_be_waited_for() -> None:
    made = with_job(a_training('"2"'), a_job(), Wishes("continue"))
    assert made.skips == {"2": "its job is running (pid 4711)"}
    assert made.waiting == {"2@ended"}
    assert made.standing["2"].reason == "its job is running (pid 4711)"


def test_a_step_that_needs_the_job_can_run_without_the_job_s_step_being_selected() -> None:
    made = with_job(a_training('"2"'), a_job(), Wishes("4"))
    assert made.refusals == {}
    assert made.steps["4"].needs == (Need("2@ended"),)
    assert made.steps["2@ended"].needs == ()


def test_a_step_that_needs_the_start_finds_it_given() -> None:
    made = with_job(a_training('"2@started"'), a_job(), Wishes("4"))
    assert made.refusals == {}
    assert made.steps["4"].needs == ()
    assert set(made.steps) == {"4"}


def test_a_job_that_has_ended_well_is_settled_by_the_next_session_whatever_it_is_about() -> None:
    made = with_job(a_training(job=2), a_job("passed"), Wishes("1"))
    assert order(made) == {"2@ended": 1}


def test_a_job_that_runs_is_nothing_to_a_session_about_other_steps() -> None:
    assert with_job(a_training(), a_job(), Wishes("1")).steps == {}


def test_rerunning_a_step_whose_job_runs_says_how_to_end_it() -> None:
    made = with_job(a_training(), a_job(), Wishes("1-2", rerun=True))
    assert made.refusals == {
        "2": "step_2: its job is running (pid 4711); end it first: pytest --steps-stop 2"
    }


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_a_job_that_failed_meanwhile_is_tried_again_when_it_is_selected(state: str) -> None:
    made = with_job(a_training(), a_job(state), Wishes("1-2"))
    assert "2" not in made.skips
    assert "2" not in made.refusals


def test_a_step_that_needs_a_job_which_failed_meanwhile_is_refused() -> None:
    made = with_job(a_training('"2"'), a_job("failed"), Wishes("4"))
    assert "needs step_2, neither done nor selected" in made.refusals["4"]


def test_a_session_that_was_killed_while_its_job_started_has_left_a_job_all_the_same() -> None:
    made = with_job(a_training(), a_job("starting"), Wishes("2"), verdict="cut off")
    assert made.skips == {"2": "its job is starting (pid 4711)"}


@pytest.mark.parametrize(
    "state",
    [
        StepState("started", "task_2_bbbbbbbb"),
        StepState("passed", "task_2_aaaaaaaa"),
        StepState("failed", "task_2_aaaaaaaa"),
        StepState(),
    ],
)
def test_jobs_of_older_or_settled_attempts_are_history(state: StepState) -> None:
    assert job_ends.sort_out([a_job()], Records({"2": state})) == OpenJobs({}, {})


# -- ended, though not passed


@pytest.mark.parametrize("verdict", ["warned", "failed", "cut off"])
def test_a_step_that_only_needs_the_end_runs_after_a_failure_of_an_earlier_session(verdict: str) -> None:
    plan = a_training('"3@ended"')
    records = Records({"3": StepState(verdict, "task_3_aaaaaaaa")})
    assert decide(plan, Wishes("4"), records).refusals == {}
    assert "4" in decide(plan, Wishes("4")).refusals, "it has not ended when it never began"
