"""Threads that run no loop, and yet can stop all loops: native code in them may hold the GIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Container

from .held import HeldStacks
from .probes import SLOW_READING_S, cpu_clock_of, native_ids
from .pulse import Seat

MOST_THREADS = 16
"""Programs with more threads than this are not looked at: it would cost too much at every turn."""


class Bystanders:
    """Has the stacks of other threads taken when they compute on while the watchdog cannot run."""

    def __init__(self, held: HeldStacks) -> None:
        self._held = held
        self._met_at = float("-inf")
        self._count = 0
        self._arm_at_cpu_s: dict[Seat, float] = {}

    def arm(self, now: float, loops: Container[int], after_s: float) -> None:
        """Arm the stacks of every thread.

        Args:
            now: The time on the monotonic clock.
            loops: Ids of the threads that run loops, which are armed elsewhere, and of the watchdog's.
            after_s: More CPU time than a thread can use before the watchdog runs again, in seconds.
        """
        count = threading.active_count()
        if count != self._count or now - self._met_at > SLOW_READING_S:
            self._count, self._met_at = count, now
            self._meet(loops)
        for seat, arm_at_cpu_s in self._arm_at_cpu_s.items():
            try:
                cpu_s = time.clock_gettime(seat.cpu_clock)  # type: ignore[arg-type]  # `_meet` sets it.
            except OSError:
                continue  # It has ended.
            if cpu_s >= arm_at_cpu_s:
                self._arm_at_cpu_s[seat] = self._held.arm(seat, cpu_s, after_s)

    def _meet(self, loops: Container[int]) -> None:
        threads = {
            Seat(ident, native_id, cpu_clock_of(native_id), False)
            for ident, native_id in native_ids().items()
            if ident not in loops
        }
        if len(threads) > MOST_THREADS:
            threads = set()
        for seat in self._arm_at_cpu_s.keys() - threads:
            self._held.forget(seat)
            del self._arm_at_cpu_s[seat]
        for seat in threads - self._arm_at_cpu_s.keys():
            self._arm_at_cpu_s[seat] = 0.0
