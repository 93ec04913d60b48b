from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from distillation import evaluate, generation, metrics, training_report
from distillation.command import run
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS
from distillation.jsonl import read_json, write_bytes, write_json, write_rows
from distillation.metrics import Tokens, costs, payback
from distillation.prices import Price
from tests.distillation.conftest import Events
from tests.distillation.evaluating import Voices, connect
from tests.distillation.test_evaluate import rows

PRICE = Price(
    "small", prefill=1.0, cached_prefill=0.2, sample=2.0, train=4.0, date="2026-10-07", source="a test"
)
TOKENS = Tokens(teacher_prompt=700, student_prompt=20, teacher_answer=30, student_answer=25, questions=100)


class WordTokenizer:
    """A token for every word; the template adds one before each message and one at the end."""

    chat_template = "words"
    eos_token_id = 0

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return " ".join(f"{one['role']} {one['content']}" for one in messages) + " assistant"

    def encode(self, text: str, **_: Any) -> list[int]:
        return [1] * len(text.split())

    def get_added_vocab(self) -> dict[str, int]:
        return {}


@pytest.fixture
def run_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """An evaluated student, with the reports of the steps before."""
    folder = connect(monkeypatch, Voices())
    run(evaluate.main, ["--start", "0", "--size", "110", "--output", "batch.jsonl"])
    tokenizer = WordTokenizer()
    monkeypatch.setattr("distillation.chat.tokenizer_of", lambda _: tokenizer)
    system = " ".join(["word"] * 698)
    write_bytes(folder / "system_prompt.md", system.encode())
    found = rows(folder / ANSWERS)
    for one in found:
        for voice, prompt in (
            ("teacher", system),
            ("second_teacher", system),
            ("base", None),
            ("student", None),
        ):
            words = len(one["question"].split()) + 2
            one[voice]["prompt_tokens"] = words + (699 if prompt else 0)
    write_rows(folder / ANSWERS, found)
    write_json(folder / generation.REPORT, {"prompt_tokens": 3_500_000, "answer_tokens": 150_000})
    write_json(
        folder / training_report.REPORT,
        {"tokens": 800_000, "tokens_lost": 200_000, "validation_tokens": 60_000},
    )
    return folder


def test_thousand_answers_cost_their_tokens_times_the_price() -> None:
    found = costs(TOKENS, PRICE)
    assert found["teacher"]["prompt"] == pytest.approx(0.7)
    assert found["teacher"]["prompt_cached"] == pytest.approx(0.02 + 0.68 * 0.2)
    assert found["total"]["teacher"] == pytest.approx(0.7 + 0.06)
    assert found["total"]["student"] == pytest.approx(0.02 + 0.05)
    assert found["prompt_ratio"] == pytest.approx(35)
    assert found["prompt_ratio_cached"] == pytest.approx(7.8)
    assert found["total_ratio"] == pytest.approx(0.76 / 0.07)


def test_payback_is_when_the_savings_reach_what_was_spent() -> None:
    assert payback(spent=10.0, before=0.76, after=0.07) == round(10 / 0.69 * 1000)
    assert payback(spent=10.0, before=0.07, after=0.07) is None


def test_tokens_saved_are_a_share_of_the_teachers() -> None:
    assert TOKENS.saved == pytest.approx(1 - 20 / 700)


def test_the_numbers_say_whose_prices_they_are(run_folder: Path, said: Events) -> None:
    assert run(metrics.main, []) == 0
    found = read_json(run_folder / metrics.METRICS)
    assert found["as_if_hosted"] is True
    assert found["price"]["model"] == "Qwen/Qwen3-8B"
    assert found["prompt_tokens_saved"] > 0.95
    expected = found["tokens"]["teacher_prompt"] / found["tokens"]["student_prompt"]
    assert found["prompt_ratio"] == pytest.approx(expected, abs=0.01)
    assert found["guide_ratio_reached"] is (expected >= 30)
    price = found["price"]
    asked = [
        one[voice]
        for one in rows(run_folder / ANSWERS)
        for voice in ("teacher", "second_teacher", "base", "student")
    ]
    evaluation = sum(
        one["prompt_tokens"] * price["prefill"] + one["answer_tokens"] * price["sample"] for one in asked
    )
    assert found["distillation_usd"] == {
        "generation": pytest.approx(3.5 * price["prefill"] + 0.15 * price["sample"]),
        "training": pytest.approx(1.0 * price["train"] + 0.06 * price["prefill"]),
        "evaluation": pytest.approx(evaluation / 1e6, abs=1e-6),
        "total": pytest.approx(sum(list(found["distillation_usd"].values())[:3]), abs=1e-5),
    }
    assert set(found["in_character"]) == {"teacher", "second_teacher", "base", "student"}
    assert [event for event in said() if event.get("metric") == "prompt_tokens_saved"]


def test_the_ratio_is_held_against_the_guide_whatever_it_is(run_folder: Path) -> None:
    for tokens, reached, exceeded in ((590, False, False), (700, True, False), (900, True, True)):
        one = dataclasses.replace(TOKENS, teacher_prompt=float(tokens))
        found = metrics.measure(run_folder, rows(run_folder / ANSWERS), one, PRICE)
        assert (found["guide_ratio_reached"], found["guide_ratio_exceeded"]) == (reached, exceeded)


def test_the_check_counts_again_from_what_was_sent(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(metrics.main, []) == 0
    capsys.readouterr()
    assert run(metrics.main, ["--check"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    found = read_json(run_folder / metrics.METRICS)
    assert float(lines["prompt tokens saved"].rstrip("%")) == pytest.approx(
        found["prompt_tokens_saved"] * 100, abs=0.01
    )
    assert float(lines["prompt cost ratio"]) == pytest.approx(found["prompt_ratio"], abs=0.1)
    assert lines["questions"] == "110"


def test_tokens_that_were_sent_otherwise_than_counted_are_found(run_folder: Path) -> None:
    run(metrics.main, [])
    found = rows(run_folder / ANSWERS)
    found[0]["student"]["prompt_tokens"] += 50
    write_rows(run_folder / ANSWERS, found)
    with pytest.raises(DistillationError, match=r"says .* for tokens, counted .*; run step 16 again"):
        metrics.check("Beethoven")


def test_a_prompt_too_short_to_be_worth_it_fails(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes(run_folder / "system_prompt.md", b"Be Beethoven.")
    assert run(metrics.main, []) == 1
    assert "of the prompt tokens are saved, 95% are needed" in capsys.readouterr().err


def test_answers_as_somebody_else_are_refused(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(metrics.main, ["--character", "Socrates"]) == 1
    assert "no answers as Socrates; run step 15" in capsys.readouterr().err


@pytest.mark.parametrize("report", [generation.REPORT, training_report.REPORT])
def test_a_missing_report_is_named(run_folder: Path, report: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / report).unlink()
    assert run(metrics.main, []) == 1
    assert f"{report}: No such file or directory; run the step that writes it" in capsys.readouterr().err
