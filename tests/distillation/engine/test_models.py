"""Requests of one training run are done in the order of their ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from distillation.engine.models import Runs
from distillation.engine.refusals import Failed, Refused
from distillation.engine.sessions import SILENCE, Sessions

SHAPE: Any = object()


def log(done: list[int], number: int) -> Callable[[], None]:
    return lambda: done.append(number)


def test_whatever_order_requests_come_in_they_are_done_by_id() -> None:
    for order in itertools.permutations(range(1, 6)):
        done: list[int] = []
        runs = Runs(lambda task: task())
        run = runs.open("r", SHAPE)
        assert run is not None
        for number in order:
            runs.submit(run, number, log(done, number))
        assert done == [1, 2, 3, 4, 5], order
        assert not run.waiting


def test_a_turn_that_has_been_is_not_taken_again() -> None:
    done: list[int] = []
    runs = Runs(lambda task: task())
    run = runs.open("r", SHAPE)
    assert run is not None
    for number in (1, 3):
        runs.submit(run, number, log(done, number))
    for number in (1, 3):
        with pytest.raises(Refused) as refused:
            runs.submit(run, number, log(done, 99))
        assert refused.value.status == 410
    assert done == [1]


@pytest.mark.parametrize("seq_id", [0, -1, None, "1", True, 1.5])
def test_an_id_must_be_a_number_from_1_on(seq_id: object) -> None:
    runs = Runs(lambda task: task())
    run = runs.open("r", SHAPE)
    assert run is not None
    with pytest.raises(Refused, match="seq_id"):
        runs.submit(run, seq_id, lambda: None)


def test_runs_are_found_until_closed() -> None:
    runs = Runs(lambda task: task())
    run = runs.open("r", SHAPE)
    assert runs.open("r", SHAPE) is None
    assert runs.find("r") is run
    assert runs.close("r") is run
    for wrong in ("r", None, 3):
        with pytest.raises(Refused, match="not open here"):
            runs.find(wrong)
    assert run is not None
    with pytest.raises(Failed, match="no adapter"):
        run.ready()


def test_a_silent_client_is_taken_for_dead() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    quiet, lively = sessions.open(), sessions.open()
    for seconds in range(0, int(SILENCE), 5):
        now[0] = seconds
        assert sessions.silent() == []
    sessions.heard(lively.id)
    now[0] = SILENCE + 1
    assert sessions.silent() == [quiet.id]
    sessions.close(quiet.id)
    assert quiet.over
    assert sessions.close(quiet.id) is None
    with pytest.raises(Refused, match="connect again"):
        sessions.heard(quiet.id)


def test_clients_are_not_taken_for_dead_when_the_engine_itself_was_halted() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    halted = sessions.open()
    now[0] = 10 * SILENCE
    assert sessions.silent() == []
    while not (silent := sessions.silent()):
        now[0] += 5
    assert silent == [halted.id]
    assert now[0] == 11 * SILENCE + 5
