"""Rows made by hand, for tests of the pure parts."""

from __future__ import annotations

import os
from typing import Any

from instrumented_sessions_dashboard.rows import Batch, Point, Resource, Span, SpanEvent, classify

from instrumented_sessions.telemetry import catalog

T0 = 1_800_000_000.0
"""A fixed instant, in Unix seconds; a multiple of all steps."""

AGENT = Resource("agent", "a-1", '{"service.instance.id": "a-1", "service.name": "agent"}')
OTHER_AGENT = Resource("agent", "a-2", '{"service.instance.id": "a-2", "service.name": "agent"}')


def span(
    name: str,
    *,
    start: float = T0,
    lasted_s: float = 1.0,
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    parent_id: bytes | None = None,
    resource: Resource = AGENT,
    facts: dict[str, Any] | None = None,
    events: tuple[SpanEvent, ...] = (),
) -> Span:
    """Return a span; its work is read from its name and facts as the parsers do."""
    facts = facts or {}
    work, in_progress = classify(name, facts)
    start_ns = round(start * 1e9)
    return Span(
        resource, catalog.SCOPE, trace_id or os.urandom(16), span_id or os.urandom(8), parent_id, name, 1,
        start_ns, start_ns + round(lasted_s * 1e9), 0, "", facts, events, (), work, in_progress,
    )  # fmt: skip


def report_of(open_span: Span, age_s: float, **facts: Any) -> Span:
    """Return a report in progress of a span that is open."""
    return span(
        open_span.name + catalog.IN_PROGRESS_SUFFIX,
        start=open_span.start_ns / 1e9,
        lasted_s=age_s,
        trace_id=open_span.trace_id,
        parent_id=open_span.span_id,
        resource=open_span.resource,
        facts={
            **open_span.attributes,
            **{getattr(catalog, name.upper()): value for name, value in facts.items()},
            catalog.IN_PROGRESS: True,
        },
    )


def lock_wait(lasted_s: float = 1.0, transport: str = "weather", **more: Any) -> Span:
    """Return an ended wait for the opening lock of a transport."""
    facts = {
        catalog.TRANSPORT_ID: transport,
        catalog.CONVERSATION_ID: more.pop("conversation", "c-1"),
        catalog.MCP_TRANSPORT: "http",
        catalog.LOCK: "opening",
        catalog.LOCK_GRANULARITY: "transport",
        catalog.OUTCOME: more.pop("outcome", "ok"),
    }
    return span(catalog.SPAN_LOCK_WAIT, lasted_s=lasted_s, facts=facts, **more)


def gauge(
    metric: catalog.Metric, value: float, *labels: str, at: float = T0, resource: Resource = AGENT
) -> Point:
    """Return a gauge's point."""
    return Point(
        resource, metric.name, "gauge", False, dict(zip(metric.labels, labels)), 0, int(at * 1e9), value
    )


def counter(
    value: float,
    *,
    at: float,
    start: float = T0,
    cumulative: bool = True,
    outcome: str = "hit",
    transport: str = "weather",
) -> Point:
    """Return a point of the counter of requests."""
    return Point(
        AGENT, catalog.SESSION_REQUESTS.name, "counter", cumulative,
        {"transport": transport, "outcome": outcome}, int(start * 1e9), int(at * 1e9), value,
    )  # fmt: skip


def histogram(
    buckets: dict[tuple[float, float], int],
    *,
    at: float,
    start: float = T0,
    cumulative: bool = True,
    total_s: float = 0.0,
    maximum: float | None = None,
    metric: catalog.Metric = catalog.LOCK_WAIT_DURATION,
    labels: tuple[str, ...] = ("weather", "opening", "transport"),
) -> Point:
    """Return a point of a histogram."""
    return Point(
        AGENT, metric.name, "histogram", cumulative, dict(zip(metric.labels, labels)), int(start * 1e9),
        int(at * 1e9), total_s, sum(buckets.values()),
        tuple((lower, upper, count) for (lower, upper), count in buckets.items()), maximum,
    )  # fmt: skip


def batch(*rows: Span | Point) -> Batch:
    """Return a batch of spans and points."""
    return Batch(
        spans=tuple(row for row in rows if isinstance(row, Span)),
        points=tuple(row for row in rows if isinstance(row, Point)),
    )
