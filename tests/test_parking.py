"""Parkers: each kind of caller waits, is woken, and may wait once more."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from instrumented_sessions.parking import ThreadParker, async_parker

LIMIT_S = 15.0

Park = Callable[[float], Awaitable[bool]]


@pytest.fixture(params=["asyncio", "trio", "thread"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(kind: str, test: Callable[[Any, Park], Awaitable[None]]) -> None:
    """Run `test` with a parker of `kind` and what parks on it."""

    async def main() -> None:
        with anyio.fail_after(LIMIT_S):
            if kind != "thread":
                parker = async_parker()
                await test(parker, parker.apark)
                return
            blocking = ThreadParker()

            async def park(timeout_s: float) -> bool:
                return await anyio.to_thread.run_sync(blocking.park, timeout_s)

            await test(blocking, park)

    anyio.run(main, backend="trio" if kind == "trio" else "asyncio")


def test_wait_ends_when_it_is_woken_from_another_thread(kind: str) -> None:
    async def test(parker: Any, park: Park) -> None:
        waker = threading.Thread(target=parker.wake)
        waker.start()
        assert await park(LIMIT_S)
        waker.join(LIMIT_S)

    run(kind, test)


def test_wait_that_was_woken_before_ends_at_once(kind: str) -> None:
    async def test(parker: Any, park: Park) -> None:
        parker.wake()
        parker.wake()
        assert await park(LIMIT_S)

    run(kind, test)


def test_wait_after_one_that_was_not_woken_is_a_wait(kind: str) -> None:
    """The answer to somebody whose limit has passed may be on its way."""

    async def test(parker: Any, park: Park) -> None:
        assert not await park(0.0)
        waker = threading.Thread(target=parker.wake)
        waker.start()
        assert await park(LIMIT_S)
        waker.join(LIMIT_S)

    run(kind, test)


@pytest.mark.parametrize("kind", ["asyncio", "trio"], indirect=True)
def test_wait_that_is_cancelled_leaves_nothing_behind(kind: str) -> None:
    async def test(parker: Any, park: Park) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await park(LIMIT_S)
        assert scope.cancelled_caught
        parker.wake()
        assert await park(LIMIT_S)

    run(kind, test)
