"""Batches into tables, inside a transaction that the caller opens and ends."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from instrumented_sessions.telemetry import catalog

from ..rows import Batch, Log, Point, Resource, Span, SpanEvent, SpanLink, Value, Work
from . import deltas
from .rollups import Rollups

MAX_WORDS = 50_000
"""Names and transports beyond this number are stored as `_OTHER`: a sender may make up any number."""
MAX_SERIES = 20_000
"""Points of series beyond this number are not taken."""

_INSERT_SPAN = "INSERT OR IGNORE INTO spans VALUES (" + ", ".join(["NULL"] + ["?"] * 20) + ")"
_MEASURED = (Work.CALL, Work.REQUEST, Work.OPENING, Work.LOCK)


class BatchWriter:
    """Writes batches through one connection; used by the writer's thread only.

    What it remembers of the tables is wrong after a rollback: call `forget()` then.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rollups = Rollups()
        self._words: dict[str, int] = {}
        self._resources: dict[Resource, int] = {}
        self._kinds: dict[int, str] = {}
        self._series: dict[tuple[int, str, str], tuple[int, deltas.Last | None]] = {}

    def write(self, batch: Batch, received_at: float) -> int:
        """Add a batch and return how many of its points were not taken for lack of room."""
        if batch.spans:
            self._write_spans(batch.spans, received_at)
        if batch.logs:
            self._write_logs(batch.logs, received_at)
        return sum(not self._write_point(point, received_at) for point in batch.points)

    def flush(self) -> None:
        """Write the sums of all batches of this transaction; the last step before its end."""
        self._rollups.flush(self._connection)

    def forget(self) -> None:
        """Forget what is known of the tables, because the transaction was rolled back."""
        self._rollups.clear()
        self._words.clear()
        self._resources.clear()
        self._kinds.clear()
        self._series.clear()

    def _write_spans(self, spans: tuple[Span, ...], received_at: float) -> None:
        others = []
        for span in spans:
            row = self._span_row(span, received_at)
            if span.work is None:
                others.append(row)
            elif self._connection.execute(_INSERT_SPAN, row).rowcount:  # Sent twice, it is counted once.
                self._count(span)
        self._connection.executemany(_INSERT_SPAN, others)

    def _span_row(self, span: Span, received_at: float) -> tuple[Any, ...]:
        facts = span.attributes
        transport = facts.get(catalog.TRANSPORT_ID)
        conversation = facts.get(catalog.CONVERSATION_ID)
        return (
            span.trace_id,
            span.span_id,
            span.parent_id,
            self._resource(span.resource, received_at),
            self._word(span.scope),
            self._word(span.name),
            span.kind,
            span.work,
            span.in_progress,
            self._word(transport) if isinstance(transport, str) else None,
            conversation if isinstance(conversation, str) else None,
            self._word_or_0(facts.get(catalog.OUTCOME)) or None,
            span.start_ns,
            span.end_ns,
            span.status,
            span.status_message,
            received_at,
            json.dumps(facts),
            _events(span.events),
            _links(span.links),
        )

    def _count(self, span: Span) -> None:
        if span.in_progress or span.work not in _MEASURED:
            return
        facts = span.attributes
        transport = self._word_or_0(facts.get(catalog.TRANSPORT_ID))
        kind = facts.get(catalog.MCP_TRANSPORT)
        if transport and isinstance(kind, str) and self._kinds.get(transport) != kind:
            self._connection.execute("INSERT OR REPLACE INTO transports VALUES (?, ?)", (transport, kind))
            self._kinds[transport] = kind
        self._rollups.add_work(
            span.work,
            transport,
            self._word_or_0(facts.get(catalog.LOCK)),
            self._word_or_0(facts.get(catalog.LOCK_GRANULARITY)),
            self._word_or_0(facts.get(catalog.OUTCOME)),
            span.start_ns,
            span.end_ns,
        )

    def _write_logs(self, logs: tuple[Log, ...], received_at: float) -> None:
        self._connection.executemany(
            "INSERT INTO logs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    log.trace_id,
                    log.span_id,
                    self._resource(log.resource, received_at),
                    log.time_ns,
                    log.severity,
                    log.event,
                    log.body,
                    json.dumps(log.attributes),
                    received_at,
                )
                for log in logs
            ],
        )

    def _write_point(self, point: Point, received_at: float) -> bool:
        key = (
            self._resource(point.resource, received_at),
            point.metric,
            json.dumps(point.attributes, sort_keys=True),
        )
        known = self._series.get(key) or self._find_series(key, point)
        if known is None:
            return False
        series, before = known
        if point.kind == "gauge":
            self._rollups.add_amount(series, point.time_ns, 1, point.value, point.value)
            return True
        grown = deltas.delta(point, before)
        if grown is not None and (grown.observations or grown.value):
            self._rollups.add_amount(
                series, point.time_ns, grown.observations, grown.value, grown.maximum, grown.buckets.items()
            )
        if point.cumulative and (before is None or point.time_ns > before.time_ns):
            now = deltas.last(point)
            self._series[key] = (series, now)
            state = [now.value, now.observations, [[*bounds, count] for bounds, count in now.buckets.items()]]
            self._connection.execute(
                "UPDATE series SET start_ns = ?, time_ns = ?, state = ? WHERE id = ?",
                (now.start_ns, now.time_ns, json.dumps(state), series),
            )
        return True

    def _find_series(self, key: tuple[int, str, str], point: Point) -> tuple[int, deltas.Last | None] | None:
        row = self._connection.execute(
            "SELECT id, start_ns, time_ns, state FROM series"
            " WHERE resource = ? AND metric = ? AND attributes = ?",
            key,
        ).fetchone()
        if row is not None:
            before = _last(row[1], row[2], row[3])
            self._series[key] = (row[0], before)
            return row[0], before
        if len(self._series) >= MAX_SERIES:
            return None
        transport, loop = (point.attributes.get(name) for name in ("transport", "loop"))
        cursor = self._connection.execute(
            "INSERT INTO series VALUES (NULL, ?, ?, ?, ?, ?, 0, 0, '')",
            (*key, *(value if isinstance(value, str) else None for value in (transport, loop))),
        )
        assert cursor.lastrowid is not None
        self._series[key] = (cursor.lastrowid, None)
        return cursor.lastrowid, None

    def _resource(self, resource: Resource, received_at: float) -> int:
        number = self._resources.get(resource)
        if number is None:
            row = self._connection.execute(
                "INSERT INTO resources VALUES (NULL, ?, ?, ?, ?, ?) "
                "ON CONFLICT (attributes) DO UPDATE SET last_seen = excluded.last_seen RETURNING id",
                (*resource, received_at, received_at),
            ).fetchone()
            number = self._resources[resource] = int(row[0])
        return number

    def _word_or_0(self, value: Value) -> int:
        return self._word(value) if isinstance(value, str) else 0

    def _word(self, text: str) -> int:
        number = self._words.get(text)
        if number is None:
            row = self._connection.execute("SELECT id FROM words WHERE text = ?", (text,)).fetchone()
            if row is not None:
                number = int(row[0])
            elif len(self._words) >= MAX_WORDS and text != catalog.OTHER:
                return self._word(catalog.OTHER)
            else:
                number = self._connection.execute("INSERT INTO words VALUES (NULL, ?)", (text,)).lastrowid
            assert number is not None
            self._words[text] = number
        return number


def _events(events: tuple[SpanEvent, ...]) -> str | None:
    return json.dumps([[event.name, event.time_ns, event.attributes] for event in events]) if events else None


def _links(links: tuple[SpanLink, ...]) -> str | None:
    return json.dumps([[link.trace_id, link.span_id, link.attributes] for link in links]) if links else None


def _last(start_ns: int, time_ns: int, state: str) -> deltas.Last | None:
    if not state:
        return None
    value, observations, buckets = json.loads(state)
    return deltas.Last(
        start_ns, time_ns, value, observations, {(lower, upper): count for lower, upper, count in buckets}
    )
