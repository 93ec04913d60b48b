"""Chunked and streamed mains inside an attempt: what it lends to their pieces, and what carries over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.run.budget import Budget
from pytest_tinker_steps.run.mains.piecewise import spec_of, whole_of
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor

from .fake_runs import Made, Make

CHUNKED = """
main:
  mode: chunked
  command: "%s; seq {chunk.size} > {chunk.output}"
  chunks: [{size: 2}, {size: 3}, {size: 1}]
  output: data.txt
"""
COUNTS = "echo {chunk.index} >> ran"
FAILS = f"{COUNTS}; test {{chunk.index}} != 1 -o -e mended || exit 5"
SPENDS = """echo '{\\"metric\\": \\"cost_usd\\", \\"value\\": 4}' >> $TINKER_STEPS_EVENTS"""


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(redactor=Redactor([])) as made:
        yield made


@pytest.fixture
def pieced(make: Make, processes: Processes) -> Callable[..., Made]:
    def made(yaml: str, around: dict[str, Any] | None = None, **more: Any) -> Made:
        return make(yaml, processes, around={"environ": dict(os.environ), **(around or {})}, **more)

    return made


def test_pieces_are_done_in_order_and_joined(pieced: Callable[..., Made], tmp_path: Path) -> None:
    made = pieced(CHUNKED % COUNTS + "outputs: [data.txt]\n")
    assert made.whole() == ""
    assert (tmp_path / "ran").read_text() == "0\n1\n2\n"
    assert (tmp_path / "data.txt").read_text() == "1\n2\n1\n2\n3\n1\n"
    assert [(event["index"], event["status"]) for event in made.of("piece")] == [
        (0, "passed"),
        (1, "passed"),
        (2, "passed"),
    ]
    assert made.names()[:2] == ["attempt_started running", "phase_started main"]
    assert "phase main passed" in made.names()
    assert made.of("progress")[-1] | {"done": 6, "total": 6} == made.of("progress")[-1]
    assert made.run.cwd == tmp_path


def test_a_second_attempt_goes_on_where_the_first_was_cut_off(
    pieced: Callable[..., Made], tmp_path: Path
) -> None:
    yaml = CHUNKED % FAILS
    first = pieced(yaml)
    assert first.whole().startswith("main failed: piece 2 of 3")
    assert first.of("phase")[-1]["message"].startswith("piece 2 of 3")
    started = first.of("attempt_started")[0]["started_ns"]
    assert started > 0, "it was begun, though it declares no outputs"
    (tmp_path / "mended").touch()
    assert pieced(yaml, open_since_ns=started).whole() == ""
    assert (tmp_path / "ran").read_text() == "0\n1\n1\n2\n"


@pytest.mark.parametrize("more", [{}, {"open_since_ns": 1, "anew": True}])
def test_a_step_that_begins_anew_does_all_pieces(
    pieced: Callable[..., Made], tmp_path: Path, more: dict[str, Any]
) -> None:
    pieced(CHUNKED % FAILS).whole()
    (tmp_path / "mended").touch()
    assert pieced(CHUNKED % FAILS, **more).whole() == ""
    assert (tmp_path / "ran").read_text() == "0\n1\n0\n1\n2\n"


def test_a_retry_in_the_same_session_goes_on_too(pieced: Callable[..., Made], tmp_path: Path) -> None:
    made = pieced(
        CHUNKED % COUNTS + "  retries: {attempts: 2, when: [post]}\n"
        "post_validation: [{name: good, command: 'test -e good || { touch good; false; }'}]\n"
    )
    assert made.whole() == ""
    assert made.run.attempt == 2
    assert (tmp_path / "ran").read_text() == "0\n1\n2\n"


def test_a_budget_stops_before_the_next_piece(pieced: Callable[..., Made], tmp_path: Path) -> None:
    budget = Budget(tmp_path / "costs", 7.0)
    made = pieced(CHUNKED % SPENDS, {"budget": budget})
    why = "$8.00 of $7.00 spent by this run; piece 3 of 3 was not begun"
    assert made.whole() == f"budget: {why}"
    assert [(event["status"], event["message"]) for event in made.of("budget")] == [("failed", why)]
    assert len(made.of("piece")) == 2
    assert made.of("phase")[-1]["status"] == "failed"


def test_a_monitor_stops_a_piece_and_all_that_follow(pieced: Callable[..., Made]) -> None:
    made = pieced(
        CHUNKED % "sleep 30" + "background:\n"
        "  - {name: loss, command: echo loss=nan, interval: 0.1, alert_on: nan, on_alert: stop}\n"
    )
    assert made.whole().startswith("main failed: stopped by monitor loss: ")
    assert made.run.attempt == 1


def test_quality_checks_are_told_and_their_failures_given_back(pieced: Callable[..., Made]) -> None:
    made = pieced(
        CHUNKED % "true" + "  quality:\n    - {name: lines, command: 'test $CHUNK_SIZE != 3'}\n"
        "    - {name: style, command: 'false', critical: false}\n"
    )
    assert "lines: exit 1" in made.whole()
    told = [(event["phase"], event["name"], event["status"]) for event in made.of("check")]
    assert sorted(told) == [
        ("quality", "lines", "failed"),
        ("quality", "lines", "passed"),
        ("quality", "style", "warned"),
        ("quality", "style", "warned"),
    ]


def test_a_stream_ends_when_its_check_passes(pieced: Callable[..., Made], tmp_path: Path) -> None:
    made = pieced(
        "main:\n  mode: stream\n  command: 'seq {batch.size} > {batch.output}'\n  batch_size: 5\n"
        "  output: all.txt\n  stop_when:\n"
        "    - {name: enough, command: 'test $(wc -l < $BATCH_RESULTS) -ge 10'}\n"
    )
    assert made.whole() == ""
    assert len((tmp_path / "all.txt").read_text().splitlines()) == 10
    assert len(made.of("piece")) == 2


def test_the_folder_of_the_main_must_be_there(pieced: Callable[..., Made]) -> None:
    assert "its folder" in pieced(CHUNKED % "true" + "  cwd: gone\n").whole()


# -- what pieces depend on


def test_a_piece_reports_its_own_progress_and_the_whole_is_shown() -> None:
    env = {"CHUNK_START": "100", "CHUNK_SIZE": "50", "CHUNK_TOTAL": "1000"}
    assert whole_of(env)(1, 2) == (125, 1000)
    assert whole_of(env)(20, 0) == (120, 1000)
    assert whole_of(env)(99, 0) == (150, 1000), "no further than its own end"
    assert whole_of({"BATCH_START": "5", "BATCH_SIZE": "5", "BATCH_TOTAL": ""})(1, 5) == (6, 0)


def test_pieces_count_as_long_as_what_makes_them_is_the_same(pieced: Callable[..., Made]) -> None:
    definition = pieced(CHUNKED % "true").run.definition
    main = definition.main
    same = spec_of(definition, ("engine=local",))
    assert spec_of(replace(definition, main=replace(main, timeout=9.0)), ("engine=local",)) == same
    others = {
        spec_of(definition, ("engine=hosted",)),
        spec_of(replace(definition, env=(("A", "b"),)), ("engine=local",)),
        *(
            spec_of(replace(definition, main=changed), ("engine=local",))
            for changed in (
                replace(main, command="other"),
                replace(main, args=("more",)),
                replace(main, env=(("A", "b"),)),
                replace(main, chunks=(1, 2)),
                replace(main, checkpoint_every=1),
                replace(main, output="other.txt"),
            )
        ),
    }
    assert len(others) == 8
    assert same not in others


def test_a_stream_may_be_made_longer(pieced: Callable[..., Made]) -> None:
    definition = pieced(
        "main: {mode: stream, command: 'true', batch_size: 5, output: all.txt, total: 50}"
    ).run.definition
    longer = replace(definition, main=replace(definition.main, total=500))
    other = replace(definition, main=replace(definition.main, batch_size=6))
    assert spec_of(longer, ()) == spec_of(definition, ()) != spec_of(other, ())
