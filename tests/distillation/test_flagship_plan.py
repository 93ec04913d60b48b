"""The plan's own list and definitions: complete, consistent, and true when they are carried out."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillation import estimate
from tests import shipped
from tests.distillation.conftest import ROOT

SPEC = shipped.the_list()
DEFINITIONS: dict[str, Any] = yaml.safe_load((ROOT / ".claude/tasks/step_definitions.yaml").read_text())
STEPS = {key: value for key, value in DEFINITIONS.items() if key.startswith("step_")}
PLAIN = [key for key in STEPS if re.match(r"step_[1345]_", key)]  # step 2 installs packages
CHECKS = [
    (key, check) for key, step in STEPS.items() for check in step["pre_flight"] + step["post_validation"]
]


def section(number: int) -> str:
    found = re.search(rf"^## STEP {number}: .*?(?=^## |\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, f"no section for step {number}"
    return found[0]


def demand_twenty_open_boxes(text: str) -> None:
    boxes = re.findall(r"^- \[ \] \*\*STEP (\d+)\*\*: \S.* - \S.*$", text, re.MULTILINE)
    assert [int(number) for number in boxes] == list(range(1, 21))
    assert len(re.findall(r"\[[ xX]\]", text)) == 20


def test_the_list_has_twenty_boxes_in_order_none_ticked_and_no_other_box() -> None:
    demand_twenty_open_boxes(SPEC)


def test_no_tick_is_committed() -> None:
    committed = shipped.committed_list()
    if committed is None:
        pytest.skip("not a git checkout")
    demand_twenty_open_boxes(committed)


def test_the_tests_pass_beside_steps_that_were_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    ticked = SPEC.replace("- [ ] **STEP 1**", "- [x] **STEP 1**")
    tick = r"\g<0> ✓ [2026-11-20T23:42:00Z] [task_1_1a2b3c4d] (engine: local (so far))"
    noted = re.sub(r"^- \[x\] .*$", tick, ticked, flags=re.MULTILINE)
    (tmp_path / "SPEC.md").write_text(noted, encoding="utf-8")
    assert shipped.the_list() == SPEC != noted
    (tmp_path / "SPEC.md").write_text(ticked, encoding="utf-8")
    assert shipped.the_list() != SPEC, "a tick by hand stays a tick"


def test_the_costs_in_the_plan_are_those_of_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan shows them before anything has run: by the shipped configuration, sizes assumed."""
    for name in ("training_config.yaml", "data_generation_config.yaml"):
        shutil.copy2(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINKER_API_KEY", "tml-" + "a" * 20)
    cost = estimate.estimate()
    expected = {line["step"]: line for line in cost["steps"]}
    shown = {int(key.split("_")[1]): step["cost"] for key, step in STEPS.items() if "cost" in step}
    assert shown.keys() == expected.keys()
    for number, line in expected.items():
        assert shown[number]["usd"] == round(line["usd"], 2)
        assert shown[number]["when"] == "TINKER_API_KEY"
        for kind in ("prefill", "sample", "train"):
            if line[f"{kind}_tokens"]:
                priced = f"{line[f'{kind}_tokens']:,} \\w+ tokens at \\${cost['price'][kind]:g}"
                assert re.search(priced, shown[number]["assuming"])


@pytest.mark.parametrize("number", range(1, 21))
def test_every_step_has_its_section(number: int) -> None:
    text = section(number)
    title = re.search(rf"\*\*STEP {number}\*\*: (.+?) - ", SPEC)
    assert title is not None
    assert text.startswith(f"## STEP {number}: {title[1]}\n")
    for heading in ("What to accomplish", "Files", "Success outcome", "Instructions"):
        assert f"### {heading}\n" in text


@pytest.mark.parametrize(
    ("number", "promise"),
    [
        (4, "500 usable examples"),
        (5, "450 words"),
        (7, "95 %"),
        (8, "5,000"),
        (13, "200, 400, 600, 800 and 1000"),
        (15, "85 and 95 %"),
        (16, "30 to 40"),
    ],
)
def test_the_numbers_of_the_plan_are_promised(number: int, promise: str) -> None:
    assert promise in section(number)


def test_all_steps_are_defined_and_name_real_modules() -> None:
    assert [int(key.split("_")[1]) for key in STEPS] == list(range(1, 21))
    commands = [step["main"]["command"] for step in STEPS.values()]
    commands += [check["command"] for _, check in CHECKS if "command" in check]
    for command in commands:
        for module in re.findall(r"python -m distillation\.(\w+)", command):
            assert (ROOT / "distillation" / f"{module}.py").is_file()


@pytest.mark.parametrize("key", STEPS)
def test_long_mains_are_tried_first_and_criteria_are_reported(key: str) -> None:
    main = STEPS[key]["main"]
    short = isinstance(main["timeout"], int) and main["timeout"] <= 300
    assert short or "test_first" in main
    assert "tinker-api" in main["skills"]
    sources = "".join(path.read_text() for path in (ROOT / "distillation").glob("*.py"))
    for criterion in main.get("success_criteria", ()):
        assert f'"{criterion}"' in sources


@pytest.mark.parametrize("key", STEPS)
def test_every_check_has_a_name_and_a_deadline_and_every_step_is_checked(key: str) -> None:
    for phase in ("pre_flight", "post_validation"):
        checks = STEPS[key][phase]
        assert checks
        assert all(0 < check["timeout"] <= 180 for check in checks)
        assert len({check["task"] for check in checks}) == len(checks)


def shell(command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the definitions as a runner would: this interpreter first on PATH, no key."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TINKER_")} | extra
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def failed(check: dict[str, Any]) -> str:
    """Why a command check does not hold; empty when it does."""
    done = shell(check["command"])
    if done.returncode != 0:
        return f"{check['task']}: exit {done.returncode}: {done.stderr}"
    expected = check.get("expect", {}).get("match")
    if expected and not re.search(expected, done.stdout):
        return f"{check['task']}: no match in {done.stdout}"
    if metric := check.get("metric"):
        found = re.search(metric["pattern"], done.stdout)
        if not found:
            return f"{check['task']}: no number in {done.stdout}"
        value = float(found[1])
        if not metric.get("min", value) <= value <= metric.get("max", value):
            return f"{check['task']}: {value} is out of bounds"
    return ""


def test_steps_1_3_4_5_hold_what_their_checks_ask_and_fail_them_before(folder: Path) -> None:
    for key in PLAIN:
        step = STEPS[key]
        before = [failed(check) for check in step["post_validation"] if "metric" in check]
        assert all(before), f"a check of {key} holds before the step was done"
        assert [text for c in step["pre_flight"] if "command" in c for text in [failed(c)] if text] == []
        done = shell(step["main"]["command"], TINKER_STEPS_EVENTS=str(folder / "events.jsonl"))
        assert done.returncode == 0, done.stderr
        after = [failed(check) for check in step["post_validation"] if check.get("critical", True)]
        assert [text for text in after if text] == []
    warning = STEPS["step_3_explore_dataset"]["post_validation"][-1]
    assert warning["critical"] is False
    assert failed(warning).startswith("is_the_full_dataset: no match")


def test_the_plans_code_knows_nothing_of_the_runner_and_imports_lightly() -> None:
    for path in (ROOT / "distillation").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("pytest_tinker_steps", "pytest") for name in names), path
        for node in tree.body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names | {"distillation", "yaml"}, path


def test_agent_and_skill_have_front_matter_with_lists() -> None:
    for path, name in (
        (".claude/agents/AGENT.md", "tinker-executor"),
        (".claude/skills/tinker-api/SKILL.md", "tinker-api"),
    ):
        front = yaml.safe_load((ROOT / path).read_text().split("---\n")[1])
        assert front["name"] == name
        assert front["description"]
        assert all(isinstance(front[key], list) for key in ("tools", "skills") if key in front)
