"""What a link's `from` and `to` mean, and the windows that are read for them."""

from __future__ import annotations

import pytest
from instrumented_sessions_dashboard.ranges import LAST_MS, Range, RangeError, parse
from instrumented_sessions_dashboard.store import window_between
from instrumented_sessions_dashboard.store.slots import COARSE_S, FINE_KEPT_S, FINE_S

from tests.dashboard.building import T0


def test_milliseconds_of_grafana_become_seconds() -> None:
    """Both make a range, also to the last instant that is taken; neither is none."""
    assert parse("1800000000500", "1800000060000") == Range(1_800_000_000.5, 1_800_000_060.0)
    assert parse("0", str(LAST_MS)) == Range(0.0, LAST_MS / 1000)
    assert parse(None, None) is None


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("now-1h", "2", "from must be whole milliseconds since 1970-01-01 UTC, .* got 'now-1h'"),
        ("1", "", "to must be .* got ''"),
        ("-1", "2", "from must be .* got '-1'"),
        ("1.5", "2", "from must be .* got '1.5'"),
        ("1", str(LAST_MS + 1), f"to must be .* got '{LAST_MS + 1}'"),
        ("\u0661", "2", "from must be .* got '\u0661'"),
        ("9" * 9_999, "2", "from must be .* got '9{40}…'"),
        ("1", None, "to is missing: a range needs both from and to"),
        (None, "1", "from is missing"),
        ("2", "2", "from must be before to; got from=2 and to=2"),
        ("3", "2", "from must be before to; got from=3 and to=2"),
    ],
)
def test_range_that_cannot_be_used_is_named(since: str | None, until: str | None, said: str) -> None:
    """The message says which value is wrong, what it is and what is expected."""
    with pytest.raises(RangeError, match=said):
        parse(since, until)


@pytest.mark.parametrize("range_s", [1, 300, 7_200, 7_201, 86_400, 366 * 86_400])
@pytest.mark.parametrize("ago_s", [0.3, 3_600, FINE_KEPT_S + 1])
def test_window_covers_the_range_with_sums_that_are_kept(range_s: float, ago_s: float) -> None:
    """No part of the range is left out, and fine sums are read only while there are any."""
    since = T0 - ago_s - range_s
    found = window_between(since, since + range_s, T0)
    assert found.since <= since < found.since + found.step_s
    assert found.until - found.step_s < since + range_s <= found.until
    assert found.step_s % found.width_s == 0
    assert found.steps <= 62
    is_fine = range_s <= 7_200 and ago_s + range_s <= FINE_KEPT_S
    assert found.width_s == (FINE_S if is_fine else COARSE_S)
