"""The kinds of event loops that can be watched: asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from types import FrameType
from typing import Any

from .page import Slot
from .pulse import Pulse
from .stacks import runs_callbacks


class AsyncioPulse(Pulse):
    """The heartbeat of an asyncio loop, uvloop's included; keeps no closed loop alive."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval_s: float, threshold_s: float, slot: Slot
    ) -> None:
        super().__init__(interval_s, threshold_s, slot)
        self._loop = weakref.ref(loop)
        # An empty context: what the watchdog's thread has in its own is none of the loop's business.
        self._context = contextvars.Context()
        if running_loop() is loop:
            self.sit_down()

    def _ask(self) -> None:
        loop = self._loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._tick, context=self._context)
            except RuntimeError:
                pass  # It is closed, which the watchdog will see.

    def _tick(self) -> None:
        self.base = sys._getframe(1).f_code
        self.beat()

    def _repeat(self, delay_s: float) -> None:
        loop = self._loop()
        if loop is not None:
            loop.call_later(delay_s, self._tick, context=self._context)

    def _has_ended(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed()

    def _is_running(self) -> bool:
        loop = self._loop()
        return loop is not None and loop.is_running()

    def _task_name(self) -> str | None:
        loop = self._loop()
        task = asyncio.current_task(loop) if loop is not None else None
        get_name = getattr(task, "get_name", None)  # A factory's own kind of task may have none.
        return str(get_name()) if get_name is not None else None


class TrioPulse(Pulse):
    """The heartbeat of a trio run."""

    def __init__(self, token: Any, interval_s: float, threshold_s: float, slot: Slot) -> None:
        super().__init__(interval_s, threshold_s, slot)
        self._token = token
        self._ended = False
        self._run_context: dict[str, Any] = {}
        if running_loop() is token:
            self.sit_down()
            self._run_context = _run_context_of_this_thread()

    def _ask(self) -> None:
        import trio

        try:
            self._token.run_sync_soon(self._tick)  # Run in any case, or refused here.
        except trio.RunFinishedError:
            self._ended = True

    def _tick(self) -> None:
        if self.base is None:
            self._begin()
        if not self._ended:
            self.beat()

    def _begin(self) -> None:
        import trio

        frame: FrameType | None = sys._getframe()
        while frame is not None and not runs_callbacks(frame.f_code.co_name, frame.f_code.co_filename):
            frame = frame.f_back
        self.base = frame.f_code if frame is not None else None
        self._run_context = _run_context_of_this_thread()
        # A mocked clock stands still while nobody moves it: what waits says nothing about the loop.
        self._ended = type(trio.lowlevel.current_clock()).__name__ != "SystemClock"

    def _repeat(self, delay_s: float) -> None:
        import trio

        async def beat_later() -> None:
            try:
                await trio.sleep(delay_s)
            except trio.Cancelled:
                self._ended = True  # Which is how system tasks learn of the end of the run.
                raise
            self.beat()

        try:
            trio.lowlevel.spawn_system_task(
                beat_later, name="instrumented-sessions-heartbeat", context=contextvars.Context()
            )
        except RuntimeError:
            self._ended = True  # The run is about to end.

    def _has_ended(self) -> bool:
        return self._ended

    def _is_running(self) -> bool:
        return not self._ended

    def _task_name(self) -> str | None:
        name = getattr(self._run_context.get("task"), "name", None)
        return name if isinstance(name, str) else None


def _run_context_of_this_thread() -> dict[str, Any]:
    """Return trio's run context of the calling thread, which other threads may read through this dict."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT
    except ImportError:
        return {}  # Another trio keeps it elsewhere: reports then name no task.
    return vars(GLOBAL_RUN_CONTEXT)


def running_loop() -> Any:
    """Return the calling thread's loop: an asyncio loop or a trio token; None when it runs none."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop
    if "trio" in sys.modules:
        import trio

        try:
            return trio.lowlevel.current_trio_token()
        except RuntimeError:
            return None
    return None


def make_pulse(loop: Any, interval_s: float, threshold_s: float, slot: Slot) -> Pulse:
    """Return a pulse for an asyncio loop or a trio token.

    Raises:
        TypeError: It is neither.
    """
    if "trio" in sys.modules:
        import trio

        if isinstance(loop, trio.lowlevel.TrioToken):
            return TrioPulse(loop, interval_s, threshold_s, slot)
    if isinstance(loop, asyncio.AbstractEventLoop):
        return AsyncioPulse(loop, interval_s, threshold_s, slot)
    raise TypeError(f"only asyncio loops (uvloop's included) and trio tokens can be watched; got {loop!r}")
