"""What a data point adds since the last one of its series; pure, for both temporalities.

A cumulative point counts from the start of its process. A later start, or a count that fell, means
that the process began again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..rows import Point

_FIRST_COUNTS_FOR_NS = 600 * 10**9
"""A series never seen before counts in full when it began at most ten minutes before its first point;
an older one began before anybody listened, and its past would look like a burst of now."""

Buckets = dict[tuple[float, float], int]


class Last(NamedTuple):
    """The last cumulative point of a series."""

    start_ns: int
    time_ns: int
    value: float
    observations: int
    buckets: Buckets


class Delta(NamedTuple):
    """What one point adds."""

    value: float
    observations: int
    buckets: Buckets
    maximum: float | None


def last(point: Point) -> Last:
    """Return what has to be remembered of a cumulative point."""
    return Last(point.start_ns, point.time_ns, point.value, point.observations, _buckets(point))


def delta(point: Point, before: Last | None) -> Delta | None:
    """Return what `point` adds, None when it adds nothing: it came late, or is only a beginning.

    Args:
        point: A counter or histogram.
        before: The last cumulative point of its series, None when there is none.
    """
    whole = Delta(point.value, point.observations, _buckets(point), point.maximum)
    if not point.cumulative:
        return whole
    if before is None:
        return whole if point.time_ns - point.start_ns <= _FIRST_COUNTS_FOR_NS else None
    if point.time_ns <= before.time_ns:
        return None
    fell = point.value < before.value if point.kind == "counter" else point.observations < before.observations
    if point.start_ns > before.time_ns or fell:
        return whole
    grown = {bounds: count - before.buckets.get(bounds, 0) for bounds, count in whole.buckets.items()}
    if any(count < 0 for count in grown.values()) or not before.buckets.keys() <= whole.buckets.keys():
        return None  # Its buckets have changed; from the next point on they can be compared again.
    # The largest since the process began is the largest of these only if it lies in a bucket that grew.
    buckets = {bounds: count for bounds, count in grown.items() if count}
    highest = max((upper for _, upper in buckets), default=-math.inf)
    maximum = point.maximum if point.maximum is not None and point.maximum <= highest else None
    return Delta(point.value - before.value, point.observations - before.observations, buckets, maximum)


def _buckets(point: Point) -> Buckets:
    return {(lower, upper): count for lower, upper, count in point.buckets}
