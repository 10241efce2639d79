"""Clients of the raw SDK, on either generation: what an agent that has never heard of us does."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client import sse, stdio, streamable_http

from tests import servers


def parameters(*options: str) -> StdioServerParameters:
    command, args = servers.command(*options)
    return StdioServerParameters(command=command, args=args)


@asynccontextmanager
async def over_stdio(*options: str) -> AsyncIterator[Any]:
    """A session that is not initialised yet."""
    async with (
        stdio.stdio_client(parameters(*options)) as (read, write),
        ClientSession(read, write) as session,
    ):
        yield session


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[Any]:
    async with streamable_http.streamable_http_client(url) as streams:
        async with ClientSession(*streams[:2]) as session:
            yield session


@asynccontextmanager
async def over_sse(url: str) -> AsyncIterator[Any]:
    async with sse.sse_client(url) as (read, write), ClientSession(read, write) as session:
        yield session


def high_level(*options: str) -> Any:
    """The high-level client of 2.x over stdio; None on 1.x, which has none."""
    client = getattr(importlib.import_module("mcp"), "Client", None)
    return None if client is None else client(parameters(*options))


def text_of(result: Any) -> str:
    return str(result.content[0].text)
