"""Reading task lists, finding boxes again, and the one-line tick."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import Box, PlanError, TaskList
from pytest_tinker_steps.plan.tasklist import find, parse, rewrite_line, splice, tick_suffix
from tests.counting import calls_of

CASES = Path(__file__).parent / "tasklists"
TICK = tick_suffix("2026-11-20T23:42:00Z", "task_13_1a2b3c4d", "5000 examples (all)")
CASE = re.compile(
    r"^## (?P<name>[^\n]+)\n\n~~~~~markdown\n(?P<list>.*?)^~~~~~\n\n~~~~~boxes\n(?P<boxes>.*?)^~~~~~$",
    re.M | re.S,
)


def read(text: str) -> TaskList:
    return parse(text.encode("utf-8", "surrogateescape"), "case.md")


def keys(tasks: TaskList) -> list[str]:
    return [box.key for box in tasks.boxes]


def shown(tasks: TaskList) -> str:
    """The boxes as the golden files write them."""
    lines = []
    for box in tasks.boxes:
        line = f'{box.line} [{box.marker}] {box.key} "{box.title}"'
        line += f" id {box.id}" if box.id != box.key else ""
        line += f" in {box.parent}" if box.parent is not None else ""
        line += " optional" * box.optional + " struck" * box.struck
        lines.append(line + (f' note "{box.note}"' if box.note else ""))
    return "".join(f"{line}\n" for line in [*lines, *(f"warns {text}" for text in tasks.warnings)])


def golden() -> list[object]:
    return [
        pytest.param(case["list"], case["boxes"], id=f"{file.stem}: {case['name']}")
        for file in sorted(CASES.glob("*.md"))
        for case in CASE.finditer(file.read_text(encoding="utf-8"))
    ]


def test_every_golden_case_is_found() -> None:
    headings = sum(file.read_text(encoding="utf-8").count("~~~~~boxes\n") for file in CASES.glob("*.md"))
    assert len(golden()) == headings > 20


@pytest.mark.parametrize(("text", "boxes"), golden())
def test_golden_case(text: str, boxes: str) -> None:
    assert shown(read(text)) == boxes


@pytest.mark.parametrize(("text", "boxes"), golden())
def test_golden_case_reads_the_same_when_everything_is_ticked(text: str, boxes: str) -> None:
    before = read(text)
    ticked = tick_all(text.encode(), before)
    after = parse(ticked, "case.md")
    assert [same(box) for box in after.boxes] == [same(box) for box in before.boxes]
    assert all(box.done for box in after.boxes)


def same(box: Box) -> tuple[object, ...]:
    """What a tick must not change."""
    return (box.id, box.key, box.title, box.text, box.line, box.scope, box.optional, box.struck, box.children)


def tick_all(data: bytes, tasks: TaskList) -> bytes:
    for box in reversed(tasks.boxes):
        data = splice(data, box, tick=TICK)
    return data


# --- bytes as people have them


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_bom_survive(ending: bytes, bom: bytes) -> None:
    data = bom + ending.join([b"- [ ] T001 one", b"text", b"- [ ] T002 two  ", b"- [ ] T003 last"])
    tasks = parse(data, "case.md")
    assert [box.line for box in tasks.boxes] == [1, 3, 4]
    assert all(data[box.offset :].startswith(b"- [ ]") for box in tasks.boxes)
    ticked = tick_all(data, tasks)
    suffix = TICK.encode()
    assert ticked == bom + ending.join(
        [
            b"- [x] T001 one" + suffix,
            b"text",
            b"- [x] T002 two  " + suffix,
            b"- [x] T003 last" + suffix,
        ]
    )


def test_bytes_that_are_no_utf8_are_kept() -> None:
    data = b"\xff\xfe text\n- [ ] T001 caf\xe9 \xc3\n- [ ] T002 \xe2\x9c\x93 ok\n"
    tasks = parse(data, "case.md")
    assert keys(tasks) == ["T001", "T002"]
    assert tasks.boxes[0].title == r"caf\xe9 \xc3"  # can be printed and sent to other processes
    ticked = splice(data, tasks.boxes[0], tick=TICK)
    assert ticked == data.replace(b"[ ] T001 caf\xe9 \xc3", b"[x] T001 caf\xe9 \xc3" + TICK.encode())


def test_tabs_nest_and_stay() -> None:
    data = b"-\t[ ] 1. one\n\t-\t[ ] 1.1 two\t\n"
    tasks = parse(data, "case.md")
    assert [box.parent for box in tasks.boxes] == [None, "1"]
    assert splice(data, tasks.boxes[1], tick=TICK).endswith(b"\n\t-\t[x] 1.1 two\t" + TICK.encode() + b"\n")


# --- lists that cannot be used


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "case.md:1: no checkbox found"),
        (b"# Only text\n- item\n", "no checkbox found"),
        (b"- [ ] Pending\n- [x] Completed\n", "case.md:1: all 2 checkboxes are legends"),
        (b"\n- [ ] **Steps 1-2:** ready\n", "case.md:2: all 1 checkboxes are legends or ranges"),
        (b"a\n\x89PNG\0\n", "case.md:2: not a text file"),
        ("- [ ] T1".encode("utf-16"), "case.md:1: not a text file"),
        (b"```\n- [ ] T001 x\n", "case.md:1: code fence is never closed and hides 1 box"),
    ],
)
def test_a_list_without_steps_is_one_clear_error(data: bytes, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse(data, "case.md")
    assert said in str(caught.value)
    if b"\0" not in data:
        assert '- [ ] 1. Title"' in caught.value.problems[0]


def test_boxes_of_other_formats_in_a_step_list_are_named() -> None:
    tasks = read("- [ ] **STEP 1**: a\n\n## Later\n- [ ] T001 x\n- [ ] T002 y\n")
    assert keys(tasks) == ["1"]
    assert tasks.warnings[0].startswith("case.md:4: 2 boxes with other ids (first T001) are no steps")


# --- briefs


def test_the_brief_of_a_step_is_its_section_as_it_stands() -> None:
    tasks = read(
        "- [ ] **STEP 1**: a\n  indented\n- [ ] **STEP 2**: b\n  only indented\n"
        "# Details\n## STEP 1: a\n**Files:** x\n\n```sh\n# STEP 2: no heading\n```\n"
        "### Success Outcome\n- [ ] ok\n## Other\nnot this\n"
    )
    assert keys(tasks) == ["1", "2"]
    assert tasks.boxes[0].brief == (
        "## STEP 1: a\n**Files:** x\n\n```sh\n# STEP 2: no heading\n```\n### Success Outcome\n- [ ] ok"
    )
    assert tasks.boxes[1].brief == "only indented"


def test_the_brief_of_a_container_leaves_out_the_steps_inside() -> None:
    tasks = read(
        "- [ ] 1. P\n  - detail\n  - [ ] 1.1 child\n    - of the child\n  - _Requirements: 1_\n\ntext\n"
    )
    assert [box.brief for box in tasks.boxes] == ["- detail\n- _Requirements: 1_", "- of the child"]


def test_checks_inside_of_a_step_stay_in_its_brief() -> None:
    tasks = read("- [ ] **STEP 1**: a\n  - [ ] looks right\n    - [ ] really\n")
    assert [box.brief for box in tasks.boxes] == ["- [ ] looks right\n  - [ ] really"]
    assert tasks.boxes[0].children == ()


def test_code_between_the_steps_of_a_task_belongs_to_them() -> None:
    tasks = read(
        "### Task 1: Foo\n\n- [ ] **Step 1: Test**\n\n```py\nx = 1\n```\n\nRun: `pytest`\n\n"
        "- [ ] **Step 2: Code**\nExpected: PASS\n\n### Task 2: Bar\n- [ ] **Step 1: Test**\n"
    )
    assert keys(tasks) == ["task-1-foo/1", "2", "task-2-bar/1"]
    assert [box.brief for box in tasks.boxes] == [
        "```py\nx = 1\n```\n\nRun: `pytest`",
        "Expected: PASS",
        "",
    ]


# --- the tick


def test_a_second_tick_replaces_the_first() -> None:
    once = rewrite_line(b"- [ ] T1 a\r\n", tick=TICK)
    again = tick_suffix("2026-11-21T00:00:00+01:00", "task_13_ffffffff", "note (with ) odd ( brackets")
    twice = rewrite_line(once, tick=again)
    assert twice == b"- [x] T1 a" + again.encode() + b"\r\n"
    assert rewrite_line(twice, tick=None) == b"- [ ] T1 a\r\n"


def test_space_that_an_editor_put_behind_a_tick_does_not_hide_it() -> None:
    line = b"- [x] T1 a" + TICK.encode() + b"  \n"
    assert rewrite_line(line, tick=None) == b"- [ ] T1 a  \n"
    assert parse(line, "case.md").boxes[0].text == "T1 a"


def test_ticks_of_other_people_are_text() -> None:
    line = "- [x] T1 a ✓ [yesterday]\n".encode()
    assert rewrite_line(line, tick=None) == "- [ ] T1 a ✓ [yesterday]\n".encode()


@pytest.mark.parametrize("line", [b"", b"text\n", b"- [P] x\n", b"- [x](url)\n", b"- [ ] a\n- [ ] b\n"])
def test_a_line_without_a_box_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="no box"):
        rewrite_line(line, tick=None)


@pytest.mark.parametrize(
    ("note", "written"),
    [
        ("", ""),
        (" \n\x00 ", ""),
        ("`*_[]<>`", ""),
        ("5000 `examples`\nin **2** [files](x)", " (5000 examples in 2 files(x))"),
        ("a\u2028b\x85c\ud800d", " (a b cd)"),
        ("x" * 300, " (" + "x" * 199 + "…)"),
    ],
)
def test_a_note_is_one_short_line_without_markup(note: str, written: str) -> None:
    assert (
        tick_suffix("2026-11-20T23:42:00Z", "task_1_a", note)
        == f" ✓ [2026-11-20T23:42:00Z] [task_1_a]{written}"
    )


@pytest.mark.parametrize(
    ("timestamp", "task_id"), [("now", "task_1_a"), ("2026-11-20T23:42:00Z", "1]"), ("", "")]
)
def test_a_suffix_that_could_not_be_read_again_is_refused(timestamp: str, task_id: str) -> None:
    with pytest.raises(ValueError, match="no tick can be made"):
        tick_suffix(timestamp, task_id)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"- [ ] T1 a\n",
        b"x- [ ] T2 b\n- [ ] T1 a",
        b"- [ ] T1 a\n- [ ] T2 c\n",
        b"- [ ] T1 a \n- [ ] T2 b\n",
    ],
)
def test_splice_refuses_a_place_that_is_not_the_box(data: bytes) -> None:
    box = read("- [ ] T1 a\n- [ ] T2 b\n").boxes[1]
    with pytest.raises(PlanError, match=r"line 2: .*T2"):
        splice(data, box, tick=TICK)


# --- finding a box again

LIST = "## A\n- [ ] T1 a\n- [ ] T2 b\n"


def test_a_box_is_found_after_lines_were_added_and_ticked() -> None:
    box = read(LIST).boxes[1]
    found = find(f"new\n\n{LIST.replace('[ ] T2 b', '[x] T2 b' + TICK)}".encode(), "case.md", box)
    assert (found.key, found.line, found.done) == ("T2", 5, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("## A\n- [ ] T1 a\n", "case.md:3: box T2 vanished"),
        ("", "case.md:3: box T2 vanished"),
        (
            "## A\n- [ ] T1 a\n- [ ] T2 other\n",
            "case.md:3: box T2 changed its text from 'T2 b' to 'T2 other'",
        ),
        (f"{LIST}- [ ] T2 b\n", "case.md:3 and case.md:4: id T2 of box T2 is no longer unique"),
        (f"{LIST}## B\n- [ ] T2 b\n", "case.md:3 and case.md:5: id T2 of box T2 is no longer unique"),
        (f"{LIST}## B\n- [ ] T2 x\n", "case.md:3 and case.md:5: id T2 of box T2 is no longer unique"),
        ("```\n" + LIST, "case.md:1: code fence is never closed"),
    ],
)
def test_a_box_that_is_not_surely_the_same_is_never_guessed(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=re.escape(said)):
        find(text.encode(), "case.md", read(LIST).boxes[1])


def test_a_box_whose_other_half_vanished_is_not_guessed() -> None:
    box = read("## A\n- [ ] 1. same\n## B\n- [ ] 1. same\n").boxes[0]
    assert box.key == "a/1"
    with pytest.raises(PlanError, match=r"box a/1 vanished; its text stands on line 2 as 1"):
        find(b"## B\n- [ ] 1. same\n", "case.md", box)


# --- whatever people write

TRICKY = (
    "✓ T001 ** ~~ ` [P] [x] (a) Step 1: 2.0 2.1 1. #3 Done * \\ Pending Legend: Füß 🚀 <!-- --> ``` : - "
    "[2026-11-20T23:42:00Z] [task_1_aa]"
)
WORDS = st.lists(st.sampled_from(TRICKY.split(" ")), max_size=5).map(" ".join)
LINES = st.builds(
    lambda indent, bullet, marker, text: f"{indent}{bullet}{marker}{text}",
    st.sampled_from(["", "  ", "    ", "\t", "> "]),
    st.sampled_from(["- ", "* ", "1. ", "- - ", "## ", "", "-\t"]),
    st.sampled_from(["[ ] ", "[x] ", "[]", "[-] ", "[ ]* ", "[P] ", "", "[ ]"]),
    WORDS,
)
FILES = st.lists(LINES, min_size=1, max_size=8).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\r"]).map(lambda end: end.join(lines).encode())
)


def parsed(data: bytes) -> TaskList | None:
    try:
        return parse(data, "wild.md")
    except PlanError:
        return None


@settings(max_examples=150, deadline=None)
@given(st.one_of(FILES, st.binary(max_size=200).map(lambda data: data.replace(b"\0", b""))))
def test_a_tick_changes_one_line_and_nothing_else(data: bytes) -> None:
    tasks = parsed(data)
    for index, box in enumerate(tasks.boxes if tasks else ()):
        assert box.offset == 0 or data[box.offset - 1 : box.offset] in (b"\n", b"\r", b"\xbf")
        ticked = splice(data, box, tick=TICK)
        before, after = re.split(rb"\r\n|\r|\n", data), re.split(rb"\r\n|\r|\n", ticked)
        changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
        assert changed == [box.line - 1]
        again = parse(ticked, "wild.md")
        assert tasks is not None
        assert [same(other) for other in again.boxes] == [same(other) for other in tasks.boxes]
        assert again.warnings == tasks.warnings
        assert (again.boxes[index].note, again.boxes[index].done) == (TICK, True)
        if not box.note and box.marker == " ":
            assert splice(ticked, again.boxes[index], tick=None) == data


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60).map(lambda tail: re.sub(rb"[\r\n\0]", b"", tail)),
    st.sampled_from([b"", b"\n", b"\r\n", b"\r"]),
    st.text(max_size=300),
)
def test_unticking_gives_back_every_byte(tail: bytes, ending: bytes, note: str) -> None:
    line = b"- [ ] " + tail + ending
    tick = tick_suffix("2026-11-20T23:42:00.123456Z", "task_phase-1/2.1_1a2b3c4d", note)
    ticked = rewrite_line(line, tick=tick)
    assert rewrite_line(ticked, tick=None) == line
    assert rewrite_line(ticked, tick=TICK) == rewrite_line(line, tick=TICK)


@pytest.mark.parametrize(
    "data", [b"> " * 3000 + b"- [ ] a", b"- " * 3000 + b"[ ] a", b"[" * 5000, b"- [ ] " + b"*" * 5000]
)
def test_deep_nesting_is_no_crash(data: bytes) -> None:
    parsed(data)


def test_a_box_costs_no_more_in_a_longer_list() -> None:
    def calls(count: int) -> int:
        rows = (
            f"- [ ] {n // 50}.{n} Do **{n}** in src/module_{n}.py\n  - detail\n  - _Requirements: 1_\n\n"
            for n in range(count)
        )
        data = "".join(rows).encode()
        made = calls_of(lambda: parse(data, "big.md"))
        assert len(parse(data, "big.md").boxes) == count
        return made

    assert calls(1000) < calls(250) * 4 * 1.2
