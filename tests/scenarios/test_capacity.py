"""S36, S39: more conversations than sessions may be open, and whose state is whose."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from instrumented_sessions import SessionLimitError, SessionManager, SessionState, Settings
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import Phase
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text

ROOM = 200
OPEN = (SessionState.CREATING, SessionState.READY, SessionState.DRAINING)


@pytest.mark.scenario("S36")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("conversations", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_conversations_fit_into_two_hundred_sessions(conversations: int) -> None:
    """Idle ones leave and busy ones never; never more are open than there is room for; nothing is kept."""
    transport = FakeTransport()
    most = 0
    async with SessionManager(Settings(max_sessions=ROOM, watch_callers=False)) as manager:
        busy = [await manager.asession(transport, f"busy-{number}") for number in range(20)]
        transport.calling.close()
        calls = [asyncio.create_task(one.acall_tool("echo", {"text": "kept"}, timeout_s=600)) for one in busy]
        await transport.calling.await_for(20)
        for begin in range(0, conversations, 100):
            names = [f"c-{number}" for number in range(begin, begin + 100)]
            await asyncio.gather(*(manager.asession(transport, name) for name in names))
            states = manager.statistics().sessions
            most = max(most, len(transport.open_clients), sum(states.get(state, 0) for state in OPEN))
        assert most <= ROOM
        assert {one.state for one in busy} == {SessionState.READY}
        assert {one.generation for one in busy} == {1}
        transport.calling.open()
        assert {text(await call) for call in calls} == {"kept"}
        assert transport.connects == 20 + conversations
        # A handle and its record are a circle, so that it takes the collector; the last ones still end.
        await until(lambda: gc.collect() >= 0 and len(manager._shell.pool.known) <= ROOM)


@pytest.mark.scenario("S36")
async def test_request_that_finds_no_room_waits_until_there_is(door: Door) -> None:
    """It says `max_sessions` at its limit; with time left, the first call that ends makes room."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_sessions=2)) as manager:
        busy = [await door.session(manager, transport, name) for name in ("b-1", "b-2")]
        transport.calling.close()
        calls = [asyncio.create_task(one.acall_tool("echo", {"text": "x"})) for one in busy]
        await transport.calling.await_for(2)
        with pytest.raises(SessionLimitError, match="max_sessions=2") as caught:
            await door.session(manager, transport, "late", timeout_s=0.5)
        assert caught.value.phase is Phase.QUEUE
        waiting = asyncio.create_task(door.session(manager, transport, "patient", timeout_s=LIMIT_S))
        await until(lambda: manager.statistics().waiters == 3)
        transport.calling.release_one()
        assert (await waiting).state is SessionState.READY
        assert sorted(one.state for one in busy) == [SessionState.COLD, SessionState.READY]
        transport.calling.open()
        await asyncio.gather(*calls)


@pytest.mark.scenario("S39")
@pytest.mark.parametrize("kind", ["stdio", "http", "sse"])
async def test_conversations_have_their_own_state_and_share_it_within(
    manager: SessionManager, kind: str
) -> None:
    """A server that counts in each session: two conversations count apart, one counts on at either door."""
    if kind == "stdio":
        command, args = servers.command()
        await _count(manager, StdioTransport(id="one", command=command, args=args))
        return
    with servers.running(kind) as server:
        make: Any = SSETransport if kind == "sse" else StreamableHTTPTransport
        await _count(manager, make(id="one", url=server.url, mode="legacy"))
        await manager.aclose()


async def _count(manager: SessionManager, transport: Any) -> None:
    one = await manager.asession(transport, "c-1", timeout_s=LIMIT_S)
    two = await manager.asession(transport, "c-2", timeout_s=LIMIT_S)
    assert [text(await session.acall_tool("counter")) for session in (one, one, two)] == ["1", "2", "1"]
    again = await in_thread(manager.session, transport, "c-1")
    assert text(await in_thread(again.call_tool, "counter")) == "3"
    assert text(await one.acall_tool("whoami")) != text(await two.acall_tool("whoami"))
