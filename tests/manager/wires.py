"""Transports of every kind to one and the same server, and both doors, for tests that run on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from instrumented_sessions import Session, SessionManager
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport
from tests import servers

LIMIT_S = 15.0
"""A guard for waits that must not be seen to end."""

KINDS = ("fake", "stdio", "http")


@dataclass
class Wire:
    """A transport, and how many handshakes reached its server."""

    transport: Any
    journal: servers.Journal | None = None

    def handshakes(self) -> int:
        if self.journal is None:
            connects: int = self.transport.connects
            return connects
        return len(self.journal.lines("initialize")) or len(self.journal.lines("server/discover"))


@contextmanager
def wire(kind: str, tmp_path: Path, **options: Any) -> Iterator[Wire]:
    """Give a transport of `kind` to a fresh server."""
    if kind == "fake":
        yield Wire(FakeTransport("weather", **options))
        return
    journal = servers.Journal(tmp_path / "journal")
    arguments = servers.options(journal=journal.path)
    if kind == "stdio":
        command, args = servers.command(*arguments)
        yield Wire(StdioTransport(id="weather", command=command, args=args, **options), journal)
        return
    with servers.running(kind, *arguments) as server:
        make = SSETransport if kind == "sse" else StreamableHTTPTransport
        yield Wire(make(id="weather", url=server.url, **options), journal)


class Door:
    """The way into a manager from a coroutine test: its own loop, or a worker thread."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def blocking(self) -> bool:
        return self.name == "thread"

    async def session(self, manager: SessionManager, transport: Any, *args: Any, **options: Any) -> Session:
        if self.blocking:
            return await in_thread(manager.session, transport, *args, **options)
        return await manager.asession(transport, *args, **options)

    async def call_tool(self, session: Session, *args: Any, **options: Any) -> Any:
        if self.blocking:
            return await in_thread(session.call_tool, *args, **options)
        return await session.acall_tool(*args, **options)

    async def list_tools(self, session: Session, **options: Any) -> Any:
        if self.blocking:
            return await in_thread(session.list_tools, **options)
        return await session.alist_tools(**options)

    async def run(self, session: Session, fn: Any, *args: Any, **options: Any) -> Any:
        if self.blocking:
            return await in_thread(session.run, fn, *args, **options)
        return await session.arun(fn, *args, **options)

    async def close_session(self, manager: SessionManager, *args: Any, **options: Any) -> None:
        if self.blocking:
            await in_thread(manager.close_session, *args, **options)
        else:
            await manager.aclose_session(*args, **options)


async def in_thread(function: Any, *args: Any, **options: Any) -> Any:
    """Run a blocking function in a thread; give the test up, not the thread, when it is cancelled."""
    return await anyio.to_thread.run_sync(
        lambda: function(*args, **options), abandon_on_cancel=True, limiter=anyio.CapacityLimiter(200)
    )


def text(result: Any) -> str:
    """The text of a tool's result."""
    found: str = result.content[0].text
    return found
