"""What both encodings share: limits, identity of the sender, and checks of one row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ..rows import Attributes, Resource, Value

MAX_TEXT = 16_384
"""Longest text kept of an attribute, a name or a log body, in characters."""
MAX_TIME_NS = 2**63 - 1

ZERO_TRACE = bytes(16)
ZERO_SPAN = bytes(8)


def text(value: str) -> str:
    """Return `value`, cut to `MAX_TEXT`."""
    return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"


def number(value: float) -> Value:
    """Return `value`, as text when JSON has no number for it."""
    return value if math.isfinite(value) else str(value)


def instant(nanoseconds: int) -> int:
    """Return an instant that a 64-bit signed integer can hold."""
    return min(max(0, nanoseconds), MAX_TIME_NS)


def resource(attributes: Attributes) -> Resource:
    """Return who reports, from its resource's attributes."""
    service = attributes.get("service.name")
    instance = attributes.get("service.instance.id")
    if not instance:
        parts = (attributes.get("host.name"), attributes.get("process.pid"))
        instance = ":".join(str(part) for part in parts if part is not None)
    return Resource(str(service or "unknown"), str(instance), json.dumps(attributes, sort_keys=True))


def bad_ids(trace_id: bytes, span_id: bytes) -> str:
    """Return what is wrong with a span's ids; empty when nothing is."""
    if len(trace_id) != 16 or trace_id == ZERO_TRACE:
        return f"a span's trace_id must be 16 bytes, not all zero; got {trace_id.hex() or 'none'}"
    if len(span_id) != 8 or span_id == ZERO_SPAN:
        return f"a span's span_id must be 8 bytes, not all zero; got {span_id.hex() or 'none'}"
    return ""


def explicit_buckets(bounds: Sequence[float], counts: Sequence[int]) -> tuple[tuple[float, float, int], ...]:
    """Return the buckets that are not empty, each with its bounds; durations start at 0."""
    edges = [0.0, *bounds, math.inf]
    return tuple((edges[i], edges[i + 1], int(count)) for i, count in enumerate(counts) if count)


def exponential_buckets(
    scale: int, offset: int, counts: Sequence[int], zero_count: int
) -> tuple[tuple[float, float, int], ...]:
    """Return an exponential histogram's positive and zero buckets as explicit ones.

    The bounds are as in https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram.
    """
    found = [(0.0, 0.0, int(zero_count))] if zero_count else []
    for i, count in enumerate(counts):
        if count:
            lower, upper = (_power(scale, offset + i + k) for k in (0, 1))
            found.append((lower, upper, int(count)))
    return tuple(found)


def _power(scale: int, index: int) -> float:
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError:
        return math.inf
