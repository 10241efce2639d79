"""The portal: an event loop in a thread of its own, on which all sessions live."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from .errors import PortalClosedError

logger = logging.getLogger(__name__)


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
        try:
            assert self.loop is not None
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            logger.debug("%s has ended by itself", self._name)

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
            _finish(loop)
            with self._lock:
                self._ended = True
            for on_end in self._on_end:
                on_end()


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, let it unwind for a moment, and close the loop quietly."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            _, left = loop.run_until_complete(asyncio.wait(left, timeout=1.0))
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
