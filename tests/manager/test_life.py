"""A session's life: losses, generations, back-off, room, drains and the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    SessionBrokenError,
    SessionClosedError,
    SessionLimitError,
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
)
from instrumented_sessions.events import OpeningStarted, SessionStateChanged
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import LockGranularity, OpenFailure, Phase

from .test_doors import until
from .wires import LIMIT_S, Door, in_thread, text


def let_it_have_lived(session: Any) -> None:
    """Make a session old enough for a reopening without back-off."""
    session._record.opened_at -= 60.0


async def test_lost_session_is_replaced_under_the_same_handle(manager: SessionManager, door: Door) -> None:
    """The next use of the handle opens the next generation."""
    transport = FakeTransport()
    session = await door.session(manager, transport)
    let_it_have_lived(session)
    transport.lose(ConnectionResetError("gone"))
    await until(lambda: session.state is SessionState.BROKEN)
    assert text(await door.call_tool(session, "echo", {"text": "again"})) == "again"
    assert (session.generation, transport.connects) == (2, 2)
    assert await door.session(manager, transport) is session


@pytest.mark.scenario("S27")
async def test_calls_in_flight_fail_at_once_when_their_session_is_lost(
    manager: SessionManager, door: Door
) -> None:
    """They may have run, so they are not sent again."""
    transport = FakeTransport()
    session = await door.session(manager, transport)
    transport.calling.close()
    async with anyio.create_task_group() as group:

        async def call() -> None:
            with pytest.raises(SessionBrokenError) as caught:
                await door.call_tool(session, "echo", {"text": "x"})
            assert caught.value.may_have_run
            assert isinstance(caught.value.__cause__, ConnectionResetError)

        group.start_soon(call)
        await transport.calling.await_for(1)
        transport.lose(ConnectionResetError("gone"))
    assert transport.calling.arrived == 1
    assert manager.statistics().counters["lost"] == 1


async def test_calls_that_wait_for_a_permit_survive_the_loss(manager: SessionManager) -> None:
    """A call that was not sent goes on with the next generation, and no permit is left behind."""
    transport = FakeTransport(call_permits=1)
    session = await manager.asession(transport)
    let_it_have_lived(session)
    transport.calling.close()
    sent = asyncio.create_task(session.acall_tool("echo", {"text": "sent"}))
    await transport.calling.await_for(1)
    waiting = asyncio.create_task(session.acall_tool("echo", {"text": "waiting"}))
    await until(lambda: session.in_flight == 2)
    transport.lose(ConnectionResetError())
    with pytest.raises(SessionBrokenError):
        await sent
    transport.calling.open()
    assert text(await waiting) == "waiting"
    assert session.generation == 2
    assert manager.statistics().holders == 0


@pytest.mark.scenario("S4", "S33")
async def test_failed_transport_rests_before_it_is_tried_again() -> None:
    """A request whose limit ends before the pause is refused at once; one with time waits for it."""
    transport = FakeTransport()
    pause_s = 4 * LIMIT_S  # Half of it at least, which no request here can wait for.
    async with SessionManager(Settings(backoff_initial_s=pause_s, backoff_max_s=pause_s)) as manager:
        transport.failures.append(ConnectionRefusedError())
        with pytest.raises(SessionOpenError):
            await manager.asession(transport)
        with pytest.raises(SessionOpenError) as caught:
            await manager.asession(transport, timeout_s=LIMIT_S)
        assert caught.value.category is OpenFailure.BACKOFF
        assert LIMIT_S < (caught.value.retry_after_s or 0) <= pause_s
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert transport.connects == 1
    async with SessionManager(Settings(backoff_initial_s=0.05, backoff_max_s=0.05)) as manager:
        transport.failures.append(ConnectionRefusedError())
        with pytest.raises(SessionOpenError):
            await manager.asession(transport)
        assert (await manager.asession(transport, timeout_s=LIMIT_S)).state is SessionState.READY
        assert transport.connects == 3


@pytest.mark.scenario("S33")
async def test_one_probe_at_a_time_after_a_failure() -> None:
    """While the probe is out, the transport's other conversations wait for its outcome."""
    transport = FakeTransport()
    async with SessionManager(Settings(backoff_initial_s=0.01, backoff_max_s=0.01)) as manager:
        transport.failures.append(ConnectionRefusedError())
        with pytest.raises(SessionOpenError):
            await manager.asession(transport)
        transport.connecting.close()
        asked = [asyncio.create_task(manager.asession(transport, f"c-{n}")) for n in range(5)]
        await transport.connecting.await_for(2)
        await until(lambda: manager.statistics().waiters == 5)
        assert transport.connects == 2
        transport.connecting.open()
        sessions = await asyncio.gather(*asked)
        assert {session.state for session in sessions} == {SessionState.READY}


@pytest.mark.scenario("S36")
async def test_idle_sessions_make_room_and_busy_ones_stay() -> None:
    """At `max_sessions` the least recently used idle session goes; a busy one never does."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_sessions=2)) as manager:
        busy = await manager.asession(transport, "busy")
        idle = await manager.asession(transport, "idle")
        transport.calling.close()
        call = asyncio.create_task(busy.acall_tool("echo", {"text": "b"}))
        await transport.calling.await_for(1)
        third = await manager.asession(transport, "third")
        assert (busy.state, idle.state, third.state) == (
            SessionState.READY, SessionState.COLD, SessionState.READY,
        )  # fmt: skip
        transport.calling.open()
        await call
        # The same handle opens again, and the least recently used of the two others goes.
        assert text(await idle.acall_tool("echo", {"text": "back"})) == "back"
        assert (idle.generation, third.state) == (2, SessionState.COLD)


@pytest.mark.scenario("S36")
async def test_request_without_room_has_a_limit(door: Door) -> None:
    """When every session is busy, a request waits for room and fails at its limit by name."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_sessions=1)) as manager:
        busy = await door.session(manager, transport, "busy")
        transport.calling.close()
        call = asyncio.create_task(busy.acall_tool("echo", {"text": "b"}))
        await transport.calling.await_for(1)
        with pytest.raises(SessionLimitError, match="max_sessions=1") as caught:
            await door.session(manager, transport, "other", timeout_s=0.5)
        assert isinstance(caught.value, SessionTimeoutError)
        assert caught.value.phase is Phase.QUEUE
        transport.calling.open()
        await call


async def test_idle_session_is_drained_and_opens_again() -> None:
    """After `idle_timeout_s` without use a session is closed; its handle stays."""
    transport = FakeTransport()
    async with SessionManager(Settings(idle_timeout_s=0.5)) as manager:
        session = await manager.asession(transport)
        await until(lambda: session.state is SessionState.COLD)
        assert transport.open_clients == []
        assert text(await session.acall_tool("echo", {"text": "again"})) == "again"
        assert session.generation == 2


async def test_old_session_is_replaced_when_idle() -> None:
    """`max_lifetime_s` ends a session that is used all the time, between two calls."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_lifetime_s=0.05)) as manager:
        session = await manager.asession(transport)
        with anyio.fail_after(LIMIT_S):
            while session.generation < 3:
                await session.acall_tool("echo", {"text": "x"})
        assert len(transport.open_clients) <= 1


async def test_cold_sessions_without_a_holder_are_forgotten() -> None:
    """Conversations that are over take no memory, however many there were."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_sessions=4)) as manager:
        keys = [f"c-{number}" for number in range(40)]
        refs = [weakref.ref(await manager.asession(transport, key)) for key in keys]
        await until(lambda: len(manager._shell.pool.active) <= 4)

        def alive() -> int:
            gc.collect()
            return sum(ref() is not None for ref in refs)

        await until(lambda: alive() <= 5)


@pytest.mark.scenario("S23")
async def test_close_is_bounded_when_a_server_ignores_it(caplog: pytest.LogCaptureFixture) -> None:
    """A session that does not end is left behind, and a line says which and where it is."""
    transport = FakeTransport()
    manager = SessionManager(Settings(close_timeout_s=0.1))
    await manager.asession(transport, "stubborn")
    stubborn = anyio.Event()

    async def never(*args: Any) -> None:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0)
            while not stubborn.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

    transport.closing.pass_through = never  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "instrumented_sessions"), anyio.fail_after(LIMIT_S):
        await manager.aclose(0.1)
    stubborn.set()
    assert any(
        "fake/stubborn" in record.message and "left behind" in record.message for record in caplog.records
    )


@pytest.mark.blocks_the_loop("the portal is held, so that both are heard in one turn")
async def test_opening_that_is_closed_before_its_first_step_leaves_nothing_behind(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    """A close heard right behind the request ends the owner's task, and nobody waits for it."""
    transport = FakeTransport()
    await manager.asession(transport, "warm")
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(LIMIT_S)

    assert manager._portal is not None
    manager._portal.post(hold)
    await in_thread(held.wait, LIMIT_S)
    asked = asyncio.create_task(manager.asession(transport, "cold"))
    closed = asyncio.create_task(manager.aclose_session(transport, "cold"))
    await until(lambda: manager.statistics().waiters == 2)
    go_on.set()
    with pytest.raises(SessionClosedError):
        await asked
    await closed
    await until(lambda: len(manager._shell.openings.alive) == 1)
    assert caplog.records == []


@pytest.mark.scenario("S21")
async def test_close_during_calls_lets_them_end(manager: SessionManager) -> None:
    """The manager's close drains: a call in flight has until the limit."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    transport.calling.close()
    call = asyncio.create_task(session.acall_tool("echo", {"text": "kept"}))
    await transport.calling.await_for(1)
    closing = [asyncio.create_task(manager.aclose()), asyncio.create_task(in_thread(manager.close))]
    await until(lambda: session.state is SessionState.DRAINING)
    transport.calling.open()
    assert text(await call) == "kept"
    await asyncio.gather(*closing)
    assert session.state is SessionState.CLOSED


@pytest.mark.scenario("S21", "S24")
async def test_calls_that_outlast_the_close_are_cut(door: Door) -> None:
    """At the close's limit a hung call raises, and nothing of it is left."""
    transport = FakeTransport()
    manager = SessionManager()
    session = await door.session(manager, transport)
    transport.calling.close()
    async with anyio.create_task_group() as group:

        async def call() -> None:
            with pytest.raises(SessionClosedError):
                await door.call_tool(session, "echo", {"text": "x"})

        group.start_soon(call)
        await transport.calling.await_for(1)
        await manager.aclose(0.05)


async def test_opening_is_cut_at_its_own_limit(door: Door, recorder: Recorder) -> None:
    """`open_timeout_s` ends an opening for all its callers, as a timeout that names its phase."""
    transport = FakeTransport()
    async with SessionManager(Settings(open_timeout_s=0.5), observers=[recorder]) as manager:
        transport.connecting.close()
        with pytest.raises(SessionTimeoutError, match=r"passed its limit of 0\.5 s") as caught:
            await door.session(manager, transport, timeout_s=LIMIT_S)
        assert caught.value.phase is Phase.CONNECT
        await until(lambda: transport.open_clients == [])
        moves = [event.move for event in recorder.of(SessionStateChanged)]
        assert moves == ["open", "open_failed"]


@pytest.mark.parametrize(
    ("granularity", "together"),
    [(LockGranularity.GLOBAL, 2), (LockGranularity.TRANSPORT, 4), (LockGranularity.SESSION, 8)],
)
async def test_granularity_says_how_many_openings_go_together(
    granularity: LockGranularity, together: int
) -> None:
    """With two permits: two in all, two for each transport, or all sessions at once."""
    transports = [FakeTransport("one"), FakeTransport("two")]
    for transport in transports:
        transport.connecting.close()
    async with SessionManager(Settings(granularity=granularity, permits=2)) as manager:
        asked = [
            asyncio.create_task(manager.asession(transport, f"c-{number}"))
            for transport in transports
            for number in range(4)
        ]
        await until(lambda: sum(transport.connects for transport in transports) == together)
        await until(lambda: manager.statistics().sessions.get(SessionState.CREATING) == 8)
        assert sum(transport.connects for transport in transports) == together
        for transport in transports:
            transport.connecting.open()
        await asyncio.gather(*asked)


async def test_one_sessions_end_touches_no_other(manager: SessionManager) -> None:
    """An exception group out of one transport, SystemExit included, ends that session only."""
    healthy, sick = FakeTransport("healthy"), FakeTransport("sick")
    good = await manager.asession(healthy)
    for failure in (SystemExit(3), KeyboardInterrupt(), RuntimeError("boom")):
        sick.failures.append(failure)
        with pytest.raises(SessionOpenError):
            await manager.asession(sick, f"c-{type(failure).__name__}")
        manager._shell.pool.gates._backoffs.clear()
    assert text(await good.acall_tool("echo", {"text": "well"})) == "well"
    assert good.generation == 1


async def test_exit_in_a_function_reaches_its_caller_and_not_the_portal(manager: SessionManager) -> None:
    """SystemExit raised on the portal is the caller's, and the portal lives."""
    session = await manager.asession(FakeTransport())

    async def leave(client: Any) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit):
        await session.arun(leave)
    assert text(await session.acall_tool("echo", {"text": "alive"})) == "alive"


@pytest.mark.logs_asyncio_errors("the portal's loop is ended by force")
async def test_portal_that_dies_is_replaced(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls in flight fail, a line says why, and the next use starts a new portal."""
    transport = FakeTransport()
    session = await manager.asession(transport)
    transport.calling.close()
    call = asyncio.create_task(session.acall_tool("echo", {"text": "x"}))
    await transport.calling.await_for(1)
    first = manager._portal
    assert first is not None
    let_it_have_lived(session)
    first.post(_exit)
    with pytest.raises(SessionBrokenError):
        await call
    await until(lambda: not first.is_alive())
    transport.calling.open()
    assert text(await session.acall_tool("echo", {"text": "again"})) == "again"
    assert session.generation == 2
    assert any("ended unexpectedly" in record.message for record in caplog.records)


def _exit() -> None:
    raise SystemExit(1)


async def test_events_come_in_order_for_each_key(manager: SessionManager, recorder: Recorder) -> None:
    """Under many threads, each key's state changes fit together, and openings are numbered in a row."""
    transport = FakeTransport()
    keys = [f"c-{number}" for number in range(5)]

    def use(number: int) -> None:
        for turn in range(10):
            key = keys[(number + turn) % len(keys)]
            manager.session(transport, key, timeout_s=LIMIT_S)
            if number == 0:
                manager.close_session(transport, key)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, LIMIT_S)
    latest: dict[Any, SessionState] = {}
    for event in recorder.of(SessionStateChanged):
        if event.move == "open" and event.generation == 1:
            latest[event.key] = SessionState.COLD  # A new handle.
        assert latest.get(event.key, SessionState.COLD) is event.old
        latest[event.key] = event.new
    assert len(recorder.of(OpeningStarted)) == transport.connects
