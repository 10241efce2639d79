"""Thin wrappers around the SDK's stream pair, which see when a connection ends or does not take a message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

import anyio

from ..vocabulary import Phase
from .probe import Probe, current_probe


class Link:
    """One connection, as seen by its transport: tells the probe, and knows our own closing from a loss."""

    def __init__(self) -> None:
        self.probe = current_probe.get() or Probe()
        self.is_open = False
        """Whether the handshake is done."""
        self._is_over = False  # Lost, or being closed by us: nothing more to tell.

    def lost(self, cause: BaseException | None) -> None:
        """Tell the probe that the connection ended by itself; once, and not when we close it."""
        if not self._is_over:
            self._is_over = True
            self.probe.lost(cause)

    def closing(self) -> None:
        """Note that from here on every end is our own doing."""
        self._is_over = True


class WatchedReadStream:
    """The SDK's read stream; tells `link` when it ends."""

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner = inner
        self._link = link
        self._last_error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        # The SDK reads `last_context` by getattr, where the stream has it.
        return getattr(self._inner, name)

    async def receive(self) -> Any:
        """Return the next item; an `Exception` item is what the transport could not read."""
        try:
            item = await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._link.lost(self._last_error)
            raise
        # An error followed by the end is why it ended; one followed by a message was survived.
        self._last_error = item if isinstance(item, Exception) else None
        return item

    def __aiter__(self) -> WatchedReadStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> WatchedReadStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.aclose()


class WatchedWriteStream:
    """The SDK's write stream; knows whether the last message has been taken."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._waiting = 0
        # 2.x wraps the memory stream for HTTP and hides its statistics.
        self._statistics = getattr(getattr(inner, "_inner", inner), "statistics", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, item: Any) -> None:
        """Hand `item` to the writer task; returns when that has taken it."""
        self._waiting += 1
        try:
            await self._inner.send(item)
        finally:
            self._waiting -= 1

    def is_blocked(self) -> bool:
        """Return whether the writer task is still busy with a message, so that the next one waits."""
        if self._waiting or self._statistics is None:
            return self._waiting > 0
        statistics = self._statistics()
        return bool(statistics.open_receive_streams and not statistics.tasks_waiting_receive)

    async def __aenter__(self) -> WatchedWriteStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def watched(
    streams: AbstractAsyncContextManager[Any], link: Link
) -> AsyncIterator[tuple[WatchedReadStream, WatchedWriteStream]]:
    """Enter an SDK transport and yield its streams, watched; the byte stream is there when it yields."""
    async with streams as pair:
        read, write = pair[:2]  # 1.x adds a function that returns the protocol's session id.
        writer = WatchedWriteStream(write)
        link.probe.is_write_blocked = writer.is_blocked
        link.probe.phase = Phase.NEGOTIATE
        try:
            yield WatchedReadStream(read, link), writer
        finally:
            link.closing()
