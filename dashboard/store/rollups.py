"""Sums of one transaction, gathered in memory and added to the tables at its end."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from ..rows import Work
from ..sketch import bucket_of
from . import slots

_DURATIONS = """
INSERT INTO durations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    count = count + excluded.count, total_s = total_s + excluded.total_s, max_s = max(max_s, excluded.max_s)
"""
_OCCUPANCY = """
INSERT INTO occupancy VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET busy_s = busy_s + excluded.busy_s
"""
_AMOUNTS = """
INSERT INTO amounts VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    count = count + excluded.count, amount = amount + excluded.amount,
    max = CASE WHEN max IS NULL THEN excluded.max WHEN excluded.max IS NULL THEN max
          ELSE max(max, excluded.max) END
"""
_BUCKETS = """
INSERT INTO bucket_counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count
"""


class Rollups:
    """Collects sums and writes them with `flush()`; used by the writer's thread only."""

    def __init__(self) -> None:
        self._durations: dict[tuple[int, ...], list[float]] = {}
        self._occupancy: dict[tuple[int, ...], float] = defaultdict(float)
        self._amounts: dict[tuple[int, int, int], tuple[int, float, float | None]] = {}
        self._buckets: dict[tuple[int, int, int, float, float], int] = defaultdict(int)

    def add_work(
        self,
        work: Work,
        transport: int,
        lock: int,
        granularity: int,
        outcome: int,
        start_ns: int,
        end_ns: int,
    ) -> None:
        """Count an ended span of work; words are given as numbers, 0 where there is none."""
        duration_s = (end_ns - start_ns) / 1e9
        bucket = bucket_of(duration_s)
        for width_s in slots.WIDTHS_S:
            slot = end_ns // (width_s * 10**9)
            key = (width_s, slot, transport, int(work), lock, granularity, outcome, bucket)
            sums = self._durations.get(key)
            if sums is None:
                self._durations[key] = [1, duration_s, duration_s]
            else:
                sums[0] += 1
                sums[1] += duration_s
                sums[2] = max(sums[2], duration_s)
            for touched, busy_s in slots.spread(start_ns, end_ns, width_s):
                self._occupancy[width_s, touched, transport, int(work)] += busy_s

    def add_amount(
        self,
        series: int,
        time_ns: int,
        count: int,
        amount: float,
        maximum: float | None,
        buckets: Iterable[tuple[tuple[float, float], int]] = (),
    ) -> None:
        """Add what a series grew by; of a gauge, the maximum is kept and the amounts add up to its mean."""
        buckets = tuple(buckets)
        for width_s in slots.WIDTHS_S:
            slot = time_ns // (width_s * 10**9)
            old = self._amounts.get((width_s, slot, series), (0, 0.0, None))
            largest = max((m for m in (old[2], maximum) if m is not None), default=None)
            self._amounts[width_s, slot, series] = (old[0] + count, old[1] + amount, largest)
            for (lower, upper), grown in buckets:
                self._buckets[width_s, slot, series, lower, upper] += grown

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write the sums into the transaction that is open, and begin at zero."""
        connection.executemany(_DURATIONS, [(*key, *sums) for key, sums in self._durations.items()])
        connection.executemany(_OCCUPANCY, [(*key, busy_s) for key, busy_s in self._occupancy.items()])
        connection.executemany(_AMOUNTS, [(*key, *sums) for key, sums in self._amounts.items()])
        connection.executemany(_BUCKETS, [(*key, count) for key, count in self._buckets.items()])
        self.clear()

    def clear(self) -> None:
        """Forget what was not written."""
        self._durations.clear()
        self._occupancy.clear()
        self._amounts.clear()
        self._buckets.clear()
