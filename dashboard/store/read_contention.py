"""Queries for the contention of transports, from the sums that spans and metrics left."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import Any

from instrumented_sessions.telemetry import catalog

from ..rows import METRICS, Work
from ..sketch import bounds_of
from .protocol import Amount, Busy, Contention, Durations
from .slots import Window

WHAT = {Work.CALL: "call", Work.REQUEST: "request", Work.OPENING: "opening", Work.LOCK: "lock"}

_HISTOGRAMS = {
    catalog.SESSION_ACQUIRE_DURATION.name: "request",
    catalog.SESSION_CREATE_DURATION.name: "opening",
    catalog.LOCK_WAIT_DURATION.name: "lock",
    catalog.LOCK_HOLD_DURATION.name: "hold",
}
_AMOUNTS = (catalog.SESSION_REQUESTS, catalog.LOCK_TIMEOUTS, catalog.LOCK_DEADLOCKS, catalog.LOCK_WAITERS)

_Key = tuple[str, str, str, str, str, int]


def contention(connection: sqlite3.Connection, window: Window) -> Contention:
    """Return everything about the transports in a window, by step and in all."""
    words = dict(
        connection.execute("SELECT id, text FROM words WHERE id IN (" + _USED + ")", _slots(window) * 4)
    )
    kinds = connection.execute("SELECT text, kind FROM transports JOIN words ON words.id = word")
    return Contention(
        [*_from_spans(connection, window, words), *_from_metrics(connection, window)],
        _amounts(connection, window),
        _busy(connection, window, words),
        dict(kinds.fetchall()),
    )


_WITHIN = "width_s = ? AND slot >= ? AND slot < ?"
_USED = " UNION ".join(
    f"SELECT DISTINCT {column} FROM durations WHERE {_WITHIN}"
    for column in ("transport", "lock", "granularity", "outcome")
)


def _slots(window: Window) -> tuple[int, int, int]:
    return (window.width_s, *window.slots)


class _Sum:
    """Adds up counts of one key."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.max_s: float | None = None
        self.buckets: defaultdict[tuple[float, float], int] = defaultdict(int)

    def add(self, count: int, total_s: float, max_s: float | None) -> None:
        self.count += count
        self.total_s += total_s
        if max_s is not None:
            self.max_s = max_s if self.max_s is None else max(self.max_s, max_s)

    def durations(self, source: str, key: _Key) -> Durations:
        what, transport, lock, granularity, outcome, step = key
        buckets = tuple((*bounds, count) for bounds, count in self.buckets.items())
        return Durations(
            source,
            transport,
            what,
            lock,
            granularity,
            outcome,
            step,
            self.count,
            self.total_s,
            self.max_s,
            buckets,
        )


def _from_spans(connection: sqlite3.Connection, window: Window, words: dict[int, str]) -> list[Durations]:
    sums: defaultdict[_Key, _Sum] = defaultdict(_Sum)
    rows = connection.execute(
        f"""SELECT (slot * width_s - ?) / ? AS step, transport, work, lock, granularity, outcome, bucket,
            sum(count), sum(total_s), max(max_s)
        FROM durations WHERE {_WITHIN} AND transport != 0
        GROUP BY step, transport, work, lock, granularity, outcome, bucket""",
        (window.since, window.step_s, *_slots(window)),
    )
    for step, transport, work, lock, granularity, outcome, bucket, count, total_s, max_s in rows:
        name = (WHAT[Work(work)], words[transport], words.get(lock, ""), words.get(granularity, ""))
        for part in (step, -1):
            key = (*name, words.get(outcome, ""), part)
            found = sums[key]
            found.add(count, total_s, max_s)
            found.buckets[bounds_of(bucket)] += count
    return [found.durations("spans", key) for key, found in sums.items()]


def _from_metrics(connection: sqlite3.Connection, window: Window) -> list[Durations]:
    sums: defaultdict[_Key, _Sum] = defaultdict(_Sum)
    series = _series(connection, tuple(_HISTOGRAMS))
    for number, step, count, amount, largest in connection.execute(
        f"""SELECT series, (slot * width_s - ?) / ? AS step, sum(count), sum(amount), max(max)
        FROM amounts WHERE {_WITHIN} GROUP BY series, step""",
        (window.since, window.step_s, *_slots(window)),
    ):
        if number in series:
            for part in (step, -1):
                key = (*series[number], part)
                sums[key].add(count, amount, largest)
    for number, step, lower, upper, count in connection.execute(
        f"""SELECT series, (slot * width_s - ?) / ? AS step, lower, upper, sum(count)
        FROM bucket_counts WHERE {_WITHIN} GROUP BY series, step, lower, upper""",
        (window.since, window.step_s, *_slots(window)),
    ):
        if number in series:
            for part in (step, -1):
                key = (*series[number], part)
                sums[key].buckets[lower, upper] += count
    return [found.durations("metrics", key) for key, found in sums.items()]


def _series(
    connection: sqlite3.Connection, metrics: tuple[str, ...]
) -> dict[int, tuple[str, str, str, str, str]]:
    """Return what each series is about: what, transport, lock, granularity, outcome."""
    places = ", ".join("?" * len(metrics))
    found = {}
    for number, metric, text in connection.execute(
        f"SELECT id, metric, attributes FROM series WHERE metric IN ({places}) AND transport IS NOT NULL",
        metrics,
    ):
        labels: dict[str, Any] = json.loads(text)
        name = [str(labels.get(label, "")) for label in ("transport", "lock", "granularity", "outcome")]
        found[number] = (_HISTOGRAMS[metric], name[0], name[1], name[2], name[3])
    return found


def _amounts(connection: sqlite3.Connection, window: Window) -> list[Amount]:
    names = tuple(metric.name for metric in _AMOUNTS)
    places = ", ".join("?" * len(names))
    found = []
    for metric, text, transport, step, amount, largest in connection.execute(
        f"""SELECT metric, attributes, transport, (slot * width_s - ?) / ? AS step, sum(amount), max(max)
        FROM amounts JOIN series ON series.id = amounts.series
        WHERE {_WITHIN} AND metric IN ({places}) AND transport IS NOT NULL GROUP BY series, step""",
        (window.since, window.step_s, *_slots(window), *names),
    ):
        labels: dict[str, Any] = json.loads(text)
        others = tuple(str(labels.get(label, "")) for label in METRICS[metric].labels if label != "transport")
        value = largest if METRICS[metric].kind == "gauge" else amount
        found.append(Amount(metric, transport, others, step, value or 0.0))
    return found


def _busy(connection: sqlite3.Connection, window: Window, words: dict[int, str]) -> list[Busy]:
    rows = connection.execute(
        f"""SELECT transport, work, (slot * width_s - ?) / ? AS step, sum(busy_s)
        FROM occupancy WHERE {_WITHIN} AND transport != 0 GROUP BY transport, work, step""",
        (window.since, window.step_s, *_slots(window)),
    )
    # Time before a wait's end may lie in a window in which nothing of its transport ended.
    return [
        Busy(words.get(transport) or _word(connection, transport), WHAT[Work(work)], step, busy_s)
        for transport, work, step, busy_s in rows.fetchall()
    ]


def _word(connection: sqlite3.Connection, number: int) -> str:
    return str(connection.execute("SELECT text FROM words WHERE id = ?", (number,)).fetchone()[0])
