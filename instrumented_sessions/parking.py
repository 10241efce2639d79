"""Parking: how a caller waits on its own thread or loop until another thread wakes it.

A parked coroutine holds no thread; it waits on a future of its own loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .chain import Party
from .stacks import caller_location, task_stack, thread_stack, without_own_frames


class Parker(Protocol):
    """Where one caller waits, once."""

    caller: Caller

    def wake(self) -> None:
        """End the wait; from any thread, any number of times."""
        ...


class Caller:
    """Who asks: a thread or a task, remembered without keeping it alive."""

    __slots__ = ("_task", "party")

    def __init__(self, task: Any = None, task_name: str | None = None) -> None:
        thread = threading.current_thread()
        self._task: weakref.ref[Any] | None = weakref.ref(task) if task is not None else None
        self.party = Party(
            name=task_name or thread.name,
            thread_id=thread.ident or 0,
            thread_name=thread.name,
            task_name=task_name,
            location=caller_location(),
        )

    def stack(self) -> tuple[str, ...]:
        """Return where the caller is now, outermost call first; from any thread."""
        if self._task is None:
            return without_own_frames(thread_stack(self.party.thread_id))
        task = self._task()
        return without_own_frames(task_stack(task)) if isinstance(task, asyncio.Task) else ()

    @property
    def party_id(self) -> tuple[str, int]:
        """Its identity in the wait-for graph."""
        if self._task is None:
            return ("thread", self.party.thread_id)
        return ("task", id(self._task()))


class ThreadParker:
    """Parks a thread that runs no loop; Ctrl-C reaches it."""

    def __init__(self) -> None:
        self.caller = Caller()
        self._gate = threading.Semaphore(0)

    def wake(self) -> None:
        """End the wait; from any thread."""
        self._gate.release()

    def park(self, timeout_s: float) -> bool:
        """Wait; returns whether it was woken within `timeout_s` seconds."""
        return self._gate.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))


class AsyncioParker:
    """Parks a task of the running asyncio (or uvloop) loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        self.caller = Caller(task, task.get_name() if task is not None else "callback")
        self.loop = loop
        self._thread_id = threading.get_ident()
        self._future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> None:
        """End the wait; from any thread."""
        if threading.get_ident() == self._thread_id:
            self._set(True)
            return
        try:
            self.loop.call_soon_threadsafe(self._set, True)
        except RuntimeError:
            pass  # The caller's loop was closed: nobody waits any more.

    async def apark(self, timeout_s: float) -> bool:
        """Wait; returns whether it was woken within `timeout_s` seconds."""
        if self._future.done():
            return self._future.result()
        timer = self.loop.call_later(timeout_s, self._set, False)
        try:
            return await self._future
        finally:
            timer.cancel()

    def _set(self, woken: bool) -> None:
        if not self._future.done():
            self._future.set_result(woken)


class TrioParker:
    """Parks a task of the running trio loop."""

    def __init__(self) -> None:
        import trio

        task = trio.lowlevel.current_task()
        self.caller = Caller(task, task.name)
        self.token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def wake(self) -> None:
        """End the wait; from any thread."""
        try:
            self.token.run_sync_soon(self._event.set)
        except Exception as error:
            if type(error).__name__ != "RunFinishedError":
                raise
            # The caller's loop has ended: nobody waits any more.

    async def apark(self, timeout_s: float) -> bool:
        """Wait; returns whether it was woken within `timeout_s` seconds."""
        import trio

        with trio.move_on_after(timeout_s):
            await self._event.wait()
        return self._event.is_set()


def async_parker() -> AsyncioParker | TrioParker:
    """Return a parker for the calling task.

    Raises:
        RuntimeError: No asyncio or trio loop runs on this thread.
    """
    loop = asyncio._get_running_loop()
    if loop is not None:
        return AsyncioParker(loop)
    if in_trio():
        return TrioParker()
    raise RuntimeError("no running asyncio or trio event loop on this thread; use the blocking door instead")


def in_trio() -> bool:
    """Return whether the calling thread is inside a trio run."""
    trio = sys.modules.get("trio")
    in_run: Callable[[], bool] | None = getattr(getattr(trio, "lowlevel", None), "in_trio_run", None)
    return in_run is not None and in_run()


def runs_a_loop() -> bool:
    """Return whether the calling thread is running an event loop, which a blocking call would stop."""
    return asyncio._get_running_loop() is not None or in_trio()
