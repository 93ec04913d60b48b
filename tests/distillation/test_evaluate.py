from __future__ import annotations

import dataclasses
import json
import random
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from distillation import checkpoints, evaluate, evaluation_answers, evaluation_results
from distillation.command import run
from distillation.errors import DistillationError
from distillation.evaluation_answers import ANSWERS, COMPARED, VOICES
from distillation.jsonl import read_json, write_json, write_rows
from distillation.questions import held_out_questions
from distillation.sampling import Said
from distillation.similarity import Estimate, normalised
from tests.distillation import on_engine
from tests.distillation.conftest import Events
from tests.distillation.evaluating import Fake, Voices, connect, trained
from tests.distillation.training_fakes import CONFIG


@pytest.fixture
def voices() -> Voices:
    return Voices()


@pytest.fixture
def run_folder(monkeypatch: pytest.MonkeyPatch, voices: Voices) -> Path:
    return connect(monkeypatch, voices)


def batch(start: int, size: int, output: str = "batch.jsonl") -> int:
    return run(evaluate.main, ["--start", str(start), "--size", str(size), "--output", output])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def whole(run_folder: Path) -> None:
    assert batch(0, 60) == 0
    assert batch(60, 60) == 0


def test_all_voices_answer_the_same_held_out_questions(run_folder: Path, voices: Voices) -> None:
    assert batch(10, 5) == 0
    found = rows(Path("batch.jsonl"))
    assert [one["question"] for one in found] == [one.text for one in held_out_questions(15)[10:]]
    asked = [one.text for one in held_out_questions(15)[10:]]
    assert [question for question, _ in voices.student.asked] == asked
    assert [question for question, _ in voices.base.asked] == asked
    assert sorted(question for question, _ in voices.teacher.asked) == sorted(asked * 2)
    for one in found:
        assert set(VOICES) <= set(one)
        assert one["student"]["prompt_tokens"] == 12
        assert one["teacher"]["prompt_tokens"] == 700


def test_the_compared_voices_share_a_seed_and_the_reference_has_another(run_folder: Path) -> None:
    batch(0, 3)
    found = rows(Path("batch.jsonl"))
    for one in found:
        assert len({one[voice]["seed"] for voice in COMPARED}) == 1
        assert one["teacher"]["seed"] != one["student"]["seed"]
    assert len({one["teacher"]["seed"] for one in found}) == 3


def test_batches_are_joined_in_order_and_the_results_follow_each(run_folder: Path, voices: Voices) -> None:
    batch(5, 5)
    batch(0, 5)
    assert [one["id"] for one in rows(run_folder / ANSWERS)] == [one.id for one in held_out_questions(10)]
    assert read_json(run_folder / evaluation_results.RESULTS)["questions"] == 10


def test_a_batch_behind_the_last_question_writes_nothing(run_folder: Path, voices: Voices) -> None:
    assert batch(CONFIG.evaluation_questions, 20) == 0
    assert not Path("batch.jsonl").exists()
    assert voices.asked == 0


def test_the_last_batch_is_smaller(run_folder: Path) -> None:
    assert batch(CONFIG.evaluation_questions - 7, 20) == 0
    assert len(rows(Path("batch.jsonl"))) == 7


def test_what_was_answered_before_an_interruption_is_not_asked_again(
    run_folder: Path, voices: Voices, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dying(Fake):
        def submit(self, prompt: Any, seed: int) -> Future[Any]:
            future = super().submit(prompt, seed)
            if len(self.asked) > 6:
                future = Future()
                future.set_exception(ConnectionError("the server\nis gone"))
            return future

    healthy, voices.student = voices.student, Dying(voices.student.answering, 12)
    assert batch(0, 10) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "ConnectionError: the server is gone" in error
    assert not Path("batch.jsonl").exists()
    voices.student = healthy
    asked = voices.asked
    assert batch(0, 10) == 0
    assert voices.asked - asked == 4
    interrupted = rows(Path("batch.jsonl"))
    (run_folder / evaluation_answers.MEMORY).unlink()
    batch(0, 10, "again.jsonl")
    assert rows(Path("again.jsonl")) == interrupted


def test_the_best_checkpoint_is_evaluated_and_answers_of_another_are_set_aside(
    run_folder: Path, voices: Voices, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(0, 5)
    trained(run_folder, 8, 0.1)
    trained(run_folder, 12, 0.3)
    asked = len(voices.teacher.asked), len(voices.student.asked)
    batch(0, 5)
    assert {one["checkpoint"] for one in rows(run_folder / ANSWERS)} == {8}
    assert {one["checkpoint"] for one in rows(run_folder / evaluation_answers.SET_ASIDE)} == {4}
    assert "5 answers of another student" in capsys.readouterr().out
    assert (len(voices.teacher.asked), len(voices.student.asked)) == (asked[0], asked[1] + 5)


def test_without_a_checkpoint_there_is_nothing_to_evaluate(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.set_aside(run_folder, 0)
    assert batch(0, 5) == 1
    assert "records no checkpoint; run step 13" in capsys.readouterr().err


def test_a_student_whose_weights_are_gone_is_one_line(run_folder: Path) -> None:
    class Gone:
        def create_sampling_client(self, **_: str) -> Any:
            raise LookupError("Checkpoint expired:\n tinker://x")

    with pytest.raises(DistillationError, match="LookupError: Checkpoint expired: tinker://x; if the checkp"):
        evaluation_answers._sampling(Gone(), "the student of step 4", model_path="tinker://x")


def test_cost_and_progress_are_reported(run_folder: Path, said: Events) -> None:
    batch(20, 10)
    events = said()
    assert [event["progress"] for event in events if "progress" in event] == [[25, 120], [30, 120]]
    spent = sum(event["value"] for event in events if event.get("metric") == "cost_usd")
    found = rows(Path("batch.jsonl"))
    tokens = sum(
        one[voice]["prompt_tokens"] + 2 * one[voice]["answer_tokens"] for one in found for voice in VOICES
    )
    assert spent == pytest.approx(tokens / 1e6)


# ---------------------------------------------------------------- enough


def test_it_is_enough_when_the_interval_is_narrow_and_there_are_100_questions(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(0, 99) == 0
    assert run(evaluate.main, ["--enough", "batch.jsonl"]) == 1
    assert "99 questions, at least 100 are needed; go on" in capsys.readouterr().err
    assert batch(0, 100) == 0
    assert run(evaluate.main, ["--enough", "batch.jsonl"]) == 0
    assert "after 100 questions: enough" in capsys.readouterr().out


def test_a_wide_interval_is_not_enough(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(0, 110)
    narrow = dataclasses.replace(CONFIG, evaluation_interval=0.001)
    monkeypatch.setattr("distillation.config.current", lambda: narrow)
    assert run(evaluate.main, ["--enough", "batch.jsonl"]) == 1
    assert "after 110 questions, +-0.001 is wanted; go on" in capsys.readouterr().err


def test_answers_of_an_earlier_student_do_not_count(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(0, 110)
    trained(run_folder, 8, 0.1)
    assert run(evaluate.main, ["--enough", "batch.jsonl"]) == 1
    assert "0 questions, at least 100 are needed" in capsys.readouterr().err


# ---------------------------------------------------------------- results and check


def test_the_results_put_the_raw_scores_beside_the_normalised(run_folder: Path) -> None:
    whole(run_folder)
    found = read_json(run_folder / evaluation_results.RESULTS)
    assert found["questions"] == 120
    for measure in ("chrf", "f1"):
        raw = {voice: found["raw"][voice][measure] for voice in COMPARED}
        expected = (raw["student"] - raw["base"]) / (raw["second_teacher"] - raw["base"])
        assert found["normalised"][measure]["value"] == pytest.approx(expected, abs=0.01)
    assert found["similarity"] == min(found["normalised"][name]["value"] for name in ("chrf", "f1"))
    shares = {voice: one["value"] for voice, one in found["in_character"].items()}
    assert shares["teacher"] == shares["second_teacher"] == 1.0
    assert shares["base"] == 0.0
    assert 0.85 < shares["student"] < 1.0


def test_the_check_scores_every_answer_again(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(run_folder)
    capsys.readouterr()
    assert run(evaluate.main, ["--check"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    found = read_json(run_folder / evaluation_results.RESULTS)
    assert float(lines["similarity"].rstrip("%")) == pytest.approx(found["similarity"] * 100)
    assert lines["questions"] == "120"
    assert lines["in training data"] == "0"
    assert lines["in character base"] == "0.00%"
    assert lines["ended"] == "interval"


def test_a_student_below_the_threshold_fails_and_nothing_is_made_nicer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = connect(monkeypatch, Voices(share=0.6))
    whole(folder)
    before = read_json(folder / evaluation_results.RESULTS)
    assert before["reached"] is False
    capsys.readouterr()
    assert run(evaluate.main, ["--check"]) == 1
    captured = capsys.readouterr()
    assert f"the similarity is {before['similarity']:.1%}, and 85% are needed" in captured.err
    assert f"similarity: {before['similarity'] * 100:.2f}%" in captured.out
    assert read_json(folder / evaluation_results.RESULTS) == before


def test_an_evaluation_that_is_cut_short_fails(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch(0, 60)
    assert run(evaluate.main, ["--check"]) == 1
    assert "60 questions, and the interval is wider" in capsys.readouterr().err


def spoil_answer(folder: Path) -> None:
    found = rows(folder / ANSWERS)
    found[3]["student"]["answer"] = "Nothing."
    write_rows(folder / ANSWERS, found)


def train_on_it(folder: Path) -> None:
    question = held_out_questions(1)[0].text.upper()
    write_rows(folder / "train.jsonl", [{"id": "x", "question": question, "answer": "Ha!"}])
    evaluate.report()


def better_checkpoint(folder: Path) -> None:
    trained(folder, 8, 0.01)


def twice(folder: Path) -> None:
    found = rows(folder / ANSWERS)
    write_rows(folder / ANSWERS, [*found, found[0]])
    evaluate.report()


def other_engine(folder: Path) -> None:
    found = rows(folder / ANSWERS)
    found[6]["engine"] = "tinker"
    write_rows(folder / ANSWERS, found)


def broken_line(folder: Path) -> None:
    path = folder / ANSWERS
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:50]
    path.write_text("\n".join(lines) + "\n")


def change_results(folder: Path) -> None:
    path = folder / evaluation_results.RESULTS
    write_json(path, read_json(path) | {"similarity": 0.99})


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_answer, r"evaluation_results\.json: says .* counted .*; run step 15 again"),
        (train_on_it, "1 questions were trained on; run step 10 again"),
        (better_checkpoint, "not of the best checkpoint, that of step 8; run step 15 again"),
        (twice, "a question stands there twice"),
        (other_engine, r"evaluation_answers\.jsonl:7: of engine tinker"),
        (broken_line, r"evaluation_answers\.jsonl:7: not JSON"),
        (change_results, "says 0.99 for similarity, counted"),
    ],
)
def test_the_check_sees_what_does_not_fit(run_folder: Path, spoil: Any, problem: str) -> None:
    whole(run_folder)
    evaluation_results.check(run_folder, CONFIG)
    spoil(run_folder)
    with pytest.raises(DistillationError, match=problem):
        evaluation_results.check(run_folder, CONFIG)


def test_a_student_nearer_than_the_teacher_to_itself_is_called_suspicious(
    run_folder: Path, voices: Voices
) -> None:
    voices.student = Fake(lambda question, _: Said(teacher_answer(question), 30, "stop"), 12)

    def teacher_answer(question: str) -> str:
        (first, *_) = [seed for asked, seed in voices.teacher.asked if asked == question]
        return voices.teacher.answering(question, first).text  # type: ignore[union-attr]

    whole(run_folder)
    found = read_json(run_folder / evaluation_results.RESULTS)
    assert found["suspiciously_high"] is True
    assert found["similarity"] > 1


@pytest.mark.parametrize(
    ("chrf", "f1", "suspicious"),
    [
        ((1.02, 0.97, 1.07), (1.02, 0.97, 1.06), False),  # above the limit, as chance may have it
        ((1.02, 1.01, 1.03), (1.02, 1.01, 1.03), True),  # the same, and known too well for chance
        ((1.30, 1.20, 1.40), (1.02, 0.97, 1.06), False),  # the similarity is the lower of both
        ((1.02, 0.97, 1.06), (1.30, 1.20, 1.40), False),
        ((1.05, 1.00, 1.10), (1.05, 1.00, 1.10), False),  # the limit itself is within
    ],
)
def test_suspicion_needs_the_whole_interval_of_both_measures_above_the_limit(
    chrf: tuple[float, float, float], f1: tuple[float, float, float], suspicious: bool
) -> None:
    found = {"chrf": Estimate(*chrf, samples=200), "f1": Estimate(*f1, samples=200)}
    config = dataclasses.replace(CONFIG, similarity_max=1.0)
    assert evaluation_results.suspiciously_high(found, config) is suspicious


def test_a_student_that_is_exactly_as_near_as_the_limit_is_hardly_ever_called_suspicious() -> None:
    draw = random.Random(4)

    def scores(mean: float) -> list[float]:
        return [draw.gauss(mean, 0.2) for _ in range(150)]

    config = dataclasses.replace(CONFIG, similarity_max=1.0)
    estimates = [normalised(scores(0.5), scores(0.2), scores(0.5)) for _ in range(400)]
    above = sum(one.value > 1 for one in estimates)
    called = sum(evaluation_results.suspiciously_high({"chrf": one}, config) for one in estimates)
    assert above > 150, "every second estimate lies above the limit"
    assert called <= 20, "and about one of forty with its whole interval"


def test_the_results_say_how_long_all_batches_took(run_folder: Path) -> None:
    whole(run_folder)
    found = read_json(run_folder / evaluation_results.RESULTS)
    assert found["seconds"] > 0
    assert (found["seconds_done"], found["seconds_stretches"]) == (480, 2)
    assert run(evaluate.main, ["--trial", "5"]) == 0
    evaluation_results.check(run_folder, CONFIG)


# ---------------------------------------------------------------- trial


def test_the_trial_scores_every_answer(
    run_folder: Path, capsys: pytest.CaptureFixture[str], said: Events
) -> None:
    assert run(evaluate.main, ["--trial", "5"]) == 0
    capsys.readouterr()
    assert run(evaluate.main, ["--check-trial"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert lines == {
        "questions": "5",
        "answers": "20",
        "scored": "15",
        "empty": "0",
        "teacher prompt tokens": "3500",
        "student prompt tokens": "60",
    }
    assert {"criterion": "Teacher, base model and student asked the same questions"} in said()


def test_before_the_first_checkpoint_the_trial_asks_the_student_of_the_training_trial(
    run_folder: Path,
) -> None:
    checkpoints.set_aside(run_folder, 0)
    write_json(run_folder / "training_trial.json", {"steps": [{}, {}, {}], "sampler": "trial"})
    assert run(evaluate.main, ["--trial", "2"]) == 0
    assert {one["sampler"] for one in rows(run_folder / evaluate.TRIAL)} == {"trial"}
    assert {one["checkpoint"] for one in rows(run_folder / evaluate.TRIAL)} == {2}


def test_a_wrong_score_in_the_trial_is_found(run_folder: Path) -> None:
    run(evaluate.main, ["--trial", "2"])
    found = rows(run_folder / evaluate.TRIAL)
    found[1]["scores"]["base"]["chrf"] += 0.1
    write_rows(run_folder / evaluate.TRIAL, found)
    with pytest.raises(DistillationError, match="are not those of its answers"):
        evaluate.check_trial()


def test_the_answers_of_the_trial_are_not_paid_for_twice(run_folder: Path, voices: Voices) -> None:
    run(evaluate.main, ["--trial", "5"])
    asked = voices.asked
    batch(0, 5)
    assert voices.asked == asked


# ---------------------------------------------------------------- on the local engine


@pytest.mark.slow
def test_the_engine_answers_with_every_voice_before_there_is_a_checkpoint(folder: Path) -> None:
    place = folder / "place"
    on_engine.lay_out(place)
    on_engine.command(place, "train", "--dry-run")
    assert "resume difference: 0.000000" in on_engine.command(place, "train", "--check-trial")
    on_engine.command(place, "evaluate", "--trial", "2")
    lines = on_engine.command(place, "evaluate", "--check-trial").splitlines()
    assert {"questions: 2", "answers: 8", "scored: 6", "empty: 0"} <= set(lines)
    tokens = dict(line.split(": ") for line in lines)
    assert int(tokens["teacher prompt tokens"]) > 20 * int(tokens["student prompt tokens"])
