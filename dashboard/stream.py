"""The live stream: one snapshot for all who listen, made when something arrived and at least every second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .live import Live

INTERVAL_S = 1.0
"""How often a snapshot is sent when nothing arrives, in seconds; silence beyond a few means a lost line."""
_SHORTEST_S = 0.2
_RETRY_MS = 1_000


class Hub:
    """Makes snapshots while anybody listens; used on the dashboard's loop only.

    A slow listener gets the newest snapshot when it is ready for one, so nothing piles up.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._arrived = asyncio.Event()
        self._made = asyncio.Condition()
        self._closed = False
        self._listeners = 0
        self._number = 0
        self._frame = b""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Hub {'closed' if self._closed else 'open'} {self._listeners} listeners>"

    def wake(self) -> None:
        """Say that something arrived."""
        self._arrived.set()

    async def close(self) -> None:
        """End all streams; idempotent."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        async with self._made:
            self._made.notify_all()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the listener leaves or the hub closes."""
        self._listeners += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="instrumented-sessions-dashboard-stream")
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode() + self._snapshot()
            seen = self._number
            while not self._closed:
                async with self._made:
                    while self._number == seen and not self._closed:
                        await self._made.wait()
                    seen, frame = self._number, self._frame
                if not self._closed:
                    yield frame
        finally:
            self._listeners -= 1

    async def _run(self) -> None:
        while self._listeners and not self._closed:
            try:
                await asyncio.wait_for(self._arrived.wait(), INTERVAL_S)
            except asyncio.TimeoutError:
                pass
            self._arrived.clear()
            frame = self._snapshot()
            async with self._made:
                self._number += 1
                self._frame = frame
                self._made.notify_all()
            await asyncio.sleep(_SHORTEST_S)

    def _snapshot(self) -> bytes:
        return b"event: now\ndata: " + self._live.now().model_dump_json().encode() + b"\n\n"
