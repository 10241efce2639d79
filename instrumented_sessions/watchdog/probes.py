"""What the system tells of threads; each reading takes microseconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Container, Mapping
from typing import NamedTuple

from .cgroup import Throttling
from .files import SystemFile
from .pulse import Seat

try:
    import resource

    _OWN_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux has it.
except ImportError:
    _OWN_THREAD = None

_LIVELY = 1.5
"""How much more often than every switch interval a thread wakes at least while others let go of the GIL."""

SLOW_READING_S = 2.0
"""How old a reading of what takes files may become, in seconds; it is a base for later ones."""


class ThreadProbe:
    """Reads one thread's time on a CPU, its time in the run queue and its state."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._schedstat = SystemFile(f"/proc/self/task/{seat.native_id}/schedstat")
        self._stat = SystemFile(f"/proc/self/task/{seat.native_id}/stat")

    def cpu_s(self) -> float | None:
        """Return the CPU time of the thread in seconds, without letting go of the GIL."""
        if self.seat.cpu_clock is None:
            return None
        try:
            return time.clock_gettime(self.seat.cpu_clock)
        except OSError:
            return None  # The thread has ended.

    def run_delay_s(self) -> float | None:
        """Return how long the thread was runnable but not scheduled, in seconds; booked when it ends."""
        fields = self._schedstat.read().split()
        return int(fields[1]) / 1e9 if fields else None

    def state(self) -> str:
        """Return the thread's state: `R` (running or runnable), `S` or `D` (asleep), …; '' if unknown."""
        fields = self._stat.read().rpartition(b")")[2].split()  # The name in parentheses may hold anything.
        return fields[0].decode() if fields else ""

    def close(self) -> None:
        """Give the descriptors back."""
        self._schedstat.close()
        self._stat.close()


class Load:
    """Whether a thread uses little of a core; told its CPU time by its caller."""

    def __init__(self) -> None:
        self.is_low = False
        """Whether it used less than half of the time between the last two readings; False if not known."""
        self._at = float("-inf")
        self._cpu_s: float | None = None

    def update(self, now: float, cpu_s: float | None, period_s: float) -> None:
        """Take a reading, but none within `period_s` seconds of the last one."""
        if now - self._at < period_s:
            return
        if cpu_s is None or self._cpu_s is None:
            self.is_low = False
        else:
            self.is_low = cpu_s - self._cpu_s <= (now - self._at) / 2
        self._at, self._cpu_s = now, cpu_s


class OwnReading(NamedTuple):
    """The watchdog's own thread and the process, at one instant."""

    switches: int | None
    """How often the thread went to sleep by itself; while it waits for the GIL, every switch interval."""
    process_cpu_s: float
    slow: SlowReading


class SlowReading(NamedTuple):
    """What takes files to read."""

    at: float
    run_delay_s: float | None
    throttled_s: Mapping[str, float]
    """By control group, since the group was made."""
    threads_cpu_s: Mapping[int, float]
    """CPU time of every Python thread, by thread id."""


class OwnProbe:
    """Reads the watchdog's own thread, the process and its threads; used on the watchdog's thread only."""

    def __init__(self) -> None:
        seat = Seat(threading.get_ident(), threading.get_native_id(), None, False)
        self._probe = ThreadProbe(seat)
        self._throttling = Throttling()
        self._slow = self._read_slowly()

    def read(self, fresh: bool = False) -> OwnReading:
        """Return a reading; what takes files is read again if `fresh`, else every two seconds."""
        if fresh or time.monotonic() - self._slow.at > SLOW_READING_S:
            self._slow = self._read_slowly()
        return OwnReading(self.switches(), time.process_time(), self._slow)

    def switches(self) -> int | None:
        """Return how often this thread went to sleep, without letting go of the GIL; None if not known."""
        return None if _OWN_THREAD is None else resource.getrusage(_OWN_THREAD).ru_nvcsw

    def close(self) -> None:
        """Give the descriptors back."""
        self._probe.close()
        self._throttling.close()

    def _read_slowly(self) -> SlowReading:
        return SlowReading(
            time.monotonic(), self._probe.run_delay_s(), self._throttling.read(), threads_cpu_s()
        )


def gil_wait_s(before: OwnReading, after: OwnReading) -> float | None:
    """Return how long the watchdog waited for the GIL between two readings, in seconds; an estimate.

    A thread that waits for the GIL wakes every switch interval; one that sleeps or is stopped does not.
    """
    if before.switches is None or after.switches is None:
        return None
    return max(after.switches - before.switches - 2, 0) * sys.getswitchinterval()


def gil_changed_hands(before: int | None, after: int | None, waited_s: float) -> bool:
    """Return whether other threads kept letting go of the GIL while the watchdog waited for it.

    A thread that waits for the GIL wakes whenever another lets go of it, else every switch interval. While
    one thread keeps it, or the process does not run, there is only the latter, or nothing.

    Args:
        before: How often the watchdog's thread had gone to sleep before; None if not known.
        after: The same afterwards.
        waited_s: For how long it waited, in seconds.
    """
    if before is None or after is None:
        return False
    return after - before > _LIVELY * waited_s / sys.getswitchinterval()


def cpu_clock_of(native_id: int) -> int:
    """Return the CPU clock of a thread on Linux.

    It is what the C library makes of a thread too; made from the kernel's id, it is safe to use when the
    thread has ended.
    """
    return (~native_id << 3) | 6


def native_ids() -> dict[int, int]:
    """Return the kernel's id of every Python thread, by thread id; empty where it is not Linux."""
    if not sys.platform.startswith("linux"):
        return {}
    return {
        thread.ident: thread.native_id
        for thread in threading.enumerate()
        if thread.ident is not None and thread.native_id is not None
    }


def threads_cpu_s() -> dict[int, float]:
    """Return the CPU time of every Python thread in seconds, by thread id; empty where it is not Linux."""
    found: dict[int, float] = {}
    for ident, native_id in native_ids().items():
        try:
            found[ident] = time.clock_gettime(cpu_clock_of(native_id))
        except OSError:
            continue  # It has ended.
    return found


def busiest_between(
    before: Mapping[int, float], after: Mapping[int, float], but: Container[int]
) -> tuple[int, float]:
    """Return the thread, other than `but`, that used most CPU time between two readings, and how much.

    (0, 0.0) if none did. Threads that began meanwhile count from their start.
    """
    used = {ident: cpu_s - before.get(ident, 0.0) for ident, cpu_s in after.items() if ident not in but}
    return max(used.items(), key=lambda item: item[1], default=(0, 0.0))
