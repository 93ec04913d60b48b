"""Mistakes in definitions files, and how they are told."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import PlanError

ERRORS = Path(__file__).parent / "definitions_errors"
CASES = sorted(ERRORS.glob("*.yaml"))


def problems(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        load(text.encode(), "defs.yaml")
    return list(caught.value.problems)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_all_mistakes_of_a_file_are_told_at_once(case: Path) -> None:
    with pytest.raises(PlanError) as caught:
        load(case.read_bytes(), case.name)
    assert [*caught.value.problems] == case.with_suffix(".txt").read_text("utf-8").splitlines()


def test_every_golden_case_has_its_messages_and_the_other_way_round() -> None:
    assert CASES
    assert {case.stem for case in CASES} == {case.stem for case in ERRORS.glob("*.txt")}


@pytest.mark.parametrize(
    "timeout", ["0", "-1", ".nan", ".inf", "31d", "true", "[5]", "soon", "5 m s", "1e400"]
)
def test_timeouts_that_end_nothing_are_mistakes(timeout: str) -> None:
    (problem,) = problems(f"step_1: {{timeout: {timeout}}}")
    assert problem.startswith("defs.yaml:1: 'timeout' must be ")
    assert "; " in problem


@pytest.mark.parametrize("size", ["-1", "1.5", "9" * 400, "0x" + "f" * 5000, "2 GBit", "true", "[1]"])
def test_sizes_that_are_none_are_mistakes(size: str) -> None:
    (problem,) = problems(f"step_1: {{pre_flight: [{{disk_free: {size}}}]}}")
    assert problem.startswith("defs.yaml:1: 'disk_free' must be a")


def test_message_stays_on_one_line_whatever_it_quotes() -> None:
    (problem,) = problems('step_1: "a\\n\\e[31mb"')
    assert problem.startswith("defs.yaml:1: 'step_1' must be a mapping, not the text 'a\\n\\x1b[31mb'; ")


def test_mistake_below_an_alias_is_told_once() -> None:
    (problem,) = problems("step_1: {env: &e {A B: 1}}\nstep_2: {env: *e}\n")
    assert problem.startswith("defs.yaml:1: 'A B' ")


YAML_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["background", "chunked", "stream", "loss > 3", "{chunk.size}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "steps",
                    "step",
                    "step_1",
                    "defaults",
                    "secrets",
                    "pre_flight",
                    "main",
                    "command",
                    "env",
                    "file",
                    "test_first",
                    "identity",
                    "needs",
                    "retries",
                    "timeout",
                    "metric",
                    "check",
                    "success_criteria",
                    "chunks",
                    "background",
                    "expect",
                    "port",
                    "disk_free",
                    "http",
                    "args",
                    "mode",
                    "total",
                    "chunk_size",
                    "checkpoint_every",
                    "quality",
                    "stop_when",
                    "ready_when",
                    "stall",
                    "threshold",
                    "alert_on",
                    "progress",
                    "output",
                    "log_size",
                    "runners",
                    "runner",
                    "budget_usd",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    value=st.dictionaries(
        st.sampled_from(["step_1", "steps", "defaults", "secrets", "runners", "x"]), YAML_VALUES
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_file_it_is_read_or_told_in_lines(value: dict[str, object]) -> None:
    told: tuple[str, ...] = ()
    try:
        load(yaml.safe_dump(value).encode(), "defs.yaml")
    except PlanError as error:
        told = error.problems
    for problem in told:
        assert problem.startswith("defs.yaml:")
        assert "; " in problem
        assert "\n" not in problem


def test_garbage_collection_goes_on_after_a_mistake() -> None:
    problems("step_1: 5")
    assert gc.isenabled()
