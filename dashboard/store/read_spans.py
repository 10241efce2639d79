"""Queries for single spans."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from ..rows import Resource, Span, SpanEvent, SpanLink, Work
from .protocol import StoredSpan, TraceLog

MAX_SPANS_OF_A_TRACE = 2_000
_MAX_OPEN_REPORTS = 5_000
_LONGEST_NS = 3_600 * 10**9

_SELECT = """
SELECT r.service, r.instance, r.attributes, scope.text, s.trace_id, s.span_id, s.parent_id, name.text, s.kind,
    s.start_ns, s.end_ns, s.status, s.status_message, s.attributes, s.events, s.links, s.work, s.in_progress,
    s.received_at
FROM spans s JOIN resources r ON r.id = s.resource JOIN words scope ON scope.id = s.scope
    JOIN words name ON name.id = s.name
"""


def trace(connection: sqlite3.Connection, trace_id: bytes) -> tuple[list[StoredSpan], list[TraceLog]]:
    """Return a trace's spans and logs, oldest first, at most `MAX_SPANS_OF_A_TRACE` of each."""
    spans = connection.execute(
        _SELECT + "WHERE s.trace_id = ? ORDER BY s.start_ns LIMIT ?", (trace_id, MAX_SPANS_OF_A_TRACE)
    )
    logs = connection.execute(
        "SELECT span_id, time_ns, severity, event, body FROM logs WHERE trace_id = ?"
        " ORDER BY time_ns LIMIT ?",
        (trace_id, MAX_SPANS_OF_A_TRACE),
    )
    return [_stored(row) for row in spans], [TraceLog(*row) for row in logs]


def work(
    connection: sqlite3.Connection, since_ns: int, until_ns: int, kinds: Sequence[int], limit: int
) -> list[StoredSpan]:
    """Return ended work that touches a range, the latest `limit` of it.

    What ended more than an hour after the range is left out.
    """
    places = ", ".join("?" * len(kinds))
    rows = connection.execute(
        _SELECT
        + f"WHERE s.work IN ({places}) AND s.in_progress = 0 AND s.end_ns BETWEEN ? AND ? AND s.start_ns < ? "
        "ORDER BY s.end_ns DESC LIMIT ?",
        (*kinds, since_ns, until_ns + _LONGEST_NS, until_ns, limit),
    )
    return [_stored(row) for row in rows]


def open_reports(connection: sqlite3.Connection, received_since: float) -> list[StoredSpan]:
    """Return reports of work whose own span has not come, oldest first."""
    rows = connection.execute(
        _SELECT
        + """WHERE s.work IS NOT NULL AND s.in_progress = 1 AND s.received_at >= ? AND NOT EXISTS (
            SELECT 1 FROM spans ended WHERE ended.trace_id = s.trace_id AND ended.span_id = s.parent_id)
        ORDER BY s.id DESC LIMIT ?""",
        (received_since, _MAX_OPEN_REPORTS),
    )
    return [_stored(row) for row in rows][::-1]


def _stored(row: tuple[Any, ...]) -> StoredSpan:
    (
        service, instance, resource, scope, trace_id, span_id, parent_id, name, kind, start_ns, end_ns,
        status, status_message, attributes, events, links, work, in_progress, received_at,
    ) = row  # fmt: skip
    span = Span(
        Resource(service, instance, resource),
        scope,
        trace_id,
        span_id,
        parent_id,
        name,
        kind,
        start_ns,
        end_ns,
        status,
        status_message,
        json.loads(attributes),
        tuple(SpanEvent(*event) for event in json.loads(events)) if events else (),
        tuple(SpanLink(*link) for link in json.loads(links)) if links else (),
        None if work is None else Work(work),
        bool(in_progress),
    )
    return StoredSpan(span, received_at)
