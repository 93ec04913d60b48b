from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillation import generation, settings, teacher
from distillation.command import run
from distillation.jsonl import read_json, read_rows
from distillation.memory import FILE, Answer, Memory
from distillation.questions import training_questions
from distillation.sampling import Said, seed_of
from tests.distillation.conftest import Events
from tests.distillation.generating import (
    BEETHOVEN,
    change,
    fake_teacher,
    in_character,
    lay_out_plan,
    put,
    record,
    records,
)


def chunk(start: int, size: int, output: str = "chunk.jsonl") -> int:
    return run(teacher.main, ["--start", str(start), "--size", str(size), "--output", output])


def values(path: str | Path) -> list[dict[str, Any]]:
    return [row.value for row in read_rows(Path(path)) if row.value is not None]


def test_a_trial_of_ten_answers_has_everything_counted(
    monkeypatch: pytest.MonkeyPatch, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch)
    assert run(teacher.main, ["--trial", "10"]) == 0
    found = values("runs/local/teacher_trial.jsonl")
    assert len(found) == len(fake.asked) == 10
    assert list(found[0]) == [*[*generation.FORM][:8], "tries", "character", "engine"]
    assert found[0]["prompt_tokens"] == 701
    assert {"criterion": "Teacher answers"} in said()
    assert {"progress": [10, 10]} in said()
    assert run(teacher.main, ["--check", "--trial"]) == 0
    printed = capsys.readouterr().out
    assert "records: 10\n" in printed
    assert "in character: 100.00%\nempty: 0\ncut off: 0\n" in printed
    assert "uncounted: 0\n" in printed


def test_a_chunk_asks_its_own_questions_in_order_and_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, said: Events
) -> None:
    lay_out_plan()
    fake_teacher(monkeypatch)
    assert chunk(100, 60) == 0
    assert [one["id"] for one in values("chunk.jsonl")] == [q.id for q in training_questions(160)[100:]]
    told = [event["progress"] for event in said() if "progress" in event]
    assert told == [[25, 60], [50, 60], [60, 60]]
    assert not [event for event in said() if "note" in event]


def test_the_last_chunk_says_that_all_is_done(monkeypatch: pytest.MonkeyPatch, said: Events) -> None:
    lay_out_plan(examples=30)
    fake_teacher(monkeypatch)
    assert chunk(20, 10) == 0
    assert {"note": "all 30 questions are answered by Beethoven"} in said()


def test_no_question_is_asked_twice_and_the_answers_do_not_depend_on_the_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch)
    assert run(teacher.main, ["--trial", "10"]) == 0
    assert chunk(0, 30, "one.jsonl") == 0
    assert len(fake.asked) == 30
    assert chunk(0, 15, "a.jsonl") == chunk(15, 15, "b.jsonl") == 0
    assert len(fake.asked) == len(set(fake.asked)) == 30
    assert Path("a.jsonl").read_bytes() + Path("b.jsonl").read_bytes() == Path("one.jsonl").read_bytes()


def test_nobody_is_connected_to_when_all_answers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_plan()
    fake_teacher(monkeypatch)
    assert chunk(0, 5) == 0

    def refuse(*_: object) -> None:
        pytest.fail("nothing is to be asked")

    monkeypatch.setattr(teacher, "speaking", refuse)
    assert chunk(0, 5) == 0


def test_an_interrupted_chunk_keeps_every_answer_that_had_come(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_plan()
    uninterrupted = fake_teacher(monkeypatch)
    assert chunk(0, 20, "whole.jsonl") == 0
    (settings.run_folder() / FILE).unlink()

    def dies(question: str, seed: int) -> Said | BaseException:
        return Said(in_character(question), 30, "stop") if len(fake.asked) <= 12 else KeyError("gone")

    fake = fake_teacher(monkeypatch, dies)
    assert chunk(0, 20) == 1
    assert not Path("chunk.jsonl").exists()
    fake = fake_teacher(monkeypatch)
    assert chunk(0, 20) == 0
    assert len(fake.asked) == 8
    assert Path("chunk.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert set(fake.asked) < set(uninterrupted.asked)


def test_answers_are_recorded_as_they_come_not_when_all_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan(answer_timeout=2)
    first = training_questions(1)[0].text
    fake_teacher(monkeypatch, lambda q, _s: None if q == first else Said(in_character(q), 30, "stop"))
    assert chunk(0, 10) == 1
    assert "no answer came for 2 s, and 1 are missing" in capsys.readouterr().err
    assert len(read_rows(settings.run_folder() / FILE)) == 9


@pytest.mark.parametrize(
    ("option", "value"), [("temperature", 0.1), ("max_tokens", 64), ("seed", 9), ("top_p", 0.5)]
)
def test_answers_of_another_way_of_asking_do_not_count(
    monkeypatch: pytest.MonkeyPatch, option: str, value: float
) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch)
    assert chunk(0, 3) == 0
    change(Path("data_generation_config.yaml"), option, value)
    assert chunk(0, 3) == 0
    assert len(fake.asked) == 6


def test_another_system_prompt_is_another_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch)
    assert chunk(0, 3) == 0
    with (settings.run_folder() / "system_prompt.md").open("a") as prompt:
        prompt.write("Love the sea.\n")
    assert chunk(0, 3) == 0
    assert len(fake.asked) == 6


def test_a_model_replaced_in_its_folder_is_another_teacher(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch)
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(b"one")
    monkeypatch.setattr("distillation.client.base_model", lambda _configured=None: str(tmp_path / "model"))
    assert chunk(0, 3) == 0
    weights.write_bytes(b"three")
    assert chunk(0, 3) == 0
    assert len(fake.asked) == 6


def test_an_empty_or_cut_off_answer_is_asked_for_again_with_another_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out_plan()
    cut, empty = training_questions(2)

    def stumbles(question: str, seed: int) -> Said:
        if question == cut.text and seed == seed_of(8, cut.id, 1):
            return Said("Ha! I seize", 128, "length")
        if question == empty.text and seed != seed_of(8, empty.id, 3):
            return Said(" ", 1, "stop")
        return Said(in_character(question), 30, "stop")

    fake = fake_teacher(monkeypatch, stumbles)
    assert chunk(0, 5) == 0
    found = values("chunk.jsonl")
    assert [one["tries"] for one in found] == [2, 3, 1, 1, 1]
    assert found[0]["seed"] == seed_of(8, cut.id, 2)
    assert len(fake.asked) == 5 + 1 + 2
    assert chunk(0, 5) == 0
    assert len(fake.asked) == 8


def test_an_answer_out_of_character_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch, lambda _q, _s: Said("I am a language model.", 5, "stop"))
    assert chunk(0, 5) == 0
    assert len(fake.asked) == 5


def test_a_question_that_never_gets_an_answer_is_left_to_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    fake = fake_teacher(monkeypatch, lambda _q, _s: Said("", 0, "stop"))
    assert chunk(0, 2) == 0
    assert len(fake.asked) == 6
    assert run(teacher.main, ["--quality", "chunk.jsonl"]) == 1
    assert "2 answers, 2 empty and 0 cut off; raise 'max_tokens'" in capsys.readouterr().err


def test_the_hosted_teacher_reports_what_it_costs_and_stops_at_its_budget(
    monkeypatch: pytest.MonkeyPatch, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-not-a-real-key")
    lay_out_plan(budget_usd=0.01)
    fake = fake_teacher(monkeypatch, lambda q, _s: Said(in_character(q), 30, "stop", cached=600))
    assert chunk(0, 10) == 0
    spent = sum(event["value"] for event in said() if event.get("metric") == "cost_usd")
    assert spent == pytest.approx(10 * (101 * 0.195 + 600 * 0.039 + 30 * 0.6) / 1e6)
    assert chunk(10, 100) == 1
    assert (
        "data_generation_config.yaml: the budget of $0.01 is used up: $0.00 are spent, and the next 100 "
        "answers may cost $0.04; raise 'budget_usd' to go on\n"
    ) in capsys.readouterr().err
    assert len(fake.asked) == 10


def test_the_local_engine_costs_nothing(monkeypatch: pytest.MonkeyPatch, said: Events) -> None:
    lay_out_plan()
    fake_teacher(monkeypatch)
    assert chunk(0, 5) == 0
    assert [event for event in said() if event.get("metric") == "cost_usd"] == []


def test_a_failed_question_is_named_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    bad = training_questions(3)[2].text

    def fails(question: str, seed: int) -> Said | BaseException:
        return (
            RuntimeError("no\n such   luck") if question == bad else Said(in_character(question), 30, "stop")
        )

    fake_teacher(monkeypatch, fails)
    assert chunk(0, 10) == 1
    printed = capsys.readouterr().err
    assert "RuntimeError: no such luck; 1 of 10 questions failed, what was answered is kept" in printed
    assert len(read_rows(settings.run_folder() / FILE)) == 9


def test_without_step_5_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_teacher(monkeypatch)
    assert run(teacher.main, ["--trial", "10"]) == 1
    assert "system_prompt.md: No such file or directory; run step 5" in capsys.readouterr().err


def test_the_prompt_of_another_character_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    fake_teacher(monkeypatch)
    assert run(teacher.main, ["--trial", "10", "--character", "Socrates"]) == 1
    assert "does not name Socrates" in capsys.readouterr().err


# The gate of one chunk


def gate(rows: list[dict[str, Any]], start: int = 0) -> int:
    path = put("chunk.jsonl", rows)
    return run(teacher.main, ["--quality", str(path), "--start", str(start), "--size", str(len(rows))])


def test_a_good_chunk_passes_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_plan()
    assert gate(records(60)[20:], start=20) == 0
    assert "records: 40\nquestions: 40\nin character: 100.00%\n" in capsys.readouterr().out


@pytest.mark.parametrize(("bad", "code"), [(2, 0), (3, 1)])
def test_the_gate_wants_95_percent_in_character(
    bad: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    rows = records(40)
    for row in rows[:bad]:
        row["answer"] = "It is a nice day."
    assert gate(rows) == code
    assert code == 0 or "92.5% of the answers are in character, and 95% are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"answer": " \n"}, "1 empty and 0 cut off"),
        ({"stop": "length"}, "0 empty and 1 cut off"),
        ({"id": "another"}, "1 questions have no answer, first"),
        ({"engine": "tinker"}, ":3: of engine tinker, not local"),
        ({"character": "Socrates"}, ":3: of character Socrates, not Beethoven"),
        ({"answer": 7}, ":3: 'answer' is not a text"),
        ({"seed": True}, ":3: 'seed' is not a number"),
    ],
)
def test_the_gate_names_what_is_wrong(
    changes: dict[str, Any], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_plan()
    rows = records(10)
    rows[2] |= changes
    assert gate(rows) == 1
    assert complaint in capsys.readouterr().err


def test_the_gate_wants_the_questions_of_this_chunk_in_their_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lay_out_plan()
    assert gate(records(10)[::-1]) == 1
    assert "holds other questions than 0 to 9" in capsys.readouterr().err


# The report


def lay_out_answers(count: int) -> Path:
    lay_out_plan(examples=count)
    Path("runs").mkdir(exist_ok=True)
    path = put("../joined.jsonl", records(count))
    assert run(teacher.main, ["--report", "--joined", str(path)]) == 0
    return settings.run_folder() / generation.DATA


def test_the_report_is_counted_again(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_answers(50)
    report = read_json(settings.run_folder() / generation.REPORT)
    assert report["records"] == report["in_character"] == 50
    assert report["kinds"] == dict.fromkeys(sorted(report["kinds"]), 10)
    assert report["spent_usd"] == 0
    assert run(teacher.main, ["--check"]) == 0
    assert "records: 50\nquestions: 50\n" in capsys.readouterr().out


def test_a_changed_answer_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    path = lay_out_answers(20)
    path.write_text(path.read_text().replace("Ha!", "Ho!", 1))
    assert run(teacher.main, ["--check"]) == 1
    assert "is about another teacher_data_5000.jsonl" in capsys.readouterr().err


def test_missing_questions_fail_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out_answers(20)
    change(Path("data_generation_config.yaml"), "examples", 21)
    assert run(teacher.main, ["--check"]) == 1
    assert "are not the 21 training questions" in capsys.readouterr().err


def test_the_other_engines_answers_never_become_this_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out_answers(20)
    monkeypatch.setenv("TINKER_API_KEY", "tml-not-a-real-key")
    assert run(teacher.main, ["--report", "--joined", "runs/joined.jsonl"]) == 1
    assert "joined.jsonl:1: of engine local, not tinker" in capsys.readouterr().err
    put(generation.DATA, records(20))
    assert run(teacher.main, ["--report", "--joined", "runs/joined.jsonl"]) == 0
    assert "joined.jsonl: not of this run" in capsys.readouterr().out


# The memory


KEY = ("way", "What is \u2028 fate?", 3)
ANSWER = Answer("Ha! \n\u2028", 700, 0, 3, "stop", 0.25)


def test_the_memory_keeps_answers_as_they_are(tmp_path: Path) -> None:
    with Memory(tmp_path) as memory:
        assert KEY not in memory
        memory.add(KEY, ANSWER)
        assert memory.spent_usd == 0.25
    with Memory(tmp_path) as memory:
        assert memory[KEY] == ANSWER
        assert memory.spent_usd == 0.25


def test_a_line_torn_off_at_the_end_spoils_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Memory(tmp_path) as memory:
        memory.add(KEY, ANSWER)
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"way": "x", "ques')
    other = ("way", "Another?", 3)
    with Memory(tmp_path) as memory:
        memory.add(other, ANSWER)
    assert f"{tmp_path / FILE}:2: not JSON" in capsys.readouterr().out
    with Memory(tmp_path) as memory:
        assert memory[KEY] == memory[other] == ANSWER
    assert '"ques' in (tmp_path / FILE).read_text()


def test_a_line_that_holds_no_answer_is_named_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE).write_text(json.dumps({"way": "x"}) + "\n")
    with Memory(tmp_path):
        pass
    assert f"{FILE}:1: holds no answer; its question is asked again" in capsys.readouterr().out
    assert (tmp_path / FILE).read_text() == '{"way": "x"}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    with Memory(tmp_path) as memory, pytest.raises(Exception, match="No space left on device; make room"):
        memory.add(KEY, ANSWER)


def test_every_question_has_a_seed_of_its_own_at_every_attempt() -> None:
    seeds = {seed_of(8, question.id, attempt) for question in training_questions(2000) for attempt in (1, 2)}
    assert len(seeds) > 3_995
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(8, "a", 1) != seed_of(9, "a", 1)


def test_a_good_record_is_in_character() -> None:
    found = generation.measure([record(training_questions(1)[0])], BEETHOVEN)
    assert found.in_character == 1
