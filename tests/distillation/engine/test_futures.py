"""Results are kept until collected, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from distillation.engine.refusals import Refused

pytest.importorskip("numpy")

from distillation.engine.futures import (
    KEPT_AFTER_COLLECTION,
    KEPT_UNCOLLECTED,
    Completions,
    Futures,
    Result,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_request_is_taken_once_and_its_result_can_be_asked_for_twice() -> None:
    async def go() -> None:
        futures = Futures()
        assert futures.open("a")
        assert not futures.open("a")
        futures.finish("a", Result(b"1"))
        futures.finish("a", Result(b"2"))
        for _ in range(2):
            assert await futures.collect("a") == Result(b"1")

    asyncio.run(go())


def test_a_poll_ends_without_a_result_and_the_next_one_gets_it() -> None:
    async def go() -> None:
        futures = Futures()
        futures.open("a")
        assert await futures.collect("a", 0.01) is None
        poll = asyncio.create_task(futures.collect("a", 5))
        await asyncio.sleep(0)
        futures.finish("a", Result(b"1"))
        assert await poll == Result(b"1")

    asyncio.run(go())


def test_an_unknown_request_is_gone() -> None:
    with pytest.raises(Refused, match="not known") as refused:
        asyncio.run(Futures().collect("a"))
    assert refused.value.status == 410


def test_collected_and_forgotten_results_are_dropped_but_never_what_is_under_way() -> None:
    async def go() -> None:
        clock = Clock()
        futures = Futures(clock)
        for name in ("collected", "forgotten", "running"):
            futures.open(name)
        futures.finish("collected", Result(b""))
        futures.finish("forgotten", Result(b""))
        await futures.collect("collected")
        clock.now = KEPT_AFTER_COLLECTION + 2
        futures.open("x")
        assert "collected" not in futures
        assert "forgotten" in futures
        clock.now = KEPT_UNCOLLECTED + 2
        futures.open("y")
        assert "forgotten" not in futures
        assert "running" in futures
        assert len(futures) == 3

    asyncio.run(go())


def test_completions_are_told_in_order_from_the_cursor_on() -> None:
    async def go() -> None:
        completions = Completions()
        completions.add("s/0", "a", 10)
        completions.add("s/0", "b", None)
        completions.add("s/1", "c", 1)
        first, cursor = await completions.after("s/0", 0, 0)
        assert [(one["state"], one["request_id"]) for one in first] == [("finished", "a"), ("failed", "b")]
        again, _ = await completions.after("s/0", 1, 0)
        assert [one["request_id"] for one in again] == ["b"]
        assert await completions.after("s/0", cursor, 0.01) == ([], cursor)
        poll = asyncio.create_task(completions.after("s/0", cursor, 5))
        await asyncio.sleep(0)
        completions.add("s/0", "d", 2)
        assert [one["request_id"] for one in (await poll)[0]] == ["d"]
        completions.forget("s/0")

    asyncio.run(go())
