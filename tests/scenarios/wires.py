"""Servers as the scenarios have them: silent ones of every kind; and what a process holds."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from instrumented_sessions import SessionManager
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport
from tests import leaks
from tests.servers import raw

GUARD = 20.0
"""By what a scenario's own figure is multiplied to make a test's limit; benchmarks measure the figure."""


@dataclass
class Silent:
    """A transport whose server accepts and never answers, and the phase in which its openings stay."""

    transport: Any
    phase: str


@contextmanager
def silent_target(kind: str, id: str = "hung") -> Iterator[Silent]:
    """Give a transport of `kind` to a server that accepts and never answers."""
    if kind == "fake":
        transport = FakeTransport(id)
        transport.connecting.close()
        yield Silent(transport, "connect")
        transport.connecting.open()
    elif kind == "stdio":
        yield Silent(
            StdioTransport(id=id, command=sys.executable, args=[str(raw.STDIO), "silent"]), "negotiate"
        )
    elif kind == "sse":
        # Its event stream is there, and nothing comes on it.
        with raw.Raw(raw.keep_alives) as server:
            yield Silent(SSETransport(id=id, url=server.url("/sse")), "negotiate")
    else:
        with raw.Raw(raw.silent) as server:
            yield Silent(StreamableHTTPTransport(id=id, url=server.url()), "negotiate")


def raw_stdio(way: str, *args: str, id: str = "raw", **options: Any) -> StdioTransport:
    """Return a transport to a small stdio server that misbehaves; see tests/servers/raw_stdio.py."""
    return StdioTransport(id=id, command=sys.executable, args=[str(raw.STDIO), way, *args], **options)


def let_it_have_lived(session: Any) -> None:
    """Make a session old enough for a reopening without back-off."""
    session._record.opened_at -= 60.0


def let_it_have_idled(session: Any, seconds: float = 600.0) -> None:
    """Let the last use of a session be long ago."""
    session._record.last_used_at -= seconds


class Holdings:
    """What the process holds: threads, children and descriptors."""

    def __init__(self) -> None:
        gc.collect()
        self.threads = len(leaks.threads())
        self.children = len(leaks.children())
        self.descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holdings) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"Holdings({vars(self)})"


async def on_portal(manager: SessionManager, function: Callable[[], Any]) -> Any:
    """Run a plain function on the portal's thread and return what it gives."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def run() -> None:
        value = function()
        loop.call_soon_threadsafe(result.set_result, value)

    assert manager._portal is not None
    manager._portal.post(run)
    return await result


class OtherLoop:
    """An asyncio loop in a thread of its own, for callers that live elsewhere."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="other-loop")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def run(self, coroutine: Any) -> Any:
        """Run a coroutine there, and wait for it here."""
        return await asyncio.wrap_future(self.start(coroutine))

    def start(self, coroutine: Any) -> Any:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        """End the loop and its thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(15.0)

    def __enter__(self) -> OtherLoop:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
