"""S19-S24: callers that leave, sessions that are closed from anywhere, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionClosedError, SessionManager, SessionState, Settings
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport
from tests import leaks, servers
from tests.manager.test_cancellation import cancelled
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text
from tests.servers import raw

from .wires import GUARD, Holdings, OtherLoop, on_portal, raw_stdio


def target(kind: str, http_server: servers.Server) -> Any:
    if kind == "stdio":
        command, args = servers.command()
        return StdioTransport(id="one", command=command, args=args)
    return StreamableHTTPTransport(id="one", url=http_server.url)


@pytest.mark.scenario("S19")
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_cancelled_call_returns_at_once_and_leaves_the_session(
    manager: SessionManager, kind: str, http_server: servers.Server
) -> None:
    """The call that is held on the wire ends for its caller; the others keep session and generation."""
    session = await manager.asession(target(kind, http_server), timeout_s=LIMIT_S)
    children = leaks.children()
    with servers.Gate() as gate:
        kept = asyncio.create_task(session.acall_tool("gate", {"port": gate.port}))
        await gate.aarrived()
        dropped = asyncio.create_task(session.acall_tool("gate", {"port": gate.port}))
        await gate.aarrived()
        with anyio.fail_after(GUARD * 0.1):
            await cancelled(dropped)
        await until(lambda: session.in_flight == 1)
        assert text(await session.acall_tool("echo", {"text": "on"}, timeout_s=LIMIT_S)) == "on"
        gate.open()
        assert text(await kept) == "passed"
    assert (session.generation, leaks.children()) == (1, children)


@pytest.mark.scenario("S19", "S20")
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_opening_whose_callers_were_all_cancelled_ends_in_the_pool(
    manager: SessionManager, kind: str, tmp_path: Path
) -> None:
    """It has reached its server, so it goes on: one child or connection, which the next caller gets."""
    before = leaks.children()
    with servers.Gate() as gate:
        options = servers.options(gate=gate, era="legacy")
        if kind == "stdio":
            command, args = servers.command(*options)
            await _leave_an_opening(
                manager, StdioTransport(id="one", command=command, args=args, mode="legacy"), gate
            )
            assert len(leaks.children() - before) == 1
            await manager.aclose()
        else:
            with servers.running("http", *options) as server:
                transport = StreamableHTTPTransport(id="one", url=server.url, mode="legacy")
                await _leave_an_opening(manager, transport, gate)
                await manager.aclose()
    await until(lambda: leaks.children() <= before)


async def _leave_an_opening(manager: SessionManager, transport: Any, gate: servers.Gate) -> None:
    asked = [asyncio.create_task(manager.asession(transport)) for _ in range(5)]
    await gate.aarrived()
    with anyio.fail_after(GUARD * 0.1 * len(asked)):
        for task in asked:
            await cancelled(task)
    gate.open()
    await until(lambda: manager.statistics().sessions.get(SessionState.READY) == 1)
    session = await manager.asession(transport, timeout_s=0)
    assert session.generation == 1
    assert text(await session.acall_tool("echo", {"text": "on"}, timeout_s=LIMIT_S)) == "on"


@pytest.mark.scenario("S19", "S20")
async def test_opening_is_ended_with_its_manager_when_all_have_left(tmp_path: Path) -> None:
    """A child that never answers does not outlive the manager, though nobody waits for it any more."""
    file = tmp_path / "pid"
    manager = SessionManager()
    task = asyncio.create_task(manager.asession(raw_stdio("silent", str(file))))
    await until(lambda: file.exists() and file.read_text())
    await cancelled(task)
    with anyio.fail_after(LIMIT_S):
        await manager.aclose()
    await until(lambda: not servers.is_alive(int(file.read_text())))


@pytest.mark.scenario("S21")
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_sessions_close_from_anywhere_twice_and_during_calls(
    manager: SessionManager, kind: str, http_server: servers.Server
) -> None:
    """A thread, another loop and this one close one session: its call ends, another session does not care."""
    transport = target(kind, http_server)
    with OtherLoop() as other, servers.Gate() as gate:
        session = await other.run(manager.asession(transport, "going", timeout_s=LIMIT_S))
        bystander = await manager.asession(transport, "staying", timeout_s=LIMIT_S)
        calls = [
            asyncio.create_task(one.acall_tool("gate", {"port": gate.port})) for one in (session, bystander)
        ]
        for _ in calls:
            await gate.aarrived()
        closing = [
            asyncio.create_task(in_thread(manager.close_session, transport, "going")),
            asyncio.create_task(other.run(manager.aclose_session(transport, "going"))),
            asyncio.create_task(manager.aclose_session(transport, "going")),
        ]
        await until(lambda: session.state is SessionState.DRAINING)
        gate.open()
        assert [text(await call) for call in calls] == ["passed", "passed"]
        await asyncio.gather(*closing)
        await manager.aclose_session(transport, "going")
        assert (session.state, bystander.state) == (SessionState.CLOSED, SessionState.READY)
        with pytest.raises(SessionClosedError):
            await session.acall_tool("echo", {"text": "late"})
        assert text(await bystander.acall_tool("echo", {"text": "on"}, timeout_s=LIMIT_S)) == "on"
        assert await _turns_of_the_portal(manager, 0.2) < 40


async def _turns_of_the_portal(manager: SessionManager, seconds: float) -> int:
    """Count how often the portal's loop wakes within a while: a busy loop does thousands of times."""
    assert manager._portal is not None
    loop: Any = manager._portal.loop
    select, turns = loop._selector.select, 0

    def count(timeout: float | None = None) -> Any:
        nonlocal turns
        turns += 1
        return select(timeout)

    done = asyncio.Event()
    here = asyncio.get_running_loop()

    def begin() -> None:
        loop._selector.select = count
        loop.call_later(seconds, lambda: here.call_soon_threadsafe(done.set))

    await on_portal(manager, begin)
    await done.wait()
    await on_portal(manager, lambda: setattr(loop._selector, "select", select))
    return turns


@pytest.mark.scenario("S21")
@pytest.mark.parametrize("first", ["task", "thread", "loop"])
async def test_manager_closes_from_anywhere(first: str) -> None:
    """Whoever is first, all who close come back, and whoever waits hears why."""
    transport = FakeTransport()
    manager = SessionManager()
    session = await manager.asession(transport)
    transport.connecting.close()
    waiting = asyncio.create_task(manager.asession(transport, "cold"))
    await transport.connecting.await_for(2)
    with OtherLoop() as other:
        ways = {
            "task": lambda: asyncio.create_task(manager.aclose()),
            "thread": lambda: asyncio.create_task(in_thread(manager.close)),
            "loop": lambda: asyncio.create_task(other.run(manager.aclose())),
        }
        order = [first, *(way for way in ways if way != first)]
        with anyio.fail_after(LIMIT_S):
            await asyncio.gather(*(ways[way]() for way in order))
            await asyncio.wait([waiting])
    assert type(waiting.exception()).__name__ in ("PortalClosedError", "SessionClosedError")
    assert session.state is SessionState.CLOSED
    assert transport.open_clients == []


_CORE = ("manager/*", "session/*", "parking.py", "portal.py", "observer.py", "waitgraph.py", "locks.py")


@pytest.mark.scenario("S22")
async def test_a_thousand_cycles_leave_nothing(door: Door) -> None:
    """Open, call and close 1,000 conversations: threads, tasks, descriptors and memory stay flat."""
    transport = FakeTransport()
    async with SessionManager(Settings(watch_callers=False)) as manager:

        async def cycles(number: int) -> tuple[int, int]:
            for turn in range(number):
                session = await manager.asession(transport, f"c-{turn}")
                await session.acall_tool("echo", {"text": "x"})
                await door.close_session(manager, transport, f"c-{turn}")
            gc.collect()
            tasks = await on_portal(manager, lambda: len(asyncio.all_tasks()))
            # Telemetry keeps a bounded past of its own, which may still be filling.
            ours = [tracemalloc.Filter(True, f"*/instrumented_sessions/{part}") for part in _CORE]
            kept = tracemalloc.take_snapshot().filter_traces(ours)
            return tasks, sum(trace.size for trace in kept.traces)

        tracemalloc.start()
        try:
            tasks, memory = await cycles(100)
            before = Holdings()
            later_tasks, later_memory = await cycles(1000 if not door.blocking else 200)
            # What telemetry has not worked off yet is worked off sometime; a leak grows in every round.
            rounds = 0
            while later_memory - memory > 20_000 and rounds < 5:
                memory, rounds = later_memory, rounds + 1
                later_tasks, later_memory = await cycles(200)
        finally:
            tracemalloc.stop()
        # The last session's own task may still be on its way out.
        assert later_tasks <= tasks + 1
        after = Holdings()
        assert (after.threads, after.children) == (before.threads, before.children)
        # The process may have opened one of its own meanwhile; a leak would be hundreds.
        assert after.descriptors - before.descriptors < 10
        assert later_memory - memory <= 20_000
        assert manager.statistics().sessions == {}
        assert len(manager._shell.tickets) == 0


@pytest.mark.scenario("S22")
async def test_cycles_over_the_wire_leave_nothing() -> None:
    """Children, sockets and their descriptors are given back with each session and each manager."""

    async def cycle() -> None:
        async with SessionManager() as manager:
            for transport in (stdio, http):
                session = await manager.asession(transport, timeout_s=LIMIT_S)
                assert text(await session.acall_tool("echo", timeout_s=LIMIT_S)) == "ok"
                await manager.aclose_session(transport)

    threads = len(leaks.threads())
    with raw.Raw(raw.mcp()) as server:
        stdio, http = raw_stdio("good", id="stdio"), StreamableHTTPTransport(id="http", url=server.url())
        await cycle()
        await until(lambda: len(leaks.threads()) <= threads + 1)  # The raw server's listener.
        before = Holdings()

        def given_back() -> bool:
            now = Holdings()
            # A leak would be one for each cycle at least; the process may have opened one of its own.
            descriptors = now.descriptors - before.descriptors
            return now.threads <= before.threads and now.children <= before.children and descriptors < 10

        for _ in range(10):
            await cycle()
        await until(given_back)


@pytest.mark.scenario("S23")
async def test_close_session_of_a_server_that_ignores_it_is_bounded(door: Door) -> None:
    """The drain's limit passes: the caller is told, and the session ends when it ends."""
    transport = FakeTransport()
    async with SessionManager(Settings(close_timeout_s=0.5)) as manager:
        session = await door.session(manager, transport)
        transport.closing.close()
        with anyio.fail_after(LIMIT_S), pytest.raises(TimeoutError, match="phase close"):
            await door.close_session(manager, transport, timeout_s=0.1)
        transport.closing.open()
        await until(lambda: session.state is SessionState.CLOSED)
