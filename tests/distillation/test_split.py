from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillation import audit, split
from distillation import settings as plan
from distillation.command import run
from distillation.jsonl import read_json, read_rows
from distillation.questions import (
    HELD_OUT,
    NEAR_DUPLICATE,
    held_out_questions,
    similarity,
    training_questions,
)
from tests.distillation.conftest import Events
from tests.distillation.generating import put, records


def rows(*questions: str) -> list[dict[str, Any]]:
    return [{"id": str(n), "question": text, "answer": "Ha!"} for n, text in enumerate(questions)]


def distinct(count: int) -> list[dict[str, Any]]:
    return rows(*(question.text for question in training_questions(count)))


def values(name: str) -> list[dict[str, Any]]:
    return [row.value for row in read_rows(plan.run_folder() / name) if row.value is not None]


def test_ninety_to_ten_every_record_on_one_side_in_its_order() -> None:
    data = distinct(200)
    parts = split.split(data, [], seed=1)
    assert len(parts.train) == 180
    assert len(parts.validation) == 20
    assert sorted((*parts.train, *parts.validation), key=lambda one: int(one["id"])) == data
    assert [int(one["id"]) for one in parts.train] == sorted(int(one["id"]) for one in parts.train)


def test_the_same_seed_gives_the_same_split_and_another_one_another() -> None:
    data = distinct(200)
    assert split.split(data, [], seed=1) == split.split(data, [], seed=1)
    assert split.split(data, [], seed=1) != split.split(data, [], seed=2)


def test_a_record_more_does_not_stir_the_others() -> None:
    before = split.split(distinct(200), [], seed=1)
    after = split.split(distinct(201), [], seed=1)
    assert len({one["id"] for one in before.validation} ^ {one["id"] for one in after.validation}) <= 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab c?", min_size=1, max_size=12), min_size=2, max_size=30), st.integers(0, 9))
def test_no_question_and_no_near_duplicate_is_on_both_sides(questions: list[str], seed: int) -> None:
    parts = split.split(rows(*questions), [], seed)
    assert len(parts.train) + len(parts.validation) == len(questions)
    for one in parts.train:
        for other in parts.validation:
            if one["question"].strip(" ?") and other["question"].strip(" ?"):
                assert similarity(one["question"], other["question"]) < NEAR_DUPLICATE


def test_all_answers_to_one_question_stay_together() -> None:
    data = rows(*[q.text for q in training_questions(60)], *[q.text.upper() for q in training_questions(60)])
    parts = split.split(data, [], seed=3)
    sides = [{int(one["id"]) % 60 for one in side} for side in (parts.train, parts.validation)]
    assert not sides[0] & sides[1]
    assert len(parts.validation) == 12
    assert parts.groups == 60


def test_what_is_near_to_the_evaluation_is_left_out_and_listed() -> None:
    data = distinct(50)
    held_out = ["something else entirely", data[3]["question"].lower().replace("?", "")]
    parts = split.split(data, held_out, seed=1)
    assert parts.left_out == ((data[3], held_out[1]),)
    assert len(parts.train) + len(parts.validation) == 49


def test_the_training_questions_of_the_plan_are_far_from_its_evaluation() -> None:
    parts = split.split(distinct(5000), [q.text for q in held_out_questions(HELD_OUT)], split.SEED)
    assert parts.left_out == ()
    assert (len(parts.train), len(parts.validation)) == (4500, 500)


def test_shared_counts_what_is_the_same_or_nearly_so() -> None:
    others = ["What is the meaning of the sea?", "Tell me about love."]
    assert (
        split.shared(["WHAT is the meaning of the sea", "meaning the of sea is what", "Tell me"], others) == 2
    )
    assert split.shared(["?"], others) == 0


# The files


def test_the_files_are_written_and_checked_again(said: Events, capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(200))
    assert run(split.main, []) == 0
    assert set(values(split.TRAIN)[0]) == {"id", "question", "answer"}
    assert {"criterion": "Data split"} in said()
    assert run(split.main, ["--check"]) == 0
    assert (
        "train: 180\nvalidation: 20\ntrain share: 90.00%\nleft out: 0\non both sides: 0\n"
        "in the evaluation: 0\nsame again: 1\n"
    ) in capsys.readouterr().out


def test_a_question_of_the_evaluation_is_kept_aside(capsys: pytest.CaptureFixture[str]) -> None:
    data = records(100)
    data[8]["question"] = held_out_questions(1)[0].text
    put(audit.AUDITED, data)
    assert run(split.main, []) == 0
    (left,) = values(split.LEFT_OUT)
    assert left["near"] == left["question"] == data[8]["question"]
    assert run(split.main, ["--check"]) == 0
    assert "left out: 1\n" in capsys.readouterr().out


def test_a_changed_file_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(100))
    assert run(split.main, []) == 0
    path = plan.run_folder() / split.TRAIN
    path.write_text(path.read_text().replace("Ha!", "Ho!", 1))
    assert run(split.main, ["--check"]) == 1
    assert "train.jsonl: is not what split_report.json has the checksum of" in capsys.readouterr().err


def spoil(train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    """Write other files and their true checksums, as somebody would who splits by another rule."""
    report = read_json(plan.run_folder() / split.REPORT)
    for name, part in ((split.TRAIN, train), (split.VALIDATION, validation)):
        report["sha256"][name] = split._sha256(put(name, part))
    (plan.run_folder() / split.REPORT).write_text(json.dumps(report))


def test_another_split_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(100))
    assert run(split.main, []) == 0
    everything = values(split.TRAIN) + values(split.VALIDATION)
    spoil(everything[10:], everything[:10])
    assert run(split.main, ["--check"]) == 0
    assert "same again: 0\n" in capsys.readouterr().out
    spoil(everything[10:], everything[:9])
    assert run(split.main, ["--check"]) == 1
    assert "the split has other records than audited.jsonl" in capsys.readouterr().err


def test_a_question_on_both_sides_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(100))
    assert run(split.main, []) == 0
    train, validation = values(split.TRAIN), values(split.VALIDATION)
    train[0]["question"] = validation[0]["question"].upper()
    train[1]["question"] = held_out_questions(1)[0].text
    spoil(train, validation)
    assert run(split.main, ["--check"]) == 0
    assert "on both sides: 1\nin the evaluation: 1\nsame again: 0\n" in capsys.readouterr().out


def test_a_prompt_in_the_training_data_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(100))
    assert run(split.main, []) == 0
    train = [{**values(split.TRAIN)[0], "system": "You are"}, *values(split.TRAIN)[1:]]
    spoil(train, values(split.VALIDATION))
    assert run(split.main, ["--check"]) == 1
    assert "train.jsonl:1: has the keys answer, id, question, system" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "complaint"), [(1, "1 to train and 0 to validate"), (0, "0 to train")])
def test_too_little_to_split_says_so(count: int, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(audit.AUDITED, records(count))
    assert run(split.main, []) == 1
    assert complaint in capsys.readouterr().err
    assert not (plan.run_folder() / split.TRAIN).exists()


def test_without_step_9_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split.main, []) == 1
    assert "audited.jsonl: No such file or directory; run the step that writes it" in capsys.readouterr().err
    assert not Path("runs").exists()
