"""Mains in pieces: what each is told, when it is tried again, and what a cut-off run goes on from."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Main, Retry, Runner
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains import chunked
from pytest_tinker_steps.run.mains.pieces import MANIFEST, Piece, Store
from pytest_tinker_steps.run.process import Ended, Processes
from pytest_tinker_steps.run.redaction import Redactor

from .fake_pieces import (
    A_CHECK,
    WELL,
    Act,
    FakePieceRuns,
    Killed,
    Killer,
    RealPieceRuns,
    exits,
    lines_of,
    output_of,
    writes,
)

ROOT = Path(__file__).parents[2]
MAIN = Main(kind="command", mode="chunked", command=("make",), chunks=(10, 25), checkpoint_every=10)
QUALITY = replace(MAIN, quality=(A_CHECK,))
WHOLE = lines_of(0, 35)


def run(folder: Path, main: Main, pieces: FakePieceRuns, **more: Any) -> None:
    given: dict[str, Any] = {"spec": "spec", "anew": False, "env": {"PATH": "/bin"}, "output": "out.jsonl"}
    chunked.run(main, folder=folder, store=folder / "store", pieces=pieces, **{**given, **more})


def joined(folder: Path) -> bytes:
    return (folder / "out.jsonl").read_bytes()


def failure(folder: Path, main: Main, pieces: FakePieceRuns, **more: Any) -> PhaseFailed:
    with pytest.raises(PhaseFailed) as failed:
        run(folder, main, pieces, **more)
    return failed.value


# -- pieces


@pytest.mark.parametrize(
    ("sizes", "largest", "expected"),
    [
        ((100, 900, 4000), None, [(0, 100), (100, 900), (1000, 4000)]),
        ((100, 900), 500, [(0, 100), (100, 500), (600, 400)]),
        ((3,), 1, [(0, 1), (1, 1), (2, 1)]),
        ((3,), 3, [(0, 3)]),
    ],
)
def test_a_large_piece_is_cut_into_sub_pieces(
    sizes: tuple[int, ...], largest: int | None, expected: list[tuple[int, int]]
) -> None:
    assert chunked.cut(sizes, largest) == [Piece(i, *one) for i, one in enumerate(expected)]


def test_every_piece_is_run_in_order_and_all_are_joined(tmp_path: Path) -> None:
    pieces = FakePieceRuns()
    run(tmp_path, QUALITY, pieces)
    assert joined(tmp_path) == WHOLE
    assert pieces.begun == [f"piece {n} of 4" for n in (1, 2, 3, 4)]
    assert pieces.story[:5] == [
        "may begin piece 1 of 4",
        "process chunk-0-1.log",
        "quality (1)",
        "piece passed",
        "progress",
    ]
    assert pieces.of("joined") == [{"kind": "chunk", "path": "out.jsonl", "pieces": 4, "bytes": len(WHOLE)}]
    assert [(one["done"], one["total"]) for one in pieces.of("progress")] == [
        (10, 35),
        (20, 35),
        (30, 35),
        (35, 35),
    ]
    last = pieces.of("piece")[-1]
    assert last.pop("seconds") >= 0
    assert last == {
        "kind": "chunk",
        "index": 3,
        "start": 30,
        "size": 5,
        "attempt": 1,
        "status": "passed",
        "message": "",
        "of": 4,
    }


def test_processes_and_checks_are_told_their_piece(tmp_path: Path) -> None:
    command = (
        "make",
        "--from={chunk.start}",
        "{chunk.index}/{chunk.attempt}",
        "{chunk.size}",
        "{chunk.output}",
    )
    pieces = FakePieceRuns()
    run(tmp_path, replace(QUALITY, command=command), pieces)
    env = pieces.environs[3]
    assert pieces.commands[3] == ("make", "--from=30", "3/1", "5", env["CHUNK_OUTPUT"])
    assert {name: value for name, value in env.items() if name != "CHUNK_OUTPUT"} == {
        "PATH": "/bin",
        "CHUNK_INDEX": "3",
        "CHUNK_START": "30",
        "CHUNK_SIZE": "5",
        "CHUNK_ATTEMPT": "1",
        "CHUNK_TOTAL": "35",
    }
    assert output_of(env).parent == tmp_path / "store"
    assert output_of(env).suffix == ".jsonl"
    assert pieces.checked[3] == ("quality", env)


def test_a_script_is_run_by_the_interpreter(tmp_path: Path) -> None:
    main = replace(MAIN, kind="script", command=None, script="make.py", args=("{chunk.index}",))
    pieces = FakePieceRuns()
    run(tmp_path, main, pieces, interpreter="/opt/python")
    assert pieces.commands[1] == ("/opt/python", "make.py", "1")


def test_without_an_output_the_exit_code_decides_and_nothing_is_joined(tmp_path: Path) -> None:
    pieces = FakePieceRuns(WELL)
    run(tmp_path, MAIN, pieces, output=None)
    assert [one["status"] for one in pieces.of("piece")] == ["passed"] * 4
    assert pieces.of("joined") == []


# -- trying again


def test_a_piece_is_tried_again_with_a_file_of_its_own(tmp_path: Path) -> None:
    def half(env: Any) -> Ended:
        output_of(env).write_text("half a li")
        return exits(1)

    pieces = FakePieceRuns(writes, half, half, writes)
    run(tmp_path, replace(MAIN, retry=Retry(attempts=3)), pieces)
    assert joined(tmp_path) == WHOLE
    told = [(env["CHUNK_INDEX"], env["CHUNK_ATTEMPT"]) for env in pieces.environs]
    assert told == [("0", "1"), ("1", "1"), ("1", "2"), ("1", "3"), ("2", "1"), ("3", "1")]
    assert len({env["CHUNK_OUTPUT"] for env in pieces.environs}) == len(told)
    assert [one["status"] for one in pieces.of("piece")] == [
        "passed",
        "failed",
        "failed",
        "passed",
        "passed",
        "passed",
    ]
    assert len(list((tmp_path / "store").iterdir())) == 5


def test_out_of_tries_the_first_line_says_which_piece_how_often_and_why(tmp_path: Path) -> None:
    pieces = FakePieceRuns(writes, exits(3, "boom\nreally"))
    failed = failure(tmp_path, replace(MAIN, command="make it", retry=Retry(attempts=2)), pieces)
    assert failed.cause is None
    assert failed.message.splitlines() == [
        "main failed: piece 2 of 4 (start 10, size 10) failed 2 times: exit 3",
        "command: make it",
        "whole output: chunk-1-2.log",
        "its end:",
        "  boom",
        "  really",
    ]
    assert not (tmp_path / "out.jsonl").exists()
    assert pieces.of("piece")[-1]["message"] == "exit 3"


TIMED_OUT = Ended(-15, "timeout", 1.0, "", "no end after 1 s")


@pytest.mark.parametrize(
    ("act", "when", "tries"),
    [
        (exits(1), ("timeout",), 1),
        (exits(1), ("exit",), 3),
        (TIMED_OUT, ("exit",), 1),
        (TIMED_OUT, ("timeout",), 3),
        (WELL, ("exit",), 3),
        (Ended(None, "cancelled", 0.1, "", "cancelled"), ("exit", "timeout"), 1),
    ],
    ids=["exit", "exit wanted", "timeout", "timeout wanted", "no output", "cancelled"],
)
def test_when_decides_what_is_tried_again(tmp_path: Path, act: Act, when: Any, tries: int) -> None:
    pieces = FakePieceRuns(act)
    failure(tmp_path, replace(MAIN, retry=Retry(attempts=3, when=when)), pieces)
    assert len(pieces.commands) == tries


def test_who_cancels_a_piece_says_why(tmp_path: Path) -> None:
    pieces = FakePieceRuns(Ended(-15, "cancelled", 0.1, "", "cancelled"))
    pieces.nothing_after = 1
    assert failure(tmp_path, MAIN, pieces).message == "the budget is spent"


def test_a_link_is_no_output(tmp_path: Path) -> None:
    def links(env: Any) -> Ended:
        output_of(env).symlink_to("/etc/hostname")
        return WELL

    assert "its output is no regular file" in failure(tmp_path, MAIN, FakePieceRuns(links)).message


def test_between_tries_the_delay_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    retry = Retry(attempts=4, delay=1.0, backoff=3.0, jitter=0.5)
    failure(tmp_path, replace(MAIN, retry=retry), FakePieceRuns(exits(1)))
    assert [low <= pause <= 1.5 * low for low, pause in zip((1.0, 3.0, 9.0), slept, strict=True)] == [
        True
    ] * 3


# -- quality


def test_after_bad_quality_the_fix_runs_once_and_the_piece_again(tmp_path: Path) -> None:
    seen: list[bool] = []

    def fix(env: Any) -> Ended:
        seen.append(output_of(env).exists())
        return WELL

    bad = ["empty: 3 of 10", "short: 1 of 10"]
    main = replace(QUALITY, fix="repair {chunk.index} {chunk.attempt}", retry=Retry(attempts=3, when=()))
    pieces = FakePieceRuns(writes, writes, fix, writes, writes, checks=[[], bad, bad, []])
    run(tmp_path, main, pieces)
    assert joined(tmp_path) == WHOLE
    assert pieces.logs[:5] == [
        "chunk-0-1.log",
        "chunk-1-1.log",
        "chunk-1-fix.log",
        "chunk-1-2.log",
        "chunk-1-3.log",
    ]
    assert pieces.commands[2] == "repair 1 1"
    assert pieces.environs[2] == {**pieces.environs[1], "QUALITY_FAILURES": "\n".join(bad)}
    assert seen == [True]
    assert pieces.of("recover") == [
        {"command": "repair 1 1", "status": "passed", "seconds": 0.1, "message": ""}
    ]
    assert pieces.begun[1:4] == ["piece 2 of 4"] * 3


def test_a_fix_gives_one_more_try_to_a_piece_that_has_no_retries(tmp_path: Path) -> None:
    main = replace(QUALITY, fix=("repair",))
    run(tmp_path, main, FakePieceRuns(checks=[["bad"]]))
    assert joined(tmp_path) == WHOLE


def test_pieces_are_handed_to_a_runner_and_their_fix_is_not(tmp_path: Path) -> None:
    ray = Runner("ray", ("ray", "{run}"))
    main = replace(QUALITY, runner=ray, fix=("repair",), chunks=(5,))
    pieces = FakePieceRuns(checks=[["bad"]])
    run(tmp_path, main, pieces)
    assert pieces.runners == [ray, None, ray]
    assert pieces.commands == [("make",), ("repair",), ("make",)]


def test_quality_that_stays_bad_fails_the_main(tmp_path: Path) -> None:
    pieces = FakePieceRuns(checks=[["empty: 3 of 10", "short: 1"]] * 9)
    failed = failure(tmp_path, replace(QUALITY, retry=Retry(attempts=2)), pieces)
    lines = failed.message.splitlines()
    assert failed.cause is None
    assert lines[:3] == [
        "main failed: piece 1 of 4 (start 0, size 10) failed 2 times: quality: empty: 3 of 10",
        "empty: 3 of 10",
        "short: 1",
    ]
    # What the last try has written can be looked at; what those before it wrote is gone.
    assert Path(lines[3].removeprefix("output: ")).exists()
    assert [one.name for one in (tmp_path / "store").glob("*.jsonl") if one.name != MANIFEST] == [
        Path(lines[3]).name
    ]


def test_a_fix_that_fails_is_told_of_and_the_piece_is_tried_all_the_same(tmp_path: Path) -> None:
    pieces = FakePieceRuns(writes, exits(9), writes, checks=[["bad"]])
    run(tmp_path, replace(QUALITY, fix="repair"), pieces)
    assert pieces.of("recover")[0]["status"] == "failed"
    assert joined(tmp_path) == WHOLE


def test_nothing_is_fixed_when_nothing_more_may_begin(tmp_path: Path) -> None:
    pieces = FakePieceRuns(checks=[["bad"]])
    pieces.nothing_after = 1
    failed = failure(tmp_path, replace(QUALITY, fix="repair"), pieces)
    assert (failed.message, pieces.commands) == ("the budget is spent", [("make",)])


# -- time


def test_when_the_main_is_out_of_time_no_further_piece_begins(tmp_path: Path) -> None:
    def slow(env: Any) -> Ended:
        time.sleep(1.1)
        return writes(env)

    pieces = FakePieceRuns(slow)
    failed = failure(tmp_path, replace(MAIN, max_runtime=1.0), pieces)
    assert failed.cause == "timeout"
    assert failed.message.startswith("main failed: no end after 1 s; 1 of 4 pieces are good")
    assert len(pieces.commands) == 1


# -- going on


def cut_off(folder: Path, main: Main = MAIN, *, good: int = 2) -> None:
    def die(env: Any) -> Ended:
        output_of(env).write_text("half a li")
        raise Killed

    with pytest.raises(Killed):
        run(folder, main, FakePieceRuns(*[writes] * good, die))


def test_a_run_that_was_cut_off_goes_on_at_the_first_piece_that_is_not_good(tmp_path: Path) -> None:
    cut_off(tmp_path)
    pieces = FakePieceRuns()
    run(tmp_path, MAIN, pieces)
    assert joined(tmp_path) == WHOLE
    assert [env["CHUNK_INDEX"] for env in pieces.environs] == ["2", "3"]
    assert pieces.of("pieces_resumed") == [{"kind": "chunk", "count": 2, "of": 4}]
    assert pieces.of("progress")[0]["done"] == 30


def test_a_run_that_was_cut_off_when_all_was_good_only_joins(tmp_path: Path) -> None:
    cut_off(tmp_path, replace(MAIN, chunks=(10, 10, 5)))
    run(tmp_path, replace(MAIN, chunks=(10, 10)), pieces := FakePieceRuns())
    assert (pieces.commands, joined(tmp_path)) == ([], lines_of(0, 20))


def test_only_the_damaged_piece_is_done_again(tmp_path: Path) -> None:
    cut_off(tmp_path, good=3)
    first = next((tmp_path / "store").glob("00000-*"))
    first.write_bytes(b"exumple 0\n" + first.read_bytes()[10:])
    pieces = FakePieceRuns()
    run(tmp_path, MAIN, pieces)
    assert joined(tmp_path) == WHOLE
    assert [env["CHUNK_INDEX"] for env in pieces.environs] == ["0", "3"]
    assert pieces.notes() == ["recorded pieces whose files have changed are not used: 1"]


def test_pieces_of_another_cut_do_not_count(tmp_path: Path) -> None:
    cut_off(tmp_path)
    pieces = FakePieceRuns()
    run(tmp_path, replace(MAIN, chunks=(10, 25), checkpoint_every=7), pieces)
    assert joined(tmp_path) == WHOLE
    assert pieces.of("pieces_resumed") == []


def test_another_definition_begins_anew_and_says_so(tmp_path: Path) -> None:
    cut_off(tmp_path)
    pieces = FakePieceRuns()
    run(tmp_path, MAIN, pieces, spec="another")
    assert len(pieces.commands) == 4
    assert pieces.notes() == ["pieces of an earlier attempt are not used: its definition has changed"]


def test_anew_uses_nothing(tmp_path: Path) -> None:
    cut_off(tmp_path)
    pieces = FakePieceRuns()
    run(tmp_path, MAIN, pieces, anew=True)
    assert (len(pieces.commands), pieces.notes()) == (4, [])


def test_a_piece_that_changes_after_it_was_recorded_is_done_again_by_the_next_attempt(tmp_path: Path) -> None:
    outputs: list[Path] = []

    def late(env: Any) -> Ended:
        # What a process left behind keeps on writing after its exit.
        for path in outputs:
            path.write_bytes(path.read_bytes() + b"late\n")
        outputs.append(output_of(env))
        return writes(env)

    failed = failure(tmp_path, replace(MAIN, chunks=(5, 5)), FakePieceRuns(late))
    assert failed.cause == "exit"
    assert not (tmp_path / "out.jsonl").exists()
    run(tmp_path, replace(MAIN, chunks=(5, 5)), pieces := FakePieceRuns())
    assert (len(pieces.commands), joined(tmp_path)) == (1, lines_of(0, 10))


def recorded_are_whole(store: Path) -> set[int]:
    """Indexes of what counts now; each of them must be whole."""
    good = Store(store, "spec", "out.jsonl").open(anew=False).good
    for one in good:
        assert (store / one.file).read_bytes() == lines_of(one.start, one.size)
    return {one.index for one in good}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    largest=st.one_of(st.none(), st.integers(1, 4)),
    kills=st.lists(st.integers(0, 60), max_size=5),
    torn=st.integers(0, 200),
)
def test_whatever_is_killed_the_end_is_that_of_an_undisturbed_run(
    sizes: list[int], largest: int | None, kills: list[int], torn: int
) -> None:
    main = replace(QUALITY, chunks=tuple(sizes), checkpoint_every=largest)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for moments in [*kills, None]:
            before = recorded_are_whole(folder / "store")
            killer = Killer(moments)
            with killer.everywhere():
                try:
                    run(folder, main, killer)
                except Killed:
                    manifest = folder / "store" / MANIFEST
                    if manifest.exists():
                        whole = manifest.read_bytes()
                        manifest.write_bytes(whole + whole.splitlines()[-1][:torn])
            again = {int(env["CHUNK_INDEX"]) for env in killer.environs}
            assert not again & before
            assert recorded_are_whole(folder / "store") >= before
            if (folder / "out.jsonl").exists():
                assert joined(folder) == lines_of(0, sum(sizes))
        assert joined(folder) == lines_of(0, sum(sizes))


# -- with real processes


@pytest.fixture
def real(tmp_path: Path) -> Any:
    with Processes(redactor=Redactor([])) as processes:
        yield lambda: RealPieceRuns(processes, tmp_path)


def test_real_processes_and_checks(tmp_path: Path, real: Callable[[], RealPieceRuns]) -> None:
    checks = (replace(A_CHECK, name="lines", command='test "$(wc -l < "$CHUNK_OUTPUT")" -eq "$CHUNK_SIZE"'),)
    main = replace(
        MAIN,
        command='n=$(cat fixed); seq {chunk.start} $(({chunk.start} + {chunk.size} - n)) > "{chunk.output}"',
        chunks=(3, 2),
        quality=checks,
        fix='test -n "$QUALITY_FAILURES" && echo 1 > fixed',
    )
    (tmp_path / "fixed").write_text("2")
    pieces = real()
    run(tmp_path, main, pieces, env={"PATH": "/usr/bin:/bin"})
    assert joined(tmp_path) == b"0\n1\n2\n3\n4\n"
    assert [(one["index"], one["status"]) for one in pieces.of("piece")] == [
        (0, "failed"),
        (0, "passed"),
        (1, "passed"),
    ]


def test_a_real_failure_names_its_log(tmp_path: Path, real: Callable[[], RealPieceRuns]) -> None:
    failed = failure(tmp_path, replace(MAIN, command="echo out of memory; exit 4"), real())
    assert failed.message.splitlines()[0].endswith("piece 1 of 4 (start 0, size 10) failed once: exit 4")
    assert "  out of memory" in failed.message
    assert (tmp_path / "logs" / "chunk-0-1.log").read_text() == "out of memory\n"


DRIVER = """
import sys
from pathlib import Path
from pytest_tinker_steps.plan.model import Main
from pytest_tinker_steps.run.mains import chunked
from pytest_tinker_steps.run.process import Processes
from pytest_tinker_steps.run.redaction import Redactor
from tests.run.fake_pieces import RealPieceRuns

folder = Path(sys.argv[1])
command = (
    "echo {chunk.index} >> begun;"
    "for i in 0 1 2 3 4; do echo example $(({chunk.start} + i)); sleep 0.005; done > {chunk.output}"
)
main = Main(kind="command", mode="chunked", command=command, chunks=(60,), checkpoint_every=5)
with Processes(redactor=Redactor([])) as processes:
    chunked.run(
        main, folder=folder, store=folder / "store", spec="spec", anew=False, env={"PATH": "/usr/bin:/bin"},
        pieces=RealPieceRuns(processes, folder), output="out.jsonl",
    )
"""


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    killed = 0
    begun = tmp_path / "begun"
    begun.touch()
    for target in (1, 3, 5, 8, 99):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT)
        limit = time.monotonic() + 60
        while len(begun.read_text().split()) < target and driver.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.002)
        if target < 99:
            time.sleep(chance.uniform(0, 0.04))
            driver.kill()
            assert driver.wait() == -signal.SIGKILL
            killed += 1
            recorded_are_whole(tmp_path / "store")
    assert driver.wait(60) == 0
    assert joined(tmp_path) == lines_of(0, 60)
    # At most the piece that was under way is done twice.
    assert 12 <= len(begun.read_text().split()) <= 12 + killed
