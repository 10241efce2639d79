"""One opening: streams, handshake and an initialised client, on either SDK generation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from . import sdk
from .base import CALLBACKS, Options
from .streams import Link, watched

Streams = Callable[[Link], AbstractAsyncContextManager[Any]]
"""Opens an SDK transport: a context manager that yields its stream pair."""


@asynccontextmanager
async def opening(options: Options, streams: Streams) -> AsyncIterator[Any]:
    """Open `streams`, shake hands and yield the client; close everything on every path.

    Raises:
        Exception: What the SDK raised.
    """
    link = Link()
    callbacks = {name: getattr(options, name) for name in CALLBACKS if getattr(options, name) is not None}
    connect = _connect_2 if sdk.SDK_GENERATION == 2 else _connect_1
    async with connect(options, watched(streams(link), link), callbacks) as client:
        link.is_open = True
        try:
            yield client
        finally:
            link.closing()


@asynccontextmanager
async def _connect_2(options: Options, server: Any, callbacks: dict[str, Any]) -> AsyncIterator[Any]:
    client = sdk.Client(
        server,
        mode=options.mode,
        raise_exceptions=getattr(options, "raise_exceptions", False),
        read_timeout_seconds=options.read_timeout_s,
        client_info=options.client_info,
        **callbacks,
    )
    async with client:
        if options.mode in sdk.MODERN_VERSIONS:
            # A pinned version connects without any traffic: ask, so that an open session has answered.
            await client.session.send_discover(options.mode)
        yield client


@asynccontextmanager
async def _connect_1(
    options: Options, streams: AbstractAsyncContextManager[Any], callbacks: dict[str, Any]
) -> AsyncIterator[Any]:
    async with streams as (read, write):
        session = sdk.ClientSession(
            read,
            write,
            read_timeout_seconds=sdk.timeout(options.read_timeout_s),
            client_info=options.client_info,
            **callbacks,
        )
        async with session:
            answer = await session.initialize()
            # 1.x forgets the version that the server chose.
            session.protocol_version = str(answer.protocolVersion)
            yield session
