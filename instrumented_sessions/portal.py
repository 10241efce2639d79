"""The portal: an event loop in a thread of its own, on which all sessions live."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Callable

from .errors import PortalClosedError

logger = logging.getLogger(__name__)

_UNWIND_S = 1.0
"""How long cancelled tasks may take when the loop ends, in seconds."""


class Portal:
    """One loop thread; starts on first use, ends with `stop`.

    Args:
        name: The thread's name.
        on_death: Called on the dying thread when the loop ends without `stop`, with the reason.
    """

    def __init__(self, name: str, on_death: Callable[[BaseException | None], None]) -> None:
        self._name = name
        self._on_death = on_death
        self._lock = threading.Lock()  # Protects the two below.
        self._on_end: list[Callable[[], None]] = []
        self._ended = False
        self._stopping = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None
        _portals.add(self)

    def start(self) -> None:
        """Start the thread; what is posted meanwhile runs as soon as its loop does.

        Raises:
            PortalClosedError: The system gives no thread.
        """
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, args=(self.loop,), name=self._name, daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            self.loop.close()
            raise PortalClosedError(f"the portal's thread cannot be started: {error}") from error

    @property
    def thread_id(self) -> int:
        """The portal thread's `threading.get_ident()`; 0 before it starts."""
        return self.thread.ident or 0 if self.thread is not None else 0

    def is_current(self) -> bool:
        """Return whether the calling thread is the portal's."""
        return threading.get_ident() == self.thread_id

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Run `function(*args)` soon on the portal, in the caller's context; from any thread.

        Raises:
            PortalClosedError: The loop has ended.
        """
        loop = self.loop
        try:
            if loop is None:
                raise RuntimeError("not started")
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError as error:
            raise PortalClosedError(f"the portal's loop does not run: {error}") from error

    def is_alive(self) -> bool:
        """Return whether the loop runs, or is about to."""
        return not self._stopping and self.thread is not None and self.thread.is_alive()

    def when_ended(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` when the thread has nothing left to do: on that thread, or now."""
        with self._lock:
            if not self._ended:
                self._on_end.append(on_end)
                return
        on_end()

    def stop(self) -> None:
        """Let the loop and the thread end; returns at once."""
        self._stopping = True
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            logger.debug("%s has ended by itself", self._name)

    def forsake(self) -> None:
        """Let go of the parent's loop in a forked child, without harm to what is on it.

        The child shares the parent's sockets, pipes and selector. Here they become descriptors of
        nothing, so that closing them in the parent is heard at their other ends, and closing them here
        is not. Sessions' tasks are kept for ever: thrown away, they would run their `finally` blocks,
        which end the parent's servers.
        """
        if self.loop is None or self.loop.is_closed():
            return
        selector = getattr(self.loop, "_selector", None)
        if selector is not None:  # uvloop has none, and sees to its own.
            _detach([key.fd for key in selector.get_map().values()], selector)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # As asyncio.gather does.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
        _forsaken.append(self.loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        reason: BaseException | None = None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        except BaseException as error:
            # asyncio lets SystemExit and KeyboardInterrupt of a task end the loop.
            reason = error
        finally:
            if not self._stopping:
                logger.error("the portal's loop ended unexpectedly: %r", reason)
                self._on_death(reason)
            self._stopping = True
            _finish(loop)
            with self._lock:
                self._ended = True
            for on_end in self._on_end:
                on_end()


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, let it unwind for a moment, and close the loop quietly."""
    deadline = time.monotonic() + _UNWIND_S
    try:
        while (left := asyncio.all_tasks(loop)) and time.monotonic() < deadline:
            # Again: what was posted last begins only while the others unwind.
            for task in left:
                task.cancel()
            remaining_s = max(0.0, deadline - time.monotonic())
            loop.run_until_complete(asyncio.wait(left, timeout=remaining_s))
        for task in left:
            # It swallows its cancellation, and was reported by who left it behind.
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # As asyncio.gather does.
        if not left:
            loop.run_until_complete(loop.shutdown_asyncgens())
    except BaseException:
        logger.debug("the portal's loop did not unwind cleanly", exc_info=True)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
_forsaken: list[asyncio.AbstractEventLoop] = []
"""In a forked child: the parent's loops, which nobody may close."""


def _detach(descriptors: list[int], selector: object) -> None:
    """Put nothing in the place of descriptors that are shared with the parent; their numbers stay taken."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    if hasattr(select, "epoll"):
        # What is taken out of the parent's epoll would be out of it in the parent, too.
        with select.epoll() as empty:
            os.dup2(empty.fileno(), selector.fileno(), inheritable=False)  # type: ignore[attr-defined]


def _after_fork_in_child() -> None:
    for portal in list(_portals):
        portal.forsake()
    _portals.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
