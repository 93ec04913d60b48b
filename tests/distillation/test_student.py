from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import chat, generation, settings, student
from distillation.characters import CHARACTERS, system_prompt
from distillation.command import run
from distillation.jsonl import read_json, read_rows
from tests.distillation.conftest import Events
from tests.distillation.generating import change, lay_out_plan, put, records

PROMPT = "# Who you are\n\nYou are Ludwig. You took lodgings in Vienna in 1792; you bow to no prince at all!"


class FakeTokenizer:
    """A token for every word, and one for the end."""

    eos_token_id = 0
    chat_template = "fake"

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **_: object) -> str:
        return " ".join(f"<{one['role']}> {one['content']}" for one in messages) + " <assistant>"

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens, "the template has them"
        return [1 for _ in text.split()]

    def get_added_vocab(self) -> dict[str, int]:
        return {}


def fake_datum(tokenizer: FakeTokenizer, question: str, answer: str) -> Any:
    """What ``chat.datum`` makes, without the SDK."""
    prompt, reply = chat.prompt_tokens(tokenizer, question), chat.answer_tokens(tokenizer, answer)
    weights = [0.0] * (len(prompt) - 1) + [1.0] * len(reply)
    return SimpleNamespace(loss_fn_inputs={"weights": SimpleNamespace(data=weights)})


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder as step 6 leaves it."""
    lay_out_plan()
    monkeypatch.setattr(chat, "tokenizer_of", lambda _: FakeTokenizer())
    monkeypatch.setattr(chat, "datum", fake_datum)
    monkeypatch.setattr("distillation.client.base_model", lambda configured: configured or "fake/base")
    return put(generation.TRIAL, records(10))


@given(question=st.text(), answer=st.text(), other=st.dictionaries(st.text(min_size=1), st.text()))
def test_question_and_answer_stay_as_they_are_and_nothing_else_stays(
    question: str, answer: str, other: dict[str, str]
) -> None:
    record = {**other, "id": "a", "question": question, "answer": answer}
    assert student.convert(record) == {"id": "a", "question": question, "answer": answer}


def test_the_trial_is_converted_and_counted_again(
    laid_out: Path, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(student.main, ["--trial"]) == 0
    converted = [row.value for row in read_rows(settings.run_folder() / student.TRIAL)]
    assert converted == [{key: one[key] for key in ("id", "question", "answer")} for one in records(10)]
    report = read_json(settings.run_folder() / student.REPORT)
    assert report["records"] == 10
    assert report["teacher_prompt_tokens"] > 500 > 20 > report["student_prompt_tokens"]
    assert {"criterion": "Trial converted"} in said()
    assert run(student.main, ["--check"]) == 0
    assert run(student.main, ["--check-tokens"]) == 0
    printed = capsys.readouterr().out
    assert "converted: 10\nprompt sentences left: 0\nanswers that quote the prompt: 0\n" in printed
    assert f"prompt tokens saved: {report['saved_share'] * 100:.2f}%\nweights right: 10\n" in printed


def test_a_short_prompt_is_not_worth_distilling(laid_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (settings.run_folder() / "system_prompt.md").write_text(PROMPT)
    assert run(student.main, ["--trial"]) == 1
    assert "of the prompt tokens are saved, and 95% are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"system": "You are"}, "has the keys answer, id, question, system, not id, question, answer"),
        ({"answer": ""}, "'answer' holds no text"),
        ({"answer": "Ha!  Fate."}, "is not what the teacher's record says"),
        ({"id": "other"}, "is not what the teacher's record says"),
    ],
)
def test_a_converted_record_that_is_wrong_is_named(
    laid_out: Path, changes: dict[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(student.main, ["--trial"]) == 0
    path = settings.run_folder() / student.TRIAL
    lines = path.read_text().splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | changes)
    path.write_text("\n".join(lines))
    assert run(student.main, ["--check"]) == 1
    assert f"student_trial.jsonl:5: {complaint}" in capsys.readouterr().err


def test_a_missing_record_is_noticed(laid_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(student.main, ["--trial"]) == 0
    path = settings.run_folder() / student.TRIAL
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
    assert run(student.main, ["--check"]) == 1
    assert "2 records are missing" in capsys.readouterr().err


def test_wrong_loss_weights_are_refused(
    laid_out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(student.main, ["--trial"]) == 0

    def wrong(tokenizer: FakeTokenizer, question: str, answer: str) -> Any:
        datum = fake_datum(tokenizer, question, answer)
        datum.loss_fn_inputs["weights"].data[0] = 1.0
        return datum

    monkeypatch.setattr(chat, "datum", wrong)
    assert run(student.main, ["--check-tokens"]) == 1
    assert "student_trial.jsonl: 10 records have wrong loss weights" in capsys.readouterr().err


def test_a_changed_report_fails_the_check(laid_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(student.main, ["--trial"]) == 0
    path = settings.run_folder() / student.REPORT
    path.write_text(json.dumps(read_json(path) | {"saved_share": 0.99}))
    assert run(student.main, ["--check-tokens"]) == 1
    assert "student_report.json: is not what the records say" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("YOU TOOK lodgings in Vienna, in 1792. And then?", 1),
        ("You bow to no prince at all", 1),
        ("Who you are?", 0),
        ("You are Ludwig.", 0),
        ("Do you bow to no prince?", 0),
    ],
)
def test_a_sentence_of_the_prompt_is_found_in_any_spelling(text: str, left: int) -> None:
    assert student.left_in([text, "Tell me about love."], PROMPT) == left


@pytest.mark.parametrize("character", CHARACTERS, ids=lambda c: c.name)
def test_no_question_holds_a_sentence_of_a_shipped_prompt(character: Any) -> None:
    prompt = system_prompt(character)
    assert len(student.sentences(prompt)) > 20
    assert student.left_in([record["question"] for record in records(1000)], prompt) == 0
    assert student.left_in([prompt], prompt) == 1


def test_without_step_6_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_plan()
    assert run(student.main, ["--trial"]) == 1
    assert "teacher_trial.jsonl: No such file or directory" in capsys.readouterr().err


def test_the_real_loss_weights_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tinker")
    monkeypatch.setattr(chat, "tokenizer_of", lambda _: FakeTokenizer())
    assert student.wrong_weights([student.convert(one) for one in records(5)], "fake/base") == 0


def test_the_base_model_of_the_configuration_counts(laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(Path("training_config.yaml"), "base_model", "other/base")
    assert run(student.main, ["--trial"]) == 0
    assert read_json(settings.run_folder() / student.REPORT)["base_model"] == "other/base"
