"""Time, as one object that a test can replace."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; `instrumented_sessions.testing.ManualClock` is one that a test moves."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back; for durations."""
        ...

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC; for instants that people or backends read."""
        ...


class SystemClock:
    """The system's clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()
