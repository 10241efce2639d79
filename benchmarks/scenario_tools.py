"""What the scenario benchmarks share: silent servers, percentiles, and what a process holds."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.testing.transport import FakeClient


@dataclass(frozen=True)
class Figure:
    """One measured line of the report."""

    scenario: str
    what: str
    value: str
    target: str = ""
    met: bool | None = None
    """Whether the target is met; None when there is none."""


@contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, name="silent-server", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5.0)
            for connection in held:
                connection.close()


class SlowTransport(FakeTransport):
    """Takes a while to open, as servers do; everything else is as quick as it can be."""

    def __init__(self, id: str, handshake_s: float) -> None:
        super().__init__(id)
        self._handshake_s = handshake_s

    def connect(self) -> AbstractAsyncContextManager[FakeClient]:
        """Return a context manager that sleeps, then yields a client."""
        return self._slowly()

    @asynccontextmanager
    async def _slowly(self) -> AsyncIterator[FakeClient]:
        await asyncio.sleep(self._handshake_s)
        async with super().connect() as client:
            yield client


def tool_server() -> Any:
    """Return an in-process server object of the installed SDK with the tools `echo` and `sleep`."""
    try:
        from mcp.server.mcpserver import MCPServer as Server
    except ImportError:
        from mcp.server.fastmcp import FastMCP as Server  # type: ignore[no-redef,import-not-found]
    server = Server("bench", log_level="ERROR")

    @server.tool()
    async def echo(text: str = "") -> str:
        return text

    @server.tool()
    async def sleep(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    return server


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile of measured values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def holdings() -> dict[str, int]:
    """Return what the process holds now: threads, descriptors and resident memory in KiB."""
    gc.collect()
    found = {"threads": threading.active_count()}
    if os.path.isdir("/proc/self/fd"):
        found["descriptors"] = len(os.listdir("/proc/self/fd"))
        with open("/proc/self/statm", encoding="ascii") as file:
            found["memory_kib"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return found
