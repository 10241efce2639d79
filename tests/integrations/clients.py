"""Clients of the raw SDK, on either generation: what an agent that has never heard of us does."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
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


@asynccontextmanager
async def wrapped(stream: Any) -> AsyncIterator[Any]:
    """A stream of the program's own that passes on what comes from a transport, to log or to filter it."""
    send, receive = anyio.create_memory_object_stream[Any](10)

    async def pass_on() -> None:
        async with send:
            async for message in stream:
                await send.send(message)

    async with anyio.create_task_group() as group, receive:
        group.start_soon(pass_on)
        yield receive
        group.cancel_scope.cancel()


class Outbox:
    """A write stream of the program's own, over one that outlives it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, message: Any) -> None:
        await self._stream.send(message)

    async def aclose(self) -> None:
        """Leave the other one open."""

    async def __aenter__(self) -> Outbox:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
