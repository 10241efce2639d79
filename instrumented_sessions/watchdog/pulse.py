"""The heartbeat of one loop: a timer on the loop that notes when it ran, and how late."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import NamedTuple

from .page import Slot

_HELD_LAGS = 4096
_EARLY = 0.1
"""How early a beat may be, as a part of the interval."""


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

    def beat(self) -> float:
        """Take note of one heartbeat; on the loop's thread.

        Returns:
            In how many seconds the next one is due. All loops beat at the same multiples of the interval,
            so that the watchdog wakes once for all of them.
        """
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
        # One that is a little early, as timers are rounded, belongs to the multiple that comes.
        due = (now / self.interval_s + _EARLY) // 1 * self.interval_s + self.interval_s
        self.mark = Mark(due, cpu_s)
        return due - now

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
