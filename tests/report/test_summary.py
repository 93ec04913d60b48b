"""The header and the summary: what will be, what became of it, what to type next."""

from __future__ import annotations

from typing import Any

from pytest_tinker_steps.plan.model import Plan
from pytest_tinker_steps.record.controller import Controller, Tale
from pytest_tinker_steps.record.frozen import Frozen, Wishes
from pytest_tinker_steps.record.state import Records
from pytest_tinker_steps.report import summary

from ..record.sessions import a_list, a_plan, a_session, decide, true_steps
from . import golden

TITLES = ("Set up", "Generate", "Train", "Evaluate", "Publish", "Report")


def plan(*ticked: int, count: int = 6) -> Plan:
    return a_plan(a_list(*TITLES[:count], ticked=ticked), true_steps(count))


def session(made: Plan, wishes: Wishes | None = None, **more: Any) -> Frozen:
    return a_session(made, decide(made, wishes), **more)


class Talkative(Controller):
    """Every attempt has printed something."""

    def logs(self, task_id: str) -> str:
        return f".steps/logs/{task_id}/"


def after(frozen: Frozen, **tales: Tale) -> Controller:
    """A controller at the end of a session; ``s3=Tale(...)`` is what became of step 3."""
    controller = Talkative(frozen, None, None, Records(), lambda *_: None)
    for key, tale in tales.items():
        name = key.removeprefix("s")
        controller.tales[name] = tale
        if tale.verdict:
            controller.verdicts[name] = tale.verdict
    return controller


def attempt(number: int, verdict: str, seconds: float = 1.0, **more: Any) -> Tale:
    return Tale(verdict, task_id=f"task_{number}_1a2b3c4d", seconds=seconds, **more)


def check(name: str, frozen: Frozen, controller: Controller) -> list[tuple[str, dict[str, bool]]]:
    title, lines = summary.of(frozen, controller)
    golden.check(name, [f"--- {title} ---", *(text for text, _ in lines)])
    return lines


def test_a_session_in_which_everything_happened() -> None:
    frozen = session(plan(1))
    controller = after(
        frozen,
        s1=Tale("done", reason="done, no record here"),
        s2=attempt(2, "passed", 432, notes=["5000 examples", "97 % good"], unverified=["reads well"]),
        s3=attempt(3, "failed", 61.2, reason="main failed: exit code 3"),
        s4=Tale("blocked", reason="blocked by step_3 (failed)"),
        s5=attempt(
            5, "warned", 2, reason="post-validation failed: link: 404", warnings=["style: long lines"]
        ),
        s6=attempt(6, "skipped", 0.1, reason="not on this machine"),
    )
    lines = check("summary_everything", frozen, controller)
    assert [markup for text, markup in lines if "step_2" in text] == [{"green": True}]
    assert [markup for text, markup in lines if "✗ step_3" in text] == [{"red": True}]


def test_a_session_that_was_interrupted() -> None:
    frozen = session(plan(count=4))
    died = Tale(attempt=1)  # its worker did, and another attempt would have followed
    controller = after(frozen, s1=attempt(1, "passed"), s2=attempt(2, "interrupted", 75), s3=died)
    check("summary_interrupted", frozen, controller)


def test_a_session_that_finished_the_list() -> None:
    frozen = session(plan(1, 2, count=3))
    controller = after(frozen, s1=Tale("done"), s2=Tale("done"), s3=attempt(3, "passed"))
    check("summary_all_done", frozen, controller)


def test_a_session_with_nothing_left_to_do() -> None:
    frozen = session(plan(1, 2, count=2), Wishes("continue"))
    check("summary_nothing_left", frozen, after(frozen))


def test_a_refusal_stands_with_its_reason_alone() -> None:
    frozen = session(a_plan(a_list("Set up")))
    refusal = frozen.refusals["1"].splitlines()[0]
    check("summary_refused", frozen, after(frozen, s1=Tale("failed", reason=refusal)))


def test_a_step_that_was_done_and_failed_when_it_ran_again_is_not_done() -> None:
    frozen = session(plan(1, 2, count=2), Wishes("2", rerun=True))
    failed = attempt(
        2, "failed", reason="main failed: exit code 1", warnings=["un-ticked: it was run again and failed"]
    )
    check("summary_failed_again", frozen, after(frozen, s2=failed))


def test_a_failure_whose_reason_begins_like_its_verdict_keeps_both() -> None:
    frozen = session(plan(count=1))
    title, lines = summary.of(frozen, after(frozen, s1=attempt(1, "failed", reason="failed: no such model")))
    assert title == "SPEC.md: 0 of 1 steps done"
    assert lines[0][0].split() == [
        "✗",
        "step_1",
        "failed",
        "1.0s",
        "task_1_1a2b3c4d",
        ".steps/logs/task_1_1a2b3c4d/",
    ]


def test_what_could_not_be_ticked_or_recorded_is_said() -> None:
    frozen = session(plan(count=2))
    controller = after(frozen, s1=attempt(1, "passed"), s2=attempt(2, "failed", reason="its record is lost"))
    controller.tick_problems.append("step_1: SPEC.md:3: box 1 vanished; put it back")
    controller.broken = ".task_execution.log: the journal cannot be written: the disk is full"
    check("summary_broken", frozen, controller)


def test_a_verification() -> None:
    frozen = session(plan(1, 2, 3), Wishes(verify=True), mode="verify")
    controller = after(
        frozen,
        s1=attempt(1, "passed"),
        s2=attempt(2, "failed", reason="post-validation failed: output data.jsonl: data.jsonl is empty"),
        s3=attempt(3, "failed", reason="post-validation failed: lines: exit code 1"),
        **{f"s{n}": Tale("not verified", reason="not verified, since not ticked") for n in (4, 5, 6)},
    )
    check("summary_verified", frozen, controller)


def test_a_verification_in_which_all_hold_asks_for_nothing() -> None:
    frozen = session(plan(1, count=1), Wishes(verify=True), mode="verify")
    title, lines = summary.of(frozen, after(frozen, s1=attempt(1, "passed")))
    assert title == "SPEC.md: 1 of 1 ticks hold"
    assert not any("next:" in text for text, _ in lines)


def test_what_is_to_be_typed_next_is_never_shortened() -> None:
    many = range(1, 40, 2)
    made = a_plan(a_list(*map(str, range(1, 41)), ticked=tuple(range(1, 41))), true_steps(40))
    frozen = session(made, Wishes(verify=True), mode="verify")
    controller = after(
        frozen, **{f"s{n}": attempt(n, "failed" if n in many else "passed") for n in range(1, 41)}
    )
    (text, _) = summary.of(frozen, controller)[1][-1]
    assert text == f"next: pytest --steps {','.join(map(str, many))} --steps-rerun"


def test_optional_steps_are_not_missed() -> None:
    made = a_plan("- [x] 1. Work\n- [ ]* 2. Nice to have\n")
    frozen = session(made, Wishes("1"))
    assert summary.of(frozen, after(frozen, s1=Tale("done")))[1][-1][0] == "all steps are done"


def test_headers() -> None:
    spec = a_list(*TITLES, ticked=(1,)) + "```\nnever closed\n"
    noisy = a_plan(spec, true_steps(6))
    golden.check(
        "headers",
        [
            *summary.header(session(plan(1, 2), Wishes("continue")), ()),
            "",
            *summary.header(session(plan(1), Wishes("6", assume="2-5")), ("PIN_TOKEN", "A_KEY")),
            "",
            *summary.header(session(plan(1, 2), Wishes("1-2", verify=True), mode="verify"), ()),
            "",
            *summary.header(session(noisy), ()),
        ],
    )
