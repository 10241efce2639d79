"""One connection as its transport sees it: when it ends, whether it takes messages, what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any

import anyio

from . import sdk
from .callbacks import Callbacks
from .failures import NotSent
from .http_failures import Evidence
from .probe import Probe, current_probe
from .secrets import Secrets


class Link:
    """One connection: tells the probe of a loss, and knows our own closing and a failed opening from one."""

    def __init__(self, callbacks: Callbacks) -> None:
        self.callbacks = callbacks
        """Runs the program's own functions."""
        self.probe = current_probe.get() or Probe()
        self.is_open = False
        """Whether the handshake is done."""
        self.is_closing = False
        """Whether its end is our own doing."""
        self.evidence: Evidence | None = None
        """What the transport has seen that says more than the SDK's exception; no secrets."""
        self.secrets = Secrets()
        """Texts that no message may show."""
        self._opening = anyio.CancelScope()
        self._ended: list[BaseException | None] = []  # Its only item is the cause.

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Enclose a connection, from the start of its opening to its end.

        Raises:
            ConnectionAbortedError: The opening was given up.
        """
        with self._opening:
            yield
        if self._opening.cancelled_caught:
            raise ConnectionAbortedError("the opening was given up")

    @property
    def cause(self) -> BaseException | None:
        """Why the connection has ended; None while it has not, or where nothing tells."""
        return self._ended[0] if self._ended else None

    def opened(self) -> None:
        """Note that the handshake is done; from here on an end is a loss."""
        self.is_open = True
        if self._ended:
            self.probe.lost(self._ended[0])

    def ended(self, cause: BaseException | None) -> None:
        """Note that the connection has ended; tells the probe once, if it is open and not being closed."""
        if self._ended or self.is_closing:
            return
        self._ended.append(cause)
        if self.is_open:
            self.probe.lost(cause)

    def abort(self) -> None:
        """Give up the opening that is under way, for what `evidence` says; no effect once it is open."""
        if not self.is_open:
            self._opening.cancel()

    def closing(self) -> None:
        """Note that from here on every end is our own doing."""
        self.is_closing = True


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
            self._link.ended(self._last_error)
            raise
        # An error followed by the end is why it ended; one followed by a message was survived.
        self._last_error = item if isinstance(item, Exception) else None
        # The SDK makes spans and logs of an answer. Of a call's, the program gets what the server said.
        return item if self._link.is_open else self._link.secrets.cleaned(item)

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
        """Hand `item` to the writer task; returns when that has taken it.

        Raises:
            NotSent: The connection is gone.
        """
        if self.is_blocked() and sdk.is_cancellation(item.message):
            return  # The SDK would hold up a cancelled caller for seconds, behind what is not taken.
        self._waiting += 1
        try:
            await self._inner.send(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise NotSent from error  # The stream has no buffer: the writer task did not get it.
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
    """Enter one of the SDK's own transports and yield its streams, watched."""
    async with streams as pair:
        read, write = pair[:2]  # 1.x adds a function that returns the protocol's session id.
        writer = WatchedWriteStream(write)
        link.probe.is_write_blocked = writer.is_blocked
        try:
            yield WatchedReadStream(read, link), writer
        finally:
            link.closing()
