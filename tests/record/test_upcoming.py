"""Which step is named as the next: one that can be run now, behind the one that ended."""

from __future__ import annotations

import pytest

from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.record.jobs import RUNNING, Job
from pytest_tinker_steps.record.state import Records, StepState
from pytest_tinker_steps.record.upcoming import Upcoming

from .sessions import a_list, a_plan, a_session, decide, true_steps

FREE = "".join(f"step_{n}: {{main: 'true', needs: []}}\n" for n in range(1, 7))


def after(
    *ended: str,
    spec: str = a_list(*"abcdef"),
    yaml: str = FREE,
    wishes: Wishes | None = None,
    records: Records | None = None,
    jobs: tuple[str, ...] = (),
) -> list[str]:
    """What is named after each of some steps (``2``, ``2 failed``) that end one after the other."""
    plan = a_plan(spec, yaml)
    going = {name: Job(name, f"task_{name}_1a2b3c4d", state=RUNNING) for name in jobs}
    session = a_session(plan, decide(plan, wishes, records), jobs=going)
    upcoming = Upcoming(session, records or Records())
    found = []
    for end in ended:
        name, _, verdict = end.partition(" ")
        upcoming.note(name, verdict or "passed")
        found.append(upcoming.behind(session.by_id[name], ()))
    return found


def test_in_a_chain_it_is_the_one_behind_and_nothing_at_its_end() -> None:
    assert after("1", "2", "3", spec=a_list(*"abc"), yaml=true_steps(3)) == ["2", "3", ""]


def test_what_is_done_is_passed_over() -> None:
    assert after("1", "4", spec=a_list(*"abcdef", ticked=(2, 3, 5, 6))) == ["4", ""]
    again = Wishes("1", rerun=True)
    assert after("1", spec=a_list(*"abc", ticked=(1, 2)), yaml=true_steps(3), wishes=again) == ["3"]
    assert after("1", spec=a_list(*"abc", ticked=(1, 2, 3)), yaml=true_steps(3), wishes=again) == [""]


def test_what_is_optional_or_struck_is_passed_over() -> None:
    spec = "- [ ] 1. One\n- [ ]* 2. Two\n- [ ] ~~3. Three~~\n- [ ] 4. Four\n"
    assert after("1", spec=spec, yaml="step_4: {main: 'true', needs: []}\n") == ["4"]


def test_what_is_blocked_is_passed_over_until_its_needs_hold() -> None:
    yaml = FREE.replace("step_3: {main: 'true', needs: []", "step_3: {main: 'true', needs: [2]")
    yaml = yaml.replace("step_5: {main: 'true', needs: []", "step_5: {main: 'true', needs: [2, 4]")
    assert after("1", "2 failed", "4", yaml=yaml) == ["2", "4", "6"]
    assert after("1", "2", "3", "4", yaml=yaml) == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("verdict", "need", "named"),
    [
        ("started", "1@started", "2"),
        ("started", "1", "3"),
        ("failed", "1@ended", "2"),
        ("failed", "1@started", "3"),
        ("passed", "1@ended", "2"),
    ],
)
def test_a_need_holds_in_the_state_that_it_asks_for(verdict: str, need: str, named: str) -> None:
    yaml = FREE.replace("step_2: {main: 'true', needs: []", f"step_2: {{main: 'true', needs: ['{need}']")
    assert after(f"1 {verdict}", yaml=yaml) == [named]


def test_what_runs_again_holds_only_when_it_has_passed_again() -> None:
    yaml = FREE.replace("step_3: {main: 'true', needs: []", "step_3: {main: 'true', needs: [2]")
    ticked = a_list(*"abcdef", ticked=(1, 2))
    again = Wishes("1-2", rerun=True)
    assert after("1", "2", spec=ticked, yaml=yaml, wishes=again) == ["4", "3"]
    assert after("2 failed", "1", spec=ticked, yaml=yaml, wishes=again) == ["4", "4"]
    assert after("1", spec=ticked, yaml=yaml, wishes=Wishes("1", rerun=True)) == ["3"]


def test_a_job_of_an_earlier_session_has_been_started_and_is_not_to_be_run() -> None:
    yaml = FREE.replace("step_3: {main: 'true', needs: []", "step_3: {main: 'true', needs: ['2@started']")
    assert after("1", yaml=yaml, wishes=Wishes("1"), jobs=("2",)) == ["3"]


def test_an_end_of_an_earlier_session_is_an_end() -> None:
    yaml = FREE.replace("step_2: {main: 'true', needs: []", "step_2: {main: 'true', needs: ['3@ended']")
    failed = Records({"3": StepState("failed", "task_3_1a2b3c4d")})
    assert after("1", yaml=yaml, wishes=Wishes("1"), records=failed) == ["2"]
    assert after("1", yaml=yaml, wishes=Wishes("1")) == ["3"]


def test_what_has_begun_is_not_next() -> None:
    plan = a_plan(a_list(*"abcdef"), FREE)
    session = a_session(plan)
    upcoming = Upcoming(session, Records())
    assert upcoming.behind(session.by_id["1"], ("1", "2", "3")) == "4"
