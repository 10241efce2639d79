"""The recording behind `advise --demo`: a real run with contention, without servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ..advisor import Recording
from ..manager import SessionManager
from ..settings import Settings
from ..telemetry.recorder import Recorder
from ..testing import FakeTransport
from ..testing.transport import FakeClient
from ..vocabulary import LockGranularity

_HANDSHAKES_S = {"slow": 0.08, "quick": 0.005}
_ROUNDS = 8
_CONVERSATIONS = 6


class _TimedTransport(FakeTransport):
    """A fake transport whose handshake takes its time."""

    def __init__(self, id: str, handshake_s: float) -> None:
        super().__init__(id)
        self._handshake_s = handshake_s

    def connect(self) -> AbstractAsyncContextManager[FakeClient]:
        """Return a context manager that yields a `FakeClient` after a while."""
        return self._connect_slowly()

    @asynccontextmanager
    async def _connect_slowly(self) -> AsyncIterator[FakeClient]:
        await asyncio.sleep(self._handshake_s)
        async with super().connect() as client:
            yield client


def record_demo() -> Recording:
    """Record eight starts of six conversations on a slow and a quick transport under one global lock.

    Takes some two seconds.
    """
    recorder = Recorder()
    settings = Settings(granularity=LockGranularity.GLOBAL, permits=2)

    async def run() -> None:
        transports = [_TimedTransport(name, handshake_s) for name, handshake_s in _HANDSHAKES_S.items()]
        async with SessionManager(settings, observers=[recorder]) as manager:
            for number in range(_ROUNDS):
                names = [f"c-{number}-{each}" for each in range(_CONVERSATIONS)]
                await asyncio.gather(
                    *(manager.asession(transport, name) for transport in transports for name in names)
                )

    asyncio.run(run())
    return Recording.of(recorder.events, permits=settings.permits)
