"""What a session comes to, decided before anything runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.record.frozen import Frozen, Wishes
from pytest_tinker_steps.record.state import Records, StepState

from .sessions import a_list, a_plan, a_session, decide, true_steps

THREE = a_plan(a_list("First", "Second", "Third", ticked=(1,)), true_steps(3))


def records(**states: StepState) -> Records:
    return Records({name.removeprefix("s"): state for name, state in states.items()})


PASS = StepState("passed", "task_2_aaaaaaaa", "2026-11-20T23:42:00.000Z", text="**STEP 2**: Second")


# -- skips


def test_what_is_done_does_not_run_again() -> None:
    made = decide(THREE)
    assert made.selection.ids == ("1", "2", "3")
    assert made.skips == {"1": "done, no record here"}
    assert made.refusals == {}


def test_rerun_runs_what_is_done() -> None:
    assert decide(THREE, Wishes(rerun=True)).skips == {}


def test_continue_is_what_is_not_done_by_the_journal_too() -> None:
    assert decide(THREE, Wishes("continue")).selection.ids == ("2", "3")
    assert decide(THREE, Wishes("continue"), records(s2=PASS)).selection.ids == ("3",)
    cut_off = StepState("cut off", "task_1_aaaaaaaa", first_open_ns=1)
    assert decide(THREE, Wishes("continue"), records(s1=cut_off)).selection.ids == ("1", "2", "3")


def test_a_pass_that_never_reached_the_list_is_done_and_will_be_ticked() -> None:
    made = decide(THREE, records=records(s2=PASS))
    assert made.standing["2"].reconcile
    assert "2" in made.skips


def test_work_done_on_another_engine_runs_again() -> None:
    plan = a_plan(
        a_list("First", ticked=(1,)),
        "step_1:\n  main: 'true'\n  identity:\n    - {name: engine, env: BASE_URL, unset: hosted}\n",
    )
    local = StepState("passed", "task_1_aaaaaaaa", "2026-11-20", ("engine=local",), ticked=True)
    there = decide(plan, records=records(s1=local), environ={"BASE_URL": "local"})
    assert there.skips == {"1": "done 2026-11-20 by task_1_aaaaaaaa"}
    here = decide(plan, records=records(s1=local))
    assert here.skips == {}
    assert here.standing["1"].reason == "done on engine=local, not on engine=hosted"
    assert here.identities == {"1": ("engine=hosted",)}


# -- refusals


def test_a_step_whose_needs_are_neither_done_nor_selected_is_refused_with_the_way_out() -> None:
    made = decide(THREE, Wishes("3"))
    assert made.refusals == {
        "3": "step_3 needs step_2, neither done nor selected; "
        "run: pytest --steps 2-3 (or add --steps-assume 2)"
    }


def test_only_the_first_of_a_chain_is_refused() -> None:
    plan = a_plan(a_list("First", "Second", "Third", "Fourth"), true_steps(4))
    made = decide(plan, Wishes("3,4"))
    assert list(made.refusals) == ["3"]
    assert "--steps 1-3" in made.refusals["3"]


def test_a_step_without_a_definition_is_told_what_to_write_and_where() -> None:
    made = decide(a_plan(a_list("Wrap up the report, finally")))
    assert made.refusals["1"] == (
        "step_1 (SPEC.md:3) has no definition; write into steps.yaml what it does\n"
        "  step_1_wrap_up_the:\n"
        "    main:\n"
        "      command: <what it runs>\n"
        "    outputs: [<what it leaves>]"
    )


def test_what_is_written_for_a_step_below_a_heading_is_valid_yaml() -> None:
    plan = a_plan("## A\n\n- [ ] T001 One\n\n## B\n\n- [ ] T001 Two\n")
    (refusal, _) = decide(plan).refusals.values()
    assert f'\n  "step_{plan.steps[0].id}":\n' in refusal


@pytest.mark.parametrize(
    ("yaml", "why"),
    [
        (
            "step_1:\n  main:\n    agent: trainer\n",
            "steps.yaml:1: step_1: its main has nothing to run (no agent is set up that could do it); "
            "write command:, script: or python: below main:",
        ),
        (
            "step_1:\n  outputs: [out.txt]\n",
            "steps.yaml:1: step_1: its main has nothing to run; "
            "write command:, script: or python: below main:",
        ),
    ],
)
def test_a_definition_that_gives_nothing_to_run_is_refused(yaml: str, why: str) -> None:
    made = decide(a_plan(a_list("First"), yaml))
    assert made.refusals == {"1": why}


def test_what_is_done_is_not_refused() -> None:
    assert decide(a_plan(a_list("First", ticked=(1,)))).refusals == {}


# -- assume


def test_assumed_steps_do_not_run_and_satisfy_needs() -> None:
    made = decide(THREE, Wishes("all", assume="2"))
    assert made.assumed == {"2"}
    assert made.skips["2"] == "assumed done for this run"
    assert decide(THREE, Wishes("3", assume="1-2")).refusals == {}


def test_what_lacks_an_output_cannot_be_assumed() -> None:
    lacking = {"1": "a.txt does not exist", "2": "b.txt is empty"}
    with pytest.raises(PlanError) as caught:
        decide(THREE, Wishes("3", assume="1-2"), missing=lacking)
    assert caught.value.problems == (
        "--steps-assume 1-2: step 1 cannot be taken as done: output a.txt does not exist",
        "--steps-assume 1-2: step 2 cannot be taken as done: output b.txt is empty",
    )


def test_a_mistake_in_assume_names_its_option() -> None:
    with pytest.raises(PlanError, match=r"^--steps-assume 9: there is no step 9"):
        decide(THREE, Wishes("3", assume="9"))


# -- verify


def test_verify_looks_at_ticks_only() -> None:
    plan = a_plan(a_list("First", "Second", "Third", ticked=(1, 3)), true_steps(2))
    made = decide(plan, Wishes(verify=True))
    assert made.skips == {"2": "not verified, since not ticked"}
    assert list(made.refusals) == ["3"], "there is nothing to verify it by"


def test_verify_leaves_ticks_of_another_identity_alone() -> None:
    plan = a_plan(a_list("First", ticked=(1,)), "step_1:\n  main: 'true'\n  identity: [hosted]\n")
    local = StepState("passed", "task_1_aaaaaaaa", "2026-11-20", ("local",), ticked=True)
    made = decide(plan, Wishes(verify=True), records(s1=local))
    assert made.skips == {"1": "not verified: done on local, not on hosted"}


def test_verify_looks_at_a_tick_whose_attempt_was_cut_off() -> None:
    cut_off = records(s1=StepState("cut off", "task_1_aaaaaaaa"))
    assert "1" not in decide(THREE, Wishes(verify=True), cut_off).skips


# -- which


def test_steps_named_one_by_one_come_in_the_order_of_the_list() -> None:
    made = decide(THREE, Wishes(only=("3", "1")))
    assert made.selection.ids == ("1", "3")


def test_an_id_that_repeats_is_not_done_while_one_of_its_boxes_is_not() -> None:
    spec = a_list("First", "Second") + "- [x] **STEP 2**: Second again\n"
    for text in (
        spec,
        spec.replace("[ ] **STEP 2", "[x] **STEP 2").replace(
            "[x] **STEP 2**: Second again", "[ ] **STEP 2**: Second again"
        ),
    ):
        plan = a_plan(text)
        assert [step.id for step in plan.steps] == ["1", "2", "2"]
        made = decide(plan, Wishes("1"))
        assert not made.standing["2"].done


def test_an_id_that_repeats_cannot_be_selected() -> None:
    plan = a_plan(a_list("First", "Second") + "- [x] **STEP 2**: Second again\n")
    with pytest.raises(PlanError, match=r"step 2 stands twice, SPEC\.md:4 and SPEC\.md:5"):
        decide(plan)


# -- the frozen session


def test_a_session_is_the_same_after_its_way_to_a_worker() -> None:
    frozen = a_session(THREE, decide(THREE, Wishes("all", assume="2"), records(s3=PASS)), secrets=("OWN",))
    text = frozen.dump()
    assert type(text) is str
    assert text.isascii()
    assert Frozen.load(text) == frozen


def test_a_session_with_thousands_of_steps_stays_sendable() -> None:
    plan = a_plan(a_list(*(f"Work {n}" for n in range(2000))), true_steps(2000))
    assert len(a_session(plan).dump()) < 3_000_000


def test_what_is_worked_out_on_demand_does_not_travel() -> None:
    frozen = a_session(THREE)
    fresh = len(frozen.dump())
    assert (frozen.by_id["2"].id, frozen.selected) == ("2", {"1", "2", "3"})
    assert Frozen.load(frozen.dump()).by_id["2"].title == "Second"
    assert len(frozen.dump()) <= fresh * 1.5
    assert pickle.loads(pickle.dumps(frozen)) == frozen


def test_satisfied_is_done_or_assumed() -> None:
    frozen = a_session(THREE, decide(THREE, Wishes("3", assume="2")))
    assert [frozen.satisfied(name) for name in ("1", "2", "3")] == [True, True, False]


def test_a_node_id_names_one_step_of_this_list_or_none() -> None:
    frozen = a_session(THREE, folder=Path("/elsewhere"))
    step = frozen.step_of("SPEC.md::step_2")
    assert step is not None
    assert step.id == "2"
    for other in (
        "SPEC.md::step_22",
        "SPEC.md::step_",
        "SPEC.md",
        "docs/SPEC.md::step_2",
        "t.py::step_2",
        "",
    ):
        assert frozen.step_of(other) is None
