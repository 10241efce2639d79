"""A plain MCP client of the installed SDK, so that the demo's servers are tested without this library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client


@asynccontextmanager
async def over_stdio(command: list[str]) -> AsyncIterator[Any]:
    """Yield an initialised client of the server that `command` starts."""
    streams = stdio_client(StdioServerParameters(command=command[0], args=command[1:]))
    if hasattr(mcp, "Client"):
        async with mcp.Client(streams) as client:
            yield client
    else:
        async with streams as (read, write), mcp.ClientSession(read, write) as client:
            await client.initialize()
            yield client


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[Any]:
    """Yield an initialised client of the server at `url`."""
    if hasattr(mcp, "Client"):
        async with mcp.Client(url) as client:
            yield client
    else:
        from mcp.client.streamable_http import streamable_http_client

        async with streamable_http_client(url) as streams, mcp.ClientSession(*streams[:2]) as client:
            await client.initialize()
            yield client


def failed(result: Any) -> bool:
    """Return whether the server refused the call."""
    return bool(getattr(result, "is_error", False) or getattr(result, "isError", False))
