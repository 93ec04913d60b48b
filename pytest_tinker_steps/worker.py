"""What a worker of xdist needs besides: the idle item, which lets it begin before it knows what follows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from .active import Active
from .parcels import packed
from .record.deaths import Death

DEATH = "tinker_steps_death"
"""The name of a command to a worker, beside xdist's own: what it has to know of the step that follows."""


class IdleItem(pytest.Item):
    """Does nothing, last in the worker's list; never reported, counted or selected."""

    def runtest(self) -> None:
        return None

    def end(self) -> None:
        """At the end of the session: tear down what the items before left set up."""
        call = pytest.CallInfo.from_call(lambda: self.session._setupstate.teardown_exact(None), "teardown")
        if call.excinfo:
            self.ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(self, call))


class WorkerHooks:
    """pytest's hooks of a worker, beyond those of every process."""

    def __init__(self, active: Active) -> None:
        self._active = active

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # After xdist has told the controller the ids: the idle item is nobody's business.
        session.items.append(IdleItem.from_parent(session, name="idle"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.showfspath = False  # nobody reads it
        for plugin in session.config.pluginmanager.get_plugins():
            if all(
                hasattr(plugin, name)
                for name in ("run_one_test", "nextitem_index", "torun", "handle_command")
            ):
                pass_over(plugin, session.items)
                listen(plugin, self._active.deaths)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run the idle item, where xdist's worker is another than the one known to `pass_over`."""
        if not isinstance(item, IdleItem):
            return None
        if nextitem is None:
            item.end()
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        return packed((yield))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self) -> tuple[str, str, str]:
        """Nobody reads what a worker prints."""
        return "", "", ""


def pass_over(interactor: Any, items: list[pytest.Item]) -> None:
    """Have xdist's worker wait behind an idle item without running it, and without saying that it did.

    Every plugin's part in running an item, and a message to the controller, for each step a second time,
    took a tenth of the time of short steps.

    Args:
        interactor: xdist's plugin in the worker, which runs the items by their indices.
        items: of the session; the idle one is the last.
    """
    run = interactor.run_one_test

    def run_one_test() -> None:
        item = items[interactor.nextitem_index]
        if not isinstance(item, IdleItem):
            run()
            return
        interactor.nextitem_index = interactor.torun.get()
        if not isinstance(interactor.nextitem_index, int):  # but xdist's mark for the end
            item.end()

    interactor.run_one_test = run_one_test


def listen(interactor: Any, deaths: dict[str, Death]) -> None:
    """Have xdist's worker take a command more.

    Args:
        interactor: xdist's plugin in the worker, which hears the controller.
        deaths: is told, by the step, of attempts whose workers died.
    """
    handle = interactor.handle_command

    def handle_command(command: Any) -> None:
        match command:
            case (name, values) if name == DEATH:
                death = Death(**values)
                deaths[death.step] = death
            case _:
                handle(command)

    interactor.handle_command = handle_command
