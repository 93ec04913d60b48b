"""A plan as JSON: what another program can rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.report import plan_json, plan_text, plan_view

from ..record.sessions import a_list, a_plan, a_session, decide, true_steps
from . import golden
from .plans import with_tracks

PAGE = Path(__file__).parents[2] / "docs" / "plan-formats.md"


def test_a_plan_with_tracks_durations_costs_a_pool_and_a_job() -> None:
    lines = plan_json.of(with_tracks(workers=4, budget=10.0))
    assert json.loads("\n".join(lines)) == plan_json.data(with_tracks(workers=4, budget=10.0))
    golden.check("plan_json", lines)


def test_it_is_plain_ascii_whatever_the_titles_are() -> None:
    plan = a_plan(a_list('Ünï "quoted" \\ 🚀'), true_steps(1))
    text = "\n".join(plan_json.of(plan_view.make(a_session(plan))))
    assert text.isascii()
    assert json.loads(text)["steps"][0]["title"] == 'Ünï "quoted" \\ 🚀'


def test_waves_have_all_steps_that_run_once_and_are_those_of_the_text() -> None:
    view = with_tracks()
    data = plan_json.data(view)
    flat = [name for wave in data["waves"] for name in wave]
    assert sorted(flat) == sorted(step["id"] for step in data["steps"] if step["status"] == "run")
    for number, wave in enumerate(data["waves"], start=1):
        assert {step["id"] for step in data["steps"] if step["wave"] == number} == set(wave)
    headings = [line for line in plan_text.of(view) if re.search(r"\(wave \d+\)", line)]
    assert len(headings) == len(data["waves"])


def test_every_step_of_the_list_is_there_whether_it_is_selected_or_not() -> None:
    plan = a_plan(a_list("First", "Second", "Third", "Fourth", ticked=(1,)), true_steps(4))
    data = plan_json.data(plan_view.make(a_session(plan, decide(plan, Wishes("3-4", assume="2")))))
    assert [(step["id"], step["selected"], step["status"], step["reason"]) for step in data["steps"]] == [
        ("1", False, "done", "done, no record here"),
        ("2", False, "skipped", "not selected; not done"),
        ("3", True, "run", "not done"),
        ("4", True, "run", "not done"),
    ]
    assert (data["total"], data["counts"]["run"]) == (2, 2)


def test_what_cannot_run_says_why_in_one_line() -> None:
    plan = a_plan(a_list("First", "Second", "Third"), "step_3: {main: 'true', needs: [2]}\n")
    data = plan_json.data(plan_view.make(a_session(plan)))
    assert [(step["status"], step["wave"]) for step in data["steps"]] == [
        ("refused", None),
        ("refused", None),
        ("blocked", None),
    ]
    assert data["steps"][2]["reason"] == "blocked by step_2"
    assert all("\n" not in step["reason"] for step in data["steps"])
    assert data["waves"] == data["critical_path"] == []
    assert data["expected_seconds"] is None


def test_the_page_on_formats_has_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    data = plan_json.data(with_tracks())
    assert documented == {*data, *data["steps"][0]}
