"""Percentiles from counts: of exact durations in fine logarithmic buckets, and of histograms as they came.

A duration's bucket is so narrow that any value read back is within 1 % of the true one
(the idea of DDSketch, https://arxiv.org/abs/1908.10693); counts of different times and senders add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

_GAMMA = 1.02
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST_S = 1e-6

PERCENTILES = (0.5, 0.95, 0.99)


def bucket_of(duration_s: float) -> int:
    """Return the number of the bucket that holds `duration_s`; all below 1 µs share the lowest."""
    return math.ceil(math.log(max(duration_s, _SMALLEST_S)) / _LOG_GAMMA)


def bounds_of(bucket: int) -> tuple[float, float]:
    """Return a bucket's lower and upper bound in seconds."""
    return math.exp((bucket - 1) * _LOG_GAMMA), math.exp(bucket * _LOG_GAMMA)


def percentiles(
    buckets: Iterable[tuple[float, float, int]],
    fractions: tuple[float, ...] = PERCENTILES,
    maximum: float | None = None,
) -> list[float]:
    """Return the values below which the given fractions of observations lie, by nearest rank.

    Inside a bucket observations are taken to be spread evenly. A value in a bucket without an upper
    bound is `maximum`, or else the bucket's lower bound: never a guess beyond what is known.

    Args:
        buckets: Lower bound, upper bound, count; in any order.
        fractions: In ascending order.
        maximum: The largest value observed, if known; no result exceeds it.
    """
    ordered = sorted(bucket for bucket in buckets if bucket[2] > 0)
    total = sum(count for _, _, count in ordered)
    found: list[float] = []
    seen = 0
    remaining = iter(ordered)
    lower, upper, count = next(remaining, (0.0, 0.0, 0))
    for fraction in fractions:
        rank = max(1, math.ceil(fraction * total - 1e-9))
        while seen + count < rank:
            seen += count
            following = next(remaining, None)
            if following is None:
                break
            lower, upper, count = following
        if math.isinf(upper):
            value = lower if maximum is None else maximum
        else:
            value = lower + (upper - lower) * ((rank - seen) / count if count else 0.0)
        found.append(value if maximum is None else min(value, maximum))
    return found
