"""A program that uses the core through both doors; run where no extra is installed."""

import asyncio
import sys
from pathlib import Path

from instrumented_sessions import SessionManager
from instrumented_sessions.transports import StdioTransport

if sys.argv[1:] == ["serve"]:
    try:
        from mcp.server import MCPServer as Server  # mcp 2.x
    except ImportError:
        from mcp.server.fastmcp import FastMCP as Server  # mcp 1.x

    server = Server("greeter")

    @server.tool()
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"hello {name}"

    server.run()
    sys.exit()

greeter = StdioTransport(id="greeter", command=sys.executable, args=[str(Path(__file__)), "serve"])
arguments = {"name": "Zürich"}

with SessionManager() as manager:
    session = manager.session(greeter, timeout_s=20.0)
    print("sync:", session.call_tool("greet", arguments).content[0].text)

    async def main() -> None:
        session = await manager.asession(greeter)
        result = await session.acall_tool("greet", arguments)
        print("async:", result.content[0].text)

    asyncio.run(main())
    print("sessions:", sum(manager.statistics().sessions.values()))
