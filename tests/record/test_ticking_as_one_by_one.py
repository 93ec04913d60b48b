"""Ticks in one rewrite leave what the same ticks leave one by one."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan import tasklist
from pytest_tinker_steps.plan.model import PlanError, TaskList
from pytest_tinker_steps.record.ticking import ListFile, Tick

from .written import TIME

rows = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["1.", "2.", "1.1", "1.2", "2.1", "T001", "T002", "**STEP 1**:", "**STEP 2**:", ""]),
        st.sampled_from([" ", " ", " ", "x"]),
        st.sampled_from(["Work", "Work  ", "~~Gone~~", "More ✓"]),
    ),
    min_size=1,
    max_size=10,
)
wanted = st.lists(st.tuples(st.integers(0, 20), st.text(max_size=8)), max_size=8)


def _parsed(data: bytes) -> TaskList | None:
    try:
        return tasklist.parse(data, "SPEC.md")
    except PlanError:
        return None


NESTED_IN_ITSELF = [(0, "1.", " ", "Work"), (1, "1.", " ", "Work"), (2, "1.1", " ", "Work")]
TWICE_AROUND_ONE = [(0, "1.", " ", "Work"), (0, "1.", " ", "Work"), (1, "2.", " ", "Work")]


@settings(max_examples=120, deadline=None)
@example(rows=TWICE_AROUND_ONE, wanted=[(2, ""), (2, "")], end="\n", cut=None)
@example(rows=NESTED_IN_ITSELF, wanted=[(2, ""), (2, "")], end="\n", cut=None)
@given(rows=rows, wanted=wanted, end=st.sampled_from(["\n", "\r\n"]), cut=st.none() | st.integers(0, 9))
def test_together_leaves_the_same_bytes_as_one_by_one(
    rows: list[tuple[int, str, str, str]],
    wanted: list[tuple[int, str]],
    end: str,
    cut: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = [f"{'  ' * depth}- [{mark}] {step} {title}" for depth, step, mark, title in rows]
    data = end.join(["# A plan", "", *text, ""]).encode()
    boxes = _parsed(data)
    assume(boxes is not None)
    assert boxes is not None
    if cut is not None:  # somebody took a line out since the list was read
        del text[cut % len(text)]
    now = end.join(["# Their plan", "", *text, ""]).encode()
    ticks = [
        Tick(boxes.boxes[which % len(boxes.boxes)], TIME, f"task_{number}_1a2b3c4d", note)
        for number, (which, note) in enumerate(wanted)
    ]
    folder = tmp_path_factory.mktemp("list")
    one, many = folder / "one.md", folder / "many.md"
    one.write_bytes(now)
    many.write_bytes(now)
    single = ListFile(one, data, boxes)
    singly = [single.tick(tick.box, tick.timestamp, tick.task_id, tick.note) for tick in ticks]
    together = ListFile(many, data, boxes)
    assert together.tick_all(ticks) == singly
    assert many.read_bytes() == one.read_bytes()
    at_last = _parsed(many.read_bytes())
    for box in boxes.boxes:
        said = together.is_ticked(box)
        assert said == single.is_ticked(box)
        if at_last is not None:
            assert said == ListFile(many, many.read_bytes(), at_last).is_ticked(box)
