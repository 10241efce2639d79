"""The summary says what the statistics and the events say, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from instrumented_sessions.chain import CodeLocation, Party
from instrumented_sessions.demo.summary import (
    describe_loops,
    describe_transports,
    latest_reports,
    percentile,
    summarise_loops,
    summarise_transports,
)
from instrumented_sessions.events import (
    CallEnded,
    CallStarted,
    Event,
    LockAcquired,
    LockWaitAbandoned,
    LoopRecovered,
    LoopStalled,
    StallReport,
)
from instrumented_sessions.vocabulary import LockKind, Outcome, Phase, SessionKey, StallCause

KEY = SessionKey("weather", "refund-4711")
LOOP_THREAD = 7


def call(
    started_at: float, duration_s: float, *, call_id: int = 1, thread_id: int = LOOP_THREAD
) -> list[Event]:
    facts: dict[str, Any] = {
        "key": KEY, "transport_kind": "stdio", "call_id": call_id,
        "method": "tools/call", "target": "forecast",
    }  # fmt: skip
    return [
        CallStarted(at=started_at, caller=Party("planner", thread_id), **facts),
        CallEnded(
            at=started_at + duration_s,
            outcome=Outcome.OK,
            duration_s=duration_s,
            phase=Phase.RESPONSE,
            **facts,
        ),
    ]


def lock_event(kind: type[Any], **facts: Any) -> Event:
    event: Event = kind(
        at=0.0, key=KEY, transport_kind="stdio", lock=LockKind.OPENING, lock_name="opening lock of weather",
        granularity=None, wait_id=1, owner_id=1, owner=Party("opening", 1), **facts,
    )  # fmt: skip
    return event


def report(started_at: float, duration_s: float, *, stall_id: int = 1, **facts: Any) -> StallReport:
    facts = {
        "ongoing": False,
        "cause": StallCause.CPU,
        "culprit": CodeLocation("crunch", "app.py", 3),
        **facts,
    }
    return StallReport(
        loop="planner",
        thread_id=LOOP_THREAD,
        started_at=started_at,
        duration_s=duration_s,
        stall_id=stall_id,
        **facts,
    )


def test_counts_come_from_the_statistics() -> None:
    """Requests, hits, openings and calls are the manager's own counts."""
    counts = {
        "requests_hit": 5, "requests_created": 2, "requests_timeout": 1,
        "openings_ok": 2, "openings_error": 1, "openings_cancelled": 4,
        "calls_ok": 6, "calls_error": 1, "lost": 9,
    }  # fmt: skip
    [row] = summarise_transports({"weather": counts}, [])
    assert (row.requests, row.hits, row.openings, row.failed, row.calls, row.errors) == (8, 5, 2, 1, 7, 1)


def test_lock_waits_are_those_that_had_to_wait() -> None:
    """A lock that was free is no wait; a wait that was given up is one."""
    events = [
        lock_event(LockAcquired, waited_s=0.0, contended=False),
        lock_event(LockAcquired, waited_s=0.5, contended=True),
        lock_event(LockWaitAbandoned, waited_s=2.0, outcome=Outcome.TIMEOUT),
    ]
    [row] = summarise_transports({"weather": {}}, events)
    assert row.lock_waits_s == [0.5, 2.0]


@pytest.mark.parametrize(
    ("started_at", "thread_id", "stalls"),
    [(9.5, LOOP_THREAD, 1), (10.4, LOOP_THREAD, 1), (12.0, LOOP_THREAD, 0), (10.0, 8, 0)],
    ids=["begun before", "begun within", "begun after", "of another thread"],
)
def test_stall_counts_for_the_transports_whose_calls_it_held_up(
    started_at: float, thread_id: int, stalls: int
) -> None:
    """A stall belongs to a transport when a call of its loop's thread was under way, however many."""
    events = [
        *call(started_at, 0.6, call_id=1, thread_id=thread_id),
        *call(started_at, 0.6, call_id=2, thread_id=thread_id),
        LoopRecovered(at=11.0, report=report(10.0, 1.0)),
    ]
    [row] = summarise_transports({"weather": {}}, events)
    assert row.stalls == stalls


def test_stall_is_counted_once_with_its_last_word() -> None:
    """Reports of one stall are one stall; the final one may revise the cause."""
    events = [
        LoopStalled(at=1.0, report=report(0.5, 0.5, ongoing=True, cause=StallCause.UNKNOWN)),
        LoopStalled(at=1.5, report=report(0.5, 1.0, ongoing=True)),
        LoopRecovered(at=1.7, report=report(0.5, 1.2)),
        LoopRecovered(at=9.0, report=report(8.0, 0.4, stall_id=2, cause=StallCause.STARVED, culprit=None)),
    ]
    assert [each.ongoing for each in latest_reports(events)] == [False, False]
    [row] = summarise_loops(events)
    assert (row.stalls, row.longest_s, row.total_s) == (2, 1.2, pytest.approx(1.6))
    assert row.causes == {"cpu": 1, "starved": 1}
    assert row.culprit == "crunch (app.py:3)"


def test_percentile_is_a_value_that_was_seen() -> None:
    """Nearest rank: no value is made up between two, and of nothing there is none."""
    assert percentile([], 50) is None
    assert percentile([3.0], 99) == 3.0
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_tables_name_what_they_count() -> None:
    """The tables have a header, a row each, and a sentence where there is nothing."""
    rows = summarise_transports({"weather": {"requests_hit": 5}, "search": {}}, [])
    header, _, weather, search = describe_transports(rows).splitlines()
    assert header.split()[:5] == ["transport", "requests", "hits", "openings", "failed"]
    assert weather.split()[:3] == ["weather", "5", "5"]
    assert search.split()[0] == "search"
    assert describe_loops([]) == "No event loop stalled."
    stalled = describe_loops(summarise_loops([LoopRecovered(at=2.0, report=report(1.0, 0.75))]))
    assert stalled.splitlines()[-1].split() == (
        ["planner", "cpu", "1", "1", "0.750", "s", "0.750", "s", "crunch", "(app.py:3)"]
    )
