"""The heartbeat of one loop: a timer on the loop that notes when it ran, and how late."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from .page import Slot

_HELD_LAGS = 4096


class Seat(NamedTuple):
    """The thread that runs a loop."""

    thread_id: int
    native_id: int
    cpu_clock: int | None
    """What `time.clock_gettime` needs to read the thread's CPU time; None where there is none."""
    is_main: bool


class Mark(NamedTuple):
    """What the last heartbeat left; one object, so that the watchdog never reads half of it."""

    due: float
    """When the next one is due, on the monotonic clock."""
    cpu_s: float | None
    """CPU time of the thread; None before the first beat."""


class LateBeat(NamedTuple):
    """A heartbeat that came later than the threshold; instants on the monotonic clock."""

    due: float
    at: float
    cpu_before_s: float | None
    """CPU time of the thread at the beat before it."""
    cpu_s: float
    """CPU time of the thread when it came."""


def take_seat() -> Seat:
    """Describe the calling thread."""
    clock = None
    if hasattr(time, "pthread_getcpuclockid"):
        clock = time.pthread_getcpuclockid(threading.get_ident())
    is_main = threading.current_thread() is threading.main_thread()
    return Seat(threading.get_ident(), threading.get_native_id(), clock, is_main)


def _nobody() -> None:
    """Tell nobody."""


class Pulse(ABC):
    """Notes the heartbeats of one loop.

    `beat` runs on the loop and does as little as it can; the watchdog's thread reads the fields. Each is
    one object that is replaced or appended to, so no lock is needed.
    """

    def __init__(self, interval_s: float, threshold_s: float, slot: Slot) -> None:
        self.notify: Callable[[], None] = _nobody
        """Called on the loop's thread after a late beat."""
        self.interval_s = interval_s
        self.threshold_s = threshold_s
        self.slot = slot
        self.lags: deque[float] = deque(maxlen=_HELD_LAGS)
        """How late each beat was; the watchdog takes them away."""
        self.late: deque[LateBeat] = deque(maxlen=_HELD_LAGS)
        """Those beyond the threshold; appended before `mark` moves on."""
        self.beats = 0
        self.mark = Mark(time.monotonic(), None)
        self.seat: Seat | None = None
        """None until the first beat, unless the loop is watched from its own thread."""
        self.base: CodeType | None = None
        """The code that runs the loop's callbacks."""
        self.paused = True
        """Set when the loop was seen not running: the lag of the next beat says nothing."""
        self.stopped = False
        slot.beats[slot.index] = self.mark.due

    def beat(self) -> None:
        """Take note of one heartbeat; on the loop's thread."""
        now = time.monotonic()
        due, cpu_before_s = self.mark
        lag = now - due
        cpu_s = time.thread_time()
        if self.paused:
            self.paused = False
        else:
            self.lags.append(lag)
            if lag > self.threshold_s:
                self.late.append(LateBeat(due, now, cpu_before_s, cpu_s))
                self.notify()
        seat = self.seat
        if seat is None or seat.thread_id != threading.get_ident():
            self.seat = take_seat()
        self.beats += 1
        self.slot.beats[self.slot.index] = now
        self.mark = Mark(now + self.interval_s, cpu_s)

    def pause(self) -> None:
        """Take note that the loop does not run: nobody is to wait for its next beat."""
        self.paused = True
        self.slot.beats[self.slot.index] = 0.0

    def stop(self) -> None:
        """Beat no more; from any thread."""
        self.stopped = True

    def start(self) -> None:
        """Begin to beat; from any thread."""
        self._start()

    @property
    def has_ended(self) -> bool:
        """Whether the loop is closed or gone."""
        return self._has_ended()

    @property
    def is_running(self) -> bool:
        """Whether the loop runs now; one that does not cannot be stalled."""
        return self._is_running()

    def task_name(self) -> str | None:
        """Return the name of the task that runs now; from any thread."""
        return self._task_name()

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _has_ended(self) -> bool: ...

    @abstractmethod
    def _is_running(self) -> bool: ...

    @abstractmethod
    def _task_name(self) -> str | None: ...


class AsyncioPulse(Pulse):
    """The heartbeat of an asyncio loop, uvloop's included; keeps no closed loop alive."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval_s: float, threshold_s: float, slot: Slot
    ) -> None:
        super().__init__(interval_s, threshold_s, slot)
        self._loop = weakref.ref(loop)
        # An empty context: the timer must not hold on to whatever the first caller had in his.
        self._context = contextvars.Context()
        if running_loop() is loop:
            self.seat = take_seat()

    def _start(self) -> None:
        loop = self._loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._tick, context=self._context)
            except RuntimeError:
                pass  # It is closed, which the watchdog will see.

    def _tick(self) -> None:
        loop = self._loop()
        if self.stopped or loop is None:
            return
        self.base = sys._getframe(1).f_code
        self.beat()
        loop.call_later(self.interval_s, self._tick, context=self._context)

    def _has_ended(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed()

    def _is_running(self) -> bool:
        loop = self._loop()
        return loop is not None and loop.is_running()

    def _task_name(self) -> str | None:
        loop = self._loop()
        task = asyncio.current_task(loop) if loop is not None else None
        return task.get_name() if task is not None else None


class TrioPulse(Pulse):
    """The heartbeat of a trio run: a system task."""

    def __init__(self, token: Any, interval_s: float, threshold_s: float, slot: Slot) -> None:
        super().__init__(interval_s, threshold_s, slot)
        self._token = token
        self._ended = False
        self._run_context: dict[str, Any] = {}
        if running_loop() is token:
            self.seat = take_seat()
            self._run_context = _run_context_of_this_thread()

    def _start(self) -> None:
        import trio

        try:
            self._token.run_sync_soon(self._spawn)
        except trio.RunFinishedError:
            self._ended = True

    def _spawn(self) -> None:
        import trio

        # A mocked clock stands still while nobody moves it: its timers say nothing about the loop.
        if type(trio.lowlevel.current_clock()).__name__ != "SystemClock":
            self._ended = True
            return
        try:
            trio.lowlevel.spawn_system_task(
                self._beat_for_ever, name="instrumented-sessions-heartbeat", context=contextvars.Context()
            )
        except RuntimeError:
            self._ended = True  # The run is about to end.

    async def _beat_for_ever(self) -> None:
        import trio

        try:
            self.base = sys._getframe(1).f_code
            self._run_context = _run_context_of_this_thread()
            while not self.stopped:
                self.beat()
                await trio.sleep(self.interval_s)
        finally:
            self._ended = True

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
