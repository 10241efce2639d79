"""Callers on every kind of loop, and several loops at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionManager, SessionTimeoutError
from instrumented_sessions.testing import FakeTransport, Gate

LOOPS = ["asyncio", pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"), "trio"]


@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_async_doors_work_on_every_loop() -> None:
    """Sessions, calls, limits and closing, from asyncio, uvloop and trio."""
    transport = FakeTransport()
    async with SessionManager() as manager:
        session = await manager.asession(transport)
        assert (await session.acall_tool("echo", {"text": "hi"})).content[0].text == "hi"
        assert await manager.asession(transport) is session
        transport.calling.close()
        with pytest.raises(SessionTimeoutError):
            await session.acall_tool("echo", timeout_s=0.02)
        transport.calling.open()
        with anyio.move_on_after(0.02) as scope:
            transport.connecting.close()
            await manager.asession(transport, "other")
        assert scope.cancelled_caught
        transport.connecting.open()
        await manager.aclose_session(transport)


@pytest.mark.scenario("S13", "S15")
def test_loops_share_one_session_and_wait_for_none_of_the_others() -> None:
    """A session opened from a loop that is busy, idle or closed answers on any other."""
    transport = FakeTransport()
    with SessionManager() as manager:
        busy, stop = threading.Event(), threading.Event()

        async def open_and_block() -> Any:
            session = await manager.asession(transport)
            busy.set()
            stop.wait(10)  # This loop does not run while the others use its session.
            return session

        thread = threading.Thread(target=lambda: asyncio.run(open_and_block()))
        thread.start()
        busy.wait(10)
        loops = [asyncio.new_event_loop() for _ in range(2)]

        async def use() -> Any:
            session = await manager.asession(transport)
            await session.acall_tool("echo", {"text": "x"})
            return session

        sessions = {id(loops[turn % 2].run_until_complete(use())) for turn in range(100)}
        stop.set()
        thread.join(10)
        for loop in loops:
            loop.close()
        assert len(sessions) == 1
        assert transport.connects == 1


@pytest.mark.scenario("S7")
async def test_short_call_passes_a_long_one() -> None:
    """Calls on one session go in parallel: a held one holds up nobody."""
    gate = Gate(is_open=False)
    transport = FakeTransport(tools={"long": gate.pass_through})
    async with SessionManager() as manager:
        session = await manager.asession(transport)
        long = asyncio.create_task(session.acall_tool("long"))
        await gate.await_for(1)
        assert (await session.acall_tool("echo", {"text": "short"})).content[0].text == "short"
        assert not long.done()
        gate.open()
        await long


@pytest.mark.scenario("S2")
def test_waiting_tasks_hold_no_thread() -> None:
    """A hundred tasks on a hung transport take no thread and no token of anyio's limiter."""
    transport = FakeTransport()
    transport.connecting.close()
    with SessionManager() as manager:

        async def wait_together() -> tuple[int, float]:
            before = threading.active_count()
            tasks = [asyncio.create_task(manager.asession(transport)) for _ in range(100)]
            deadline = time.monotonic() + 10
            while manager.statistics().waiters < 100 and time.monotonic() < deadline:
                await asyncio.sleep(0.001)
            grown = threading.active_count() - before
            tokens = anyio.to_thread.current_default_thread_limiter().borrowed_tokens
            transport.connecting.open()
            await asyncio.gather(*tasks)
            return grown, tokens

        grown, tokens = asyncio.run(wait_together())
    assert grown <= 2  # The portal's and the watchdog's, however many wait.
    assert tokens == 0
