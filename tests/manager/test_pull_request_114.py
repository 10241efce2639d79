"""What oracle/wayflow pull request 114 fixed is the floor here: its three regressions, and stricter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions import BlockingCallError, Session, SessionManager, SessionState
from instrumented_sessions.transports import StreamableHTTPTransport
from tests import servers

from .wires import LIMIT_S, in_thread, text

HANDSHAKE_S = 0.5
BEAT_S = 0.02


class Heart:
    """Beats on the caller's loop, and tells the longest pause between two beats."""

    def __init__(self) -> None:
        self.beats = 0
        self.longest_s = 0.0

    async def beat(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            now = loop.time()
            self.longest_s = max(self.longest_s, now - last)
            last = now
            self.beats += 1


@asynccontextmanager
async def beating() -> AsyncIterator[Heart]:
    heart = Heart()
    task = asyncio.create_task(heart.beat())
    try:
        yield heart
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_concurrent_cold_callers_get_one_session_from_one_handshake(
    manager: SessionManager, tmp_path: Path
) -> None:
    """Threads and tasks that ask for a cold key at once share one opening; the server saw one handshake."""
    journal = servers.Journal(tmp_path / "journal")
    with (
        servers.Gate() as gate,
        servers.running("http", *servers.options(journal=journal.path, gate=gate, era="legacy")) as server,
    ):
        transport = StreamableHTTPTransport(id="weather", url=server.url, mode="legacy")
        threads = 10
        barrier = threading.Barrier(threads)

        def from_thread() -> Any:
            barrier.wait(LIMIT_S)
            return manager.session(transport, timeout_s=LIMIT_S)

        asked = [asyncio.ensure_future(in_thread(from_thread)) for _ in range(threads)]
        asked += [asyncio.ensure_future(manager.asession(transport)) for _ in range(threads)]
        await gate.aarrived()  # The one handshake is held until everybody waits.
        while manager.statistics().waiters < 2 * threads:
            await asyncio.sleep(0.001)
        gate.open()
        sessions = await asyncio.gather(*asked)
    assert len({id(session) for session in sessions}) == 1
    assert len(journal.lines("initialize")) == 1


@pytest.mark.parametrize("what", ["asession", "acall_tool"])
async def test_loop_keeps_its_period_while_a_handshake_takes_half_a_second(
    manager: SessionManager, what: str
) -> None:
    """A heartbeat beside the async doors misses no beats: no pause comes near the handshake's length."""
    options = servers.options(handshake_delay_s=HANDSHAKE_S, era="legacy")
    with servers.running("http", *options) as server:
        transport = StreamableHTTPTransport(id="weather", url=server.url, mode="legacy")
        if what == "acall_tool":
            # Its session is lost first, so that the call itself waits for a handshake.
            session = await manager.asession(transport)
            await _lose(manager, session)
            async with beating() as heart:
                result = await session.acall_tool("echo", {"text": "hi"}, timeout_s=LIMIT_S)
            assert text(result) == "hi"
            assert session.generation == 2
        else:
            async with beating() as heart:
                await manager.asession(transport, timeout_s=LIMIT_S)
    assert heart.beats >= 0.5 * HANDSHAKE_S / BEAT_S
    assert heart.longest_s < HANDSHAKE_S / 2, f"the loop stood still for {heart.longest_s:.3f} s"


async def _lose(manager: SessionManager, session: Session) -> None:
    record: Any = session._record

    def lose() -> None:
        record.opened_at -= 60.0  # It has lived long enough for a reopening at once.
        manager._shell.decide(manager._shell.pool.lost, record, record.generation, ConnectionResetError())

    assert manager._portal is not None
    manager._portal.post(lose)
    while session.state is SessionState.READY:
        await asyncio.sleep(0.001)


# What mcp 1.24's server makes of the newest pydantic-settings.
@pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition")
@pytest.mark.scenario("S11", "S12")
async def test_app_that_hosts_the_server_calls_it_from_its_own_handler(manager: SessionManager) -> None:
    """Issue 112: the async door completes on the server's own loop, the blocking one is refused at once."""
    import uvicorn

    try:
        from mcp.server import MCPServer as Server
    except ImportError:
        from mcp.server.fastmcp import FastMCP as Server
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    mcp_server = Server("tools", log_level="ERROR")

    @mcp_server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    listener = servers.socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    transport = StreamableHTTPTransport(id="tools", url=f"http://127.0.0.1:{port}/mcp")

    @mcp_server.custom_route("/ask", methods=["GET"])
    async def ask(request: Request) -> JSONResponse:
        with pytest.raises(BlockingCallError, match=r"asession\(\)"):
            manager.session(transport)
        session = await manager.asession(transport, timeout_s=LIMIT_S)
        result = await session.acall_tool("add", {"a": 100, "b": 12}, timeout_s=LIMIT_S)
        return JSONResponse({"answer": text(result)})

    app = uvicorn.Server(uvicorn.Config(mcp_server.streamable_http_app(), log_level="warning", lifespan="on"))
    serving = asyncio.create_task(app.serve(sockets=[listener]))
    try:
        answer = await in_thread(_fetch, f"http://127.0.0.1:{port}/ask")
        assert answer == '{"answer":"112"}'
    finally:
        await manager.aclose()
        app.should_exit = True
        await serving
        for task in asyncio.all_tasks():
            # The SDK 1.x server's sse-starlette leaves one behind that waits for a signal.
            if getattr(task.get_coro(), "__name__", "") == "_shutdown_watcher":
                task.cancel()
                await asyncio.wait([task])


def _fetch(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
        return str(response.read().decode())
