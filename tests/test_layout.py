"""Imports go down only, from the top modules to the plan; heavy and dangerous ones stay in their places."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "pytest_tinker_steps"

TOP = tuple(
    sorted(path.stem for path in (ROOT / PACKAGE).glob("*.py") if path.stem not in ("__init__", "plugin"))
)
"""The modules beside ``plugin.py`` are one floor: together they are pytest's side of the house."""

FLOORS: tuple[tuple[str, ...], ...] = (("plan",), ("record",), ("run",), ("report",), TOP, ("plugin",))
"""From the ground up. A module imports from its own floor and from those below."""

STARTS_PROCESSES = "run/process.py"
GUARDIAN = "run/guardian.py"
"""A program of its own. At its end it runs what it was left, when nobody else is there to do it."""
KNOWS_PROCESSES = {STARTS_PROCESSES, GUARDIAN, "run/guarding.py", "run/watching.py", "run/proctree.py"}

ONLY_IN = {
    "pydantic": {
        "plan/shapes/check_shapes.py",
        "plan/shapes/definition_errors.py",
        "plan/definitions.py",
        "plan/shapes/main_shapes.py",
        "plan/shapes/monitor_shapes.py",
        "plan/shapes/scalars.py",
        "plan/schema.py",
    },
    "pydantic_core": {"plan/shapes/scalars.py"},
    "yaml": {"plan/shapes/yaml_source.py", "run/probing/file_probes.py"},
    "markdown_it": {"plan/lists/blocks.py"},
    "psutil": {"run/proctree.py"},
    "xdist": {"around.py", "distribution.py", "scheduling.py"},
    "subprocess": KNOWS_PROCESSES,
}


@dataclass(frozen=True)
class Import:
    """One imported module, with its full name and the place of the statement.

    Attributes:
        nested: inside a function, so that it runs late.
        typing: below ``if TYPE_CHECKING``, so that it never runs.
    """

    file: str
    line: int
    name: str
    nested: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def modules() -> frozenset[str]:
    """Full names of the package's modules and packages."""
    names = set()
    for path in files(PACKAGE):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return frozenset(names)


MODULES = modules()


def imports(path: Path, root: Path = ROOT) -> Iterator[Import]:
    """All imports of a file, also those inside functions, with relative ones resolved."""
    file = path.relative_to(root)
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, nested: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names: list[str] = []
            line = 0
            if isinstance(child, ast.Import):
                line = child.lineno
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                line = child.lineno
                base = (
                    list(file.parent.parts[: len(file.parent.parts) - child.level + 1]) if child.level else []
                )
                full = ".".join(base + ([child.module] if child.module else []))
                for alias in child.names:
                    inner = f"{full}.{alias.name}"
                    names.append(inner if inner in MODULES else full)
            for name in names:
                yield Import(str(file), line, name, nested, typing)
            late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            unreal = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, nested or late, typing or unreal)

    yield from walk(tree, nested=False, typing=False)


def package_imports() -> list[Import]:
    return [found for path in files(PACKAGE) for found in imports(path)]


def floor(module: str) -> int | None:
    """Number of a module's floor; None for the package itself, which only knows its version."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return next(number for number, names in enumerate(FLOORS) if parts[1] in names)


def module_of(file: str) -> str:
    parts = Path(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(file: str) -> str:
    """The path of a file below the package's folder."""
    return str(Path(file).relative_to(PACKAGE))


def test_every_module_has_a_floor() -> None:
    homeless = [
        name for name in MODULES if "." in name and not any(name.split(".")[1] in names for names in FLOORS)
    ]
    assert not homeless


def test_imports_go_down_only() -> None:
    upward = []
    for found in package_imports():
        if found.top != PACKAGE:
            continue
        here, there = floor(module_of(found.file)), floor(found.name)
        if there is not None and (here is None or there > here):
            upward.append(str(found))
    assert upward == []


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    folder = tmp_path / PACKAGE / "plan"
    folder.mkdir(parents=True)
    path = folder / "odd.py"
    path.write_text(
        "import os.path\nfrom ..run import process\nfrom . import model\nfrom .. import __version__\n"
        "if TYPE_CHECKING:\n    import pytest\ndef f():\n    from ..hooks import Hooks\n"
    )
    found = {(i.name, i.nested, i.typing) for i in imports(path, tmp_path)}
    assert found == {
        ("os.path", False, False),
        (f"{PACKAGE}.run.process", False, False),
        (f"{PACKAGE}.plan.model", False, False),
        (PACKAGE, False, False),
        ("pytest", False, True),
        (f"{PACKAGE}.hooks", True, False),
    }


def test_the_plan_is_pure() -> None:
    impure = {"pytest", "_pytest", "xdist", "subprocess", "multiprocessing", "threading", "asyncio", "socket"}
    impure |= {"time", "datetime", "psutil", "os", "pathlib", "tempfile"}
    assert [str(i) for i in package_imports() if inside(i.file).startswith("plan/") and i.top in impure] == []


def test_only_the_top_modules_know_pytest() -> None:
    lower = tuple(f"{names[0]}/" for names in FLOORS[:4])
    known = {"pytest", "_pytest", "xdist", "pluggy", "pytest_timeout"}
    assert [str(i) for i in package_imports() if inside(i.file).startswith(lower) and i.top in known] == []


@pytest.mark.parametrize("name", sorted(ONLY_IN))
def test_each_is_imported_only_where_it_is_needed(name: str) -> None:
    places = {inside(i.file) for i in package_imports() if i.top == name}
    assert places <= ONLY_IN[name]


def test_processes_are_started_in_one_module() -> None:
    starters = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
    system = ("system", "popen", "fork", "forkpty", "spawn", "posix_spawn", "exec")
    found = []
    for path in files(PACKAGE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            starts = owner == "subprocess" and node.func.attr in starters
            starts |= owner == "os" and node.func.attr.startswith(system)
            starts |= owner == "asyncio" and node.func.attr.startswith("create_subprocess")
            if starts:
                found.append(str(path.relative_to(ROOT / PACKAGE)))
    assert set(found) == {STARTS_PROCESSES, GUARDIAN}


def test_the_runner_and_the_plan_that_it_runs_do_not_know_each_other() -> None:
    other = [i for path in files("distillation") for i in imports(path) if i.top == PACKAGE]
    back = [i for i in package_imports() if i.top == "distillation"]
    assert [str(i) for i in [*other, *back]] == []


def test_the_plugin_module_imports_nothing_of_the_package_before_it_must() -> None:
    early = [
        i for i in imports(ROOT / PACKAGE / "plugin.py") if i.top == PACKAGE and not i.nested and not i.typing
    ]
    assert [str(i) for i in early] == []


def test_a_session_without_steps_loads_options_and_hook_names_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import json, sys\n"
        "def test_plain():\n"
        "    with open('loaded.json', 'w') as file:\n"
        "        json.dump(sorted(sys.modules), file)\n"
    )
    # Only our plugin: others may import for their own purposes what we are not to import.
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", f"{PACKAGE}.plugin", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        check=True,
        timeout=60,
        capture_output=True,
    )
    loaded = set(json.loads((tmp_path / "loaded.json").read_text()))
    ours = {name.removeprefix(PACKAGE) for name in loaded if name.startswith(PACKAGE)}
    assert ours == {"", ".plugin", ".hookspecs"}
    assert not loaded & {"pydantic", "yaml", "psutil", "markdown_it", "xdist"}


def test_the_page_on_architecture_has_every_module_and_who_may_import_it() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+)\.py` \| .+ \| (.+) \|$", page, re.MULTILINE)
    allowed = {module: cell for module, cell in rows if cell != "everybody"}
    there = {
        inside(str(path.relative_to(ROOT)))[:-3] for path in files(PACKAGE) if path.name != "__init__.py"
    }
    assert {module for module, _ in rows} == there
    uninvited = [
        str(found)
        for found in package_imports()
        if not found.typing
        and (name := found.name.removeprefix(f"{PACKAGE}.").replace(".", "/")) in allowed
        and Path(found.file).stem not in allowed[name].split(", ")
    ]
    assert uninvited == []
