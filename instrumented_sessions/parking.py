"""Parking: how a caller waits on its own thread or loop until another thread wakes it.

A parked coroutine holds no thread; it waits on a future of its own loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias

from .chain import Party
from .stacks import caller_location, task_stack, thread_stack, without_own_frames
from .waitgraph import PartyId, Work

try:
    import sniffio
except ImportError:  # trio needs it, so where it is missing nobody runs trio.
    sniffed: Any = SimpleNamespace(name=None)
else:
    sniffed = sniffio.thread_local
"""Its `name` tells whether trio runs on this thread; quicker than asking trio."""


class Actor(Protocol):
    """Something that a piece of work is done for, such as an opening."""

    @property
    def party_id(self) -> PartyId:
        """Its identity in the wait-for graph."""

    @property
    def is_active(self) -> bool:
        """Whether it has not ended yet."""


acting_for: contextvars.ContextVar[Actor | None] = contextvars.ContextVar(
    "instrumented_sessions_acting_for", default=None
)
"""Whom the work of this context is done for; its waits are that one's waits."""


def current_actor() -> Actor | None:
    """Return whom the calling code works for; None when it works for itself."""
    actor = acting_for.get()
    return actor if actor is not None and actor.is_active else None


class Caller:
    """Who asks: a thread or a task.

    Args:
        task: The asyncio or trio task; None for a thread.
        task_name: What the task is called.
        blocks: Whether its waits stop the whole thread, as a `ThreadLock` does.
    """

    __slots__ = ("_task", "party", "party_id")

    def __init__(self, task: Any = None, task_name: str | None = None, *, blocks: bool = False) -> None:
        thread = threading.current_thread()
        self._task = None if blocks else task
        # The objects themselves: an id would be used again after their end.
        worker = thread if blocks or task is None else task
        actor = current_actor()
        self.party_id: PartyId = Work(worker, actor.party_id) if actor is not None else worker
        """Its identity in the wait-for graph."""
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
        return without_own_frames(task_stack(self._task))


def current_caller(*, blocks: bool = False) -> Caller:
    """Return the calling task, or the calling thread when it runs no task.

    Args:
        blocks: Whether the caller is about to stop its whole thread.
    """
    task = current_task()
    return Caller(task, name_of(task), blocks=blocks) if task is not None else Caller()


def current_task() -> Any:
    """Return the asyncio or trio task that runs on this thread; None when there is none."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return asyncio.current_task(loop)
    if "trio" in sys.modules and in_trio():
        import trio

        return trio.lowlevel.current_task()
    return None


def name_of(task: Any) -> str:
    """Return the name of an asyncio or trio task."""
    name: str = task.get_name() if hasattr(task, "get_name") else task.name
    return name


_LOOK_AGAIN_S = 1.0
"""How long a signal may go unnoticed, in seconds. The interpreter handles signals on the main thread, and a
wait there ends early only for one that is delivered to this thread while it waits: not for one that another
thread has got, nor for one that came just before."""


class ThreadParker:
    """Parks a thread that runs no loop; Ctrl-C reaches it."""

    def __init__(self) -> None:
        self.caller = Caller()
        # No Semaphore, which is Python: Ctrl-C inside it can leave it locked, and who wakes would hang.
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> None:
        """End the wait; from any thread."""
        try:
            self._gate.release()
        except RuntimeError:
            pass  # It was woken already.

    def park(self, timeout_s: float) -> bool:
        """Wait; returns whether it was woken within `timeout_s` seconds."""
        timeout_s = min(timeout_s, threading.TIMEOUT_MAX)
        if threading.current_thread() is not threading.main_thread():
            return self._gate.acquire(timeout=timeout_s)
        deadline = time.monotonic() + timeout_s
        while True:
            remaining_s = deadline - time.monotonic()
            if self._gate.acquire(timeout=max(0.0, min(remaining_s, _LOOK_AGAIN_S))):
                return True
            if remaining_s <= _LOOK_AGAIN_S:
                return False


class AsyncioParker:
    """Parks a task of the running asyncio (or uvloop) loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        self.caller = Caller(task, task.get_name() if task is not None else "callback")
        self.loop = loop
        self._thread_id = threading.get_ident()
        self._woken = False
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the wait; from any thread."""
        if threading.get_ident() == self._thread_id:
            self._wake()
            return
        try:
            self.loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # The caller's loop was closed: nobody waits any more.

    async def apark(self, timeout_s: float) -> bool:
        """Wait; returns whether it was woken within `timeout_s` seconds, or before."""
        if not self._woken:
            # A new one for each wait: who was not woken within its limit may wait once more.
            self._future = self.loop.create_future()
            timer = self.loop.call_later(timeout_s, self._end_wait)
            try:
                await self._future
            finally:
                timer.cancel()
        return self._woken

    def _wake(self) -> None:
        self._woken = True
        self._end_wait()

    def _end_wait(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


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


AsyncParker: TypeAlias = AsyncioParker | TrioParker
"""Where a task waits."""

Parker: TypeAlias = ThreadParker | AsyncParker
"""Where one caller waits for one answer."""


def async_parker() -> AsyncParker:
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
