"""dashboard/sketch.py"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instrumented_sessions_dashboard.sketch import bounds_of, bucket_of, percentiles


@given(st.floats(1e-6, 1e6))
def test_bucket_holds_its_duration_within_two_percent(duration_s: float) -> None:
    """A bucket's bounds enclose every duration in it, and are 2 % apart."""
    lower, upper = bounds_of(bucket_of(duration_s))
    assert lower * (1 - 1e-9) <= duration_s <= upper * (1 + 1e-9)
    assert upper / lower == pytest.approx(1.02)


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=300))
def test_percentiles_of_sketched_durations_are_the_exact_ones(durations_s: list[float]) -> None:
    """Nearest-rank percentiles read back from buckets are within the buckets' width of the true ones."""
    counts: dict[int, int] = {}
    for duration_s in durations_s:
        counts[bucket_of(duration_s)] = counts.get(bucket_of(duration_s), 0) + 1
    found = percentiles([(*bounds_of(bucket), count) for bucket, count in counts.items()])
    ordered = sorted(durations_s)
    for fraction, value in zip((0.5, 0.95, 0.99), found):
        exact = ordered[math.ceil(fraction * len(ordered) - 1e-9) - 1]
        assert value == pytest.approx(exact, rel=0.021)


def test_percentiles_of_a_histogram_are_interpolated() -> None:
    """Inside a bucket of a histogram observations are taken to be spread evenly."""
    assert percentiles([(0.0, 1.0, 50), (1.0, 3.0, 50)], (0.25, 0.5, 0.75, 1.0)) == [0.5, 1.0, 2.0, 3.0]


def test_bucket_without_upper_bound_gives_the_maximum_or_its_lower_bound() -> None:
    """Beyond the last bound only what is known is told."""
    assert percentiles([(300.0, math.inf, 4)], (0.99,)) == [300.0]
    assert percentiles([(300.0, math.inf, 4)], (0.99,), maximum=412.0) == [412.0]
    assert percentiles([(0.1, 0.25, 4)], (0.99,), maximum=0.12) == [0.12]


def test_nothing_observed_has_zero_percentiles() -> None:
    """No observations are not an error."""
    assert percentiles([]) == [0.0, 0.0, 0.0]
