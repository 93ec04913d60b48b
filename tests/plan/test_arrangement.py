"""The order that a list gives its steps in words, marks and headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import building
from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.lists.mentions import mentions, said_in, said_on
from pytest_tinker_steps.plan.model import Definitions, Plan, PlanError
from pytest_tinker_steps.plan.tasklist import find, parse, splice, tick_suffix

CASES = Path(__file__).parent / "tasklists" / "order.md"
CASE = re.compile(
    r"^## (?P<name>[^\n]+)\n\n(?:[^~\n][^\n]*\n)*\n*~~~~~markdown\n(?P<list>.*?)^~~~~~\n\n"
    r"~~~~~order\n(?P<order>.*?)^~~~~~$",
    re.M | re.S,
)


def plan(text: str, definitions: str = "") -> Plan:
    defined = load(definitions.encode(), "steps.yaml") if definitions else Definitions("steps.yaml")
    return building.build(parse(text.encode("utf-8", "surrogateescape"), "tasks.md"), defined)


def needs(built: Plan) -> dict[str, list[str]]:
    return {step.id: [need.step for need in step.needs] for step in built.steps}


def shown(built: Plan) -> str:
    """The steps as the golden file writes them."""
    lines = [
        " ".join(
            [step.id, *filter(None, (step.track, step.layer)), "<-", *(need.step for need in step.needs)]
        )
        for step in built.steps
    ]
    return "".join(f"{line}\n" for line in [*lines, *(f"warns {text}" for text in built.warnings)])


def golden() -> list[object]:
    found = CASE.finditer(CASES.read_text(encoding="utf-8"))
    return [pytest.param(case["list"], case["order"], id=case["name"]) for case in found]


def test_every_golden_case_is_found() -> None:
    assert len(golden()) == CASES.read_text(encoding="utf-8").count("~~~~~order\n") > 15


@pytest.mark.parametrize(("text", "order"), golden())
def test_golden_case(text: str, order: str) -> None:
    assert shown(plan(text)) == order


@pytest.mark.parametrize(("text", "order"), golden())
def test_ticks_change_no_order(text: str, order: str) -> None:
    data, tasks = text.encode(), parse(text.encode(), "tasks.md")
    for box in reversed(tasks.boxes):
        data = splice(
            data, box, tick=tick_suffix("2026-11-20T23:42:00Z", "task_1_1a2b3c4d", "T001 depends: 2")
        )
    assert shown(plan(data.decode())) == order


# -- the plan of 32 tasks, four tracks and three groups

NAMES = "".join(f"- [ ] {n}. **Task {n}**\n  - detail\n  - _Requirements: 1.{n}_\n\n" for n in range(1, 33))
GROUPS = """
## Execution strategy

**Group 1 (Immediate Start)**
- **Track A**: Tasks 2, 4-6 (4 tasks)
- **Track B**: Tasks 7-8 (2 tasks)
- **Track C**: Tasks 9-10 (2 tasks)
- **Track D**: Tasks 19-21 (3 tasks)

**Group 2 (Depends on Group 1)**
- Tasks 11-15, 22

**Group 3 (Depends on Group 2)**
- Tasks 17-18, 23-25

Total: 32 tasks, ~7 days estimated
"""
SHORT_GROUPS = """
Ready to Execute (Group 1):
- Track A: Tasks 2, 4-6 (4 tasks)
- Track B: Tasks 7-8 (2 tasks)
- Track C: Tasks 9-10 (2 tasks)
- Track D: Tasks 19-21 (3 tasks)

Waiting on Dependencies:
- Group 2: Tasks 11-15, 22 (depends on Group 1)
- Group 3: Tasks 17-18, 23-25 (depends on Group 2)
"""
FIRST = ["2", "4", "5", "6", "7", "8", "9", "10", "19", "20", "21"]
SECOND = ["11", "12", "13", "14", "15", "22"]
THIRD = ["17", "18", "23", "24", "25"]


@pytest.mark.parametrize("groups", [GROUPS, SHORT_GROUPS])
def test_tracks_run_side_by_side_and_groups_after_groups(groups: str) -> None:
    built = plan(NAMES + groups)
    waits = needs(built)
    tracks = {step.id: step.track for step in built.steps if step.track}
    assert tracks == dict(zip(FIRST, "AAAABBCCDDD", strict=True))
    assert {name: waits[name] for name in FIRST} == {
        "2": ["1"], "4": ["2"], "5": ["4"], "6": ["5"],
        "7": ["1"], "8": ["7"], "9": ["1"], "10": ["9"], "19": ["1"], "20": ["19"], "21": ["20"],
    }  # fmt: skip
    assert waits["11"] == FIRST
    assert waits["17"] == SECOND
    chains = [waits[name] for name in (*SECOND[1:], *THIRD[1:])]
    assert chains == [["11"], ["12"], ["13"], ["14"], ["15"], ["17"], ["18"], ["23"], ["24"]]
    assert built.warnings == ()


def test_tasks_in_no_group_wait_for_what_stands_above_them_and_hold_no_group_back() -> None:
    waits = needs(plan(NAMES + GROUPS))
    assert waits["3"] == ["2"]
    assert waits["26"] == ["16", "21", "22", "25"]
    assert not [name for name in (*FIRST, *SECOND, *THIRD) if {"3", "16"} & set(waits[name])]


# -- mistakes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "- [ ] 1. a\n- [ ] 6. b\n\n- **Track A**: Tasks 1, 6\n- **Track B**: Tasks 6-8\n",
            "tasks.md:4 and tasks.md:5: 6 is in track A and in track B; leave it in one of them",
        ),
        (
            "### Track A: Core\n- [ ] 1. a\n### Track B: UI\n- [ ] 2. b\n## Map\n- **Track A**: Tasks 1-2\n",
            "tasks.md:3 and tasks.md:6: 2 is in track B and in track A; leave it in one of them",
        ),
        (
            "- [ ] 1. a\n- [ ] 2. b\n\n- Group 1: Tasks 1-2\n- Group 2: Task 2\n",
            "tasks.md:4 and tasks.md:5: 2 is in group 1 and in group 2; leave it in one of them",
        ),
        (
            "## A\n- [ ] 1. a\n## B\n- [ ] 1. b\n## C\n- [ ] 2. c (depends on 1)\n",
            "tasks.md:6: 1 is named here and stands on more than one box (tasks.md:2 and tasks.md:4); "
            "give each box an id of its own",
        ),
        (
            "- [ ] T001 a (depends on T002)\n- [ ] T002 b (depends on T001)\n",
            "tasks.md:1: needs go in a circle: step_T001 -> step_T002 -> step_T001; the list says what "
            "step_T001 depends on (tasks.md:1); the list says what step_T002 depends on (tasks.md:2); "
            "take one of them out",
        ),
    ],
)
def test_a_list_that_contradicts_itself_is_one_line_with_both_places(text: str, problem: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(text)
    assert caught.value.problems == (problem,)


def test_a_box_is_found_again_while_somebody_writes_a_contradiction_into_the_list() -> None:
    text = "- [ ] 1. a\n- [ ] 2. b\n"
    box = parse(text.encode(), "tasks.md").boxes[1]
    wrong = f"{text}\n- **Track A**: Task 2\n- **Track B**: Task 2\n"
    assert find(wrong.encode(), "tasks.md", box).line == 2


def test_what_a_step_says_of_its_own_track_is_in_the_order_of_the_list() -> None:
    above = [f"T00{n}" for n in range(1, 9)]
    rows = "".join(f"- [ ] {name} Work\n" for name in [*above, "T009 (depends on Track A)"])
    assert parse(f"## Track A\n\n{rows}".encode(), "tasks.md").boxes[-1].depends == tuple(above)


@pytest.mark.parametrize("above", ["", "# Plan\n", "## Track A\n"])
def test_a_step_that_names_itself_is_told_so_wherever_it_stands(above: str) -> None:
    built = plan(f"{above}- [ ] 1. First\n- [ ] 2. Second (depends on 1, 2)\n")
    assert needs(built) == {"1": [], "2": ["1"]}
    line = above.count("\n") + 2
    assert built.warnings == (
        f"tasks.md:{line}: 2 is named here by its own box; name the step that comes first, or take it out",
    )


def test_what_is_unknown_is_a_warning_with_its_line() -> None:
    built = plan("- [ ] 1. a\n- [ ] 2. b\n  - text\n  - _Depends: 1, 9.9, Track Z, the tests_\n")
    assert needs(built)["2"] == ["1"]
    assert built.warnings == (
        "tasks.md:4: 9.9 is named here and is not in this list; correct the id, or take it out",
        "tasks.md:4: track Z is named here and is not in this list; correct the name, or take it out",
    )


# -- what stays as it is


@pytest.mark.parametrize(
    "text",
    [
        "- [ ] 1. a\n- [ ] 2. b\n",
        "- [ ] T001 a\n- [ ] T002 [P] alone\n- [ ] T003 c\n",
        "- [ ] **STEP 1**: Track 3 new packages\n- [ ] **STEP 2**: Layer the cake, Group by id\n",
        "## Track progress\n- [ ] 1. a\n## Group work\n- [ ] 2. b\n## Phase 2\n- [ ] 3. c\n",
        "- [ ] 1. a\n```\n- Track A: Tasks 1\n- Track B: Tasks 2\n```\n- [ ] 2. b\n",
        "- [ ] 1. Say `[P]` in code\n- [ ] 2. Link [P](x)\n- [ ] 3. f(P) maps\n",
        "> - **Track A**: Task 1\n\n- [ ] 1. a\n- [ ] 2. L2 regularization\n",
    ],
)
def test_a_plain_list_keeps_its_sequence(text: str) -> None:
    boxes = parse(text.encode(), "tasks.md").boxes
    assert [(box.track, box.layer, box.after, box.depends) for box in boxes] == [("", "", None, ())] * len(
        boxes
    )


def test_definitions_place_steps_in_a_list_with_marks() -> None:
    built = plan(
        "- [ ] 1. a\n- [ ] 2. [P] b\n- [ ] 3. [P] c\n- [ ] 4. d\n- [ ] 5. e\n- [ ] 6. f\n",
        "step_4:\n  main: 'true'\n  track: X\nstep_5:\n  main: 'true'\n  track: Y\n",
    )
    assert needs(built) == {
        "1": [], "2": ["1"], "3": ["1"], "4": ["2", "3"], "5": ["2", "3"], "6": ["4", "5"],
    }  # fmt: skip


# -- words


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (" T012, T013", ["T012", "T013"]),
        ("Tasks 1-3, 18 and 20", ["1-3", "18", "20"]),
        ("T012–T015; data-model.md", ["T012-T015"]),
        ("CR-A and/or PR-A (failed)", ["CR-A", "PR-A"]),
        ("All track approvals (PR-A through PR-F)", ["PR-A-PR-F"]),
        ("Track B, C completion", ["B", "C"]),
        ("Track F partial (Tasks 19-28)", ["19-28"]),
        ("Task Group 1, Pairing Management spec", ["1"]),
        ("Task Groups 1-2", ["1-2"]),
        ("L0 complete", ["L0"]),
        ("All layers complete", ["all"]),
        ("T048: auth fix", ["T048"]),
        ("None", []),
        ("3 new packages, react 18.2.0", []),
        ("003-auth-spec, src/T1.py", []),
        ("proposal/design/spec", []),
        ("2 -> 3 → 4", ["2", "3", "4"]),
    ],
)
def test_only_what_can_be_an_id_is_one(said: str, found: list[str]) -> None:
    assert [str(mention) for mention in mentions(said)] == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Do it (depends on T002; see data (model))", ["T002; see data (model)"]),
        ("[P0][Depends: 1.1][Input: x] Do it", ["1.1"]),
        ("### Inline rename (depends on T016)", ["T016"]),
        ("**Group 2 (After Group 1 + CR1)**", ["Group 1 + CR1"]),
        ("Ship it, depends on: 3", ["3"]),
        ("This depends on the weather", []),
    ],
)
def test_a_title_says_what_it_depends_on_in_brackets_or_behind_a_colon(text: str, said: list[str]) -> None:
    assert [one.strip() for one in said_in(text)] == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  - _Depends: 2.1, 2.2_", " 2.1, 2.2"),
        ("**Dependencies:** Task Group 1", " Task Group 1"),
        ("- **Dependencies**: None", " None"),
        ("Dependency injection: use it", None),
        ("- It depends on: nothing", None),
    ],
)
def test_a_line_of_its_own_says_it_with_a_colon(line: str, said: str | None) -> None:
    assert said_on(line) == said


# -- whatever people write

TRICKY = (
    "1. 2. 2.1 2.0 T1 T2 CR-A [P] (P) [L0] L1: (depends on depends: Dependencies: T1) 1-3) all tracks 2, "
    "Track A B: Group 1 Phase 2 Layer 0 ~~ * ( ) - Tasks 1-2 T2-T1 None"
)
LINES = st.builds(
    lambda start, words: start + " ".join(words),
    st.sampled_from(["- [ ] ", "- [x] ", "  - [ ] ", "- [ ]* ", "- ", "  - ", "## ", "### ", "", "**", "> "]),
    st.lists(st.sampled_from(TRICKY.split(" ")), max_size=7),
)
FILES = st.lists(LINES, min_size=1, max_size=14).map("\n".join)


def order_of(text: str) -> object:
    try:
        built = plan(text)
    except PlanError as error:
        return error.problems
    return [(step.id, step.track, step.layer, step.needs) for step in built.steps], built.warnings


@settings(max_examples=150, deadline=None)
@given(FILES)
def test_wild_lists_are_read_or_refused_in_words_and_ticks_change_nothing(text: str) -> None:
    before = order_of(text)
    try:
        tasks = parse(text.encode(), "tasks.md")
    except PlanError:
        return
    keys = {box.key for box in tasks.boxes}
    assert all(set(box.after or ()) | set(box.depends) <= keys for box in tasks.boxes)
    data = text.encode()
    for box in reversed(tasks.boxes):
        data = splice(data, box, tick=tick_suffix("2026-11-20T23:42:00Z", "task_1_aa"))
    assert order_of(data.decode()) == before
