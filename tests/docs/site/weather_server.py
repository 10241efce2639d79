"""The MCP server that the documentation's snippets talk to: on stdio, or with a port on HTTP."""

import sys

try:
    from mcp.server import MCPServer as Server  # mcp 2.x
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server  # mcp 1.x

server = Server("weather")


@server.tool()
def forecast(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}."


@server.tool()
def search(query: str) -> str:
    """Find something."""
    return f"Nothing about {query}."


def serve_http(port: int) -> None:
    """Serve at /mcp."""
    import uvicorn

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="error")


if sys.argv[1:]:
    serve_http(int(sys.argv[1]))
else:
    server.run()
