"""The idle item in the loop of xdist's worker."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tinker_steps.record.deaths import Death
from pytest_tinker_steps.worker import DEATH, IdleItem, listen, pass_over

END = object()
"""xdist's mark behind the last index."""


class Interactor:
    """A fake of xdist's plugin in a worker, with its way to run one item when the next is known."""

    def __init__(self, *indices: Any) -> None:
        self.torun = SimpleNamespace(get=deque([*indices, END]).popleft)
        self.nextitem_index: Any = self.torun.get()
        self.ran: list[tuple[int, Any]] = []

    def run_one_test(self) -> None:
        current, self.nextitem_index = self.nextitem_index, self.torun.get()
        self.ran.append((current, self.nextitem_index))

    def loop(self) -> None:
        while self.nextitem_index is not END:
            self.run_one_test()


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An idle item that counts how often it has ended the session."""
    item: Any = IdleItem.__new__(IdleItem)
    item.ends = 0
    monkeypatch.setattr(IdleItem, "end", lambda self: setattr(self, "ends", self.ends + 1))
    return item


def test_it_is_waited_behind_and_never_run(idle: Any) -> None:
    items = [object(), object(), idle]
    interactor = Interactor(1, 2, 0, 2)
    pass_over(interactor, items)
    interactor.loop()
    assert interactor.ran == [(1, 2), (0, 2)], (
        "each step ran when all that was known to follow is the idle item"
    )
    assert idle.ends == 1, "what the steps left set up is torn down at the end"


def test_what_follows_without_one_between_runs_as_ever(idle: Any) -> None:
    items = [object(), object(), idle]
    interactor = Interactor(0, 1, 2)
    pass_over(interactor, items)
    interactor.loop()
    assert interactor.ran == [(0, 1), (1, 2)]
    assert idle.ends == 1


def test_what_became_of_an_attempt_is_heard_and_all_else_is_for_xdist() -> None:
    heard: list[Any] = []
    deaths: dict[str, Death] = {}
    interactor = SimpleNamespace(handle_command=heard.append)
    listen(interactor, deaths)
    first = Death("1", "task_1_a", "task_1_b", 1, "worker gw0 died", 0.5)
    second = Death("1", "task_1_b", "task_1_c", 2, "worker gw1 died", 0.5)
    interactor.handle_command((DEATH, asdict(first)))
    interactor.handle_command(("runtests", {"indices": [0, 1]}))
    interactor.handle_command(END)
    assert deaths == {"1": first}
    assert heard == [("runtests", {"indices": [0, 1]}), END]
    interactor.handle_command((DEATH, asdict(second)))
    assert deaths == {"1": second}, "only the last one counts"
