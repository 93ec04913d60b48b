"""The table of jobs: what lives, what has ended and waits, what is settled, and what to type next."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_tinker_steps.record.jobs import Alert, Job
from pytest_tinker_steps.record.state import Records, StepState
from pytest_tinker_steps.report import jobs

from . import golden

CLOCK = 50_000.0
WIDE = 120
WHO = "ada@lab pid 77: pytest --steps-stop 4,8"


def job(number: int, state: str = "running", **more: Any) -> Job:
    """A job of an ordinary step: it began two hours ago, or has run for that long."""
    task_id = f"task_{number}_1a2b3c4d"
    usual: dict[str, Any] = {
        "pid": 4711 + number,
        "began": "2026-11-21T07:12:18.250Z",
        "began_clock": CLOCK - 7320,
        "log": f".steps/jobs/{task_id}/main.log",
    }
    if state in ("passed", "failed"):
        usual |= {"ended": "2026-11-21T09:12:18.250Z", "seconds": 7200.0}
    return Job(**{"step": str(number), "task_id": task_id, "state": state, **usual, **more})


def records(**verdicts: str) -> Records:
    """What the journal says; ``s13="started"`` is the verdict of the attempt that began step 13's job."""
    return Records(
        {
            key.removeprefix("s"): StepState(
                verdict=verdict, task_id=f"task_{key.removeprefix('s')}_1a2b3c4d"
            )
            for key, verdict in verdicts.items()
        }
    )


def shown(found: jobs.Sorted, width: int = WIDE, *, following: bool = False) -> list[str]:
    said = jobs.hints(found, "pytest", following=following)
    return [*jobs.table(found, "SPEC.md", clock=CLOCK, width=width), *([""] if said else []), *said]


def alert(minute: int, text: str) -> Alert:
    return Alert(f"2026-11-21T09:{minute:02d}:11.000Z", "monitor_loss", text)


BUSY = job(
    13,
    progress=(500.0, 5000.0, 12.3),
    samples={"monitor_loss": "step 100 loss 0.81", "disk": "/dev/sda1  81%\n/dev/sdb1  12%"},
    alerts=tuple(alert(minute, f"loss={minute}.5") for minute in range(20)),
    alert_count=57,
)


def test_a_busy_job_has_its_numbers_in_the_row_and_what_monitors_say_below() -> None:
    golden.check("jobs_busy", shown(jobs.sort_out([BUSY], records(s13="started"))))


def test_jobs_of_every_state_that_still_wait_for_something() -> None:
    everything = [
        job(2, "starting", pid=0, began=""),
        job(3, "running", began_clock=CLOCK - 12),
        job(4, "unsupervised", alerts=(alert(3, "loss=nan"),), alert_count=1, stopped_by=WHO),
        job(5, "passed"),
        job(6, "failed", reason="exit 3: CUDA out of memory"),
        job(8, "failed", reason=f"stopped by {WHO}", stopped_by=WHO),
        job(7, "lost", reason="neither it nor its exit code is there"),
    ]
    found = jobs.sort_out(everything, records(s2="cut off", **{f"s{n}": "started" for n in range(3, 9)}))
    golden.check("jobs_everything", shown(found))


def test_what_does_not_fit_beside_the_rest_stands_below() -> None:
    found = jobs.sort_out([BUSY, job(14, "unsupervised")], records(s13="started", s14="started"))
    golden.check("jobs_80_columns", shown(found, 80))
    golden.check("jobs_40_columns", shown(found, 40))


def test_settled_jobs_have_one_line_each_and_the_last_five_stand() -> None:
    settled = [
        job(
            number,
            "failed" if number == 7 else "passed",
            ended=f"2026-11-2{number - 1}T10:00:00.000Z",
            reason="exit 3: no space left on device" if number == 7 else "",
        )
        for number in range(1, 9)
    ]
    verdicts = {f"s{number}": "passed" for number in range(1, 9)} | {"s6": "failed", "s7": "warned"}
    golden.check("jobs_settled", shown(jobs.sort_out(settled, records(**verdicts))))


def test_a_job_that_has_ended_well_waits_for_its_validations() -> None:
    found = jobs.sort_out([job(13, "passed")], records(s13="started"))
    golden.check("jobs_not_validated", shown(found))


def test_without_jobs_there_is_one_line() -> None:
    assert shown(jobs.sort_out([], Records())) == ["SPEC.md: no jobs"]


def test_ended_jobs_of_earlier_attempts_are_left_out_and_live_ones_are_not() -> None:
    later = records(s13="cut off")
    old = {"task_id": "task_13_00000000"}
    assert jobs.sort_out([job(13, "failed", **old)], later).open == ()
    assert jobs.sort_out([job(13, "failed", **old), job(13)], Records()).open == (job(13),)
    assert jobs.sort_out([job(13, **old), job(13)], later).open == (job(13, **old), job(13))


def test_a_job_that_lives_is_open_whatever_the_journal_says() -> None:
    for verdict in ("", "passed", "failed", "started"):
        assert jobs.sort_out([job(13)], records(s13=verdict)).open == (job(13),)


def test_an_ended_job_without_a_journal_is_still_to_be_settled() -> None:
    assert jobs.sort_out([job(13, "passed")], Records()).open == (job(13, "passed"),)


@pytest.mark.parametrize("verdict", ["passed", "failed", "warned", "unticked"])
def test_a_verdict_settles_an_ended_job(verdict: str) -> None:
    found = jobs.sort_out([job(13, "passed")], records(s13=verdict))
    assert found.open == ()
    assert found.settled == ((job(13, "passed"), verdict),)


@pytest.mark.parametrize("width", [20, 40, 80, 81, 200])
def test_nothing_but_a_path_is_wider_than_the_screen(width: int) -> None:
    wild = job(
        13,
        "failed",
        reason="x" * 1000,
        samples={"s" * 30: "y" * 1000},
        alerts=(alert(1, "z" * 1000),),
        progress=(1.0, 3.0, 0.0),
    )
    found = jobs.sort_out([wild, BUSY], Records())
    lines = jobs.table(found, "SPEC.md", clock=CLOCK, width=width)
    assert all(len(line) <= max(width, 36) for line in lines if " log " not in line)


def test_output_of_monitors_cannot_write_on_the_screen() -> None:
    evil = job(13, samples={"m": "\x1b[2Jgone\r\n\x07\u202e"}, reason="\x1b]0;title\x07")
    text = "\n".join(jobs.table(jobs.sort_out([evil], Records()), "SPEC.md", clock=CLOCK, width=80))
    assert all(char.isprintable() or char == "\n" for char in text)


def test_who_follows_is_not_told_to_follow() -> None:
    found = jobs.sort_out([job(13), job(14, step="#3")], Records())
    assert jobs.hints(found, "pytest plans/release.md", following=True) == [
        "to end:   pytest plans/release.md --steps-stop '13,#3'"
    ]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (job(1, "passed"), "ended well after 2h00m"),
        (job(1, "failed", seconds=12, reason="exit 3"), "failed after 12.0s: exit 3"),
        (job(1, "lost"), "lost"),
    ],
)
def test_how_a_job_ended(made: Job, text: str) -> None:
    assert jobs.ended(made) == text
