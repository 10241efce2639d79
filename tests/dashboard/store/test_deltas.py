"""dashboard/store/deltas.py"""

from __future__ import annotations

import math

from instrumented_sessions_dashboard.store.deltas import delta, last

from tests.dashboard.building import T0, counter, histogram

LOW, HIGH = (0.0, 0.1), (1.0, math.inf)


def test_growth_is_what_counts() -> None:
    """A later point of the same process adds the difference."""
    grown = delta(counter(8, at=T0 + 10), last(counter(5, at=T0 + 5)))
    assert grown is not None
    assert grown.value == 3


def test_delta_points_count_in_full() -> None:
    """With delta temporality nothing is subtracted."""
    grown = delta(counter(8, at=T0 + 10, cumulative=False), None)
    assert grown is not None
    assert grown.value == 8


def test_restarted_process_counts_from_zero() -> None:
    """A later start, or a count that fell, means a new beginning."""
    before = last(counter(50, at=T0 + 5))
    restarted = delta(counter(60, at=T0 + 10, start=T0 + 6), before)
    fell = delta(counter(2, at=T0 + 10), before)
    assert restarted is not None
    assert fell is not None
    assert (restarted.value, fell.value) == (60, 2)


def test_point_that_comes_late_adds_nothing() -> None:
    """An export that was overtaken is part of the newer one already."""
    assert delta(counter(4, at=T0 + 4), last(counter(5, at=T0 + 5))) is None


def test_first_point_counts_unless_its_process_is_old() -> None:
    """The past of a process that ran before the dashboard is not a burst of now."""
    young = delta(counter(5, at=T0 + 60), None)
    assert young is not None
    assert young.value == 5
    assert delta(counter(5, at=T0 + 7_200), None) is None


def test_histograms_grow_by_bucket() -> None:
    """Buckets that did not grow are left out, and so is a maximum that is older than the growth."""
    before = last(histogram({LOW: 4, HIGH: 1}, at=T0 + 5, total_s=21, maximum=20.0))
    grown = delta(histogram({LOW: 7, HIGH: 1}, at=T0 + 10, total_s=21.2, maximum=20.0), before)
    assert grown is not None
    assert grown.buckets == {LOW: 3}
    assert grown.observations == 3
    assert grown.maximum is None


def test_histogram_with_other_buckets_begins_again() -> None:
    """Counts of different buckets cannot be subtracted."""
    before = last(histogram({LOW: 4}, at=T0 + 5))
    assert delta(histogram({(0.0, 0.2): 9}, at=T0 + 10), before) is None
