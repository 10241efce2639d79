"""A server that lives in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio

from ..vocabulary import Phase
from . import sdk
from .base import Options
from .opening import opening
from .streams import Link, watched


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryTransport(Options):
    """Talks to an SDK server object (`Server`, `MCPServer`, `FastMCP`) in this process.

    The server's async handlers, and on mcp 1.x its plain ones too, run on the portal loop: one that blocks,
    blocks every session. Reports of the stall name its line.

    Args:
        id: A low-cardinality label, free of secrets.
        server: The server object; each session runs it anew.
        raise_exceptions: Whether the server's own errors come out of it, for tests. Default False.
    """

    kind: ClassVar[str] = "memory"

    id: str
    server: Any
    raise_exceptions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(getattr(self._lowlevel, "create_initialization_options", None)):
            raise ValueError(f"server must be a server object of the installed mcp; got {self.server!r}")

    @property
    def _lowlevel(self) -> Any:
        # The high-level servers hide theirs: `_lowlevel_server` on 2.x, `_mcp_server` on 1.x.
        for name in ("_lowlevel_server", "_mcp_server"):
            if hasattr(self.server, name):
                return getattr(self.server, name)
        return self.server

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that runs the server, yields the client and stops the server."""
        return opening(self, self._streams)

    @asynccontextmanager
    async def _streams(self, link: Link) -> AsyncIterator[Any]:
        server = self._lowlevel
        streams = sdk.module("shared.memory").create_client_server_memory_streams
        async with streams() as (client, (read, write)), anyio.create_task_group() as group:

            async def serve() -> None:
                try:
                    options = server.create_initialization_options()
                    await server.run(read, write, options, raise_exceptions=self.raise_exceptions)
                finally:
                    await write.aclose()  # So that the client sees a server that has ended.

            group.start_soon(serve)
            link.probe.phase = Phase.NEGOTIATE
            try:
                async with watched(nullcontext(client), link) as pair:
                    yield pair
            finally:
                group.cancel_scope.cancel()

    def _shown(self) -> Mapping[str, object]:
        return {"server": type(self.server).__name__}
