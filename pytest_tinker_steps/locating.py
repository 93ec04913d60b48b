"""Which task list a session is about, and reading it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from . import keywords
from .plan import building, tasklist
from .plan.model import Definitions, Plan, PlanError
from .plan.values import value
from .record import definition_cache

LISTS = ("SPEC.md", "tasks.md")
DEFINITIONS = (".claude/tasks/step_definitions.yaml", "step_definitions.yaml")


@value
class Target:
    """What the command line says about the list.

    Attributes:
        path: of the list.
        only: ids named on the command line or in ``-k``, when nothing else selects steps.
        args: in place of pytest's own, or None.
        maybe: whether nothing but words of ``-k`` or ``-m`` asks for steps; they may be about ordinary tests.
    """

    path: Path
    only: tuple[str, ...] | None
    args: tuple[str, ...] | None
    maybe: bool = False


def _given(config: pytest.Config) -> list[str]:
    return list(config.args) if config.args_source == pytest.Config.ArgsSource.ARGS else []


def _argument_path(config: pytest.Config, argument: str) -> Path:
    return Path(os.path.abspath(config.invocation_params.dir / argument.split("::")[0]))


def default_list(config: pytest.Config) -> Path | None:
    setting = config.getini("steps_list")
    if setting:
        base = config.inipath.parent if config.inipath else config.rootpath
        return Path(os.path.abspath(base / setting))
    return next((config.rootpath / name for name in LISTS if (config.rootpath / name).is_file()), None)


def target(config: pytest.Config) -> Target | None:
    option = config.option
    parts = option.steps_track is not None or option.steps_layer is not None
    runs = option.steps is not None or option.steps_verify or parts
    asked = runs or option.steps_plan
    default = default_list(config)
    given = _given(config)
    lists = [
        argument
        for argument in given
        if argument.split("::")[0].endswith(".md")
        and (
            asked
            or _argument_path(config, argument) == default
            or Path(argument.split("::")[0]).name in LISTS
            or "::step_" in argument
        )
    ]
    if lists:
        return _target_of(config, lists, given)
    named = tuple(keywords.named_in(option.keyword or ""))
    marked = keywords.about_parts(option.markexpr or "")
    if not asked and not named and not marked:
        return None
    if default is None or not default.is_file():
        if not asked:
            return None
        where = default or f"{config.rootpath} (looked for {' and '.join(LISTS)})"
        raise PlanError(
            f"{_typed(config)}: there is no task list at {where}; "
            "write one, name it on the command line, or set steps_list in the configuration"
        )
    # A plan shows what would be run without its own option.
    only = named if named and not runs else None
    if only is not None and option.steps_plan:
        only = ids_in(default, only) or only
    if asked and not given:
        return Target(default, only, (str(default),))
    return Target(default, only, (*config.args, str(default)), maybe=not asked)


def _typed(config: pytest.Config) -> str:
    """The option that asks for steps."""
    option = config.option
    typed = {
        "--steps": option.steps is not None,
        "--steps-verify": option.steps_verify,
        "--steps-track": option.steps_track is not None,
        "--steps-layer": option.steps_layer is not None,
    }
    return next((name for name, given in typed.items() if given), "--steps-plan")


def _target_of(config: pytest.Config, lists: list[str], given: list[str]) -> Target:
    paths = {_argument_path(config, argument) for argument in lists}
    if len(paths) > 1:
        raise PlanError(f"{' and '.join(sorted(map(str, paths)))}: one task list in a session, please")
    path = paths.pop()
    if not path.is_file():
        raise PlanError(f"{path}: there is no such task list")
    parts = [argument.split("::", 1)[1] for argument in lists if "::" in argument]
    only = tuple(part.removeprefix("step_") for part in parts) if len(parts) == len(lists) else None
    if only is not None and config.option.steps is not None:
        raise PlanError("--steps and a step's own id on the command line: give one of them")
    others = [argument for argument in given if argument not in lists]
    # The ids stay in the frozen session: pytest itself would match them against items by name.
    return Target(path, only, (*others, str(path)))


def dry(config: pytest.Config) -> bool:
    """Whether nothing is run, recorded or ticked in this session."""
    option = config.option
    return bool(option.collectonly or getattr(option, "setuponly", 0) or getattr(option, "setupplan", 0))


def nodeid(config: pytest.Config, path: Path) -> str:
    # Outside the root directory pytest would give it no name at all.
    return os.path.relpath(path, config.rootpath).replace(os.sep, "/")


def command_for(config: pytest.Config, path: Path) -> str:
    """What to type for a session on this list."""
    if path == default_list(config):
        return "pytest"
    return shlex.join(["pytest", os.path.relpath(path, config.invocation_params.dir)])


def ids_in(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that are ids of steps, as the list writes them; none if it is no list of ours."""
    try:
        boxes = tasklist.parse(path.read_bytes(), str(path)).boxes
    except (OSError, PlanError):
        return ()
    known = {box.key.lower(): box.key for box in boxes if not box.children and not box.struck}
    return tuple(known[name.lower()] for name in names if name.lower() in known)


def load(config: pytest.Config, path: Path) -> tuple[bytes, Plan]:
    """Read a task list and its definitions.

    Raises:
        PlanError: all mistakes of the file that comes first.
    """
    shown = nodeid(config, path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{shown}: the task list cannot be read: {error.strerror}") from None
    return data, building.build(tasklist.parse(data, shown), _definitions(config, path.parent))


def _definitions(config: pytest.Config, folder: Path) -> Definitions:
    setting = config.getini("steps_definitions")
    candidates = [setting] if setting else list(DEFINITIONS)
    for name in candidates:
        path = folder / name
        if path.is_file():
            shown = nodeid(config, path)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise PlanError(f"{shown}: the definitions cannot be read: {error.strerror}") from None
            return _read(data, shown, keep=not (dry(config) or config.option.steps_plan))
    if setting:
        raise PlanError(f"steps_definitions = {setting}: there is no such file below {folder}")
    return Definitions(path=nodeid(config, folder / candidates[0]))


def _read(data: bytes, shown: str, *, keep: bool) -> Definitions:
    found = definition_cache.find(data, shown)
    if found is None:
        from .plan import definitions

        found = definitions.load(data, shown)
        if keep:
            definition_cache.keep(data, shown, found)
    return found
