"""What the README and the pages say is so: commands run, tables are those of the program, examples load."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pytest_tinker_steps.plan import definitions, tasklist
from pytest_tinker_steps.plan.model import PlanError
from pytest_tinker_steps.plan.schema import json_schema
from pytest_tinker_steps.record import state
from pytest_tinker_steps.run.events import EventsFile
from tests import shipped

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETUP_PLAN = "pip install -e . && pytest --steps 1-5"
WHOLE_PLAN = "pytest --steps all --steps-wait"
"""Run in full by tests/distillation/test_full_plan.py."""
SETUP_TESTS = 'pip install -e ".[test]" && pytest -n 2'


OTHERS = (SETUP_PLAN, SETUP_TESTS, WHOLE_PLAN)
"""Commands for the repository itself, not for the folder of the quick start."""


def _picture_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs" / "make_picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


picture = _picture_module()


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def fences(text: str, language: str) -> list[str]:
    return [fence.body for fence in picture.fences(text) if fence.info[:1] == (language,)]


def commands(text: str) -> list[tuple[str, int]]:
    """Each command of the ``sh`` blocks, and the exit code that its comment announces, else 0."""
    found = []
    for line in "\n".join(fences(text, "sh")).splitlines():
        command, _, comment = line.partition("  #")
        if command.strip():
            announced = re.search(r"exit code (\d+)", comment)
            found.append((command.strip(), int(announced[1]) if announced else 0))
    return found


def shell(command: str, cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


# -- commands


@pytest.mark.slow
def test_the_quick_start_does_what_it_says(tmp_path: Path) -> None:
    picture.write_quick_start(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "release",
        "step_definitions.yaml",
        "tasks.md",
        "training",
    ]
    todo = [(command, code) for command, code in commands(README) if command not in OTHERS]
    assert len(todo) > 8
    said = {}
    for command, code in todo:
        ended = shell(command, tmp_path, picture.plain_environment(), 240)
        assert ended.returncode == code, f"{command}\n{ended.stdout}"
        said[command] = ended.stdout
    boxes = tasklist.parse((tmp_path / "tasks.md").read_bytes(), "tasks.md").boxes
    assert [box.done for box in boxes] == [True, True, True]
    assert (tmp_path / "public" / "count.txt").read_text().split() == ["6"]
    boxes = tasklist.parse((tmp_path / "training" / "tasks.md").read_bytes(), "tasks.md").boxes
    assert [box.done for box in boxes] == [True, True, True, True]
    assert "1 started" in said["pytest training/tasks.md --steps 1-3"]
    assert "step_2" in said["pytest training/tasks.md --steps-monitor"]
    assert "PUBLISH_TO is not set" in said["pytest --steps all"]
    assert (
        "nothing left to do" in said["pytest --steps continue"]
        or "step 2" in said["pytest --steps continue"].lower()
    )
    assert "un-ticked" in said["pytest --steps-verify --steps-untick"]
    assert json.loads((tmp_path / "step_definitions.schema.json").read_text()) == json_schema()


def test_the_two_set_up_commands_stand_first() -> None:
    assert [command for command, _ in commands(README)[:2]] == [SETUP_PLAN, SETUP_TESTS]


@pytest.fixture
def fresh_copy(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The repository as a clone would have it, and the environment of a new virtual environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    copy = tmp_path / "clone"
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / "SPEC.md").write_text(shipped.the_list(), encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=copy, timeout=120, check=True)
    venv.create(tmp_path / "venv", with_pip=True)
    env: dict[str, str] = picture.plain_environment()
    env["PATH"] = str(tmp_path / "venv" / "bin") + os.pathsep + env["PATH"]
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return copy, env


@pytest.mark.slow
def test_the_first_set_up_command_runs_the_plans_first_steps(fresh_copy: tuple[Path, dict[str, str]]) -> None:
    copy, env = fresh_copy
    ended = shell(SETUP_PLAN, copy, env, 1500)
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert "5 passed" in ended.stdout
    boxes = tasklist.parse((copy / "SPEC.md").read_bytes(), "SPEC.md").boxes
    assert [box.key for box in boxes if box.done] == ["1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_the_second_set_up_command_passes_the_tests(fresh_copy: tuple[Path, dict[str, str]]) -> None:
    copy, env = fresh_copy
    # As the first command leaves the list: a reader runs one after the other.
    tick = r"- [x] \1 ✓ [2026-11-20T23:42:00Z] [task_\2_1a2b3c4d] (done)"
    text = re.sub(r"^- \[ \] (\*\*STEP ([1-5])\*\*.*)$", tick, shipped.the_list(), flags=re.MULTILINE)
    assert text.count("[x]") == 5
    (copy / "SPEC.md").write_text(text, encoding="utf-8")
    ended = shell(SETUP_TESTS, copy, env, 1500)
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert re.search(r"\d+ passed", ended.stdout)


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert SETUP_TESTS in [line.strip() for line in script.splitlines()]


def test_the_ci_example_is_what_our_own_job_does() -> None:
    (example,) = (yaml.safe_load(body) for body in fences(README, "yaml") if body.startswith("jobs:"))
    ours = yaml.safe_load((ROOT / ".github" / "workflows" / "plan.yml").read_text(encoding="utf-8"))
    assert example["jobs"]["plan"] == ours["jobs"]["plan"]


# -- tables


def table(text: str, header: str) -> list[list[str]]:
    """Cells of the rows below the header that begins with these words."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(header):
            inside = True
        elif inside and line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not set("".join(cells)) <= set("-: "):
                rows.append(cells)
        elif inside:
            break
    assert rows, header
    return rows


@pytest.fixture(scope="module")
def help_text() -> str:
    ended = shell("pytest --help", ROOT, {**picture.plain_environment(), "COLUMNS": "400"}, 60)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_the_table_of_options_is_the_help_of_pytest(help_text: str) -> None:
    _, _, after = help_text.partition("task lists (pytest-tinker-steps):\n")
    section, _, _ = after.partition("\n\n")
    joined = re.sub(r"\n {10,}", "  ", section)
    real = {}
    for line in joined.splitlines():
        name, _, text = line.strip().partition("  ")
        real[name.replace("=", " ")] = text.strip()
    assert real
    assert {row[0].strip("`"): row[1] for row in table(README, "| option | what it does |")} == real


def test_the_table_of_settings_is_the_help_of_pytest(help_text: str) -> None:
    joined = re.sub(r"\n {10,}", "  ", help_text)
    real = {
        name: [kind, text.strip()]
        for name, kind, text in re.findall(r"^  (steps_\w+) \((\w+)\):(.*)$", joined, re.MULTILINE)
    }
    assert real
    assert {row[0].strip("`"): row[1:] for row in table(README, "| setting | type |")} == real


def test_the_readme_has_the_line_for_editors() -> None:
    (example,) = (f.body for f in picture.fences(README) if f.info == ("yaml", "step_definitions.yaml"))
    assert example.startswith("# yaml-language-server: $schema=step_definitions.schema.json\n")
    assert ("python -m pytest_tinker_steps.plan.schema > step_definitions.schema.json", 0) in commands(README)


def test_the_tick_in_the_readme_is_read_as_one() -> None:
    (example,) = (body for body in fences(README, "text") if "✓" in body)
    (box,) = tasklist.parse(example.encode(), "tasks.md").boxes
    assert box.done
    assert box.title == "Count its words"
    assert box.note


# -- the picture


def _comparable(text: str) -> Counter[str]:
    # Ids and times differ from run to run; checks that run side by side end in any order.
    text = re.sub(r"task_(\w+?)_[0-9a-f]{8}", r"task_\1_x", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}Z", "time", text)
    text = re.sub(r"\d+\.\d+s", "n s", text)
    text = re.sub(r"\S*/wc\b", "wc", text)
    return Counter(line.strip("=_- ") for line in text.splitlines() if line.strip("=_- "))


def test_the_picture_shows_what_a_run_prints_now() -> None:
    text = picture.terminal_text()
    drawn = re.sub(
        r"<[^>]*>",
        "",
        picture.PICTURE.read_text(encoding="utf-8").replace("</text>\n<text", "</text>\x00<text"),
    )
    now = re.sub(r"<[^>]*>", "", picture.svg(text).replace("</text>\n<text", "</text>\x00<text"))
    assert _comparable(drawn.replace("\x00", "\n")) == _comparable(now.replace("\x00", "\n")), (
        "run: python docs/make_picture.py"
    )


def test_the_picture_draws_every_character_of_the_text() -> None:
    line = "\x1b[32m✓ a\x1b[0m <b> \x1b[1m\x1b[31mc\x1b[0m"
    assert [(p.column, p.text) for p in picture.pieces(line)] == [(0, "✓ a"), (3, " <b> "), (8, "c")]
    assert "&lt;b&gt;" in picture.svg(line)


# -- the pages


def test_every_example_of_definitions_loads() -> None:
    examples = [*fences(page("definitions.md"), "yaml"), *fences(page("how-it-works.md"), "yaml")]
    assert len(examples) > 10
    for example in examples:
        definitions.load(example.encode(), "step_definitions.yaml")


def test_every_key_of_the_definitions_is_described_and_shown() -> None:
    text = page("definitions.md")
    shown = "\n".join(fences(text, "yaml"))
    schema = json_schema()
    keys = {key for shape in (schema, *schema["$defs"].values()) for key in shape.get("properties", {})}
    assert len(keys) > 60
    assert sorted(key for key in keys if not re.search(rf"`{re.escape(key)}\b", text)) == []
    assert sorted(key for key in keys if not re.search(rf"(?<![\w-]){re.escape(key)}:", shown)) == []


def test_mistakes_in_the_page_of_definitions_are_reported_in_those_words() -> None:
    (example,) = (f.body for f in picture.fences(page("definitions.md")) if f.info == ("yaml-mistakes",))
    (said,) = (f.body for f in picture.fences(page("definitions.md")) if f.info == ("text", "mistakes"))
    with pytest.raises(PlanError) as caught:
        definitions.load(example.encode(), "step_definitions.yaml")
    assert list(caught.value.problems) == said.splitlines()


NAMED_BY = {"emit": 0, "_emit": 0, "append": 0, "event": 0, "_event": 2}
"""Functions that take the name of an event, and at which place."""


def _events_in_the_code() -> set[str]:
    """Names of events: in calls that emit or record one, in records that are written out, in constants."""
    package = ROOT / "pytest_tinker_steps"
    named: list[ast.expr] = []
    record = [package / "record" / name for name in ("boxes.py", "controller.py")]
    for path in [*sorted((package / "run").rglob("*.py")), *record]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                place = NAMED_BY.get(node.func.attr, len(node.args))
                if node.func.attr != "append" or "journal" in ast.unparse(node.func):
                    named += node.args[place : place + 1]
            elif isinstance(node, ast.Dict):
                keys = [ast.unparse(key) if key else "" for key in node.keys]
                named += [value for key, value in zip(keys, node.values, strict=True) if key == "'event'"]
    found = {state.STARTED, state.FINISHED, state.INTERRUPTED, state.TICKED, state.UNTICKED}
    found |= {
        "blocked",
        "not_started",
        "verify_started",
        "verify_finished",
        "sample",
        "alert",
    }  # chosen by a condition
    return found | {str(name.value) for name in named if isinstance(name, ast.Constant)}


def test_the_table_of_events_has_every_event_and_no_other() -> None:
    rows = table(page("how-it-works.md"), "| event | when |")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named == _events_in_the_code()


def test_the_examples_of_records_are_records() -> None:
    rows = table(page("how-it-works.md"), "| event | when |")
    for name, _, example in rows:
        record: dict[str, Any] = json.loads("{" + example.strip("`").replace("\\|", "|") + "}")
        assert record, name


def test_the_hook_of_the_example_hears_of_every_verdict(tmp_path: Path) -> None:
    (example,) = (body for body in fences(page("how-it-works.md"), "python") if "pytest_steps_event" in body)
    picture.write_quick_start(tmp_path)
    (tmp_path / "conftest.py").write_text(example, encoding="utf-8")
    ended = shell("pytest --steps 1,2", tmp_path, picture.plain_environment(), 240)
    assert ended.returncode == 0, ended.stdout
    assert (tmp_path / "verdicts.txt").read_text() == "1 passed\n2 passed\n"


def test_the_events_file_example_reports_what_the_page_says(tmp_path: Path) -> None:
    (example,) = (body for body in fences(page("definitions.md"), "python") if "TINKER_STEPS_EVENTS" in body)
    path = tmp_path / "events.jsonl"
    subprocess.run(
        [sys.executable, "-c", example],
        env={**os.environ, "TINKER_STEPS_EVENTS": str(path)},
        timeout=120,
        check=True,
    )
    events = EventsFile(path).finish()
    assert [next(iter(event)) for event in events] == ["progress", "metric", "note", "criterion"]
