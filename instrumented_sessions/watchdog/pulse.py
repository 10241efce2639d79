"""The heartbeats of one loop: callbacks that the watchdog asks for, which note when they ran and how late."""

from __future__ import annotations

import math
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
    """The heartbeat that is waited for; one object, so that nobody reads half of it."""

    due: float
    """Since when, on the monotonic clock; infinite while none has been asked for."""
    cpu_s: float | None
    """CPU time of the thread then, or up to an interval earlier; None if not known."""


AT_REST = Mark(math.inf, None)
"""None has been asked for."""


class LateBeat(NamedTuple):
    """A heartbeat that came later than the threshold; instants on the monotonic clock."""

    due: float
    at: float
    cpu_before_s: float | None
    """CPU time of the thread when it was due, see `Mark`."""
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


def _for_nobody(now: float) -> None:
    """Make way for nobody."""


class Pulse(ABC):
    """Takes note of the heartbeats of one loop.

    The watchdog's thread asks for one at a time, and `beat` runs on the loop and does as little as it can.
    While the loop is busy, the next one follows by itself.
    Each field is one object that is replaced or appended to, and `mark` is written by whoever's turn it is:
    by the watchdog while nothing is asked for, by the loop while something is. So no lock is needed.
    """

    def __init__(self, interval_s: float, threshold_s: float, slot: Slot) -> None:
        self.notify: Callable[[], None] = _nobody
        """Called on the loop's thread after a late beat."""
        self.make_way: Callable[[float], None] = _for_nobody
        """Called on the thread of a busy loop with the time of each beat."""
        self.interval_s = interval_s
        self.threshold_s = threshold_s
        self.slot = slot
        self.lags: deque[float] = deque(maxlen=_HELD_LAGS)
        """How late each beat was; the watchdog takes them away."""
        self.late: deque[LateBeat] = deque(maxlen=_HELD_LAGS)
        """Those beyond the threshold; appended before `mark` moves on."""
        self.beats = 0
        self.mark = Mark(time.monotonic(), None)
        """The first one is asked for by `start`."""
        self.seat: Seat | None = None
        """None until the first beat, unless the loop is watched from its own thread."""
        self.base: CodeType | None = None
        """The code that runs the loop's callbacks."""
        self.paused = True
        """Set when the loop was seen not running: the lag of the next beat says nothing."""
        self.repeats = True
        """Whether the next heartbeat follows by itself: while the loop is busy, as the watchdog sees it."""
        self.stopped = False
        slot.beats[slot.index] = self.mark.due

    def sit_down(self) -> None:
        """Take note, before the start, that the calling thread runs the loop."""
        self.seat = take_seat()
        self.mark = self.mark._replace(cpu_s=time.thread_time())

    def ask(self, mark: Mark) -> None:
        """Ask for a heartbeat, when none is asked for yet and the loop runs; on the watchdog's thread."""
        self.paused = False
        self.mark = mark
        self._ask()

    def rest(self, now: float) -> None:
        """Take note that the loop waits for its next event, which is a heartbeat that is not late.

        On the watchdog's thread, while none is asked for.
        """
        self.lags.append(0.0)
        self.beats += 1
        self.slot.beats[self.slot.index] = now

    def beat(self) -> None:
        """Take note of one heartbeat, and see to the next one if it repeats; on the loop's thread."""
        if self.stopped:
            return
        now = time.monotonic()
        due, cpu_before_s = self.mark
        if self.paused:
            self.paused = False
        else:
            lag = now - due
            self.lags.append(lag)
            if lag > self.threshold_s:
                self.late.append(LateBeat(due, now, cpu_before_s, time.thread_time()))
                self.notify()
        seat = self.seat
        if seat is None or seat.thread_id != threading.get_ident():
            self.seat = take_seat()
        self.beats += 1
        self.slot.beats[self.slot.index] = now
        if self.repeats:
            # One that is a little early, as timers are rounded, belongs to the multiple that comes.
            due = (now / self.interval_s + _EARLY) // 1 * self.interval_s + self.interval_s
            self.mark = Mark(due, time.thread_time())
            self._repeat(due - now)
            self.make_way(now)
        else:
            self.mark = AT_REST

    @property
    def last_at(self) -> float:
        """When the last one came, on the monotonic clock; 0 while there is none to wait for."""
        return self.slot.beats[self.slot.index]

    def pause(self) -> None:
        """Take note that the loop does not run: nobody is to wait for its next beat."""
        self.paused = True
        self.slot.beats[self.slot.index] = 0.0

    def stop(self) -> None:
        """Beat no more; from any thread."""
        self.stopped = True

    def start(self) -> None:
        """Ask for the first heartbeat; from any thread."""
        self._ask()

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
    def _ask(self) -> None:
        """Let `beat` run on the loop soon; an ended loop ignores it."""

    @abstractmethod
    def _repeat(self, delay_s: float) -> None:
        """Let `beat` run again in `delay_s` seconds; on the loop's thread."""

    @abstractmethod
    def _has_ended(self) -> bool: ...

    @abstractmethod
    def _is_running(self) -> bool: ...

    @abstractmethod
    def _task_name(self) -> str | None: ...
