"""Event loops that run the program's coroutines, each in a thread of its own, while anybody needs them."""

from __future__ import annotations

import asyncio
import os
import threading


class _LoopThread:
    def __init__(self, name: str) -> None:
        self.users = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)


_lock = threading.Lock()  # Protects the one below and their `users`.
_shared: dict[int, _LoopThread] = {}  # By the id of what they are for, which each share keeps alive.


class CallbackLoop:
    """A share of a loop of the process, which starts at first use and stops with its last user.

    Args:
        purpose: What the loop is for; shares with the identical purpose have the same loop. Default: the
            client callbacks of all sessions.
        name: The name of its thread.
    """

    def __init__(self, purpose: object = None, name: str = "instrumented-sessions-callbacks") -> None:
        self._purpose = purpose
        self._name = name
        self._thread: _LoopThread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs until `close()`."""
        with _lock:
            if self._thread is None:
                if id(self._purpose) not in _shared:
                    _shared[id(self._purpose)] = _LoopThread(self._name)
                self._thread = _shared[id(self._purpose)]
                self._thread.users += 1
            return self._thread.loop

    def close(self) -> None:
        """Give up this share; never waits, a callback that blocks goes on in its daemon thread."""
        with _lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            thread.users -= 1
            if thread.users == 0:
                if _shared.get(id(self._purpose)) is thread:
                    del _shared[id(self._purpose)]
                thread.stop()


def _forget() -> None:
    """Start anew in a forked child, where the threads do not exist."""
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget)
