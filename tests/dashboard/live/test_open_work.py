"""dashboard/live/open_work.py"""

from __future__ import annotations

import pytest
from instrumented_sessions_dashboard.live.open_work import MAX_OPEN, SILENT_AFTER_S, SLACK_S, OpenTable

from instrumented_sessions.telemetry import catalog
from tests.dashboard.building import T0, lock_wait, report_of, span

WAIT = lock_wait(30.0)


def ages(table: OpenTable) -> list[float]:
    return [work.span.duration_s for work in table.all()]


def test_newer_report_replaces_the_older_one() -> None:
    """One open span is one entry, however often it is reported, in whatever order."""
    table = OpenTable()
    assert table.apply([report_of(WAIT, 1.0)], T0 + 1)
    assert table.apply([report_of(WAIT, 15.0)], T0 + 15)
    assert not table.apply([report_of(WAIT, 5.0)], T0 + 16)
    assert ages(table) == [15.0]


def test_ended_span_takes_its_work_out() -> None:
    """The span itself arrives when the wait is over."""
    table = OpenTable()
    table.apply([report_of(WAIT, 1.0)], T0 + 1)
    assert table.apply([WAIT], T0 + 30)
    assert table.all() == []


def test_report_that_comes_after_the_end_is_ignored() -> None:
    """Two requests may overtake each other; what has ended does not wait again."""
    table = OpenTable()
    table.apply([WAIT], T0 + 30)
    assert not table.apply([report_of(WAIT, 15.0)], T0 + 31)
    assert table.all() == []


def test_report_without_a_parent_is_ignored() -> None:
    """Nobody could say what it is a report of."""
    table = OpenTable()
    assert not table.apply([report_of(WAIT, 1.0)._replace(parent_id=None)], T0)


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(1.0, 4.0), (5.0, 10.0), (15.0, 45.0), (60.0, 60.0), (180.0, 60.0)]
)
def test_work_of_a_silent_process_goes_when_its_report_is_overdue(age_s: float, pause_s: float) -> None:
    """Reports come at 1, 5, 15, 60 s and each 60 s; a process that died sends no end."""
    table = OpenTable()
    received = T0 + age_s
    table.apply([report_of(WAIT, age_s)], received)

    def last_heard(_: object) -> float:
        return T0 - SILENT_AFTER_S

    table.expire(received + pause_s + SLACK_S - 0.1, last_heard)
    assert len(table) == 1
    table.expire(received + pause_s + SLACK_S + 0.1, last_heard)
    assert len(table) == 0


def test_work_of_a_live_process_stays_until_the_next_report_is_missing_too() -> None:
    """One lost report is not an end, but a lost end must not wait for ever."""
    table = OpenTable()
    table.apply([report_of(WAIT, 15.0)], T0 + 15)  # Due at 60, then at 120.
    table.expire(T0 + 75, lambda _: T0 + 75)
    assert len(table) == 1
    table.expire(T0 + 140, lambda _: T0 + 140)
    assert len(table) == 0


def test_start_is_the_senders_when_clocks_agree_and_bounded_when_not() -> None:
    """An age can be off by the time of the way here, not by the difference of two clocks."""
    table = OpenTable()
    table.apply([report_of(lock_wait(), 5.0)], T0 + 8)  # Three seconds on the way.
    table.apply([report_of(lock_wait(start=T0 - 3600), 5.0)], T0 + 8)  # That clock is an hour behind.
    table.apply([report_of(lock_wait(start=T0 + 3600), 5.0)], T0 + 8)  # And that one an hour ahead.
    assert [work.started_at for work in table.all()] == [T0 - 7, T0, T0 + 3]


def test_number_of_open_works_is_bounded() -> None:
    """More than anybody could read is not kept."""
    table = OpenTable()
    table.apply([report_of(lock_wait(), 1.0) for _ in range(MAX_OPEN + 5)], T0 + 1)
    assert len(table) == MAX_OPEN


def test_heartbeats_and_others_spans_are_not_work() -> None:
    """Only what can wait is kept."""
    table = OpenTable()
    assert not table.apply([span(catalog.SPAN_HEARTBEAT), span("GET /")], T0)
