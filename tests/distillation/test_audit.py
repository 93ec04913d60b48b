from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillation import audit, generation, settings, split
from distillation.command import run
from distillation.jsonl import read_json, read_rows
from tests.distillation.conftest import Events
from tests.distillation.generating import BEETHOVEN, put, records


def audited(rows: list[dict[str, Any]]) -> int:
    put(generation.DATA, rows)
    return run(audit.main, [])


def report() -> dict[str, Any]:
    return read_json(settings.run_folder() / audit.REPORT)


def values(name: str) -> list[dict[str, Any]]:
    return [row.value for row in read_rows(settings.run_folder() / name) if row.value is not None]


def test_good_answers_all_stay_and_are_counted_again(
    said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = records(200)
    assert audited(rows) == 0
    assert values(audit.AUDITED) == rows
    assert {"criterion": "Answers audited"} in said()
    assert run(audit.main, ["--check"]) == 0
    printed = capsys.readouterr().out
    assert "lines: 200\naudited: 200\nflagged: 0\nrejected: 0\nin character: 100.00%\n" in printed
    assert "duplicates: 0.00%\nout of part: 0.00%\nempty: 0\nleast kind: 20.00%\n" in printed


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"answer": "  "}, ["empty", "not in character (score 0.00)"]),
        ({"stop": "length"}, ["cut off"]),
        ({"answer": "Ha!"}, ["1 words, not 3 to 400", "not in character (score 0.25)"]),
        ({"answer": "It is a nice day today."}, ["not in character (score 0.00)"]),
        (
            {"answer": "Ha! As a Language-Model I seize fate by the throat in a storm."},
            ["steps out of the part: 'language model'", "not in character (score 0.00)"],
        ),
    ],
)
def test_a_bad_answer_is_flagged_with_its_reasons_and_kept(
    changes: dict[str, Any], reasons: list[str]
) -> None:
    rows = records(100)
    rows[41] |= changes
    assert audited(rows) == 0
    (flagged,) = values(audit.FLAGGED)
    assert flagged == {"line": 42, "reasons": reasons, **rows[41]}
    assert values(audit.AUDITED) == rows[:41] + rows[42:]
    assert run(audit.main, ["--check"]) == 0


def test_the_same_answer_to_another_question_is_no_duplicate() -> None:
    rows = records(100)
    rows[7]["answer"] = rows[3]["answer"]
    assert audited(rows) == 0
    assert report()["flagged"] == 0


def test_the_same_question_and_answer_are_a_duplicate_case_and_punctuation_aside() -> None:
    rows = records(200)
    rows[7] |= {"question": rows[3]["question"].upper(), "answer": rows[3]["answer"].replace(",", " -")}
    assert audited(rows) == 0
    (flagged,) = values(audit.FLAGGED)
    assert flagged["reasons"] == [f"the same as {rows[3]['id']}"]
    assert report()["exact_duplicate_share"] == 0.005


def test_nearly_the_same_question_and_answer_are_a_near_duplicate() -> None:
    rows = records(200)
    rows[7] |= {"question": rows[3]["question"], "answer": rows[3]["answer"] + " Yes."}
    assert audited(rows) == 0
    (flagged,) = values(audit.FLAGGED)
    assert flagged["reasons"][0].startswith(f"nearly the same as {rows[3]['id']} (0.9")
    assert report()["exact_duplicate_share"] == 0
    assert report()["duplicate_share"] == 0.005


def test_one_of_three_that_are_the_same_stays() -> None:
    rows = records(400)
    for place in (5, 6):
        rows[place] |= {key: rows[4][key] for key in ("question", "answer")}
    assert audited(rows) == 0
    assert [one["line"] for one in values(audit.FLAGGED)] == [6, 7]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "torn off', "not JSON (Unterminated string starting at at column 8)"),
        ("[]", "not a JSON object"),
        ('{"id": "x"}', "no key 'kind'"),
    ],
)
def test_a_corrupted_line_in_the_middle_is_named_and_kept_aside(
    line: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(generation.DATA, records(100))
    lines = path.read_text().splitlines()
    lines[49] = line
    path.write_text("\n".join(lines) + "\n")
    assert run(audit.main, []) == 0
    assert f"{path}:50: {reason}\n" in capsys.readouterr().out
    (kept,) = values(audit.REJECTED)
    assert kept == {"file": path.as_posix(), "line": 50, "reason": reason, "text": line}
    assert report()["lines"] == 100
    assert report()["rejected"] == 1
    assert report()["audited"] == 99
    assert run(audit.main, ["--check"]) == 0
    assert "rejected: 1\n" in capsys.readouterr().out


def test_answers_of_the_other_engine_are_rejected() -> None:
    rows = records(100)
    rows[3]["engine"] = "tinker"
    assert audited(rows) == 0
    assert values(audit.REJECTED)[0]["reason"] == "of engine tinker, not local"


@pytest.mark.parametrize(
    ("bad", "changes", "complaint"),
    [
        (
            6,
            {"answer": "It is a nice day today."},
            "in character share is 94.00%, and at least 95% is needed",
        ),
        (
            3,
            {"answer": "Ha! As an AI I seize fate in a storm."},
            "out of part share is 3.00%, and at most 2%",
        ),
    ],
)
def test_too_many_bad_answers_fail_and_leave_the_numbers(
    bad: int,
    changes: dict[str, Any],
    complaint: str,
    said: Events,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = records(100)
    for row in rows[:bad]:
        row |= changes
    assert audited(rows) == 1
    assert complaint in capsys.readouterr().err
    assert report()["flagged"] == bad
    assert said() == []
    assert run(audit.main, ["--check"]) == 1


@pytest.mark.parametrize(
    ("suffix", "complaint"),
    [
        ("", "exact duplicate share is 5.00%, and at most 1% is needed"),
        (" Yes.", "duplicate share is 5.00%, and less than 5% is needed"),
    ],
)
def test_too_many_duplicates_fail(suffix: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = records(100)
    for row in rows[:5]:
        row |= {"question": rows[9]["question"], "answer": rows[9]["answer"] + suffix}
    rows[0]["answer"] = rows[9]["answer"] + suffix
    if suffix:  # each near to the one that stays, none equal to another
        for number, row in enumerate(rows[:5]):
            row["answer"] = rows[9]["answer"] + f" Yes{number}."
    assert audited(rows) == 1
    assert complaint in capsys.readouterr().err


def test_a_kind_of_question_that_is_rare_fails(capsys: pytest.CaptureFixture[str]) -> None:
    rows = records(300)
    kind = rows[0]["kind"]
    rare = [row for row in rows if row["kind"] == kind]
    assert audited([row for row in rows if row not in rare[24:]]) == 1
    assert "least kind share is 9.09%, and at least 10% is needed" in capsys.readouterr().err


@pytest.mark.parametrize("name", [audit.AUDITED, audit.FLAGGED])
def test_a_file_changed_afterwards_fails_the_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = records(100)
    rows[0]["stop"] = "length"
    assert audited(rows) == 0
    path = settings.run_folder() / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert run(audit.main, ["--check"]) == 1
    assert "run step 9 again" in capsys.readouterr().err


@pytest.mark.parametrize("name", [audit.AUDITED, audit.FLAGGED, audit.REJECTED])
def test_a_line_that_was_torn_afterwards_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = records(60)
    rows[3]["answer"] = ""
    path = put(generation.DATA, rows)
    path.write_text(path.read_text() + "no record\n")
    assert run(audit.main, []) == 0
    torn = path.with_name(name)
    torn.write_text(torn.read_text().replace(":", "", 1))
    capsys.readouterr()
    assert run(audit.main, ["--check"]) == 1
    assert f"{name}:1: not JSON" in capsys.readouterr().err


def test_an_audit_and_a_split_say_how_long_they_took() -> None:
    put(generation.DATA, records(60))
    audit.write(BEETHOVEN)
    split.write()
    for name in (audit.REPORT, split.REPORT):
        assert 0 <= read_json(settings.run_folder() / name)["seconds"] < 60


def test_an_answer_slipped_in_afterwards_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(records(100)) == 0
    path = settings.run_folder() / audit.AUDITED
    lines = path.read_text().splitlines()
    lines[5] = json.dumps(json.loads(lines[5]) | {"answer": "Buy shoes."})
    path.write_text("\n".join(lines) + "\n")
    assert run(audit.main, ["--check"]) == 1
    assert "is not the data without what was flagged and rejected" in capsys.readouterr().err


def test_without_step_8_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(audit.main, []) == 1
    assert "teacher_data_5000.jsonl: No such file or directory" in capsys.readouterr().err
    assert not Path("runs").exists()
