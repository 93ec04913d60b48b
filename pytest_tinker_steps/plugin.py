"""Hooks and options. What they do lives elsewhere, and is imported only in sessions that have steps."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("steps", "task lists (pytest-tinker-steps)")
    group.addoption(
        "--steps",
        metavar="SELECTION",
        help="run these steps of the task list: 1-5, 1,3-5, 8-, all, continue, next:5, T001-T010, 2.1",
    )
    group.addoption(
        "--steps-plan",
        action="store_true",
        help="show what would run, in waves, and why each step runs or does not; run nothing",
    )
    group.addoption(
        "--steps-track",
        metavar="NAMES",
        help="of the selection only the steps of these tracks: A, or A,B",
    )
    group.addoption(
        "--steps-layer",
        metavar="NAMES",
        help="of the selection only the steps of these layers: L1, or L0,L1",
    )
    group.addoption(
        "--steps-plan-format",
        metavar="FORMAT",
        help="with --steps-plan: text, mermaid or json (default: text)",
    )
    group.addoption("--steps-rerun", action="store_true", help="run selected steps again that are done")
    group.addoption(
        "--steps-assume",
        metavar="SELECTION",
        help="take these steps as done for this run, if their declared outputs exist",
    )
    group.addoption(
        "--steps-verify",
        action="store_true",
        help="run outputs and post-validations of ticked steps again, without their mains",
    )
    group.addoption(
        "--steps-untick",
        action="store_true",
        help="with --steps-verify: take back the ticks that do not hold",
    )
    group.addoption(
        "--steps-strict",
        action="store_true",
        default=None,
        help="count steps that ended with a warning as failures (default when $CI is set)",
    )
    group.addoption(
        "--no-steps-strict",
        dest="steps_strict",
        action="store_false",
        help="do not, also when $CI is set",
    )
    group.addoption(
        "--steps-wait",
        action="store_true",
        default=None,
        help="at the end, wait for background jobs that still run (default when $CI is set)",
    )
    group.addoption(
        "--no-steps-wait",
        dest="steps_wait",
        action="store_false",
        help="do not, also when $CI is set",
    )
    group.addoption(
        "--steps-budget",
        metavar="USD",
        help="begin nothing more when the costs that the steps report have reached this sum",
    )
    group.addoption(
        "--steps-monitor",
        action="store_true",
        help="show the background jobs of the list and how they are doing; run nothing",
    )
    group.addoption(
        "--steps-follow",
        action="store_true",
        help="the same, repainted until no job is alive",
    )
    group.addoption(
        "--steps-stop",
        metavar="SELECTION",
        help="end the background jobs of these steps in order, and record who did it",
    )
    parser.addini("steps_list", "task list, relative to the configuration file (SPEC.md, else tasks.md)")
    parser.addini("steps_definitions", "definitions file, relative to the folder of the task list")
    parser.addini("steps_checks_parallel", "how many checks of a phase run at once", default="3")
    parser.addini(
        "steps_secrets",
        "further environment variables whose values are never shown",
        type="args",
        default=[],
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from . import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def _has_steps(config: pytest.Config) -> bool:
    """Whether the session may have steps: asked in every session, so by words alone."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        return "tinker_steps" in workerinput
    option = config.option
    return (
        option.steps is not None
        or option.steps_verify
        or option.steps_untick
        or option.steps_rerun
        or option.steps_assume is not None
        or option.steps_track is not None
        or option.steps_layer is not None
        or "step_" in (option.keyword or "").lower()
        or any(word in (option.markexpr or "") for word in ("track_", "layer_"))
        or any(".md" in argument for argument in config.args)
    )


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    if not _has_steps(config):
        return None
    from .activation import workers

    return workers(config)


def _usd(text: str) -> float:
    """The number of ``--steps-budget``."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise pytest.UsageError(f"--steps-budget {text}: give US dollars above 0, for example 50 or 2.50")
    return number


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    option = config.option
    # Workers of xdist get the number.
    if isinstance(option.steps_budget, str):
        option.steps_budget = _usd(option.steps_budget)
    if option.steps_stop is not None:
        from .monitorview import stop

        return stop(config, option.steps_stop)
    if option.steps_follow:
        from .monitorview import follow

        return follow(config)
    if option.steps_monitor:
        from .monitorview import show as show_jobs

        return show_jobs(config)
    if option.steps_plan or option.steps_plan_format is not None:
        from .planview import show

        return show(config)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if _has_steps(config):
        if getattr(config.option, "tx", None) and not hasattr(config, "workerinput"):
            from . import ahead

            ahead.start(config)
        with _loading(config):
            _activate(config)


@contextlib.contextmanager
def _loading(config: pytest.Config) -> Iterator[None]:
    """Load this package without what only costs time while that is done.

    Of what is loaded nothing can go, so nobody need look for it. And pytest rewrites the assertions of
    plugins, for better messages; it takes a third of the time of an import, and ours are for type checkers.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    finders = sys.meta_path[:]
    rewriting: Any = config.pluginmanager.rewrite_hook
    if rewriting in finders:
        sys.meta_path.remove(rewriting)
    try:
        yield
    finally:
        sys.meta_path[:] = finders
        if was_enabled:
            gc.enable()


def _activate(config: pytest.Config) -> None:
    from .activation import activate

    active = activate(config)
    if active is not None:
        from . import hooks
        from .fixtures import StepFixtures

        config.pluginmanager.register(StepFixtures(active), "tinker_steps_fixtures")
        for name, plugin in hooks.plugins(active):
            config.pluginmanager.register(plugin, f"tinker_steps_{name}")
