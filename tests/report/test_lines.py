"""The lines of a step, as they come while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.report import lines

from . import golden

TASK = "task_8_1a2b3c4d"


def told(*events: Mapping[str, Any]) -> list[str]:
    """Lines of the events of one step."""
    return [
        line
        for event in events
        for line in lines.of(
            {"step": "8", "task_id": TASK, "status": "passed", **event},
            title="Generate the training dataset",
            journal=".task_execution.log",
        )
    ]


def check(name: str, status: str = "passed", seconds: float = 0.1, **more: Any) -> dict[str, Any]:
    return {"event": "check", "name": name, "status": status, "seconds": seconds, "message": "", **more}


STARTED = {"event": "attempt_started", "attempt": 1}
PRE = {"event": "phase_started", "phase": "pre_flight", "count": 3}
PRE_ENDED = {"event": "phase", "phase": "pre_flight", "seconds": 3.1}
MAIN = {"event": "phase_started", "phase": "main", "what": "python generate.py --out data ..."}


def test_a_step_that_passes() -> None:
    golden.check(
        "step_passes",
        told(
            STARTED,
            PRE,
            check("teacher_answers", seconds=3.14),
            check("disk_free"),
            check("style", "warned", message="2 long lines"),
            PRE_ENDED,
            {"event": "phase_started", "phase": "test_first", "what": "python generate.py --count 10"},
            {"event": "phase", "phase": "test_first", "message": "10 examples", "seconds": 4.0},
            MAIN,
            {"event": "progress", "done": 500, "total": 5000, "rate": 12.3},
            {"event": "note", "text": "5000 examples"},
            {"event": "metric", "name": "cost_usd", "value": 3.2},
            {"event": "criterion", "text": "dataset complete"},
            {"event": "phase", "phase": "main", "message": "", "seconds": 400.4, "exit": 0},
            {"event": "phase_started", "phase": "post_validation", "count": 1},
            check("consistency", message="consistency: 97.2% (min 95%)", seconds=5, attempts=3),
            {"event": "phase", "phase": "post_validation", "seconds": 5},
            {"event": "ticked", "place": "SPEC.md:24"},
            {"event": "attempt_finished", "seconds": 432, "next": "9", "unverified": ["reads well"]},
        ),
    )


def test_a_step_whose_environment_is_at_fault() -> None:
    golden.check(
        "step_fails_before_main",
        told(
            STARTED,
            PRE,
            check("api_key", "failed", message="TINKER_API_KEY is not set"),
            check("teacher_answers", "cancelled", message="cancelled: api_key failed"),
            check("reads well", "not run", message="not run: no agent"),
            {**PRE_ENDED, "status": "failed"},
            {"event": "attempt_finished", "status": "failed", "seconds": 0.2, "next": "9"},
        ),
    )


def test_a_step_that_is_tried_again_and_left_processes_behind() -> None:
    golden.check(
        "step_tried_again",
        told(
            STARTED,
            MAIN,
            {"event": "phase", "phase": "main", "status": "failed", "message": "exit code 3", "seconds": 61},
            {"event": "left_behind", "count": 2},
            {"event": "retry", "cause": "exit", "attempt": 2, "attempts": 3, "delay": 90.0},
            {"event": "attempt_finished", "status": "failed", "seconds": 61, "final": False},
            {"event": "attempt_started", "attempt": 2, "task_id": "task_8_ffffffff"},
            MAIN,
            {"event": "phase", "phase": "main", "status": "failed", "message": "timed out", "seconds": 3600},
            {"event": "retry", "cause": "timeout", "attempt": 3, "attempts": 3, "delay": 0},
            {"event": "attempt_finished", "status": "failed", "seconds": 8100, "task_id": "task_8_ffffffff"},
            {"event": "unticked", "place": "SPEC.md:24", "message": "it was run again and failed"},
        ),
    )


def test_a_tick_that_cannot_be_made() -> None:
    golden.check(
        "step_not_ticked",
        told(
            {"event": "tick_failed", "message": "SPEC.md:24: box 8 vanished; put it back"},
            {"event": "attempt_finished", "seconds": 1},
        ),
    )


def test_ticks_that_are_verified() -> None:
    golden.check(
        "steps_verified",
        told(
            {"event": "verify_started", "attempt": 1},
            {"event": "phase_started", "phase": "post_validation", "count": 1},
            check("output data.jsonl", message="", seconds=0.0),
            {"event": "verify_finished", "seconds": 0.1, "next": "9"},
            {"event": "verify_started", "attempt": 1},
            {"event": "phase_started", "phase": "post_validation", "count": 2},
            check("output data.jsonl", "failed", message="data.jsonl is empty", seconds=0.0),
            check("lines"),
            {"event": "verify_finished", "status": "failed", "seconds": 2},
        ),
    )


def test_a_job_that_is_started_and_watched() -> None:
    golden.check(
        "step_is_a_job",
        told(
            STARTED,
            MAIN,
            {"event": "job_started", "pid": 4711},
            {"event": "job_ready", "pid": 4711, "seconds": 12.0, "log": f".steps/jobs/{TASK}/main.log"},
            {"event": "attempt_finished", "status": "started", "seconds": 12, "pid": 4711},
            {"event": "sample", "monitor": "monitor_loss", "text": "step 100 loss 0.81\nstep 200 loss 0.62"},
            {"event": "sample", "monitor": "disk", "text": "\x1b[31m" + "full " * 100},
            {"event": "alert", "monitor": "monitor_loss", "text": "loss=nan"},
            {"event": "waiting", "job": "8", "seconds": 3720, "progress": (500, 5000, 12.3)},
            {"event": "waiting", "job": "8", "seconds": 3730.0, "progress": None},
            {"event": "job_ended", "exit": 0, "reason": "", "seconds": 8100.0},
            {"event": "attempt_finished", "seconds": 8112, "next": "9"},
        ),
    )


def test_a_job_that_does_not_end_well() -> None:
    golden.check(
        "step_is_a_job_that_fails",
        told(
            {"event": "job_stopped", "by": "ada@lab pid 77: pytest --steps-stop 8"},
            {"event": "job_ended", "status": "failed", "reason": "killed by SIGTERM", "seconds": 61.0},
            {"event": "attempt_finished", "status": "failed", "seconds": 61},
            {"event": "attempt_finished", "status": "started", "seconds": 0.1},
        ),
    )


def test_a_step_in_pieces() -> None:
    piece = {"event": "piece", "kind": "chunk", "size": 500, "attempt": 1, "seconds": 4.1, "of": 10}
    batch = {**piece, "kind": "batch", "of": None}
    golden.check(
        "step_in_pieces",
        told(
            {"event": "pieces_resumed", "kind": "chunk", "count": 4, "of": 10},
            {"event": "pieces_resumed", "kind": "batch", "count": 4, "of": None},
            {"event": "pieces_resumed", "count": 1, "of": None},
            {**piece, "index": 2, "start": 1000},
            {
                **piece,
                "index": 3,
                "start": 1500,
                "status": "failed",
                "message": "quality failed: 3 of 500 empty",
            },
            {**piece, "index": 3, "start": 1500, "attempt": 2},
            {**piece, "index": 9, "start": 4500, "size": 1},
            {"event": "joined", "kind": "chunk", "path": "data.jsonl", "pieces": 10, "bytes": 1_234_567},
            {**batch, "index": 0, "start": 0},
            {"event": "joined", "kind": "batch", "path": "out.jsonl", "pieces": 3, "bytes": 12},
            {"event": "joined", "path": "out.jsonl", "pieces": 1, "bytes": 1200},
        ),
    )


def test_a_step_that_recovers_until_its_budget_is_reached() -> None:
    golden.check(
        "step_recovers",
        told(
            {"event": "recover", "command": "rm -f lock", "seconds": 0.1, "message": ""},
            {
                "event": "recover",
                "command": "./repair.sh",
                "status": "failed",
                "seconds": 30,
                "message": "exit 3: nothing to repair",
            },
            {"event": "budget", "status": "failed", "message": "step 8 has spent $5.02 of its $5.00"},
        ),
    )


def test_what_is_for_the_journal_alone_has_no_line() -> None:
    for event in ("metric", "criterion", "ignored", "unverified", "run_started", "something new"):
        assert told({"event": event, "name": "loss", "value": 1, "text": "x", "criteria": []}) == []


@pytest.mark.parametrize(
    ("journal", "shown"),
    [
        (".task_execution.log", ".task_execution.log"),
        ("plans/.task_execution.log", "plans/.task_execution.log"),
        ("my plans/.task_execution.log", "'my plans/.task_execution.log'"),
    ],
)
def test_the_hint_for_the_logs_can_be_pasted_into_a_shell(journal: str, shown: str) -> None:
    event = {"event": "attempt_finished", "step": "1", "task_id": "task_1_1a2b3c4d"}
    told = list(lines.of({**event, "status": "passed", "seconds": 1.0}, journal=journal))
    assert told[-1] == f'To view logs: grep "task_1_1a2b3c4d" {shown}'


def test_what_an_encoding_lacks_is_escaped_and_the_rest_stands() -> None:
    said = ["plain", "✗ Café \\ \ud800"]
    assert lines.showable(said, "ascii") == ["plain", "\\u2717 Caf\\xe9 \\ \\ud800"]
    assert lines.showable(said, "latin-1") == ["plain", "\\u2717 Café \\ \\ud800"]
    assert lines.showable(said, None) == ["plain", "✗ Café \\ \\ud800"]


def test_every_golden_file_is_one_of_ours() -> None:
    names = {path.stem for path in golden.FOLDER.glob("*.txt")}
    sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {name for name in names if f'"{name}"' not in sources} == set()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.04, "0.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (60, "1m00s"),
        (432.4, "7m12s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (8100, "2h15m"),
        (90_000, "25h00m"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert lines.duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "rate", "text"),
    [
        (500, 5000, 12.3, "500/5000 [10%] 12.3/s eta 6:06"),
        (0, 10, 0.0, "0/10 [0%]"),
        (10, 10, 5.0, "10/10 [100%] 5.0/s eta 0:00"),
        (4999, 5000, None, "4999/5000 [99%]"),
        (1_234_567, 5_000_000, 100.0, "1234567/5000000 [24%] 100.0/s eta 10:27:34"),
        (0.5, 2.5, 1.0, "0.5/2.5 [20%] 1.0/s eta 0:02"),
        (12, 0, 3.0, "12 done 3.0/s"),
        (12, 10, 1.0, "12/10 [120%] 1.0/s eta 0:00"),
    ],
)
def test_progress_for_people(done: float, total: float, rate: float | None, text: str) -> None:
    assert lines.progress({"done": done, "total": total, "rate": rate}) == text
