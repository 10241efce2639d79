"""What arrived over the wire, as plain rows: the same for protobuf and JSON.

Instants are nanoseconds since 1970-01-01 UTC, as OTLP has them; `received_at` is Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias, Union

from instrumented_sessions.telemetry import catalog

Value: TypeAlias = Union[str, bool, int, float, "list[Value]", "dict[str, Value]", None]
Attributes: TypeAlias = Mapping[str, Value]


class Resource(NamedTuple):
    """The process that reports."""

    service: str
    """`service.name`, else `unknown`."""
    instance: str
    """`service.instance.id`, else host and process id as far as known."""
    attributes: str
    """All of its attributes as JSON with sorted keys; tells one process from another."""


class SpanEvent(NamedTuple):
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Attributes


class SpanLink(NamedTuple):
    """A pointer to another span; ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    attributes: Attributes


class Work(IntEnum):
    """What a span of this project is about; the numbers are stored. The order is from caller to lock."""

    CALL = 1
    REQUEST = 2
    OPENING = 3
    LOCK = 4
    STALL = 5
    HEARTBEAT = 6


class Span(NamedTuple):
    """One ended span; ids are bytes."""

    resource: Resource
    scope: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    """0 unset, 1 ok, 2 error."""
    status_message: str
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    work: Work | None
    """None for spans of others."""
    in_progress: bool
    """Whether it reports work that is still open: its parent is the open span."""

    @property
    def duration_s(self) -> float:
        """From start to end, in seconds; never negative."""
        return max(0, self.end_ns - self.start_ns) / 1e9


class Point(NamedTuple):
    """One data point of one of the catalog's metrics."""

    resource: Resource
    metric: str
    kind: str
    """`gauge`, `counter` or `histogram`."""
    cumulative: bool
    """Whether the value counts since `start_ns`; else since the last point. False for gauges."""
    attributes: Attributes
    start_ns: int
    time_ns: int
    value: float
    """A gauge's or counter's value, a histogram's sum."""
    observations: int = 0
    """A histogram's count."""
    buckets: tuple[tuple[float, float, int], ...] = ()
    """A histogram's buckets that are not empty: lower bound, upper bound (may be infinite), count."""
    maximum: float | None = None


class Log(NamedTuple):
    """One log record."""

    resource: Resource
    time_ns: int
    severity: int
    """The OTLP number: 9 info, 13 warning, 17 error."""
    body: str
    event: str
    attributes: Attributes
    trace_id: bytes | None
    span_id: bytes | None


class Batch(NamedTuple):
    """What one request brought, and what of it cannot be taken."""

    spans: tuple[Span, ...] = ()
    points: tuple[Point, ...] = ()
    logs: tuple[Log, ...] = ()
    rejected: int = 0
    message: str = ""
    """Why some were rejected; empty when none were."""


_WORK_BY_NAME = {
    catalog.SPAN_ACQUIRE: Work.REQUEST,
    catalog.SPAN_CREATE: Work.OPENING,
    catalog.SPAN_LOCK_WAIT: Work.LOCK,
    catalog.SPAN_STALL: Work.STALL,
    catalog.SPAN_HEARTBEAT: Work.HEARTBEAT,
}


def classify(name: str, attributes: Attributes) -> tuple[Work | None, bool]:
    """Return what a span is about, and whether it reports work that is still open."""
    in_progress = attributes.get(catalog.IN_PROGRESS) is True
    base = name.removesuffix(catalog.IN_PROGRESS_SUFFIX) if in_progress else name
    work = _WORK_BY_NAME.get(base)
    if work is None and catalog.TRANSPORT_ID in attributes:
        work = Work.CALL
    return work, in_progress


METRICS = {metric.name: metric for metric in catalog.METRICS}
"""The metrics that are kept; others are taken and forgotten, so that a program may send all it has."""
