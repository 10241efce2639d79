from __future__ import annotations

from typing import Any

import pytest

from instrumented_sessions import live
from instrumented_sessions.chain import BlockingChain
from instrumented_sessions.errors import SessionOpenError, SessionTimeoutError
from instrumented_sessions.events import BlockingCallRefused, DeadlockDetected, Event
from instrumented_sessions.telemetry import catalog
from instrumented_sessions.telemetry.measure import Labels, Measure
from instrumented_sessions.vocabulary import (
    LockGranularity,
    LockKind,
    OpenFailure,
    Outcome,
    Phase,
    SessionState,
    StallCause,
)

from . import story


def samples(measure: Measure, *events: Event) -> list[tuple[str, float, Labels]]:
    return [
        (metric.name, value, labels) for event in events for metric, value, labels in measure.samples(event)
    ]


def counts(measure: Measure, metric: catalog.Metric) -> dict[Labels, float]:
    return dict(measure.read(live.Reading())[metric.name])


def test_acquired_request_counts_and_measures() -> None:
    """A request that waited is counted by outcome, and its wait is measured."""
    measure = Measure()
    assert samples(measure, story.acquired(waited_s=1.5, outcome=Outcome.JOINED)) == [
        ("instrumented_sessions.session.acquire.duration", 1.5, ("weather", "joined"))
    ]
    assert counts(measure, catalog.SESSION_REQUESTS) == {("weather", "joined"): 1}


def test_hits_are_read_live_and_never_measured() -> None:
    """Warm requests appear in the counter beside the others."""
    measure = Measure()
    samples(measure, story.acquired())
    values = measure.read(live.Reading(hits={"weather": 7}))
    assert values["instrumented_sessions.session.requests"] == {
        ("weather", "created"): 1,
        ("weather", "hit"): 7,
    }


def test_refused_blocking_request_is_counted() -> None:
    """`session()` on a loop is a refused request; other doors are not requests for a session."""
    measure = Measure()
    for door in ("session()", "call_tool()"):
        samples(measure, BlockingCallRefused(story.T0, story.KEY, door, "a", story.CALLER))
    assert counts(measure, catalog.SESSION_REQUESTS) == {("weather", "refused"): 1}


def test_opening_is_measured_from_its_grant() -> None:
    """An opening that never got its lock did not take no time: it is left out."""
    measure = Measure()
    assert samples(
        measure,
        story.opened(duration_s=0.75),
        story.opened(12, outcome=Outcome.TIMEOUT, duration_s=0.0, phase=Phase.LOCK),
        story.opened(13, outcome=Outcome.ERROR, duration_s=0.0, phase=Phase.CONNECT),
    ) == [
        ("instrumented_sessions.session.create.duration", 0.75, ("weather", "ok")),
        ("instrumented_sessions.session.create.duration", 0.0, ("weather", "error")),
    ]


def test_only_contended_waits_are_measured_and_all_holds() -> None:
    """A free lock adds to the holds, not to the waits; a wait that gave up adds to the waits."""
    measure = Measure()
    labels = ("weather", "opening", "transport")
    assert samples(
        measure,
        story.granted(contended=False, waited_s=0.0),
        story.granted(waited_s=0.25),
        story.abandoned(waited_s=3.0),
        story.released(held_s=0.75),
    ) == [
        ("instrumented_sessions.lock.wait.duration", 0.25, labels),
        ("instrumented_sessions.lock.wait.duration", 3.0, labels),
        ("instrumented_sessions.lock.hold.duration", 0.75, labels),
    ]
    assert counts(measure, catalog.LOCK_TIMEOUTS) == {("weather", "opening"): 1}


def test_users_own_locks_are_not_in_metrics() -> None:
    """`ThreadLock` and `TaskLock` names could be anything."""
    measure = Measure()
    assert (
        samples(
            measure,
            story.granted(**story.OWN_LOCK),
            story.abandoned(**story.OWN_LOCK),
            story.released(**story.OWN_LOCK),
        )
        == []
    )
    assert counts(measure, catalog.LOCK_TIMEOUTS) == {}


@pytest.mark.parametrize(("lock", "label"), [(LockKind.CALL, "call"), (None, "opening")])
def test_deadlock_is_counted_under_its_lock(lock: LockKind | None, label: str) -> None:
    """The victim's transport is charged; joining an opening counts as the opening lock."""
    measure = Measure()
    cycle = BlockingChain(story.KEY, Phase.LOCK, 0.0, story.CALLER, story.T0, is_cycle=True)
    own = BlockingChain(None, Phase.LOCK, 0.0, story.CALLER, story.T0, is_cycle=True)
    samples(measure, DeadlockDetected(story.T0, cycle, lock), DeadlockDetected(story.T0, own, None))
    assert counts(measure, catalog.LOCK_DEADLOCKS) == {("weather", label): 1}


@pytest.mark.parametrize(
    ("facts", "failure", "code"),
    [
        ({}, "", ""),
        ({"outcome": Outcome.TIMEOUT, "error": SessionTimeoutError("late")}, "timeout", ""),
        ({"outcome": Outcome.CANCELLED}, "cancelled", ""),
        ({"outcome": Outcome.ERROR, "error": story.JsonRpcError(-32602, "secret")}, "-32602", "-32602"),
        (
            {"outcome": Outcome.ERROR, "error": SessionOpenError("no", category=OpenFailure.FORBIDDEN)},
            "forbidden",
            "",
        ),
        ({"outcome": Outcome.ERROR, "error": KeyError("secret")}, "KeyError", ""),
        ({"tool_error": True}, "tool_error", ""),
    ],
)
def test_call_is_measured_by_convention(facts: dict[str, Any], failure: str, code: str) -> None:
    """Method, tool, error, network and kind; never a message, an argument or a conversation."""
    assert samples(Measure(), story.returned(duration_s=0.5, **facts)) == [
        ("mcp.client.operation.duration", 0.5, ("tools/call", "forecast", failure, code, "pipe", "stdio"))
    ]


def test_tool_names_are_bounded() -> None:
    """A model that makes names up cannot make series up."""
    measure = Measure()
    seen = {samples(measure, story.returned(target=f"tool-{number}"))[0][2][1] for number in range(500)}
    assert len(seen) == 201
    assert catalog.OTHER in seen


def test_session_duration_is_measured_once_when_it_ends() -> None:
    """From READY or DRAINING to an end; a broken one says why."""
    measure = Measure()
    assert samples(
        measure,
        story.changed(SessionState.CREATING, SessionState.READY, 0.0),
        story.changed(SessionState.READY, SessionState.DRAINING, 9.0),
        story.changed(SessionState.DRAINING, SessionState.COLD, 10.0),
        story.changed(
            SessionState.READY, SessionState.BROKEN, 20.0, error=ConnectionError("gone"), transport_kind="sse"
        ),
        story.changed(SessionState.BROKEN, SessionState.CLOSED, 20.0),
    ) == [
        ("mcp.client.session.duration", 10.0, ("", "pipe", "stdio")),
        ("mcp.client.session.duration", 20.0, ("ConnectionError", "tcp", "sse")),
    ]


def test_stall_is_counted_once() -> None:
    """While it lasts once its cause has settled, else at its end; the duration is the final one."""
    measure = Measure()
    short = samples(measure, story.stalled(1, 0.3), story.recovered(1, 0.4, cause=StallCause.GC))
    assert short == [("instrumented_sessions.loop.stall.duration", 0.4, ("main", "gc"))]
    assert samples(measure, story.stalled(2, 0.3), story.stalled(2, 1.0)) == []
    assert counts(measure, catalog.LOOP_STALLS) == {("main", "gc"): 1, ("main", "blocking_call"): 1}
    samples(measure, story.stalled(2, 5.0), story.recovered(2, 6.0))
    assert counts(measure, catalog.LOOP_STALLS) == {("main", "gc"): 1, ("main", "blocking_call"): 1}


def test_each_tick_is_a_sample_of_lag() -> None:
    """A window's ticks are all in the histogram."""
    assert samples(Measure(), story.heartbeat(0.001, 0.2)) == [
        ("instrumented_sessions.loop.lag", 0.001, ("main",)),
        ("instrumented_sessions.loop.lag", 0.2, ("main",)),
    ]


def test_gauges_are_what_is_true_now() -> None:
    """Ages, waiters and states are passed through with plain string labels."""
    reading = live.Reading(
        sessions={("weather", SessionState.READY): 2},
        waiters={("weather", LockKind.OPENING): 3},
        oldest_waiter_age_s={("weather", "opening"): 4.0},
        holder_age_s={("weather", "opening"): 5.0},
        heartbeat_age_s={"main": 6.0},
        stall_age_s={("main", StallCause.CPU): 6.0},
        dropped={"slow": 7},
        watchdog_cpu_s=0.25,
    )
    values = Measure().read(reading)
    assert values["instrumented_sessions.sessions"] == {("weather", "ready"): 2}
    assert values["instrumented_sessions.lock.waiters"] == {("weather", "opening"): 3}
    assert values["instrumented_sessions.lock.oldest_waiter.age"] == {("weather", "opening"): 4.0}
    assert values["instrumented_sessions.lock.holder.age"] == {("weather", "opening"): 5.0}
    assert values["instrumented_sessions.loop.heartbeat.age"] == {("main",): 6.0}
    assert values["instrumented_sessions.loop.stall.age"] == {("main", "cpu"): 6.0}
    assert values["instrumented_sessions.telemetry.dropped"] == {("slow",): 7}
    assert values["instrumented_sessions.watchdog.cpu.time"] == {(): 0.25}
    assert all(type(word) is str for labels in values["instrumented_sessions.sessions"] for word in labels)


def test_granularity_labels_are_words() -> None:
    """Every granularity has its own series."""
    measure = Measure()
    labels = [samples(measure, story.released(granularity=word))[0][2][2] for word in LockGranularity]
    assert labels == ["global", "transport", "session"]


def test_reset_begins_at_zero() -> None:
    """After a fork the child counts for itself."""
    measure = Measure()
    samples(measure, story.acquired(), story.stalled(1, 2.0))
    measure.reset()
    assert counts(measure, catalog.SESSION_REQUESTS) == {}
    assert counts(measure, catalog.LOOP_STALLS) == {}
