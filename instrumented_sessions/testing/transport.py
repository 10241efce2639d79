"""A transport without a server, for tests that must control time and failure."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..transports.probe import Probe, current_probe
from ..vocabulary import LockGranularity
from .gate import Gate


@dataclass(frozen=True)
class FakeText:
    """One piece of a `FakeResult`."""

    text: str
    type: str = "text"


@dataclass(frozen=True)
class FakeResult:
    """What a call of a fake tool gives; shaped like the SDK's."""

    content: list[FakeText]
    isError: bool = False  # The protocol's own spelling, which mcp 1.x results have.
    is_error: bool = False


@dataclass(frozen=True)
class FakeTool:
    """A tool in a `FakeToolList`."""

    name: str


@dataclass(frozen=True)
class FakeToolList:
    """What listing a fake's tools gives; shaped like the SDK's."""

    tools: list[FakeTool] = field(default_factory=list)


class FakeTransport:
    """Opens sessions that a test controls: it holds, fails and loses them at will.

    Args:
        id: The transport's id.
        kind: What telemetry calls it. Default `fake`.
        tools: Tools by name, plain or async functions of the arguments; `echo` is always there.
        call_permits: How many calls may be under way at once. Default None: no limit.
        call_granularity: Whether `call_permits` are for each session (default) or the transport.
    """

    def __init__(
        self,
        id: str = "fake",
        *,
        kind: str = "fake",
        tools: Mapping[str, Callable[..., Any]] | None = None,
        call_permits: int | None = None,
        call_granularity: LockGranularity = LockGranularity.SESSION,
    ) -> None:
        self.id = id
        self.kind = kind
        self.call_permits = call_permits
        self.call_granularity = call_granularity
        self.tools: dict[str, Callable[..., Any]] = {"echo": lambda text="": text, **(tools or {})}
        self.connecting = Gate()
        """Passed by every opening."""
        self.calling = Gate()
        """Passed by every call."""
        self.closing = Gate()
        """Passed by every session that ends."""
        self.failures: list[BaseException] = []
        """Raised by the next openings, one each, after the gate."""
        self.connects = 0
        """How many openings came to the server."""
        self.open_clients: list[FakeClient] = []
        """Those that are connected now, the oldest first."""

    def __repr__(self) -> str:
        return f"FakeTransport(id={self.id!r})"

    def connect(self) -> AbstractAsyncContextManager[FakeClient]:
        """Return a context manager that yields a `FakeClient`."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[FakeClient]:
        self.connects += 1
        await self.connecting.pass_through()
        if self.failures:
            raise self.failures.pop(0)
        client = FakeClient(self, current_probe.get())
        self.open_clients.append(client)
        try:
            yield client
        finally:
            self.open_clients.remove(client)
            await self.closing.pass_through()

    def lose(self, cause: BaseException | None = None) -> None:
        """Let the oldest connection end by itself; from any thread."""
        self.open_clients[0].lose(cause)


class FakeClient:
    """What a `FakeTransport` yields: enough of the SDK's `ClientSession` for a session."""

    def __init__(self, transport: FakeTransport, probe: Probe | None) -> None:
        self._transport = transport
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        """The calls that arrived."""

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> FakeResult:
        """Run a tool of the transport; an unknown one gives an `isError` result."""
        self.calls.append((name, dict(arguments or {})))
        if progress_callback is not None:
            await progress_callback(0.0, 1.0, None)
        await self._transport.calling.pass_through()
        tool = self._transport.tools.get(name)
        if tool is None:
            return FakeResult([FakeText(f"Unknown tool: {name}")], isError=True, is_error=True)
        result = tool(**(arguments or {}))
        if inspect.isawaitable(result):
            result = await result
        return FakeResult([FakeText(str(result))])

    async def list_tools(self, **options: Any) -> FakeToolList:
        """Return the transport's tools."""
        return FakeToolList([FakeTool(name) for name in self._transport.tools])

    async def send_ping(self) -> None:
        """Answer a health check."""
        await self._transport.calling.pass_through()

    def lose(self, cause: BaseException | None = None) -> None:
        """Let this connection end by itself; from any thread.

        Raises:
            RuntimeError: No manager opened it, so nobody would notice.
        """
        if self._probe is None:
            raise RuntimeError("only a connection that a SessionManager opened can be lost")
        self._loop.call_soon_threadsafe(self._probe.lost, cause)
