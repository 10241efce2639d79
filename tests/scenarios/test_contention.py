"""S1-S5, S7: many callers at once, some of them behind a server that hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from instrumented_sessions import (
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
)
from instrumented_sessions.events import OpeningEnded, OpeningStarted
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import Phase
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text

from .wires import GUARD, OtherLoop, Silent, silent_target


@pytest.mark.scenario("S1")
async def test_conversations_on_a_hung_transport_all_fail_at_their_own_limit(
    manager: SessionManager, door: Door, silent: Silent
) -> None:
    """More conversations than permits: none waits for another's hang beyond its own limit."""
    limit_s = 0.3
    errors: list[SessionTimeoutError] = []

    async def ask(conversation: str) -> None:
        with pytest.raises(SessionTimeoutError) as caught:
            await door.session(manager, silent.transport, conversation, timeout_s=limit_s)
        errors.append(caught.value)

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(ask, f"c-{number}")
    assert time.monotonic() - began < GUARD * 3.5 / 3 * limit_s
    assert {error.limit_s for error in errors} == {limit_s}
    # Four have the permits; the others say that they never came to the server.
    phases = [error.phase for error in errors]
    assert sum(phase not in (Phase.LOCK, Phase.QUEUE) for phase in phases) == 4, phases


@pytest.mark.scenario("S2")
@pytest.mark.parametrize("kind", ["fake", "http"])
async def test_hung_transport_takes_nothing_from_a_healthy_one(
    manager: SessionManager, kind: str, http_server: servers.Server
) -> None:
    """While 45 callers hang, a warm session answers, and no token of anyio's limiter is taken."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    healthy = StreamableHTTPTransport(id="healthy", url=http_server.url)
    session = await manager.asession(healthy, timeout_s=LIMIT_S)
    with silent_target(kind) as hung:
        callers = [
            asyncio.create_task(manager.asession(hung.transport, f"c-{number}", timeout_s=LIMIT_S))
            for number in range(45)
        ]
        await until(lambda: manager.statistics().sessions.get(SessionState.CREATING) == 45)
        assert manager.statistics().by_transport["hung"].waiters == 45
        for number in range(5):
            assert text(await session.acall_tool("echo", {"text": str(number)}, timeout_s=LIMIT_S)) == str(
                number
            )
        assert (await manager.asession(healthy, "cold", timeout_s=LIMIT_S)).state is SessionState.READY
        assert limiter.borrowed_tokens == 0
        with anyio.fail_after(LIMIT_S):
            assert (
                await anyio.to_thread.run_sync(lambda: "unrelated code goes on") == "unrelated code goes on"
            )
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)


@pytest.mark.scenario("S3")
@pytest.mark.parametrize("kind", ["fake", "http"])
async def test_threads_and_tasks_of_three_loops_get_one_session(
    manager: SessionManager, recorder: Recorder, kind: str, tmp_path: Path
) -> None:
    """100 threads and 100 tasks on asyncio, another asyncio loop and trio: one opening, one handle."""
    journal = servers.Journal(tmp_path / "journal")
    if kind == "fake":
        transport = FakeTransport("one")
        transport.connecting.close()
        asked = asyncio.create_task(_ask_from_everywhere(manager, transport))
        await until(lambda: manager.statistics().waiters == 200)
        transport.connecting.open()
        sessions = await asked
        assert transport.connects == 1
    else:
        with servers.Gate() as gate:
            options = servers.options(journal=journal.path, era="legacy", gate=gate)
            with servers.running("http", *options) as server:
                held = StreamableHTTPTransport(id="one", url=server.url, mode="legacy")
                asked = asyncio.create_task(_ask_from_everywhere(manager, held))
                await until(lambda: manager.statistics().waiters == 200)
                gate.open()
                sessions = await asked
                await manager.aclose()
        assert len(journal.lines("initialize")) == 1
    assert len(sessions) == 200
    assert len({id(session) for session in sessions}) == 1
    assert sessions[0].generation == 1
    assert len(recorder.of(OpeningStarted)) == 1


async def _ask_from_everywhere(manager: SessionManager, transport: Any) -> list[Any]:
    barrier = threading.Barrier(100)
    found: list[Any] = []

    async def ask() -> None:
        found.append(await manager.asession(transport, timeout_s=LIMIT_S))

    def from_thread() -> None:
        barrier.wait(LIMIT_S)
        found.append(manager.session(transport, timeout_s=LIMIT_S))

    def from_trio() -> None:
        import trio

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(33):
                    nursery.start_soon(ask)

        trio.run(main)

    with OtherLoop() as other:
        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, from_trio)
            for _ in range(100):
                group.start_soon(in_thread, from_thread)
            for _ in range(33):
                group.start_soon(ask)
            for _ in range(34):
                group.start_soon(other.run, ask())
    return found


@pytest.mark.scenario("S4")
async def test_failed_opening_is_one_attempt_for_fifty_and_the_next_request_tries_again(
    door: Door, recorder: Recorder
) -> None:
    """50 who wait get 50 errors with one cause; after the back-off the next one succeeds."""
    transport = FakeTransport()
    transport.connecting.close()
    cause = ConnectionRefusedError(111, "nobody listens")
    transport.failures.append(cause)
    errors: list[SessionOpenError] = []
    settings = Settings(backoff_initial_s=0.05, backoff_max_s=0.05)
    async with SessionManager(settings, observers=[recorder]) as manager:

        async def ask() -> None:
            with pytest.raises(SessionOpenError) as caught:
                await door.session(manager, transport, timeout_s=LIMIT_S)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
            await until(lambda: manager.statistics().waiters == 50)
            await transport.connecting.await_for(1)
            transport.connecting.open()
        assert (len(errors), transport.connects, len(recorder.of(OpeningEnded))) == (50, 1, 1)
        assert len({id(error) for error in errors}) == 50
        assert {id(error.__cause__) for error in errors} == {id(cause)}
        assert all(0 < (error.retry_after_s or 0) <= 0.05 for error in errors)
        session = await door.session(manager, transport, timeout_s=LIMIT_S)
        assert (session.state, session.generation, transport.connects) == (SessionState.READY, 2, 2)


@pytest.mark.scenario("S5")
async def test_short_waiter_behind_a_long_opening_is_told_everything(
    manager: SessionManager, door: Door, silent: Silent
) -> None:
    """The error names lock, holder, its stack, held-for and phase; the opening goes on."""
    limit_s = 0.2
    patient = asyncio.create_task(manager.asession(silent.transport, timeout_s=LIMIT_S))
    await until(lambda: _phases(manager) == [silent.phase])
    began = time.monotonic()
    with pytest.raises(SessionTimeoutError) as caught:
        await door.session(manager, silent.transport, timeout_s=limit_s)
    assert time.monotonic() - began < GUARD * limit_s
    error = caught.value
    assert (error.phase, error.limit_s, error.key) == (silent.phase, limit_s, ("hung", "default"))
    assert error.chain is not None
    holder = error.chain.links[0]
    assert "opening lock of transport hung" in holder.waits_for
    assert holder.holder is not None
    assert "portal" in holder.holder.thread_name
    assert holder.held_s > 0
    assert holder.stack
    assert ("thread" in str(error)) if door.blocking else ("task" in str(error))
    assert error.statistics.sessions == {SessionState.CREATING: 1}
    assert manager.statistics().sessions == {SessionState.CREATING: 1}
    patient.cancel()
    await asyncio.wait([patient])


@pytest.mark.scenario("S5")
async def test_waiter_for_a_permit_is_told_who_holds_it(door: Door, silent: Silent) -> None:
    """Behind another conversation's opening the phase is `lock`, and the chain says what that one does."""
    async with SessionManager(Settings(permits=1)) as manager:

        async def ask() -> None:
            await manager.asession(silent.transport, "c-1", timeout_s=LIMIT_S)

        patient = asyncio.create_task(ask())
        await until(lambda: _phases(manager) == [silent.phase])
        with pytest.raises(SessionTimeoutError) as caught:
            await door.session(manager, silent.transport, "c-2", timeout_s=0.2)
        error = caught.value
        assert error.phase is Phase.LOCK
        assert error.chain is not None
        own, lock = error.chain.links
        assert "opening hung/c-2 #1" in own.waits_for
        assert "opening lock of transport hung" in lock.waits_for
        assert lock.holder is not None
        assert "opening hung/c-1 #1" in lock.holder.name
        assert "test_contention.py" in str(lock.holder.location)
        assert lock.stack
        assert ("connects" if silent.phase == "connect" else "answer to the handshake") in lock.doing
        patient.cancel()
        await asyncio.wait([patient])


def _phases(manager: SessionManager) -> list[str]:
    return [str(chain.phase) for chain in manager.hangs()]


@pytest.mark.scenario("S7")
@pytest.mark.parametrize("kind", ["stdio", "http", "sse"])
async def test_long_call_leaves_room_for_a_short_one(
    manager: SessionManager, kind: str, http_server: servers.Server
) -> None:
    """While one call is held by the server, another one on the same session answers, at both doors."""
    with servers.Gate() as gate:
        if kind == "stdio":
            command, args = servers.command()
            await _overlap(manager, StdioTransport(id="one", command=command, args=args), gate)
        elif kind == "http":
            await _overlap(manager, StreamableHTTPTransport(id="one", url=http_server.url), gate)
        else:
            with servers.running("sse") as server:
                await _overlap(manager, SSETransport(id="one", url=server.url), gate)
                await manager.aclose()


async def _overlap(manager: SessionManager, transport: Any, gate: servers.Gate) -> None:
    session = await manager.asession(transport, timeout_s=LIMIT_S)
    long = asyncio.create_task(session.acall_tool("gate", {"port": gate.port}, timeout_s=LIMIT_S))
    await gate.aarrived()
    for door in (Door("task"), Door("thread")):
        with anyio.fail_after(GUARD * 0.2):
            assert text(await door.call_tool(session, "echo", {"text": door.name})) == door.name
    assert session.in_flight == 1
    gate.release()
    assert text(await long) == "passed"
