"""Slots of time: rollups are kept in two widths, fine for the last hours and coarse for days."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

FINE_S = 5
COARSE_S = 300
WIDTHS_S = (FINE_S, COARSE_S)
FINE_KEPT_S = 6 * 3600.0
"""How long fine sums are kept, in seconds; coarse ones as long as spans."""
_FINE_UP_TO_S = 7_200
_STEPS = 60

_MAX_SPREAD_SLOTS = 720  # A wait of days is spread over its last hour only.


class Window(NamedTuple):
    """A range of time cut into steps; instants are whole Unix seconds."""

    since: int
    until: int
    step_s: int
    width_s: int
    """Of the rollups to read; divides `step_s`."""

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return (self.until - self.since) // self.step_s

    @property
    def slots(self) -> tuple[int, int]:
        """The first slot and the one after the last."""
        return self.since // self.width_s, self.until // self.width_s

    def step_of(self, slot: int) -> int:
        """Return the number of the step that holds a slot."""
        return (slot * self.width_s - self.since) // self.step_s


def window(until: float, range_s: float) -> Window:
    """Return the window of about 60 steps that ends at the step `until` falls in."""
    width_s, step_s = _widths(range_s, is_recent=True)
    end = (int(until) // step_s + 1) * step_s
    return Window(end - max(1, math.ceil(range_s / step_s)) * step_s, end, step_s, width_s)


def window_between(since: float, until: float, now: float) -> Window:
    """Return the window of about 60 steps that covers a range of time; `now` tells how fine it is kept."""
    width_s, step_s = _widths(until - since, is_recent=since >= now - FINE_KEPT_S)
    return Window(int(since // step_s) * step_s, math.ceil(until / step_s) * step_s, step_s, width_s)


def _widths(range_s: float, *, is_recent: bool) -> tuple[int, int]:
    """Return the width of the sums to read, and of the steps to cut the range into."""
    width_s = FINE_S if is_recent and range_s <= _FINE_UP_TO_S else COARSE_S
    return width_s, max(1, math.ceil(range_s / _STEPS / width_s)) * width_s


def spread(start_ns: int, end_ns: int, width_s: int) -> Iterator[tuple[int, float]]:
    """Yield each slot that a stretch of time touches, with how many of its seconds fell into it."""
    width_ns = width_s * 10**9
    last = end_ns // width_ns
    for slot in range(max(start_ns // width_ns, last - _MAX_SPREAD_SLOTS), last + 1):
        busy_ns = min(end_ns, (slot + 1) * width_ns) - max(start_ns, slot * width_ns)
        if busy_ns > 0:
            yield slot, busy_ns / 1e9
