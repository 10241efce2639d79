"""Where the program's own functions run when a session calls back: never on the portal's loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .parking import AsyncioParker, AsyncParker

logger = logging.getLogger(__name__)

Tell = Callable[[float, "float | None", "str | None"], Awaitable[None]]
"""What the SDK awaits to tell progress."""


class CallbackThread:
    """A daemon thread that runs callbacks one after the other, started on first use."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()  # Protects the start.
        self._queue: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[[], Any]) -> None:
        """Run `function` soon; what it raises is logged. An awaitable that it returns is awaited."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._queue.put(function)

    def close(self) -> None:
        """End the thread when what is queued has run; does not wait."""
        self._queue.put(None)

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            try:
                result = function()
                if inspect.isawaitable(result):
                    asyncio.run(_finish(result))
            except BaseException:  # SystemExit too: the next callbacks are others'.
                logger.exception("a callback raised")


def progress_for_thread(progress: Callable[..., Any], thread: CallbackThread) -> Tell:
    """Return what tells `progress` in the callback thread, in the caller's context."""
    context = contextvars.copy_context()

    async def tell(done: float, total: float | None, message: str | None) -> None:
        # A context can be entered once at a time, and a copy costs little.
        thread.submit(lambda: context.copy().run(progress, done, total, message))

    return tell


def progress_for_loop(progress: Callable[..., Any], parker: AsyncParker) -> Tell:
    """Return what tells `progress` on the caller's own loop, in the caller's context."""
    context = contextvars.copy_context()
    tasks: set[Any] = set()

    def on_asyncio(*args: Any) -> None:
        try:
            result = progress(*args)
            if inspect.isawaitable(result):
                task = asyncio.ensure_future(_logged(result))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except Exception:
            logger.exception("a progress function raised")

    def on_trio(*args: Any) -> None:
        import trio

        try:
            result = progress(*args)
            if inspect.isawaitable(result):
                trio.lowlevel.spawn_system_task(_logged, result)
        except Exception:
            logger.exception("a progress function raised")

    async def tell(done: float, total: float | None, message: str | None) -> None:
        copy = context.copy()
        if isinstance(parker, AsyncioParker):
            try:
                parker.loop.call_soon_threadsafe(on_asyncio, done, total, message, context=copy)
            except RuntimeError:
                logger.debug("progress is not told: the caller's loop was closed")
        else:
            parker.token.run_sync_soon(copy.run, on_trio, done, total, message)

    return tell


async def _finish(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _logged(awaitable: Awaitable[Any]) -> None:
    try:
        await awaitable
    except Exception:
        logger.exception("a progress function raised")
