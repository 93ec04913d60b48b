from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillation import review
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json, read_rows, write_rows
from distillation.review_sheet import CRITERIA, read_marks, render
from tests.distillation.conftest import Events
from tests.distillation.finished import finished

MARK = st.integers(1, 5)
KEY: dict[str, Any] = {
    "character": "Beethoven",
    "engine": "local",
    "sheet": "0123456789ab",
    "answers": [
        {"number": number, "kind": "opinion", "question": "Why?", "answer": "Ha!\nvoice: 9\n# Answer 7"}
        for number in range(1, 5)
    ],
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Path:
    return finished(monkeypatch)


def fill(sheet: Path, marks: dict[int, str]) -> None:
    """Write the same text behind all three criteria of an answer, as a person would."""
    number = 0
    lines = []
    for line in sheet.read_text().splitlines():
        if found := re.match(r"#### Answer (\d+)", line):
            number = int(found[1])
        ends = line.startswith("- ") and line.rstrip().endswith(":")
        lines.append(f"{line}{marks[number]}" if ends and number in marks else line)
    sheet.write_text("\n".join(lines) + "\n")


def test_the_sheet_has_ten_answers_of_every_kind_half_of_them_the_students(made: Path) -> None:
    assert run(review.main, []) == 0
    answers = read_json(made / "review_sheet.json")["answers"]
    assert [answer["number"] for answer in answers] == list(range(1, 51))
    assert set(Counter(answer["kind"] for answer in answers).values()) == {10}
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        assert first["id"] == second["id"]
        assert {first["voice"], second["voice"]} == {"student", "teacher"}
    firsts = Counter(answer["voice"] for answer in answers[::2])
    assert min(firsts.values()) >= 5, "who comes first is drawn by lot"
    scores = answers[0]["scores"]
    assert set(scores) == {"traits", "persona", "in_character", "chrf", "f1", "words"}
    assert scores["words"] == len(answers[0]["answer"].split())


def test_the_sheet_is_blind_and_explains_the_marks(made: Path) -> None:
    run(review.main, [])
    text = (made / "review_sheet.md").read_text()
    assert text.count("#### Answer ") == 50
    assert text.count("## Category: ") == 5
    beside_the_questions = re.sub(r"^### .*$", "", text, flags=re.MULTILINE)
    assert not re.search("student|teacher", beside_the_questions)
    for name, (ask, *_) in CRITERIA.items():
        assert f"| {name} | {ask} |" in text


def test_a_sheet_without_numbers_is_not_reviewed_yet_and_no_mistake(
    made: Path, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(review.main, []) == 0
    note = next(one["note"] for one in reversed(said()) if "note" in one)
    assert note.startswith("50 answers, 0 judged: not reviewed yet; fill in")
    result = read_json(made / "review_result.json")
    assert result["status"] == "not reviewed yet"
    assert result["means"] == {"student": None, "teacher": None}
    capsys.readouterr()
    assert run(review.main, ["--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "answers: 50",
        "categories: 5",
        "fewest of a category: 10",
        "of the student: 25",
        "judged: 0",
        "status: not reviewed yet",
    ]


def test_numbers_come_back_with_the_names_uncovered(made: Path) -> None:
    run(review.main, [])
    answers = read_json(made / "review_sheet.json")["answers"]
    marks = {one["number"]: "4" if one["voice"] == "student" else "2" for one in answers}
    fill(made / "review_sheet.md", marks)
    assert run(review.main, ["--check"]) == 1, "the result does not know of the numbers yet"
    assert run(review.main, ["--read"]) == 0
    result = read_json(made / "review_result.json")
    assert result["status"] == "reviewed"
    assert result["means"]["student"] == {"voice": 4, "facts": 4, "usefulness": 4, "all": 4}
    assert result["means"]["teacher"]["all"] == 2
    assert result["pairs"] == {"judged": 25, "student_better": 25, "equal": 0, "teacher_better": 0}
    assert run(review.main, ["--check"]) == 0


def test_judging_a_part_is_said_to_be_a_part(made: Path) -> None:
    run(review.main, [])
    fill(made / "review_sheet.md", {1: "3", 2: "3", 3: "5"})
    run(review.main, ["--read"])
    result = read_json(made / "review_result.json")
    assert (result["status"], result["judged"]) == ("partly reviewed", 3)
    assert result["pairs"] == {"judged": 1, "student_better": 0, "equal": 1, "teacher_better": 0}


def test_a_second_run_keeps_the_numbers_of_a_person(made: Path) -> None:
    run(review.main, [])
    fill(made / "review_sheet.md", {7: "3"})
    before = (made / "review_sheet.md").read_text()
    assert run(review.main, []) == 0
    assert (made / "review_sheet.md").read_text() == before
    assert read_json(made / "review_result.json")["judged"] == 1


def test_another_evaluation_gets_a_new_sheet_and_puts_the_judged_one_aside(made: Path) -> None:
    run(review.main, [])
    fill(made / "review_sheet.md", {7: "3"})
    rows = [row.value for row in read_rows(made / "evaluation_answers.jsonl") if row.value]
    write_rows(made / "evaluation_answers.jsonl", [row | {"ways": "another"} for row in rows])
    assert run(review.main, ["--check"]) == 1
    assert run(review.main, []) == 0
    assert read_json(made / "review_result.json")["judged"] == 0
    (aside,) = made.glob("review_sheet.*.md")
    assert len(read_marks(aside)[1]) == 1


def test_too_few_answers_of_a_kind_are_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row.value for row in read_rows(made / "evaluation_answers.jsonl") if row.value]
    write_rows(made / "evaluation_answers.jsonl", rows[:20])
    assert run(review.main, []) == 1
    assert "4 evaluated questions of the kind 'opinion', 5 are needed" in capsys.readouterr().err


def test_a_key_that_was_touched_fails_the_check(made: Path) -> None:
    run(review.main, [])
    path = made / "review_sheet.json"
    path.write_text(path.read_text().replace('"voice": "student"', '"voice": "teacher"', 1))
    with pytest.raises(DistillationError, match="is not of the answers"):
        review.main(["--check"])


def sheet(*lines: str) -> Path:
    path = Path("sheet.md")
    path.write_text("Sheet `0123456789ab`, engine local.\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("- voice: 4", 4),
        ("voice:4", 4),
        ("* **Voice**: 4", 4),
        ("- **voice:** 4", 4),
        ("- voice = 4/5", 4),
        ("- VOICE - 4 out of 5", 4),
        ("  + voice – **4**", 4),
        ("- voice: 4 (a little stiff)", 4),
        ("- voice: 4.0", 4),
        ("- voice: 5, the best", 5),
    ],
)
def test_numbers_are_read_however_a_person_writes_them(text: str, value: int) -> None:
    path = sheet("#### Answer 1", "> said", text, "- facts: 1", "- usefulness: 2")
    assert read_marks(path)[1][1].values == {"voice": value, "facts": 1, "usefulness": 2}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["#### Answer 1", "- voice: 6"],
            r"sheet\.md:3: 'voice' must be a whole number from 1 to 5, not '6'",
        ),
        (["#### Answer 1", "- voice: 0"], r"sheet\.md:3: 'voice' must be"),
        (["#### Answer 1", "- facts: 3.5"], r"sheet\.md:3: 'facts' must be .* not '3\.5'"),
        (["#### Answer 1", "- facts: good"], r"sheet\.md:3: 'facts' must be .* not 'good'"),
        (["#### Answer 1", "- facts: 12"], r"sheet\.md:3: 'facts' must be"),
        (["#### Answer 1", "- voice: 3", "- voice: 4"], r"sheet\.md:4: a second 'voice' of answer 1"),
        (["#### Answer 1", "", "#### Answer 1"], r"sheet\.md:4: answer 1 stands on line 2 too"),
        (
            ["", "#### Answer 2", "- voice: 3"],
            r"sheet\.md:3: answer 2 lacks facts, usefulness; judge it whole",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(DistillationError, match=message):
        read_marks(sheet(*lines))


def test_a_sheet_of_something_else_is_refused() -> None:
    Path("sheet.md").write_text("# Shopping\n")
    with pytest.raises(DistillationError, match=r"the line 'Sheet `\.\.\.`' is gone"):
        read_marks(Path("sheet.md"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(st.dictionaries(st.integers(1, 4), st.tuples(MARK, MARK, MARK)))
def test_what_is_filled_in_is_what_is_read(marks: dict[int, tuple[int, int, int]]) -> None:
    text = render(KEY)
    for number, values in marks.items():
        begin = text.index(f"#### Answer {number}\n")
        part = text[begin:]
        for name, value in zip(CRITERIA, values, strict=True):
            part = part.replace(f"- {name}: \n", f"- {name}: {value}\n", 1) if name != "usefulness" else part
        part = re.sub(r"- usefulness: (?=\n)", f"- usefulness: {values[2]}", part, count=1)
        text = text[:begin] + part
    Path("sheet.md").write_text(text)
    fingerprint, found = read_marks(Path("sheet.md"))
    assert fingerprint == KEY["sheet"]
    assert {number: tuple(one.values.values()) for number, one in found.items()} == marks


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=6))
def test_whatever_stands_behind_a_colon_is_a_mark_nothing_or_one_line_of_complaint(texts: list[str]) -> None:
    lines = ["#### Answer 1", *(f"- {name}: {text}" for name, text in zip(CRITERIA, texts, strict=False))]
    path = Path("sheet.md")
    path.write_text("Sheet `0123456789ab`\n" + "\n".join(lines), encoding="utf-8")
    try:
        _, marks = read_marks(path)
    except DistillationError as mistake:
        complaint = str(mistake)
    else:
        complaint = "sheet.md:0: none"
        assert all(1 <= value <= 5 for one in marks.values() for value in one.values.values())
    assert re.fullmatch(r"sheet\.md:\d+: .*", complaint)
