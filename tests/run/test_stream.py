"""Mains in batches: when they end, what each batch sees of the results, and what survives a kill."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Main
from pytest_tinker_steps.run.failure import PhaseFailed
from pytest_tinker_steps.run.mains import stream
from pytest_tinker_steps.run.mains.pieces import MANIFEST, discard, store_of
from pytest_tinker_steps.run.process import Ended, Processes
from pytest_tinker_steps.run.redaction import Redactor

from .fake_pieces import A_CHECK, WELL, FakePieceRuns, Killed, Killer, RealPieceRuns, exits, lines_of, writes

MAIN = Main(
    kind="command", mode="stream", command=("score", "{batch.start}", "{batch.results}"), batch_size=10
)
TOTAL = replace(MAIN, total=25)
ENOUGH = replace(MAIN, stop_when=(A_CHECK,))
NOT_YET = ["not enough"]


def run(folder: Path, main: Main, pieces: FakePieceRuns, **more: Any) -> None:
    given: dict[str, Any] = {"spec": "spec", "anew": False, "env": {}, "output": "out.jsonl"}
    given["store"] = folder / "store"
    stream.run(main, folder=folder, pieces=pieces, **{**given, **more})


def joined(folder: Path) -> bytes:
    return (folder / "out.jsonl").read_bytes()


def results_seen(into: list[bytes]) -> Callable[[Any], Ended]:
    def act(env: Any) -> Ended:
        into.append(Path(env["BATCH_RESULTS"]).read_bytes())
        return writes(env)

    return act


# -- ends


def test_it_ends_when_all_examples_are_done_with_a_smaller_last_batch(tmp_path: Path) -> None:
    pieces = FakePieceRuns()
    run(tmp_path, TOTAL, pieces)
    assert joined(tmp_path) == lines_of(0, 25)
    assert [(one["start"], one["size"], one["of"]) for one in pieces.of("piece")] == [
        (0, 10, 3),
        (10, 10, 3),
        (20, 5, 3),
    ]
    assert pieces.begun == ["batch 1 of 3", "batch 2 of 3", "batch 3 of 3"]
    assert pieces.notes() == ["ended after 3 batches: all 25 examples are done"]
    assert [(one["done"], one["total"]) for one in pieces.of("progress")] == [(10, 25), (20, 25), (25, 25)]


def test_it_ends_when_stop_when_passes(tmp_path: Path) -> None:
    pieces = FakePieceRuns(checks=[NOT_YET, NOT_YET, []])
    run(tmp_path, ENOUGH, pieces)
    assert joined(tmp_path) == lines_of(0, 30)
    assert pieces.notes() == ["ended after 3 batches: stop_when passed"]
    assert pieces.begun == ["batch 1", "batch 2", "batch 3"]
    assert pieces.of("progress")[-1] == {"done": 30, "total": 0, "rate": 0.0}


def test_a_batch_is_recorded_and_added_before_stop_when_is_asked(tmp_path: Path) -> None:
    class Looking(FakePieceRuns):
        def check(self, phase: str, checks: Any, env: Any) -> list[str]:
            recorded = (tmp_path / "store" / MANIFEST).read_text().count("\n") - 1
            seen.append((recorded, Path(env["BATCH_RESULTS"]).read_bytes(), env["BATCH_INDEX"]))
            return super().check(phase, checks, env)

    seen: list[tuple[int, bytes, str]] = []
    run(tmp_path, ENOUGH, Looking(checks=[NOT_YET]))
    assert seen == [(1, lines_of(0, 10), "0"), (2, lines_of(0, 20), "1")]


@pytest.mark.parametrize("leaves", ["nothing", "an empty file"])
def test_it_ends_when_a_batch_leaves_no_output(tmp_path: Path, leaves: str) -> None:
    def end(env: Any) -> Ended:
        if leaves == "an empty file":
            Path(env["BATCH_OUTPUT"]).touch()
        return WELL

    pieces = FakePieceRuns(writes, end, checks=[NOT_YET])
    run(tmp_path, ENOUGH, pieces)
    assert joined(tmp_path) == lines_of(0, 10)
    assert pieces.notes() == ["ended after 1 batch: its input ended"]
    assert len(pieces.of("piece")) == 1


def test_without_any_end_its_time_ends_it_and_the_batches_stay(tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed, match=r"no end after 0.05 s; \d+ batches are good") as failed:
        run(tmp_path, replace(MAIN, max_runtime=0.05), FakePieceRuns())
    assert failed.value.cause == "timeout"
    pieces = FakePieceRuns(WELL)
    run(tmp_path, MAIN, pieces)
    count = pieces.of("pieces_resumed")[0]["count"]
    assert joined(tmp_path) == lines_of(0, 10 * count)


def test_a_batch_that_fails_fails_the_main(tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed, match=r"^main failed: batch 2 \(start 10, size 10\) failed once: exit 5"):
        run(tmp_path, MAIN, FakePieceRuns(writes, exits(5)))
    assert not (tmp_path / "out.jsonl").exists()


# -- results


def test_each_batch_is_told_where_it_is_and_sees_the_results_before_it(tmp_path: Path) -> None:
    seen: list[bytes] = []
    pieces = FakePieceRuns(results_seen(seen))
    run(tmp_path, TOTAL, pieces)
    assert seen == [b"", lines_of(0, 10), lines_of(0, 20)]
    env = dict(pieces.environs[1])
    assert pieces.commands[1] == ("score", "10", env["BATCH_RESULTS"])
    assert Path(env.pop("BATCH_OUTPUT")).parent == Path(env.pop("BATCH_RESULTS")).parent == tmp_path / "store"
    assert env == {
        "BATCH_INDEX": "1",
        "BATCH_START": "10",
        "BATCH_SIZE": "10",
        "BATCH_ATTEMPT": "1",
        "BATCH_TOTAL": "25",
    }


def test_what_a_command_writes_into_the_results_does_not_last(tmp_path: Path) -> None:
    def meddles(env: Any) -> Ended:
        with Path(env["BATCH_RESULTS"]).open("ab") as results:
            results.write(b"mine" * 1000)
        return writes(env)

    seen: list[bytes] = []
    run(tmp_path, TOTAL, FakePieceRuns(meddles, results_seen(seen)))
    assert seen == [lines_of(0, 10), lines_of(0, 20)]
    assert joined(tmp_path) == lines_of(0, 25)


def test_batches_without_a_last_line_end_do_not_share_a_line(tmp_path: Path) -> None:
    def open_line(env: Any) -> Ended:
        seen.append(Path(env["BATCH_RESULTS"]).read_bytes())
        Path(env["BATCH_OUTPUT"]).write_text(f"batch {env['BATCH_INDEX']}")
        return WELL

    seen: list[bytes] = []
    run(tmp_path, TOTAL, FakePieceRuns(open_line))
    assert seen[2] == b"batch 0\nbatch 1"
    assert joined(tmp_path) == b"batch 0\nbatch 1\nbatch 2"


def test_without_an_output_the_note_says_where_the_results_are_and_they_stay(tmp_path: Path) -> None:
    store = store_of(tmp_path, "9")
    pieces = FakePieceRuns()
    run(tmp_path, TOTAL, pieces, output=None, store=store)
    (note,) = pieces.notes()
    assert note.startswith("ended after 3 batches: all 25 examples are done; results: ")
    discard(tmp_path, "9")
    assert Path(note.rpartition(" ")[2]).read_bytes() == lines_of(0, 25)
    assert pieces.of("joined") == []


# -- going on


def cut_off(folder: Path, main: Main, *, good: int) -> None:
    def die(env: Any) -> Ended:
        Path(env["BATCH_OUTPUT"]).write_text("half a li")
        raise Killed

    with pytest.raises(Killed):
        run(folder, main, FakePieceRuns(*[writes] * good, die, checks=[NOT_YET] * good))


def test_batches_survive_a_kill_and_the_results_are_as_they_were(tmp_path: Path) -> None:
    cut_off(tmp_path, TOTAL, good=2)
    with (tmp_path / "store" / "results.jsonl").open("ab") as results:
        results.write(b"example 20\nexam")
    seen: list[bytes] = []
    pieces = FakePieceRuns(results_seen(seen))
    run(tmp_path, TOTAL, pieces)
    assert seen == [lines_of(0, 20)]
    assert joined(tmp_path) == lines_of(0, 25)
    assert pieces.of("pieces_resumed") == [{"kind": "batch", "count": 2, "of": 3}]


def test_stop_when_is_asked_again_before_a_new_batch(tmp_path: Path) -> None:
    cut_off(tmp_path, ENOUGH, good=2)
    pieces = FakePieceRuns()
    run(tmp_path, ENOUGH, pieces)
    assert (pieces.commands, [phase for phase, _ in pieces.checked]) == ([], ["stop_when"])
    assert joined(tmp_path) == lines_of(0, 20)


def test_stop_when_is_not_asked_before_there_is_a_batch(tmp_path: Path) -> None:
    pieces = FakePieceRuns(WELL)
    run(tmp_path, ENOUGH, pieces)
    assert (pieces.checked, joined(tmp_path)) == ([], b"")
    assert pieces.notes() == ["ended after 0 batches: its input ended"]


def test_after_a_damaged_batch_none_counts_since_each_has_seen_those_before_it(tmp_path: Path) -> None:
    cut_off(tmp_path, replace(TOTAL, total=50), good=4)
    next((tmp_path / "store").glob("00001-*")).unlink()
    pieces = FakePieceRuns()
    run(tmp_path, replace(TOTAL, total=50), pieces)
    assert [env["BATCH_INDEX"] for env in pieces.environs] == ["1", "2", "3", "4"]
    assert joined(tmp_path) == lines_of(0, 50)


def test_a_larger_total_goes_on_from_the_smaller_last_batch(tmp_path: Path) -> None:
    run(tmp_path, TOTAL, FakePieceRuns())
    pieces = FakePieceRuns()
    run(tmp_path, replace(TOTAL, total=40), pieces)
    assert [(one["start"], one["size"]) for one in pieces.of("piece")] == [(25, 10), (35, 5)]
    assert joined(tmp_path) == lines_of(0, 40)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 5),
    total=st.integers(1, 14),
    stops=st.one_of(st.none(), st.integers(1, 14)),
    kills=st.lists(st.integers(0, 60), max_size=5),
    torn=st.integers(0, 200),
)
def test_whatever_is_killed_the_end_is_that_of_an_undisturbed_run(
    size: int, total: int, stops: int | None, kills: list[int], torn: int
) -> None:
    main = replace(MAIN, batch_size=size, total=total, stop_when=(A_CHECK,) if stops else ())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as name:
        run(Path(one), main, Killer(None, passes_after=stops))
        folder, done = Path(name), 0
        for moments in [*kills, None]:
            killer = Killer(moments, passes_after=stops)
            with killer.everywhere():
                try:
                    run(folder, main, killer)
                except Killed:
                    manifest = folder / "store" / MANIFEST
                    if manifest.exists():
                        whole = manifest.read_bytes()
                        manifest.write_bytes(whole + whole.splitlines()[-1][:torn])
            assert all(int(env["BATCH_START"]) >= done for env in killer.environs)
            done = max([done, *(piece["start"] + piece["size"] for piece in killer.of("piece"))])
            if (folder / "out.jsonl").exists():
                assert joined(folder) == joined(Path(one))
        assert joined(folder) == joined(Path(one))


# -- with real processes


def test_real_batches_until_a_real_check_passes(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("".join(f"{n}\n" for n in range(100)))
    main = replace(
        MAIN,
        command="tail -n +$(({batch.start} + 1)) input | head -n {batch.size} > '{batch.output}'",
        stop_when=(replace(A_CHECK, command='test "$(wc -l < "$BATCH_RESULTS")" -ge 25'),),
    )
    with Processes(redactor=Redactor([])) as processes:
        pieces = RealPieceRuns(processes, tmp_path)
        run(tmp_path, main, pieces, env={"PATH": "/usr/bin:/bin"})
        assert joined(tmp_path) == b"".join(b"%d\n" % n for n in range(30))
        assert [result.status for result in pieces.results] == ["failed", "failed", "passed"]
        run(tmp_path, replace(main, stop_when=()), pieces, env={"PATH": "/usr/bin:/bin"})
    assert joined(tmp_path) == (tmp_path / "input").read_bytes()
    assert pieces.notes()[-1] == "ended after 10 batches: its input ended"
