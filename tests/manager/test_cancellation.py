"""Cancellation at every await of both doors: the caller is free at once, and nobody else suffers."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionManager, SessionState, Settings
from instrumented_sessions.events import (
    CallEnded,
    LockAcquired,
    LockReleased,
    LockWaitAbandoned,
    OpeningEnded,
    SessionAcquired,
)
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import Outcome

from .test_doors import until
from .wires import LIMIT_S, text


def waits(manager: SessionManager) -> int:
    return manager.statistics().waiters


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and see that it ends as cancelled, by itself."""
    task.cancel()
    with anyio.fail_after(LIMIT_S):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.scenario("S19", "S20")
async def test_cancelled_creator_leaves_the_session_to_the_others(
    manager: SessionManager, recorder: Recorder
) -> None:
    """The first requester goes; who joined gets the session of the one opening."""
    transport = FakeTransport()
    transport.connecting.close()
    creator = asyncio.create_task(manager.asession(transport))
    await transport.connecting.await_for(1)
    joiner = asyncio.create_task(manager.asession(transport))
    await until(lambda: waits(manager) == 2)
    await cancelled(creator)
    transport.connecting.open()
    assert (await joiner).state is SessionState.READY
    assert transport.connects == 1
    assert [event.outcome for event in recorder.of(SessionAcquired)] == [Outcome.CANCELLED, Outcome.JOINED]


@pytest.mark.scenario("S20")
async def test_opening_that_all_have_left_goes_on_into_the_pool(manager: SessionManager) -> None:
    """An opening that holds its permit finishes for the next one who asks."""
    transport = FakeTransport()
    transport.connecting.close()
    tasks = [asyncio.create_task(manager.asession(transport)) for _ in range(3)]
    await transport.connecting.await_for(1)
    await until(lambda: waits(manager) == 3)
    for task in tasks:
        await cancelled(task)
    transport.connecting.open()
    await until(lambda: manager.statistics().sessions.get(SessionState.READY) == 1)
    await manager.asession(transport)
    assert manager.statistics().counters["requests_hit"] == 1
    assert transport.connects == 1


@pytest.mark.scenario("S20")
async def test_opening_without_a_permit_is_dropped_when_all_have_left(recorder: Recorder) -> None:
    """One that still waits for its lock is forgotten, and the lock goes to nobody by mistake."""
    transport = FakeTransport()
    async with SessionManager(Settings(permits=1), observers=[recorder]) as manager:
        transport.connecting.close()
        first = asyncio.create_task(manager.asession(transport, "c-1"))
        await transport.connecting.await_for(1)
        second = asyncio.create_task(manager.asession(transport, "c-2"))
        await until(lambda: manager.statistics().sessions.get(SessionState.CREATING) == 2)
        await cancelled(second)
        await until(lambda: manager.statistics().sessions.get(SessionState.CREATING) == 1)
        transport.connecting.open()
        await first
        assert transport.connects == 1
        (abandoned,) = recorder.of(LockWaitAbandoned)
        assert abandoned.outcome is Outcome.CANCELLED
        assert {event.outcome for event in recorder.of(OpeningEnded)} == {Outcome.CANCELLED, Outcome.OK}
        assert len(recorder.of(LockAcquired)) == len(recorder.of(LockReleased)) == 1


@pytest.mark.scenario("S19")
async def test_cancelled_call_leaves_the_session_usable(manager: SessionManager, recorder: Recorder) -> None:
    """A caller that is cancelled in a call is free at once; the others' calls go on."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    transport.calling.close()
    kept = asyncio.create_task(session.acall_tool("echo", {"text": "kept"}))
    await transport.calling.await_for(1)
    dropped = asyncio.create_task(session.acall_tool("echo", {"text": "dropped"}))
    await transport.calling.await_for(2)
    await cancelled(dropped)
    await until(lambda: session.in_flight == 1)
    transport.calling.open()
    assert text(await kept) == "kept"
    assert session.generation == 1
    assert [event.outcome for event in recorder.of(CallEnded)] == [Outcome.CANCELLED, Outcome.OK]


@pytest.mark.scenario("S19")
async def test_call_cancelled_while_it_waits_for_its_permit_gives_up_its_place(
    manager: SessionManager,
) -> None:
    """The next in the queue gets the permit, in the order of asking."""
    transport = FakeTransport(call_permits=1)
    session = await manager.asession(transport)
    transport.calling.close()
    order: list[str] = []

    async def call(name: str) -> None:
        await session.acall_tool("echo", {"text": name})
        order.append(name)

    tasks = {}
    for name in ("a", "b", "c", "d"):
        tasks[name] = asyncio.create_task(call(name))
        await until(lambda: session.in_flight == len(tasks))
    assert transport.calling.arrived == 1
    await cancelled(tasks["b"])
    await until(lambda: session.in_flight == 3)
    for arrived in (1, 2, 3):
        await transport.calling.await_for(arrived)
        transport.calling.release_one()
        await until(lambda: len(order) >= arrived)  # noqa: B023  # Awaited in the same turn.
    assert order == ["a", "c", "d"]
    assert manager.statistics().holders == 0


async def test_call_cancelled_while_its_session_opens_leaves_the_opening(manager: SessionManager) -> None:
    """A call on a cold handle waits for its session; cancelled there, it was never sent."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    record: Any = session._record
    record.opened_at -= 60.0
    transport.lose(ConnectionResetError())
    await until(lambda: session.state is SessionState.BROKEN)
    transport.connecting.close()
    call = asyncio.create_task(session.acall_tool("echo", {"text": "x"}))
    await transport.connecting.await_for(2)
    await cancelled(call)
    transport.connecting.open()
    await until(lambda: session.state is SessionState.READY)
    assert session.generation == 2
    assert transport.calling.arrived == 0


async def test_cancelled_close_goes_on(manager: SessionManager) -> None:
    """Who waits for a drain may leave; the session ends all the same."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    transport.closing.close()
    close = asyncio.create_task(manager.aclose_session(transport))
    await transport.closing.await_for(1)
    await cancelled(close)
    transport.closing.open()
    await until(lambda: session.state is SessionState.CLOSED)


@pytest.mark.scenario("S14")
def test_sessions_outlive_the_loops_of_their_callers() -> None:
    """`asyncio.run` ends, the next one uses the same session."""
    transport = FakeTransport()
    with SessionManager() as manager:

        async def use(word: str) -> Any:
            session = await manager.asession(transport)
            return session, text(await session.acall_tool("echo", {"text": word}))

        first, one = asyncio.run(use("one"))
        second, two = asyncio.run(use("two"))
    assert first is second
    assert (one, two) == ("one", "two")
    assert transport.connects == 1


def test_caller_whose_loop_ends_during_a_call_harms_nobody() -> None:
    """A loop that is closed under a waiting task leaves the session and its lock to the others."""
    transport = FakeTransport(call_permits=1)
    with SessionManager() as manager:
        session = manager.session(transport)
        transport.calling.close()
        loop = asyncio.new_event_loop()
        task = loop.create_task(session.acall_tool("echo", {"text": "lost"}, timeout_s=0.1))
        loop.run_until_complete(asyncio.wait([task], timeout=0))
        transport.calling.wait_for(1)
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        transport.calling.open()
        assert text(session.call_tool("echo", {"text": "found"}, timeout_s=LIMIT_S)) == "found"
