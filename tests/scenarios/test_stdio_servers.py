"""S23, S27, S28: children that die, stop reading, or do not want to end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionBrokenError, SessionManager, SessionState, SessionTimeoutError
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import Phase
from tests import leaks, servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text
from tests.servers import raw

from .wires import GUARD, let_it_have_lived, raw_stdio


@pytest.mark.scenario("S27")
async def test_child_that_dies_in_a_call_fails_it_at_once_and_is_replaced(
    manager: SessionManager, door: Door, tmp_path: Path
) -> None:
    """The call is not sent again, the next use has a new child, and no other child is left."""
    before = leaks.children()
    journal = servers.Journal(tmp_path / "journal")
    command, args = servers.command(*servers.options(journal=journal.path))
    session = await door.session(
        manager, StdioTransport(id="one", command=command, args=args), timeout_s=LIMIT_S
    )
    let_it_have_lived(session)
    with anyio.fail_after(LIMIT_S), pytest.raises(SessionBrokenError) as caught:
        await door.call_tool(session, "kill", timeout_s=60.0)
    assert caught.value.may_have_run
    assert "exit status 1" in str(caught.value.__cause__)
    pid = int(text(await door.call_tool(session, "pid", timeout_s=LIMIT_S)))
    assert (session.generation, journal.calls("kill")) == (2, 1)
    assert leaks.children() - before == {pid}


@pytest.mark.scenario("S27")
async def test_child_that_dies_while_idle_is_noticed_and_replaced(
    manager: SessionManager, door: Door, tmp_path: Path
) -> None:
    """Nobody calls, yet the session is broken at once; children alive are sessions alive."""
    before = leaks.children()
    transport = raw_stdio("good", id="one")
    session = await door.session(manager, transport, timeout_s=LIMIT_S)
    other = await door.session(manager, transport, "other", timeout_s=LIMIT_S)
    let_it_have_lived(session)
    let_it_have_lived(other)
    assert len(leaks.children() - before) == 2
    os.kill(min(leaks.children() - before), signal.SIGKILL)
    await until(lambda: {session.state, other.state} == {SessionState.READY, SessionState.BROKEN})
    await until(lambda: len(leaks.children() - before) == 1)
    for used in (session, other):
        assert text(await door.call_tool(used, "echo", timeout_s=LIMIT_S)) == "ok"
    assert sorted((session.generation, other.generation)) == [1, 2]
    assert len(leaks.children() - before) == 2


@pytest.mark.scenario("S28")
async def test_server_that_stops_reading_fails_the_call_at_its_own_limit(
    manager: SessionManager, door: Door
) -> None:
    """The phase is `write`, whatever the SDK is stuck in, and the session is replaced."""
    limit_s = 0.3
    session = await door.session(manager, raw_stdio("deaf"), timeout_s=LIMIT_S)
    let_it_have_lived(session)
    large = {"text": "x" * 1_000_000}  # More than any pipe takes.
    began = time.monotonic()
    with pytest.raises(SessionTimeoutError, match="to take tools/call echo") as caught:
        await door.call_tool(session, "echo", large, timeout_s=limit_s)
    assert time.monotonic() - began < GUARD * limit_s
    assert caught.value.phase is Phase.WRITE
    await until(lambda: session.state is SessionState.BROKEN)
    with pytest.raises(SessionTimeoutError):
        await door.call_tool(session, "echo", timeout_s=LIMIT_S / 10)
    assert session.generation == 2


@pytest.mark.scenario("S28")
async def test_calls_behind_a_blocked_write_keep_their_own_limits(
    manager: SessionManager, door: Door
) -> None:
    """Three calls with three limits on a server that reads no more: each fails by its own."""
    session = await door.session(manager, raw_stdio("deaf"), timeout_s=LIMIT_S)
    let_it_have_lived(session)
    failed: list[float] = []

    async def call(limit_s: float) -> None:
        with pytest.raises((SessionTimeoutError, SessionBrokenError)) as caught:
            await door.call_tool(session, "echo", {"text": "x" * 1_000_000}, timeout_s=limit_s)
        failed.append(limit_s)
        assert isinstance(caught.value, SessionTimeoutError) or caught.value.may_have_run

    with anyio.fail_after(GUARD * 0.4 + 1.0):
        async with anyio.create_task_group() as group:
            group.start_soon(call, 30.0)
            await until(lambda: session.in_flight == 1)
            for limit_s in (0.4, 0.2):
                group.start_soon(call, limit_s)
    # The first one fails with the session, long before its own limit.
    assert sorted(failed) == [0.2, 0.4, 30.0]


@pytest.mark.scenario("S23")
async def test_close_of_a_stubborn_child_is_bounded_and_leaves_none(door: Door, tmp_path: Path) -> None:
    """It ignores the end of its input and SIGTERM: it is killed within the close's limit."""
    file = tmp_path / "pid"
    manager = SessionManager()
    await door.session(manager, raw_stdio("stubborn", str(file)), timeout_s=LIMIT_S)
    limit_s = 0.5
    began = time.monotonic()
    if door.blocking:
        await in_thread(manager.close, limit_s)
    else:
        await manager.aclose(limit_s)
    assert time.monotonic() - began < GUARD * limit_s
    await until(lambda: not servers.is_alive(int(file.read_text())))


@pytest.mark.scenario("S23")
async def test_close_of_a_hung_http_server_is_bounded(door: Door) -> None:
    """It never answers the request that ends its session, and a call is in flight."""
    with raw.Raw(raw.mcp(DELETE=raw.silent, tools_call=raw.silent)) as server:
        manager = SessionManager()
        session = await door.session(manager, StreamableHTTPTransport(id="one", url=server.url()))
        call: asyncio.Task[Any] = asyncio.create_task(door.call_tool(session, "echo", timeout_s=60.0))
        await until(lambda: any(request.rpc == "tools/call" for request in server.requests))
        with anyio.fail_after(GUARD * 0.5):
            await manager.aclose(0.5)
            await asyncio.wait([call])
        assert type(call.exception()).__name__ == "SessionClosedError"
        assert session.state is SessionState.CLOSED
