"""A gate that a test closes, so that it decides when something goes on."""

from __future__ import annotations

import asyncio
import threading


class Gate:
    """Holds whoever comes until it is opened; open at first. Usable from any thread and asyncio loop.

    `arrived` counts who has come, so that a test waits for the fact instead of sleeping.
    """

    def __init__(self, *, is_open: bool = True) -> None:
        self._condition = threading.Condition()  # Protects the fields below.
        self._is_open = is_open
        self._waiters: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self.arrived = 0
        """How many have come so far, held or not."""

    def __repr__(self) -> str:
        return f"<Gate {'open' if self._is_open else 'closed'}, {self.arrived} arrived>"

    def close(self) -> None:
        """Hold everybody who comes from now on."""
        with self._condition:
            self._is_open = False

    def open(self) -> None:
        """Let everybody go, also those who come later."""
        with self._condition:
            self._is_open = True
            waiters, self._waiters = self._waiters, {}
        for future, loop in waiters.items():
            _release(future, loop)

    def release_one(self) -> None:
        """Let the one go that has been held longest; the gate stays as it is."""
        with self._condition:
            future = next(iter(self._waiters))
            loop = self._waiters.pop(future)
        _release(future, loop)

    async def pass_through(self) -> None:
        """Come to the gate, and wait while it is closed."""
        loop = asyncio.get_running_loop()
        with self._condition:
            self.arrived += 1
            self._condition.notify_all()
            if self._is_open:
                return
            future: asyncio.Future[None] = loop.create_future()
            self._waiters[future] = loop
        try:
            await future
        finally:
            with self._condition:
                self._waiters.pop(future, None)

    def wait_for(self, arrivals: int, timeout_s: float = 10.0) -> None:
        """Block this thread until so many have come in all.

        Raises:
            TimeoutError: They have not within `timeout_s` seconds.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self.arrived >= arrivals, timeout_s):
                raise TimeoutError(f"{self.arrived} of {arrivals} came to the gate within {timeout_s:g} s")

    async def await_for(self, arrivals: int, timeout_s: float = 10.0) -> None:
        """Wait until so many have come in all, without blocking the loop."""
        await asyncio.to_thread(self.wait_for, arrivals, timeout_s)


def _release(future: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
    def release() -> None:
        if not future.done():
            future.set_result(None)

    try:
        loop.call_soon_threadsafe(release)
    except RuntimeError:
        pass  # Its loop was closed: nobody waits any more.
