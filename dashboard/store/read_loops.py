"""Queries for the lag of loops."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict

from instrumented_sessions.telemetry import catalog

from ..rows import Work
from .protocol import LoopLag
from .slots import Window

_WITHIN = "width_s = ? AND slot >= ? AND slot < ?"
_Key = tuple[str, str, str, int]


def loop_lag(connection: sqlite3.Connection, window: Window) -> list[LoopLag]:
    """Return the lag of every loop, from its histogram; from heartbeat spans where there is none."""
    found = _from_metrics(connection, window)
    known = {key[:3] for key in found}
    for key, lag in _from_spans(connection, window).items():
        if key[:3] not in known:
            found[key] = lag
    return list(found.values())


def _from_metrics(connection: sqlite3.Connection, window: Window) -> dict[_Key, LoopLag]:
    place = (window.since, window.step_s, window.width_s, *window.slots, catalog.LOOP_LAG.name)
    buckets: defaultdict[_Key, defaultdict[tuple[float, float], int]] = defaultdict(lambda: defaultdict(int))
    for service, instance, loop, step, lower, upper, count in connection.execute(
        f"""SELECT service, instance, loop, (slot * width_s - ?) / ? AS step, lower, upper, sum(count)
        FROM bucket_counts JOIN series ON series.id = series JOIN resources ON resources.id = resource
        WHERE {_WITHIN} AND metric = ? AND loop IS NOT NULL
        GROUP BY service, instance, loop, step, lower, upper""",
        place,
    ):
        for part in (step, -1):
            buckets[service, instance, loop, part][lower, upper] += count
    sums: dict[_Key, tuple[int, float, float | None]] = {}
    for service, instance, loop, step, ticks, total_s, max_s in connection.execute(
        f"""SELECT service, instance, loop, (slot * width_s - ?) / ? AS step,
            sum(count), sum(amount), max(max)
        FROM amounts JOIN series ON series.id = series JOIN resources ON resources.id = resource
        WHERE {_WITHIN} AND metric = ? AND loop IS NOT NULL GROUP BY service, instance, loop, step""",
        place,
    ):
        for part in (step, -1):
            old = sums.get((service, instance, loop, part), (0, 0.0, None))
            largest = max((m for m in (old[2], max_s) if m is not None), default=None)
            sums[service, instance, loop, part] = (old[0] + ticks, old[1] + total_s, largest)
    return {
        key: LoopLag(*key, ticks, total_s, max_s, tuple((*b, count) for b, count in buckets[key].items()))
        for key, (ticks, total_s, max_s) in sums.items()
    }


def _from_spans(connection: sqlite3.Connection, window: Window) -> dict[_Key, LoopLag]:
    rows = connection.execute(
        """SELECT service, instance, (end_ns / 1000000000 - ?) / ?, spans.attributes
        FROM spans JOIN resources ON resources.id = resource
        WHERE work = ? AND end_ns >= ? AND end_ns < ? AND in_progress = 0 ORDER BY end_ns DESC LIMIT 20000""",
        (window.since, window.step_s, Work.HEARTBEAT, window.since * 10**9, window.until * 10**9),
    )
    found: dict[_Key, LoopLag] = {}
    for service, instance, step, text in rows:
        facts = json.loads(text)
        ticks, mean_s, max_s = (
            facts.get(name) for name in (catalog.LOOP_TICKS, catalog.LOOP_LAG_MEAN_S, catalog.LOOP_LAG_MAX_S)
        )
        if not isinstance(ticks, int) or not isinstance(mean_s, (int, float)):
            continue
        for part in (step, -1):
            key = (service, instance, str(facts.get(catalog.LOOP, "other")), part)
            old = found.get(key)
            largest = max((m for m in (max_s, old.max_s if old else None) if m is not None), default=None)
            total_s = ticks * mean_s + (old.total_s if old else 0.0)
            found[key] = LoopLag(*key, ticks + (old.ticks if old else 0), total_s, largest, ())
    return found
