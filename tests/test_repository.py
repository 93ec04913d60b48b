"""What holds for the repository: nothing of one machine in it, one version, workflows with bounds."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_tinker_steps import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

MACHINE_PATH = re.compile(
    r"(?<![\w./~*$}\])-])/(?:home|Users|root|work|workspace|mnt|srv|farm|private/var)/[\w.]"
    r"|\b[A-Za-z]:\\\\?Users\\",
)
"""A folder of one person's or one workplace's: nobody else has it."""

HOST = re.compile(
    r"(?:--(?:extra-)?index-url|--find-links|--trusted-host)\b|\b[\w-]+\.(?:internal|corp|lan)\b"
)


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the repository, those included that are to be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
    return tuple(path for path in paths if path.is_file())


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def places(pattern: re.Pattern[str], paths: tuple[Path, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for path in paths
        for number, line in enumerate(lines(path), start=1)
        if (found := pattern.search(line))
    ]


def test_no_file_knows_a_folder_of_one_machine() -> None:
    assert places(MACHINE_PATH, tracked()) == []


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("cd @home/ada/plan", True),
        ("'@Users/ada'", True),
        ("see @work/x.md", True),
        ("docs@work/x.md and .@home/x", False),
        ("https:@@example.org@home/page", False),
        ("@bin/sh and @usr/bin/wc and @proc/1/stat", False),
    ],
)
def test_folders_of_one_machine_are_recognised(text: str, known: bool) -> None:
    # Written with @ for the first slash, so that this file has no such folder itself.
    assert bool(MACHINE_PATH.search(text.replace("@", "/"))) is known


def test_no_file_names_a_package_index() -> None:
    others = tuple(path for path in tracked() if path != Path(__file__))
    assert places(HOST, others) == []


def test_no_run_is_committed() -> None:
    left = {".task_execution.log", ".steps", ".claude/execution", "runs"}
    found = [str(path.relative_to(ROOT)) for path in tracked()]
    assert [name for name in found if any(name == one or name.startswith(f"{one}/") for one in left)] == []


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(
        r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert versions, "no version heading"
    version, rest = versions[0]
    assert version == __version__
    assert re.fullmatch(r" - (unreleased|\d{4}-\d\d-\d\d)", rest), rest


def test_every_decision_has_its_parts_and_fits_a_page() -> None:
    found = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in found] == [f"{number:04d}" for number in range(1, len(found) + 1)]
    for path in found:
        text = path.read_text(encoding="utf-8")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert len(text.splitlines()) <= 60, path.name


def test_links_between_the_pages_lead_somewhere() -> None:
    dead = []
    for path in (path for path in tracked() if path.suffix == ".md" and "tests" not in path.parts):
        prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            name, _, anchor = target.partition("#")
            if "://" in target or not name:
                continue
            there = path.parent / name
            if not there.exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
            elif anchor and anchor not in anchors(there):
                dead.append(f"{path.relative_to(ROOT)}: {target}: no such heading")
    assert dead == []


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(request.param.read_text(encoding="utf-8"))
    return loaded


def test_there_are_workflows_for_the_tests_and_for_the_plan() -> None:
    assert [path.name for path in WORKFLOWS] == ["plan.yml", "tests.yml"]


def test_a_workflow_may_only_read(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())


def test_a_workflow_has_an_end_and_gives_way_to_its_successor(workflow: dict[Any, Any]) -> None:
    assert workflow["concurrency"]["group"]
    assert "cancel-in-progress" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 90, name


def test_actions_are_pinned_to_a_major_version(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@v\d+", name)] == []


def test_the_plan_of_ci_keeps_journal_and_logs_of_every_run() -> None:
    plan = yaml.safe_load((ROOT / ".github" / "workflows" / "plan.yml").read_text(encoding="utf-8"))
    (job,) = plan["jobs"].values()
    (upload,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
    assert upload["if"] == "always()"
    assert {".task_execution.log", ".steps/logs/"} <= set(upload["with"]["path"].split())
    assert upload["with"]["include-hidden-files"] is True
    assert any("pytest --steps 1-5" in step.get("run", "") for step in job["steps"])


def test_the_one_ci_script_is_executable() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert lines(script)[:1] == ["#!/usr/bin/env bash"]
    assert "set -euo pipefail" in lines(script)
