"""A small MCP server over stdio, for the other examples; runs on mcp 1.x and 2.x."""

from __future__ import annotations

try:
    from mcp.server import MCPServer as Server
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as Server

server = Server("weather", log_level="ERROR")


@server.tool()
async def forecast(city: str) -> str:
    """Tell tomorrow's weather in a city."""
    return f"{city}: sunny, 21 °C"


if __name__ == "__main__":
    server.run("stdio")
