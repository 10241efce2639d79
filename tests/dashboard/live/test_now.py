"""dashboard/live: what a snapshot shows."""

from __future__ import annotations

import pytest
from instrumented_sessions_dashboard.live import Live
from instrumented_sessions_dashboard.rows import Span, SpanEvent
from instrumented_sessions_dashboard.schemas import Now

from instrumented_sessions.telemetry import catalog
from tests.dashboard.building import AGENT, OTHER_AGENT, T0, batch, gauge, lock_wait, report_of, span


class Clock:
    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> Live:
    return Live(clock)


SEARCH = {catalog.TRANSPORT_ID: "search", catalog.CONVERSATION_ID: "c-7", catalog.MCP_TRANSPORT: "http"}


def chain_of_waits() -> tuple[Span, ...]:
    """Return the reports of a request, its opening, and that opening's wait for its lock."""
    request = span(catalog.SPAN_ACQUIRE, start=T0 - 12, facts=SEARCH)
    opening = span(catalog.SPAN_CREATE, start=T0 - 12, facts=SEARCH, trace_id=request.trace_id)
    wait = span(catalog.SPAN_LOCK_WAIT, start=T0 - 12, facts=SEARCH, trace_id=request.trace_id)
    return (
        report_of(
            request,
            12.0,
            phase="lock",
            code_function="answer",
            code_file="a.py",
            code_line=7,
            thread_name="main",
        ),
        report_of(opening, 12.0),
        report_of(
            wait,
            12.0,
            lock="opening",
            lock_name="opening lock of transport search",
            holder="opening search/c-1 #1",
            holder_held_s=14.0,
            holder_count=4,
            holder_stack="a (a.py:1)\nb (b.py:2)",
            doing="waits for the server",
        ),
    )


def test_nested_spans_of_one_request_are_one_wait(live: Live) -> None:
    """Caller, lock, holder and what the holder does are told in one entry."""
    live.apply(batch(*chain_of_waits()), T0)
    (wait,) = live.now().waits
    assert (wait.kind, wait.phase, wait.transport, wait.conversation) == ("request", "lock", "search", "c-7")
    assert [step.kind for step in wait.steps] == ["request", "opening", "lock"]
    assert wait.waited_s == pytest.approx(12.0)
    assert wait.code is not None
    assert (wait.code.function, wait.code.line, wait.thread) == ("answer", 7, "main")
    assert wait.lock == "opening"
    assert wait.doing == "waits for the server"
    assert wait.holder is not None
    assert (wait.holder.name, wait.holder.count) == ("opening search/c-1 #1", 4)
    assert wait.holder.stack == ["a (a.py:1)", "b (b.py:2)"]
    assert wait.holder.held_s == pytest.approx(14.0)


def test_ages_grow_between_reports(live: Live, clock: Clock) -> None:
    """A wait gets older, and so does what it waits for, without any news."""
    live.apply(batch(*chain_of_waits()), T0)
    clock.at = T0 + 3
    (wait,) = live.now().waits
    assert wait.waited_s == pytest.approx(15.0)
    assert wait.holder is not None
    assert wait.holder.held_s == pytest.approx(17.0)


def test_requests_side_by_side_in_one_trace_stay_apart(live: Live) -> None:
    """An agent that asks for the same session three times at once waits three times."""
    trace_id = b"t" * 16
    requests = [span(catalog.SPAN_ACQUIRE, start=T0 - i, facts=SEARCH, trace_id=trace_id) for i in (3, 2, 1)]
    opening = span(catalog.SPAN_CREATE, start=T0 - 3, facts=SEARCH, trace_id=trace_id)
    live.apply(batch(*(report_of(one, 1.0) for one in [*requests, opening])), T0 - 1)
    waits = live.now().waits
    assert [len(wait.steps) for wait in waits] == [2, 1, 1]
    assert [wait.started_at for wait in waits] == sorted(wait.started_at for wait in waits)


def test_gauges_alone_show_a_wait(live: Live) -> None:
    """A wait that is too young for a report, or was not sampled, is not hidden."""
    live.apply(
        batch(
            gauge(catalog.LOCK_WAITERS, 3, "search", "opening"),
            gauge(catalog.LOCK_OLDEST_WAITER_AGE, 0.8, "search", "opening"),
        ),
        T0,
    )
    now = live.now()
    (wait,) = now.waits
    assert (wait.source, wait.waiters, wait.transport, wait.phase) == ("gauges", 3, "search", "lock")
    assert wait.waited_s == pytest.approx(0.8)
    assert now.waits_total == 3
    assert now.verdict.level == "warn"


def test_gauges_add_nothing_to_a_wait_that_spans_tell_of(live: Live) -> None:
    """The same wait is not shown twice."""
    waiters = gauge(catalog.LOCK_WAITERS, 1, "search", "opening")
    live.apply(batch(*chain_of_waits(), waiters), T0)
    assert [wait.source for wait in live.now().waits] == ["spans"]


def test_old_gauges_show_no_wait(live: Live, clock: Clock) -> None:
    """A gauge of twenty seconds ago does not tell what is now."""
    live.apply(batch(gauge(catalog.LOCK_WAITERS, 3, "search", "opening")), T0)
    clock.at = T0 + 20
    assert live.now().waits == []


def test_gauge_that_is_older_than_the_end_of_a_wait_shows_none(live: Live, clock: Clock) -> None:
    """Spans come at once, gauges every few seconds: the wait they counted may be over."""
    live.apply(batch(gauge(catalog.LOCK_WAITERS, 1, "weather", "opening")), T0)
    assert live.lock_gauges()[catalog.LOCK_WAITERS.name] == {("weather", "opening"): 1.0}
    clock.at = T0 + 2
    live.apply(batch(lock_wait(2.0)), T0 + 2)
    assert live.now().waits == []
    assert live.lock_gauges()[catalog.LOCK_WAITERS.name] == {("weather", "opening"): 0.0}
    live.apply(batch(gauge(catalog.LOCK_WAITERS, 1, "weather", "opening", at=T0 + 4)), T0 + 4)
    clock.at = T0 + 4
    assert [wait.source for wait in live.now().waits] == ["gauges"]


def test_open_waits_count_where_no_gauge_tells(live: Live) -> None:
    """A process that sends spans only is not without waiters."""
    wait = lock_wait(start=T0 - 5)
    live.apply(batch(report_of(wait, 5.0)), T0)
    gauges = live.lock_gauges()
    assert gauges[catalog.LOCK_WAITERS.name] == {("weather", "opening"): 1.0}
    assert gauges[catalog.LOCK_OLDEST_WAITER_AGE.name] == {("weather", "opening"): pytest.approx(5.0)}


def test_gauge_that_is_no_longer_reported_is_gone(live: Live) -> None:
    """Only the points of a process's newest report count."""
    live.apply(batch(gauge(catalog.SESSIONS, 1, "a", "ready"), gauge(catalog.SESSIONS, 2, "b", "ready")), T0)
    live.apply(batch(gauge(catalog.SESSIONS, 5, "b", "ready", at=T0 + 5)), T0 + 5)
    assert [(one.transport, one.by_state) for one in live.now().sessions] == [("b", {"ready": 5})]


def test_sessions_are_summed_over_processes_that_still_report(live: Live, clock: Clock) -> None:
    """A process that stopped no longer has sessions."""
    for at in (T0, T0 + 5):
        live.apply(batch(gauge(catalog.SESSIONS, 2, "a", "ready", at=at)), at)
        live.apply(batch(gauge(catalog.SESSIONS, 3, "a", "ready", at=at, resource=OTHER_AGENT)), at)
    assert live.now().sessions[0].total == 5
    clock.at = T0 + 60
    live.apply(batch(gauge(catalog.SESSIONS, 2, "a", "ready", at=T0 + 10)), T0 + 60)
    assert live.now().sessions[0].total == 2


def test_stall_shows_its_cause_culprit_and_stacks(live: Live) -> None:
    """A loop that is stalled is reported while it lasts, then gone."""
    facts = {
        catalog.LOOP: "main", catalog.CAUSE: "blocking_call", catalog.CODE_FUNCTION: "load",
        catalog.CODE_FILE: "prices.py", catalog.CODE_LINE: 17,
    }  # fmt: skip
    stalled = span(catalog.SPAN_STALL, start=T0 - 5, lasted_s=6.0, facts=facts)
    event = SpanEvent(
        "stack", 0, {catalog.CODE_STACKTRACE: "main (m.py:1)\nload (prices.py:17)", catalog.STACK_COUNT: 9}
    )
    live.apply(batch(report_of(stalled, 5.0)._replace(events=(event,))), T0)
    now = live.now()
    (stall,) = now.stalls
    assert (stall.loop, stall.cause, stall.ongoing) == ("main", "blocking_call", True)
    assert stall.duration_s == pytest.approx(5.0)
    assert stall.stacks[0].count == 9
    assert stall.stacks[0].frames == ["main (m.py:1)", "load (prices.py:17)"]
    assert now.verdict.sentence == (
        "Loop main of agent has been stalled for 5.0 s by blocking call at load (prices.py:17)."
    )
    assert now.verdict.level == "bad"
    live.apply(batch(stalled), T0 + 1)
    assert live.now().stalls == []


def test_heartbeat_that_is_overdue_shows_a_stall(live: Live) -> None:
    """A stalled loop is seen by its gauge even where no span tells of it."""
    live.apply(
        batch(
            gauge(catalog.LOOP_HEARTBEAT_AGE, 3.0, "main"), gauge(catalog.LOOP_HEARTBEAT_AGE, 0.1, "portal")
        ),
        T0,
    )
    assert [(stall.loop, stall.cause) for stall in live.now().stalls] == [("main", "unknown")]


def verdict_of(now: Now) -> tuple[str, str]:
    return now.verdict.level, now.verdict.sentence


def test_verdict_before_the_first_report(live: Live) -> None:
    """An empty dashboard says what to do."""
    assert verdict_of(live.now()) == (
        "unknown", "Nothing has been reported yet: send OTLP/HTTP to this address.",
    )  # fmt: skip


def test_verdict_when_all_is_well(live: Live) -> None:
    """It says what it bases that on."""
    live.apply(
        batch(gauge(catalog.SESSIONS, 4, "a", "ready"), gauge(catalog.LOOP_HEARTBEAT_AGE, 0.1, "portal")), T0
    )
    assert verdict_of(live.now()) == ("ok", "Nothing waits; 1 loop answers; 4 sessions are ready.")


def test_verdict_names_the_oldest_wait_and_its_holder(live: Live) -> None:
    """One sentence from the waiter to what the holder is doing."""
    live.apply(batch(*chain_of_waits()), T0)
    assert verdict_of(live.now()) == (
        "bad",
        "One waits; the oldest, for search/c-7, has waited 12 s in phase lock: opening search/c-1 #1 has held"
        " the lock for 14 s and waits for the server.",
    )


def test_verdict_remembers_trouble_for_five_minutes(live: Live, clock: Clock) -> None:
    """What went wrong a moment ago is told; then it is history."""
    live.apply(
        batch(span(catalog.SPAN_ACQUIRE, start=T0 - 1, facts={**SEARCH, catalog.OUTCOME: "timeout"})), T0
    )
    assert live.now().verdict.level == "warn"
    assert live.now().verdict.details == ["In the last five minutes: 1 timeout on search"]
    clock.at = T0 + 301
    live.apply(batch(gauge(catalog.SESSIONS, 4, "a", "ready", at=clock.at)), clock.at)
    assert live.now().verdict.level == "ok"


def test_verdict_is_unknown_when_everybody_fell_silent(live: Live, clock: Clock) -> None:
    """No news is not good news."""
    live.apply(batch(gauge(catalog.SESSIONS, 4, "a", "ready")), T0)
    clock.at = T0 + 120
    assert verdict_of(live.now()) == ("unknown", "No news from agent for 2 min.")


def test_restored_reports_show_until_they_are_stale(live: Live, clock: Clock) -> None:
    """After a restart of the dashboard, waits that were reported before are there."""
    from instrumented_sessions_dashboard.store.protocol import StoredSpan

    live.restore([StoredSpan(report_of(lock_wait(start=T0 - 20), 15.0), T0 - 5)])
    assert len(live.now().waits) == 1
    clock.at = T0 + 60
    assert live.now().waits == []


def test_waits_listed_are_bounded_and_the_rest_is_counted(live: Live) -> None:
    """Hundreds of waiters do not make a page of hundreds."""
    live.apply(batch(*(report_of(lock_wait(start=T0 - 2), 1.0) for _ in range(250))), T0 - 1)
    now = live.now()
    assert (len(now.waits), now.waits_total) == (200, 250)


def test_processes_are_listed_with_their_silence(live: Live, clock: Clock) -> None:
    """Who reported, the latest first."""
    live.apply(batch(gauge(catalog.SESSIONS, 1, "a", "ready")), T0)
    clock.at = T0 + 7
    live.apply(batch(gauge(catalog.SESSIONS, 1, "a", "ready", resource=OTHER_AGENT)), T0 + 7)
    assert [(one.instance, one.silent_s) for one in live.now().processes] == [
        (OTHER_AGENT.instance, 0.0), (AGENT.instance, 7.0),
    ]  # fmt: skip
