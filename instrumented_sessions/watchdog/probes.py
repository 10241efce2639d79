"""What the system tells of threads, the collector and quotas; each reading takes microseconds."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from .pulse import Seat

try:
    import resource

    _OWN_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux has it.
except ImportError:
    _OWN_THREAD = None

_SHORTEST_COLLECTION_S = 0.001
_CGROUP_ROOT = "/sys/fs/cgroup"


class ThreadProbe:
    """Reads one thread's time on a CPU, its time in the run queue and its state."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._schedstat = _open(f"/proc/self/task/{seat.native_id}/schedstat")
        self._stat = _open(f"/proc/self/task/{seat.native_id}/stat")

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
        fields = _read(self._schedstat)
        return int(fields[1]) / 1e9 if fields else None

    def state(self) -> str:
        """Return the thread's state: `R` (running or runnable), `S` or `D` (asleep), …; '' if unknown."""
        fields = _read(self._stat)
        return fields[0].decode() if fields else ""

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in (self._schedstat, self._stat):
            if descriptor is not None:
                os.close(descriptor)
        self._schedstat = self._stat = None


class OwnReading(NamedTuple):
    """The watchdog's own thread and the process, at one instant."""

    at: float
    run_delay_s: float | None
    switches: int | None
    """How often the thread went to sleep by itself; while it waits for the GIL, every switch interval."""
    process_cpu_s: float
    throttled_s: Mapping[str, float]
    """By cgroup, since the cgroup was made."""


class OwnProbe:
    """Reads the calling thread and the process; used on the watchdog's thread only."""

    def __init__(self) -> None:
        seat = Seat(threading.get_ident(), threading.get_native_id(), None, False)
        self._probe = ThreadProbe(seat)
        self._throttled: Mapping[str, float] = {}
        self._throttled_at = -1.0

    def read(self, fresh: bool = False) -> OwnReading:
        """Return a reading; the quota is read again if `fresh`, else at most once a second."""
        now = time.monotonic()
        if fresh or now - self._throttled_at > 1.0:
            self._throttled = throttled_s()
            self._throttled_at = now
        switches = None if _OWN_THREAD is None else resource.getrusage(_OWN_THREAD).ru_nvcsw
        return OwnReading(now, self._probe.run_delay_s(), switches, time.process_time(), self._throttled)

    def close(self) -> None:
        """Give the descriptors back."""
        self._probe.close()


def gil_wait_s(before: OwnReading, after: OwnReading) -> float | None:
    """Return how long the watchdog waited for the GIL between two readings, in seconds; an estimate.

    A thread that waits for the GIL wakes every switch interval; one that sleeps or is stopped does not.
    """
    if before.switches is None or after.switches is None:
        return None
    return max(after.switches - before.switches - 2, 0) * sys.getswitchinterval()


def throttled_between_s(before: OwnReading, after: OwnReading) -> float | None:
    """Return how long a cgroup of the process was throttled between two readings, in seconds.

    None where no cgroup was seen both times, such as after a move to another one.
    """
    both = before.throttled_s.keys() & after.throttled_s.keys()
    return max((after.throttled_s[path] - before.throttled_s[path] for path in both), default=None)


class CollectorProbe:
    """Notes when the garbage collector ran, in any thread, from `start` to `stop`."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._pauses: deque[tuple[float, float]] = deque(maxlen=64)

    def start(self) -> None:
        """Take notes from now on."""
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Take no more notes."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def between_s(self, start: float, end: float) -> float:
        """Return how long the collector ran between two instants of the monotonic clock, in seconds."""
        pauses = list(self._pauses)
        if (since := self._since) is not None:
            pauses.append((since, end))
        return sum(max(min(end, last) - max(start, first), 0.0) for first, last in pauses)

    def _on_collection(self, phase: str, info: Mapping[str, Any]) -> None:
        # Called with the GIL held, in whichever thread collects; collections do not nest.
        now = time.monotonic()
        if phase == "start":
            self._since = now
        elif (since := self._since) is not None:
            self._since = None
            if now - since > _SHORTEST_COLLECTION_S:
                self._pauses.append((since, now))


def throttled_s(root: str = "", pid: str = "self") -> dict[str, float]:
    """Return for how long each cgroup of the process was ever throttled, in seconds; empty if unknown.

    Covers the process's own cgroup and those around it, version 1 and 2. It is read anew each time,
    because a process may be moved.

    Args:
        root: A directory to read instead of `/`, for tests.
        pid: Whose; default this process.
    """
    found: dict[str, float] = {}
    try:
        with open(f"{root}/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = (f"{_CGROUP_ROOT}/{controllers}", f"{_CGROUP_ROOT}/cpu") if controllers else (_CGROUP_ROOT,)
        for mount in mounts:
            if os.path.isdir(root + mount):
                found.update(_throttled_along(root + mount, path))
                break
    return found


def _throttled_along(mount: str, path: str) -> dict[str, float]:
    """Return the figures of a cgroup and of those around it; in a container only the mount may be there."""
    found: dict[str, float] = {}
    steps = path.strip("/")
    while True:
        directory = f"{mount}/{steps}".rstrip("/")
        try:
            with open(f"{directory}/cpu.stat") as file:
                figures = dict(line.split() for line in file.read().splitlines())
        except (OSError, ValueError):
            figures = {}
        if "throttled_usec" in figures:
            found[directory] = int(figures["throttled_usec"]) / 1e6
        elif "throttled_time" in figures:
            found[directory] = int(figures["throttled_time"]) / 1e9
        if not steps:
            return found
        steps = steps.rpartition("/")[0]


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(descriptor: int | None) -> list[bytes]:
    if descriptor is None:
        return []
    try:
        # In `stat`, the thread's name in parentheses may hold anything.
        return os.pread(descriptor, 512, 0).rpartition(b")")[2].split()
    except OSError:
        return []  # The thread has ended.
