from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from distillation import install
from distillation.command import run
from distillation.errors import DistillationError
from tests.distillation.conftest import Events


class FakePip:
    """Records the command in place of running it, and 'installs' by changing what is seen as there."""

    def __init__(self, installed: dict[str, str], brings: dict[str, str], code: int = 0) -> None:
        self.installed, self.brings, self.code = installed, brings, code
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(list(command))
        self.installed.update(self.brings)
        return self.code


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the environment seems to hold: ``name: version``; ``needs`` of ``outer`` is ``inner>=2``."""
    there: dict[str, str] = {"outer": "1.5", "inner": "2.0"}

    def version(name: str) -> str:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    needs = {"outer": ["inner>=2", "never; sys_platform == 'amiga'", "more; extra == 'all'"]}
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs.get(name))
    return there


def wanted(*lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def test_pip_is_not_called_when_all_is_there(installed: dict[str, str]) -> None:
    pip = FakePip(installed, {})
    assert install.ensure(wanted("outer>=1,<2"), pip) == []
    assert pip.commands == []


def test_what_is_missing_is_installed_under_the_constraints(installed: dict[str, str]) -> None:
    pip = FakePip(installed, {"tinker": "0.38.0"})
    assert install.ensure(wanted("outer", "tinker>=0.38,<0.40"), pip) == ["tinker<0.40,>=0.38"]
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-2:] == ["-c", str(install.CONSTRAINTS)]
    assert "tinker<0.40,>=0.38" in command


def test_a_dependency_that_is_missing_or_old_counts_too(installed: dict[str, str]) -> None:
    installed["inner"] = "1.9"
    assert install.missing(wanted("outer")) == ["inner>=2 (have 1.9)"]
    del installed["inner"]
    assert install.missing(wanted("outer")) == ["inner>=2"]
    assert install.missing(wanted("outer[all]")) == ["inner>=2", "more"]


def test_a_failing_pip_is_a_users_mistake(installed: dict[str, str]) -> None:
    with pytest.raises(DistillationError, match="pip ended with exit code 1 while installing gone"):
        install.ensure(wanted("gone"), FakePip(installed, {}, code=1))


def test_a_pip_that_only_says_it_worked_is_not_believed(installed: dict[str, str]) -> None:
    with pytest.raises(DistillationError, match="still missing: gone"):
        install.ensure(wanted("gone"), FakePip(installed, {}))


def test_without_pip_the_way_by_hand_is_named(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        DistillationError, match=r"has no pip; install by hand: uv pip install -r requirements"
    ):
        install.ensure(wanted("gone"), FakePip(installed, {}))


@pytest.fixture
def two_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "requirements.txt"
    path.write_text("tinker>=0.38,<0.40\nhuggingface_hub>=1.31,<3\n")
    monkeypatch.setattr(install, "REQUIREMENTS", path)


@pytest.mark.usefixtures("two_wanted")
def test_the_step_notes_what_it_did(
    installed: dict[str, str], said: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = FakePip(installed, {"tinker": "0.38.0", "huggingface_hub": "2.4.0"})
    monkeypatch.setattr(install, "_pip", pip)
    assert run(install.main, []) == 0
    assert said()[0] == {"note": "installed 2 missing, now tinker 0.38.0, huggingface-hub 2.4.0"}
    assert run(install.main, []) == 0
    assert said()[3] == {"note": "all there: tinker 0.38.0, huggingface-hub 2.4.0"}
    assert len(pip.commands) == 1


@pytest.mark.usefixtures("two_wanted")
def test_plan_and_check_change_nothing(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = FakePip(installed, {})
    monkeypatch.setattr(install, "_pip", pip)
    assert run(install.main, ["--plan"]) == 0
    assert "missing: 2\n" in capsys.readouterr().out
    assert run(install.main, ["--check"]) == 1
    assert pip.commands == []


def test_a_line_that_is_no_requirement_is_named_with_its_place(folder: Path) -> None:
    path = folder / "requirements.txt"
    path.write_text("# comment\n\npytest>=9  # why\n-r other.txt\n")
    with pytest.raises(DistillationError, match=r"requirements\.txt:4: not a requirement: -r other\.txt"):
        install.read_requirements(path)


def test_requirements_of_other_platforms_are_left_out(folder: Path) -> None:
    path = folder / "requirements.txt"
    path.write_text("a>=1 ; sys_platform == 'amiga'\nb>=2\n")
    assert [r.name for r in install.read_requirements(path)] == ["b"]


def test_every_requirement_is_pinned_by_the_constraints_within_its_range() -> None:
    pins = {r.name.lower().replace("_", "-"): r for r in install.read_requirements(install.CONSTRAINTS)}
    for requirement in install.read_requirements(install.REQUIREMENTS):
        (pin,) = pins[requirement.name.lower().replace("_", "-")].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version)


def imported(path: Path) -> set[str]:
    """Packages that a module imports, also those that it imports by name when it needs them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {str(one.value) for one in node.args if isinstance(one, ast.Constant)}
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"distillation"}


def test_whatever_the_plan_imports_is_a_requirement() -> None:
    named = {r.name.lower().replace("-", "_") for r in install.read_requirements(install.REQUIREMENTS)}
    wanted = {name for path in (install.ROOT / "distillation").rglob("*.py") for name in imported(path)}
    assert {"yaml", "torch", "tinker"} <= wanted, "the imports are not seen"
    assert {"pyyaml" if name == "yaml" else name for name in wanted} - named == set()
