"""`hangs()`, `explain()` and the chains that reports in progress ask for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from instrumented_sessions import SessionManager, SessionState, Settings, live
from instrumented_sessions.events import CallStarted, LockWaitStarted, OpeningStarted, SessionRequested
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport, Gate
from instrumented_sessions.vocabulary import Phase

from .test_doors import until
from .wires import in_thread


async def test_hangs_follow_the_chain_to_its_end(recorder: Recorder) -> None:
    """A waiter behind a lock behind a server: oldest first, with holders, what they do, and stacks."""
    transport = FakeTransport("weather")
    async with SessionManager(Settings(permits=1), observers=[recorder]) as manager:
        transport.connecting.close()
        first = asyncio.create_task(manager.asession(transport, "c-1"), name="first agent")
        await transport.connecting.await_for(1)
        second = asyncio.create_task(manager.asession(transport, "c-2"), name="second agent")
        await until(lambda: len(recorder.of(LockWaitStarted)) == 1)
        hanging, behind = manager.hangs()
        assert (hanging.waiter.name, hanging.phase) == ("first agent", Phase.CONNECT)
        assert (behind.waiter.name, behind.phase) == ("second agent", Phase.LOCK)
        opening, lock = behind.links
        assert opening.holder is not None
        assert lock.holder is not None
        assert opening.waits_for == "opening weather/c-2 #1"
        assert lock.waits_for == "the opening lock of transport weather"
        assert (lock.holder.name, lock.doing) == ("opening weather/c-1 #1", "connects to the server")
        assert any("_connect" in frame for frame in lock.stack)
        assert not behind.is_cycle
        assert manager.hangs(older_than_s=60.0) == []
        text = manager.explain()
        assert "2 wait" in text
        assert "Task 'second agent'" in text
        assert "opening lock of transport weather" in text
        assert "_connect" in text
        transport.connecting.open()
        await asyncio.gather(first, second)
        assert manager.explain().startswith("Nothing waits.")


@pytest.mark.blocks_the_loop("a stalled loop is what it is about")
async def test_hangs_answer_while_every_loop_is_stalled(manager: SessionManager) -> None:
    """A stalled portal and a stalled caller do not keep another thread from being told."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    stalled, go_on = threading.Event(), threading.Event()

    async def block(client: object) -> None:
        stalled.set()
        go_on.wait(10)

    blocking = asyncio.create_task(session.arun(block))
    asked: list[object] = []

    def look() -> None:
        stalled.wait(10)
        asked.extend(manager.hangs())
        asked.append(manager.explain())
        asked.append(manager.statistics())
        go_on.set()

    thread = threading.Thread(target=look)
    thread.start()
    await in_thread(thread.join, 10)
    await blocking
    assert len(asked) == 3
    assert "run" in str(asked[1])


async def test_live_explanations_are_found_by_any_id(recorder: Recorder) -> None:
    """A request, an opening, a lock wait and a call are each explained while they last."""
    transport = FakeTransport(call_permits=1)
    async with SessionManager(Settings(permits=1), observers=[recorder]) as manager:
        transport.connecting.close()
        tasks = [asyncio.create_task(manager.asession(transport, f"c-{n}")) for n in range(2)]
        await until(lambda: len(recorder.of(LockWaitStarted)) == 1)
        for event in recorder.of(SessionRequested):
            assert live.explain(event.request_id) is not None
        first, second = recorder.of(OpeningStarted)
        assert "connects to the server" in str(live.explain(first.opening_id))
        assert "held for" in str(live.explain(second.opening_id))
        (wait,) = recorder.of(LockWaitStarted)
        assert live.explain(wait.wait_id) is not None
        transport.connecting.open()
        session, _ = await asyncio.gather(*tasks)
        gate = Gate(is_open=False)
        transport.calling = gate
        call = asyncio.create_task(session.acall_tool("echo"))
        await gate.await_for(1)
        (started,) = recorder.of(CallStarted)
        assert "the server's answer to tools/call echo" in str(live.explain(started.call_id))
        gate.open()
        await call
        assert live.explain(started.call_id) is None
        assert live.explain(first.opening_id) is None


async def test_close_that_waits_is_a_hang_too(manager: SessionManager) -> None:
    """Who waits for a drain is told how many calls are in flight."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    transport.calling.close()
    call = asyncio.create_task(session.acall_tool("echo"))
    await transport.calling.await_for(1)
    close = asyncio.create_task(manager.aclose_session(transport))
    await until(lambda: session.state is SessionState.DRAINING)
    (chain,) = [chain for chain in manager.hangs() if chain.phase is Phase.CLOSE]
    assert "1 calls in flight" in str(chain)
    transport.calling.open()
    await asyncio.gather(call, close)
