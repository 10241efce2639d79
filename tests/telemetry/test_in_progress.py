from __future__ import annotations

import logging
import threading

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from instrumented_sessions import live
from instrumented_sessions.chain import BlockingChain, ChainLink
from instrumented_sessions.telemetry.otel.in_progress import THREAD_NAME
from instrumented_sessions.vocabulary import LockKind, Phase

from . import story
from .backend import Backend, event_name, seconds


def reports(backend: Backend, name: str) -> list[float]:
    """When the spans in progress of that name ended, in seconds of the story."""
    return [seconds(span.end_time) for span in backend.spans if span.name == f"{name}.in_progress"]


def test_open_call_is_reported_after_1_5_15_60_s_then_each_60_s(backend: Backend) -> None:
    """What hangs is visible while it hangs, ever more rarely."""
    backend.tell(story.called())
    for second in range(250):
        backend.pass_time(float(second))
    assert reports(backend, "tools/call forecast") == [1.0, 5.0, 15.0, 60.0, 120.0, 180.0, 240.0]


def test_report_is_a_back_dated_internal_child(backend: Backend) -> None:
    """No latency panel counts it, no service map sees a second call, and it is found under the open span."""
    backend.tell(story.called())
    backend.pass_time(1.5)
    backend.tell(story.returned(at=2.0))
    child, call = backend.span("tools/call forecast.in_progress"), backend.span("tools/call forecast")
    assert child.parent is not None
    assert child.parent.span_id == call.context.span_id
    assert child.kind is SpanKind.INTERNAL
    assert (seconds(child.start_time), seconds(child.end_time)) == (0.0, 1.5)
    facts = dict(child.attributes or {})
    assert facts["instrumented_sessions.in_progress"] is True
    assert facts["instrumented_sessions.waited_s"] == 1.5
    assert facts["instrumented_sessions.transport.id"] == "weather"
    assert facts["gen_ai.conversation.id"] == "c-7"
    assert facts["code.line.number"] == 42
    assert "mcp.method.name" not in facts
    assert "instrumented_sessions.outcome" not in facts


def test_ended_work_is_reported_no_more(backend: Backend) -> None:
    """Work that ended in time never is."""
    backend.tell(story.called(1), story.called(2), story.returned(1, at=0.5))
    backend.pass_time(1.0)
    backend.tell(story.returned(2, at=2.0))
    backend.pass_time(100.0)
    assert reports(backend, "tools/call forecast") == [1.0]


def test_late_reporter_reports_once(backend: Backend) -> None:
    """A process that was suspended does not catch up on every report it missed."""
    backend.tell(story.called())
    backend.pass_time(130.0)
    backend.pass_time(179.0)
    backend.pass_time(180.0)
    assert reports(backend, "tools/call forecast") == [130.0, 180.0]


def test_work_said_to_be_ancient_is_reported_once(backend: Backend) -> None:
    """A wrong wall clock costs one odd report, not one step for each minute since 1970."""
    backend.tell(story.called(at=-story.T0))
    backend.pass_time(0.0)
    backend.pass_time(19.0)
    assert reports(backend, "tools/call forecast") == [0.0]
    backend.pass_time(40.0)  # T0 is 20 s after a whole minute.
    assert reports(backend, "tools/call forecast") == [0.0, 40.0]


def test_lock_wait_in_progress_names_and_links_the_holder(backend: Backend) -> None:
    """Holder, since when and where are on the report, and the holder's trace is one click away."""
    backend.tell(story.opening(10, key=story.OTHER_KEY, request_id=None), story.opening(11, request_id=None))
    backend.tell(story.waiting())
    backend.pass_time(1.0)
    backend.tell(story.opened(10, key=story.OTHER_KEY))
    child = backend.span("session.lock.wait.in_progress")
    holder = backend.span("session.create")
    assert [link.context.span_id for link in child.links] == [holder.context.span_id]
    facts = dict(child.attributes or {})
    assert facts["instrumented_sessions.holder"] == "opening weather/c-8 #1 at start (app/boot.py:7)"
    assert facts["instrumented_sessions.holder.held_s"] == 4.0
    assert facts["instrumented_sessions.phase"] == "lock"
    assert facts["instrumented_sessions.lock"] == "opening"


def test_request_in_progress_is_followed_to_the_holder(backend: Backend) -> None:
    """The caller's own report leads through the opening it waits for to whoever holds the lock."""
    backend.tell(story.opening(10, key=story.OTHER_KEY, request_id=None))
    backend.tell(story.requested(), story.opening(11), story.waiting())
    backend.pass_time(1.0)
    backend.tell(story.granted(at=1.0), story.opened(11), story.opened(10, key=story.OTHER_KEY))
    child = backend.span("session.acquire.in_progress")
    create = [span.context.span_id for span in backend.spans if span.name == "session.create"]
    assert sorted(link.context.span_id for link in child.links) == sorted(create)
    facts = dict(child.attributes or {})
    assert facts["instrumented_sessions.phase"] == "lock"
    assert facts["instrumented_sessions.holder.conversation.id"] == "c-8"
    assert facts["gen_ai.conversation.id"] == "c-7"


def test_call_that_waits_for_its_lock_says_so(backend: Backend) -> None:
    """A call's report names the phase `lock` and the holder for as long as it waits for a permit."""
    backend.tell(story.called(31), story.waiting(lock=LockKind.CALL, owner_id=31, holder_ids=(30,)))
    backend.pass_time(1.0)
    backend.tell(story.granted(lock=LockKind.CALL, owner_id=31, at=2.0))
    backend.pass_time(5.0)
    first, second = [span for span in backend.spans if span.name == "tools/call forecast.in_progress"]
    assert dict(first.attributes or {})["instrumented_sessions.phase"] == "lock"
    assert "instrumented_sessions.holder" not in (second.attributes or {})


def test_stall_in_progress_carries_the_latest_stacks(backend: Backend) -> None:
    """A stalled loop is explained while it is stalled."""
    backend.tell(story.stalled(duration_s=0.3, culprit=None))
    backend.tell(story.stalled(duration_s=0.9))
    backend.pass_time(1.0)
    child = backend.span("loop.stall.in_progress")
    assert seconds(child.start_time) == 0.0
    assert dict(child.attributes or {})["code.function.name"] == "handler"
    assert [event.name for event in child.events] == ["stack"]


def test_report_is_a_log_event_in_the_open_span(backend: Backend) -> None:
    """A backend of logs shows it at the trace that hangs, and a person can read it."""
    backend.tell(story.opening(11, request_id=None), story.waiting())
    backend.pass_time(1.0)
    backend.tell(story.granted(at=1.0))
    (record,) = [record for record in backend.logs if record.severity_number is SeverityNumber.WARN]
    wait = backend.span("session.lock.wait")
    assert (record.trace_id, record.span_id) == (wait.context.trace_id, wait.context.span_id)
    assert event_name(record) == "instrumented_sessions.in_progress"
    assert record.attributes["instrumented_sessions.in_progress"] is True
    assert record.body == (
        "session.lock.wait of session weather/c-7 still in progress after 1.0 s, phase lock,"
        " asked by task 'task-a' in thread 'worker-1' at handler (app/agent.py:42);"
        " waits for opening lock of transport weather,"
        " held for 4.0 s by opening weather/c-8 #1 at start (app/boot.py:7)"
    )


def test_usual_work_is_logged_quietly(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """A slow start is no warning before 5 s, a call none before 15 s; a lock and a stall are one at once."""
    caplog.set_level(logging.INFO, logger="instrumented_sessions")
    backend.tell(story.called(), story.requested(), story.waiting())
    for second in (1.0, 5.0, 14.0):
        backend.pass_time(second)
    backend.tell(story.stalled(started_at=story.T0 + 14.0))
    backend.pass_time(15.0)
    levels = {
        name: [record.levelname for record in caplog.records if record.message.startswith(name)]
        for name in ("tools/call", "session.acquire", "session.lock.wait", "loop 'main'")
    }
    assert levels == {
        "tools/call": ["INFO", "INFO", "WARNING"],
        "session.acquire": ["INFO", "WARNING", "WARNING"],
        "session.lock.wait": ["WARNING", "WARNING", "WARNING"],
        "loop 'main'": ["WARNING"],
    }
    assert caplog.records[-1].message == (
        "loop 'main' has not run for 1.0 s, cause blocking_call at handler (app/agent.py:42)"
    )


def test_explanation_of_the_manager_wins(backend: Backend) -> None:
    """Phase, stacks and what the holder is doing come from whoever can see them now."""
    asked: list[int] = []

    def explain(id: int) -> BlockingChain:
        asked.append(id)
        link = ChainLink(
            "opening weather/c-8", story.HOLDER, 9.0, "connects to the server", ("run (b.py:1)",)
        )
        return BlockingChain(
            story.KEY, Phase.QUEUE, 1.0, story.CALLER, story.T0, (link,), waiter_stack=("main (a.py:1)",)
        )

    backend.observer.reporter.explain = explain
    backend.tell(story.requested(7))
    backend.pass_time(1.0)
    facts = dict(backend.span("session.acquire.in_progress").attributes or {})
    assert asked == [7]
    assert facts["instrumented_sessions.phase"] == "queue"
    assert facts["instrumented_sessions.doing"] == "connects to the server"
    assert facts["instrumented_sessions.stack"] == "main (a.py:1)"
    assert facts["instrumented_sessions.holder.stack"] == "run (b.py:1)"
    assert facts["instrumented_sessions.holder.held_s"] == 9.0
    assert backend.logs[0].body.startswith("task 'task-a' in thread 'worker-1'")


def test_failing_explanation_is_done_without(backend: Backend) -> None:
    """A report with what events say is better than none."""

    def explain(id: int) -> BlockingChain:
        raise RuntimeError("no")

    backend.observer.reporter.explain = explain
    backend.tell(story.requested())
    backend.pass_time(1.0)
    assert reports(backend, "session.acquire") == [1.0]


def test_unsampled_work_is_reported_as_a_log_only() -> None:
    """A child is sampled as its parent is; people still learn of it."""
    backend = Backend(ALWAYS_OFF)
    backend.tell(story.requested())
    backend.pass_time(1.0)
    assert backend.spans == []
    assert len(backend.logs) == 1
    backend.close()


def test_thread_reports_by_itself_and_ends_on_close() -> None:
    """No loop and no caller has to run for it."""
    before = set(threading.enumerate())
    backend = Backend(report_in_progress=True)
    reported = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reported.set()

    handler = Watch()
    logger = logging.getLogger("instrumented_sessions")
    logger.addHandler(handler)
    try:
        backend.clock.now = 1.0  # The wait below began a second ago.
        backend.tell(story.waiting(at=0.0))
        assert reported.wait(5)
        assert THREAD_NAME in [thread.name for thread in set(threading.enumerate()) - before]
    finally:
        logger.removeHandler(handler)
        backend.close()
    assert set(threading.enumerate()) <= before
    backend.tell(story.requested(2))  # After close it is recorded, and reported no more.


def test_thread_is_not_started_before_there_is_work() -> None:
    """Importing the package starts nothing."""
    before = set(threading.enumerate())
    backend = Backend(report_in_progress=True)
    assert set(threading.enumerate()) == before
    backend.close()


def test_flood_of_waits_is_reported_in_part(backend: Backend) -> None:
    """When thousands wait for one lock a hundred say so, the oldest first, and the rest is counted."""
    backend.tell(*(story.requested(request_id, at=request_id / 10_000) for request_id in range(1_000)))
    backend.pass_time(1.2)
    assert len(reports(backend, "session.acquire")) == 100
    assert backend.observer.read_live().dropped == {"opentelemetry": 900}


def test_wait_is_explained_by_its_owner(backend: Backend) -> None:
    """A lock wait has no books of its own: its opening or call is asked for; a user's lock by itself."""
    asked: list[int] = []
    backend.observer.reporter.explain = asked.append
    backend.tell(story.waiting(21, owner_id=11), story.waiting(22, owner_id=None, lock=None, key=None))
    backend.pass_time(1.0)
    assert asked == [11, 22]


def test_live_source_explains() -> None:
    """Whoever is registered in `live` may explain what it knows of."""

    class Manager:
        def read_live(self) -> live.Reading:
            return live.Reading()

        def explain_live(self, id: int) -> BlockingChain | None:
            return BlockingChain(story.KEY, Phase.CONNECT, 1.0, story.CALLER, story.T0) if id == -7 else None

    manager = Manager()
    live.register(manager)
    try:
        chain = live.explain(-7)
        assert chain is not None
        assert chain.phase is Phase.CONNECT
        assert live.explain(-8) is None
    finally:
        live.retire(manager)
