"""The deadlock of oracle/wayflow issue 112, and two ways out of it.

One process hosts an MCP server over streamable HTTP, and a handler of the same app calls that server, cold.

python examples/issue_112.py                   the async door: the handler awaits, so the loop can serve
python examples/issue_112.py --blocking-door   the blocking door: refused at once, with what to call instead
python examples/issue_112.py --old-way         a blocking call on the server's own loop: hangs; exits with 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
import traceback
import urllib.request

import uvicorn
from anyio.from_thread import start_blocking_portal
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from instrumented_sessions import BlockingCallError, SessionManager
from instrumented_sessions.transports import StreamableHTTPTransport

try:
    from mcp.server import MCPServer as Server
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as Server

PATIENCE_S = 5.0
"""How long the hang is watched before it is called one, in seconds."""


async def async_door(manager: SessionManager, tools: StreamableHTTPTransport) -> str:
    session = await manager.asession(tools, timeout_s=20.0)
    result = await session.acall_tool("add", {"a": 100, "b": 12}, timeout_s=10.0)
    return f"100 + 12 = {result.content[0].text}"


async def blocking_door(manager: SessionManager, tools: StreamableHTTPTransport) -> str:
    try:
        manager.session(tools, timeout_s=20.0)
    except BlockingCallError as error:
        return f"BlockingCallError: {error}"
    return "the session was not cold"


async def old_way(manager: SessionManager, tools: StreamableHTTPTransport) -> str:
    async def open_and_call() -> str:
        async with tools.connect() as client:
            result = await client.call_tool("add", {"a": 100, "b": 12})
            return str(result.content[0].text)

    tell_of_the_hang(threading.get_ident())
    with start_blocking_portal() as portal:
        # Waits for a server that needs the very loop that waits here.
        return portal.call(open_and_call)


def tell_of_the_hang(thread_id: int) -> None:
    """After `PATIENCE_S` seconds print the stack of a thread, and end the process with exit code 1."""

    def tell() -> None:
        print(f"hung for {PATIENCE_S:g} s, as expected; this is the stack:", file=sys.stderr)
        traceback.print_stack(sys._current_frames()[thread_id], file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)  # Nothing less ends a process whose loop does not run.

    timer = threading.Timer(PATIENCE_S, tell)
    timer.daemon = True
    timer.start()


async def main(way: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tools = StreamableHTTPTransport(id="tools", url=f"{address}/mcp")
    handler = {"async-door": async_door, "blocking-door": blocking_door, "old-way": old_way}[way]

    server = Server("tools", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async with SessionManager() as manager:

        @server.custom_route("/ask", methods=["GET"])
        async def ask(request: Request) -> PlainTextResponse:
            return PlainTextResponse(await handler(manager, tools))

        app = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning"))
        serving = asyncio.create_task(app.serve(sockets=[listener]))
        print(await asyncio.to_thread(fetch, f"{address}/ask"))
    app.should_exit = True
    await serving


def fetch(url: str) -> str:
    """Ask as any client of the app would."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ways = parser.add_mutually_exclusive_group()
    for name in ("blocking-door", "old-way"):
        ways.add_argument(f"--{name}", dest="way", action="store_const", const=name, default="async-door")
    asyncio.run(main(parser.parse_args().way))
