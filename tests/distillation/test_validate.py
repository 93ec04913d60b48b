from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import dataset, settings, validate
from distillation.characters import CHARACTERS, Character, find
from distillation.command import run
from distillation.dialogue import Turn, parse_scene, parse_turns
from distillation.errors import DistillationError
from distillation.jsonl import Row, read_json, read_rows, write_json, write_rows
from tests.distillation.conftest import Events

BEETHOVEN = find("Beethoven")
PROMPT = "Be he.\n\nLocation: Vienna\nStatus: He walks.\n\n"


def example(number: int = 0, **changes: Any) -> dict[str, Any]:
    output = f"Ries (speaking): Question {number}?<|eot|>\nBeethoven (speaking): Answer {number}!<|eot|>"
    return {"prompt": PROMPT, "output": output, "source": "test"} | changes


def judge(*values: dict[str, Any]) -> tuple[list[validate.Usable], list[validate.Rejected]]:
    rows = [Row(number, json.dumps(value), value) for number, value in enumerate(values, 1)]
    return validate.judge(rows, BEETHOVEN)


def lay_out(lines: list[str], source: str = "hub") -> Path:
    """A run folder as step 3 leaves it, with these lines for Beethoven."""
    path = settings.run_folder() / dataset.FOLDER / "Beethoven.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    write_json(settings.run_folder() / dataset.REPORT, {"source": source})
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"output": ""}, "'output' holds no text"),
        ({"prompt": 7}, "'prompt' holds no text"),
        ({"prompt": "Status: alone"}, "no line 'Location: ...'"),
        ({"prompt": "Location: here"}, "no line 'Status: ...'"),
        ({"output": "Beethoven (speaking): cut off in the mid"}, "does not end with <|eot|>"),
        ({"output": "Beethoven (speaking): fine<|eot|>\nno name here<|eot|>"}, "turn 2 is not"),
        ({"output": "Beethoven (speaking): <|eot|>Ries (speaking): hm<|eot|>"}, "turn 1 is not"),
        ({"output": "Ries (speaking): only I say something here.<|eot|>"}, "Beethoven says nothing"),
        ({"output": "Karl van Beethoven (speaking): it is only me.<|eot|>"}, "Beethoven says nothing"),
        ({"output": "B (s): x<|eot|>"}, "the output has 15 characters"),
        ({"output": "Beethoven (speaking): " + "long " * 5_000 + "<|eot|>"}, "characters, not 20 to 20000"),
    ],
)
def test_an_unusable_example_is_rejected_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    usable, rejected = judge(example(1), example(2, **changes))
    assert [one.line for one in usable] == [1]
    assert rejected[0].line == 2
    assert reason in rejected[0].reason


def test_a_missing_key_is_named() -> None:
    value = example()
    del value["output"]
    _, rejected = judge(value)
    assert rejected[0].reason == "no key 'output'"


def test_a_double_names_the_line_it_repeats_blanks_aside() -> None:
    second = example(1)
    usable, rejected = judge(
        example(1), example(2), second | {"output": second["output"].replace("\n", "  \n")}
    )
    assert [one.line for one in usable] == [1, 2]
    assert [one.reason for one in rejected] == ["the same as line 1"]


def test_turns_and_scene_are_read() -> None:
    assert parse_turns("A B (thinking): one: (two)\nthree<|eot|>\nC (speaking): x<|eot|>\n") == (
        Turn("A B", "thinking", "one: (two)\nthree"),
        Turn("C", "speaking", "x"),
    )
    assert parse_scene(PROMPT).location == "Vienna"
    assert parse_scene(PROMPT).status == "He walks."


@given(text=st.text(max_size=120))
def test_any_text_is_parsed_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(turn.role and turn.words for turn in parse_turns(text + "<|eot|>"))


def test_a_corrupted_line_is_named_kept_aside_and_counted(
    said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps(example(n)) for n in range(520)]
    lines[6] = '{"prompt": "torn off'
    path = lay_out(lines)
    assert run(validate.main, ["--character", "beethoven"]) == 0
    assert f"{path}:7: not JSON" in capsys.readouterr().out
    (kept,) = read_rows(Path("runs/local/rejected.jsonl"))
    assert kept.value is not None
    assert kept.value["file"] == "runs/local/dataset/Beethoven.jsonl"
    assert kept.value["line"] == 7
    assert kept.value["text"] == lines[6]
    assert said()[0] == {
        "note": "519 of 520 Beethoven examples usable, minimum 500 (full dataset), 1 rejected"
    }
    assert len(read_rows(Path("runs/local/validated/Beethoven.jsonl"))) == 519
    assert run(validate.main, ["--check"]) == 0
    assert "usable: 519\nminimum: 500\nrejected: 1\nusable share: 99.8%\n" in capsys.readouterr().out


def test_too_few_examples_fail_and_leave_the_numbers(
    said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out([json.dumps(example(n)) for n in range(499)])
    assert run(validate.main, []) == 1
    assert "499 usable examples of Beethoven, and at least 500 are needed" in capsys.readouterr().err
    assert read_json(Path("runs/local/validation_report.json"))["usable"] == 499
    assert said() == []


def test_the_sample_has_a_smaller_minimum_and_the_note_says_so(said: Events) -> None:
    dataset.bring(dataset.choose("sample"))
    assert run(validate.main, []) == 0
    assert said()[-4]["note"] == (
        "40 of 40 Beethoven examples usable, minimum 36 (shipped sample), 0 rejected"
    )


def test_too_large_a_share_of_rejected_lines_fails(capsys: pytest.CaptureFixture[str]) -> None:
    lay_out([json.dumps(example(n)) for n in range(600)] + ["{"] * 100)
    assert run(validate.main, []) == 1
    printed = capsys.readouterr()
    assert "only 85.7% of the lines are usable" in printed.err
    assert "and 80 more, all in runs/local/rejected.jsonl" in printed.out


def test_without_step_3_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(validate.main, []) == 1
    assert "dataset_report.json: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("validated/Beethoven.jsonl", "says 40 usable, counted 39"),
        ("dataset/Beethoven.jsonl", "says 40 lines, counted 39"),
    ],
)
def test_a_file_changed_afterwards_fails_the_check(file: str, complaint: str) -> None:
    dataset.bring(dataset.choose("sample"))
    validate.validate(BEETHOVEN)
    path = settings.run_folder() / file
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DistillationError, match=complaint):
        validate.check_report(BEETHOVEN)


def test_a_spoilt_kept_example_fails_the_check() -> None:
    dataset.bring(dataset.choose("sample"))
    validate.validate(BEETHOVEN)
    path = settings.run_folder() / "validated/Beethoven.jsonl"
    values = [row.value for row in read_rows(path) if row.value is not None]
    write_rows(path, [*values[:-1], values[0]])
    with pytest.raises(DistillationError, match=r"Beethoven\.jsonl:40: the same as line 1"):
        validate.check_report(BEETHOVEN)


def test_the_report_of_another_character_does_not_count() -> None:
    dataset.bring(dataset.choose("sample"))
    validate.validate(BEETHOVEN)
    with pytest.raises(DistillationError, match="is about Beethoven"):
        validate.check_report(find("Socrates"))


@pytest.mark.parametrize("character", CHARACTERS, ids=lambda c: c.name)
def test_every_line_of_the_shipped_sample_is_usable(character: Character) -> None:
    rows = read_rows(settings.DATA / "sample" / dataset.file_in_dataset(character))
    usable, rejected = validate.judge(rows, character)
    assert rejected == []
    assert len(usable) >= (settings.MIN_EXAMPLES_SAMPLE if character == BEETHOVEN else 6)
