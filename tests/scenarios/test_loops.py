"""S9, S10, S13-S15, S18: the portal's own thread, callers' loops that stand still or end, and a hog."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    BlockingCallError,
    SessionManager,
    SessionState,
    SessionTimeoutError,
    Settings,
)
from instrumented_sessions.events import LoopRecovered, LoopStalled
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import StallCause
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text

from .wires import GUARD, OtherLoop


@pytest.fixture(params=["fake", "http"])
def transport(request: pytest.FixtureRequest, http_server: servers.Server) -> Any:
    if request.param == "fake":
        return FakeTransport("one")
    return StreamableHTTPTransport(id="one", url=http_server.url)


@pytest.mark.scenario("S9", "S10")
async def test_blocking_door_on_the_portal_is_refused_while_others_open_that_key(
    manager: SessionManager, door: Door
) -> None:
    """The refusal is typed and immediate, the other caller gets its session, and other keys live."""
    transport = FakeTransport("one")
    session = await manager.asession(transport, "warm")
    transport.connecting.close()
    async with anyio.create_task_group() as group:
        group.start_soon(door.session, manager, transport, "cold")
        await transport.connecting.await_for(2)

        async def work(client: Any) -> str:
            with pytest.raises(BlockingCallError, match=r"the portal's own loop.*await asession\(\)"):
                manager.session(transport, "cold")
            assert manager.session(transport, "warm") is session
            return "refused"

        assert await session.arun(work, timeout_s=LIMIT_S) == "refused"
        assert text(await door.call_tool(session, "echo", {"text": "alive"})) == "alive"
        transport.connecting.open()
    assert transport.connects == 2


@pytest.mark.scenario("S13")
@pytest.mark.parametrize("owner", ["idle", "busy", "closed"])
async def test_session_of_one_loop_answers_on_another(
    manager: SessionManager, transport: Any, owner: str
) -> None:
    """Whatever the loop does that asked first, another loop gets its answer."""
    stop = threading.Event()

    async def be_busy() -> None:
        stop.wait(LIMIT_S)  # Blocks its loop.

    with OtherLoop() as other:
        session = await other.run(manager.asession(transport, timeout_s=LIMIT_S))
        assert text(await other.run(session.acall_tool("echo", {"text": "a"}))) == "a"
        busy = other.start(be_busy()) if owner == "busy" else None
        if owner == "closed":
            await in_thread(other.close)
        try:
            with anyio.fail_after(GUARD * 0.1):
                assert text(await session.acall_tool("echo", {"text": "b"})) == "b"
        finally:
            stop.set()
            if busy is not None:
                await asyncio.wrap_future(busy)


@pytest.mark.scenario("S14")
def test_next_run_of_asyncio_uses_the_same_session_over_the_wire(http_server: servers.Server) -> None:
    """Three `asyncio.run` in a row, one inside a thread: one session, no noise of closed loops."""
    transport = StreamableHTTPTransport(id="one", url=http_server.url)
    with SessionManager() as manager:

        async def use(word: str) -> Any:
            session = await manager.asession(transport, timeout_s=LIMIT_S)
            assert text(await session.acall_tool("echo", {"text": word})) == word
            return session

        sessions = [asyncio.run(use("one")), asyncio.run(use("two"))]
        thread = threading.Thread(target=lambda: sessions.append(asyncio.run(use("three"))))
        thread.start()
        thread.join(LIMIT_S)
        assert len({id(session) for session in sessions}) == 1
        assert sessions[0].generation == 1


@pytest.mark.scenario("S15")
async def test_two_loops_that_alternate_share_one_session(manager: SessionManager, transport: Any) -> None:
    """100 calls, one loop after the other: one session, one generation."""
    seen = set()

    async def use(number: int) -> None:
        session = await manager.asession(transport, timeout_s=LIMIT_S)
        seen.add((id(session), session.generation))
        assert text(await session.acall_tool("echo", {"text": str(number)}, timeout_s=LIMIT_S)) == str(number)

    with OtherLoop() as other:
        for number in range(50):
            await use(2 * number)
            await other.run(use(2 * number + 1))
    assert len(seen) == 1
    assert manager.statistics().counters["calls_ok"] == 100


@pytest.mark.scenario("S18")
@pytest.mark.blocks_the_loop("a hog on the portal is what it is about")
async def test_hog_on_the_portal_is_named_by_the_calls_it_delays(door: Door, recorder: Recorder) -> None:
    """The stall is reported with the hog's stack while it lasts, and a delayed call's error says so."""
    transport = FakeTransport()
    enough = threading.Event()

    async def hog(client: Any) -> None:
        while not enough.is_set():
            sum(range(1000))

    settings = Settings(stall_threshold_s=0.1, heartbeat_interval_s=0.05)
    async with SessionManager(settings, observers=[recorder]) as manager:
        session = await door.session(manager, transport)
        transport.calling.close()
        early = asyncio.create_task(session.acall_tool("echo", {"text": "early"}, timeout_s=LIMIT_S))
        await transport.calling.await_for(1)
        hogging = asyncio.create_task(session.arun(hog, timeout_s=LIMIT_S))
        try:
            await until(lambda: _portal_stalls(recorder))
            report = _portal_stalls(recorder)[-1].report
            assert report.ongoing
            assert any("hog" in frame.function for sample in report.stacks for frame in sample.frames)
            assert manager.read_live() is not None
            with pytest.raises(SessionTimeoutError) as caught:
                await door.call_tool(session, "echo", {"text": "late"}, timeout_s=0.5)
            explained = manager.explain()
        finally:
            enough.set()
        error = caught.value
        assert error.chain is not None
        assert "the portal's loop" in str(error)
        stack = [frame for link in error.chain.links for frame in link.stack]
        assert any("hog" in frame for frame in stack)
        # The one that was on its way before says so too.
        assert "tools/call echo" in explained
        assert "the portal's loop" in explained
        assert "hog" in explained
        await hogging
        transport.calling.open()
        assert text(await early) == "early"
        assert session.state is SessionState.READY
        await until(lambda: [e for e in recorder.of(LoopRecovered) if e.report.loop == "portal"])
        final = [e.report for e in recorder.of(LoopRecovered) if e.report.loop == "portal"][-1]
        # On a busy machine the hog itself may be starved of the CPU; then no code is blamed.
        assert final.cause in (StallCause.CPU, StallCause.GIL, StallCause.STARVED, StallCause.THROTTLED)


def _portal_stalls(recorder: Recorder) -> list[LoopStalled]:
    return [event for event in recorder.of(LoopStalled) if event.report.loop == "portal"]


@pytest.mark.scenario("S13")
async def test_session_over_stdio_answers_on_another_loop(manager: SessionManager) -> None:
    """A child that was started for a loop that is closed serves the next one."""
    command, args = servers.command()
    transport = StdioTransport(id="one", command=command, args=args)
    with OtherLoop() as other:
        session = await other.run(manager.asession(transport, timeout_s=LIMIT_S))
    with anyio.fail_after(GUARD * 0.1):
        assert text(await session.acall_tool("echo", {"text": "b"})) == "b"
