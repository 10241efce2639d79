"""The event loop that runs async client callbacks, in a thread of its own, while anybody needs it."""

from __future__ import annotations

import asyncio
import os
import threading


class _LoopThread:
    def __init__(self) -> None:
        self.users = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="instrumented-sessions-callbacks", daemon=True)
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


_lock = threading.Lock()  # Protects the one below and its `users`.
_shared: _LoopThread | None = None


class CallbackLoop:
    """A share of the process-wide callback loop, which starts at first use and stops with its last user."""

    def __init__(self) -> None:
        self._thread: _LoopThread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs until `close()`."""
        global _shared
        with _lock:
            if self._thread is None:
                if _shared is None:
                    _shared = _LoopThread()
                self._thread = _shared
                self._thread.users += 1
            return self._thread.loop

    def close(self) -> None:
        """Give up this share; never waits, a callback that blocks goes on in its daemon thread."""
        global _shared
        with _lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            thread.users -= 1
            if thread.users == 0:
                if _shared is thread:
                    _shared = None
                thread.stop()


def _forget() -> None:
    """Start anew in a forked child, where the thread does not exist."""
    global _lock, _shared
    _lock = threading.Lock()
    _shared = None


os.register_at_fork(after_in_child=_forget)
