from __future__ import annotations

import contextvars
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from instrumented_sessions.errors import SessionTimeoutError
from instrumented_sessions.telemetry.otel import OpenTelemetryObserver
from instrumented_sessions.telemetry.otel.work import WorkKind
from instrumented_sessions.vocabulary import LockKind, OpenFailure, Outcome, Phase

from . import story
from .backend import Backend, seconds

COMMON = {
    "instrumented_sessions.transport.id": "weather",
    "mcp.transport": "stdio",
    "gen_ai.conversation.id": "c-7",
}


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_acquire_is_child_of_the_callers_span(backend: Backend) -> None:
    """A request that waits is a span of its own, under whatever the caller was doing."""
    with backend.tracers.get_tracer("app").start_as_current_span("agent step") as step:
        backend.tell(story.requested())
    backend.tell(story.acquired(at=1.0))
    span = backend.span("session.acquire")
    assert parent(span) == step.get_span_context().span_id
    assert (seconds(span.start_time), seconds(span.end_time)) == (0.0, 1.0)
    assert span.kind is SpanKind.INTERNAL
    assert attributes(span) == {
        **COMMON,
        "instrumented_sessions.limit_s": 60.0,
        "instrumented_sessions.waited_s": 1.0,
        "instrumented_sessions.outcome": "created",
        "instrumented_sessions.phase": "negotiate",
        "thread.id": 101,
        "thread.name": "worker-1",
        "instrumented_sessions.task.name": "task-a",
        "code.function.name": "handler",
        "code.file.path": "/app/agent.py",
        "code.line.number": 42,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_acquire_of_a_call_is_child_of_that_call(backend: Backend) -> None:
    """A call on a handle whose session has to be opened again owns that wait."""
    backend.tell(story.called(), story.requested(call_id=31), story.acquired(), story.returned(at=2.0))
    assert parent(backend.span("session.acquire")) == backend.span("tools/call forecast").context.span_id


def test_opening_is_child_of_the_first_request_and_linked_by_all(backend: Backend) -> None:
    """The first requester's trace holds the opening; those who joined link to it, also when it has ended."""
    backend.tell(story.requested(1), story.opening(request_id=1), story.requested(2))
    backend.tell(story.opened(at=1.0), story.acquired(1), story.acquired(2, outcome=Outcome.JOINED))
    create = backend.span("session.create")
    first, second = [span for span in backend.spans if span.name == "session.acquire"]
    assert parent(create) == first.context.span_id
    assert parent(second) is None
    assert linked(first) == linked(second) == [create.context.span_id]
    assert attributes(create) == {
        **COMMON,
        "instrumented_sessions.generation": 1,
        "instrumented_sessions.waited_s": 0.25,
        "instrumented_sessions.outcome": "ok",
        "instrumented_sessions.phase": "negotiate",
    }


def test_opening_without_a_request_is_a_root(backend: Backend) -> None:
    """It does not become the child of whoever happens to be current on the portal."""
    with backend.tracers.get_tracer("app").start_as_current_span("somebody else"):
        backend.tell(story.opening(request_id=None), story.opened())
    assert parent(backend.span("session.create")) is None


def test_spans_of_the_sdk_nest_under_opening_and_call(backend: Backend) -> None:
    """Inside `scope` our span is the current one, so nothing is traced twice, only deeper."""
    sdk = backend.tracers.get_tracer("mcp-python-sdk")
    opening, call = story.opening(request_id=None), story.called()
    for event, name in ((opening, "initialize"), (call, "MCP send tools/call forecast")):
        backend.tell(event)
        with backend.observer.scope(event), sdk.start_as_current_span(name):
            pass
        assert not trace.get_current_span().get_span_context().is_valid
    backend.tell(story.opened(), story.returned())
    assert parent(backend.span("initialize")) == backend.span("session.create").context.span_id
    call_span = backend.span("tools/call forecast")
    assert parent(backend.span("MCP send tools/call forecast")) == call_span.context.span_id


def test_scope_of_unknown_work_changes_nothing(backend: Backend) -> None:
    """The span may have been dropped; the program's own stays current."""
    with backend.tracers.get_tracer("app").start_as_current_span("agent step") as step:
        with backend.observer.scope(story.called(99)):
            assert trace.get_current_span() is step


def test_call_follows_the_mcp_convention(backend: Backend) -> None:
    """A client span named after method and tool, without arguments."""
    backend.tell(story.called(), story.returned(at=0.5))
    span = backend.span("tools/call forecast")
    assert span.kind is SpanKind.CLIENT
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "instrumented_sessions"
    facts = attributes(span)
    assert {key: facts[key] for key in facts if not key.startswith(("thread.", "code."))} == {
        **COMMON,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "forecast",
        "gen_ai.operation.name": "execute_tool",
        "network.transport": "pipe",
        "instrumented_sessions.task.name": "task-a",
        "instrumented_sessions.outcome": "ok",
        "instrumented_sessions.phase": "response",
    }


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("tools/list", None, "tools/list"),
        ("run", "refresh", "run refresh"),
        ("prompts/get", "greet", "prompts/get greet"),
        ("resources/read", "file:///secret", "resources/read"),
    ],
)
def test_span_name_has_only_low_cardinality_targets(
    backend: Backend, method: str, target: str | None, name: str
) -> None:
    """Names of tools, prompts and functions are few; addresses are not."""
    facts: dict[str, Any] = {"method": method, "target": target}
    backend.tell(story.called(**facts), story.returned(**facts))
    assert "secret" not in str(attributes(backend.span(name)))


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.ERROR, Outcome.DEADLOCK])
def test_failed_work_ends_its_span_with_an_error(backend: Backend, outcome: Outcome) -> None:
    """Cancelled and timed-out work is not left open, and says how it ended."""
    backend.tell(story.requested(), story.called(), story.opening(), story.waiting())
    backend.tell(
        story.abandoned(outcome=outcome),
        story.opened(outcome=outcome),
        story.acquired(outcome=outcome),
        story.returned(outcome=outcome),
    )
    assert len(backend.spans) == 4
    for span in backend.spans:
        assert attributes(span)["instrumented_sessions.outcome"] == outcome.value
        assert attributes(span)["error.type"] == outcome.value
        assert span.status.status_code is StatusCode.ERROR


def test_tool_error_is_marked_by_the_convention(backend: Backend) -> None:
    """The call worked, so its outcome is `ok`; the tool did not, so the span is one of errors."""
    backend.tell(story.called(), story.returned(tool_error=True))
    span = backend.span("tools/call forecast")
    assert attributes(span)["error.type"] == "tool_error"
    assert attributes(span)["instrumented_sessions.outcome"] == "ok"
    assert span.status.status_code is StatusCode.ERROR


def test_messages_of_foreign_errors_are_not_recorded(backend: Backend) -> None:
    """A server's message may quote arguments; ours say what, which and how long."""
    backend.tell(
        story.called(1), story.returned(1, outcome=Outcome.ERROR, error=story.JsonRpcError(-32602, "secret"))
    )
    late = SessionTimeoutError("no session within 1.0 s")
    backend.tell(story.called(2), story.returned(2, outcome=Outcome.TIMEOUT, error=late))
    foreign, ours = backend.spans
    assert "secret" not in foreign.to_json()
    assert attributes(foreign)["rpc.response.status_code"] == "-32602"
    assert attributes(foreign)["error.type"] == "-32602"
    assert ours.status.description == "no session within 1.0 s"


def test_failed_opening_names_its_category(backend: Backend) -> None:
    """What failed is an attribute, not only text."""
    backend.tell(story.opening(), story.opened(outcome=Outcome.ERROR, category=OpenFailure.UNAUTHORIZED))
    assert attributes(backend.span("session.create"))["instrumented_sessions.open_failure"] == "unauthorized"


def test_lock_wait_links_to_the_holder_and_repeats_its_facts(backend: Backend) -> None:
    """The holder's trace is one click away, and its facts are there where it was not sampled."""
    backend.tell(story.opening(10, key=story.OTHER_KEY, request_id=None), story.opening(11, request_id=None))
    backend.tell(
        story.waiting(), story.granted(at=0.25), story.opened(10, key=story.OTHER_KEY), story.opened(11)
    )
    wait = backend.span("session.lock.wait")
    holder, waiter = [span for span in backend.spans if span.name == "session.create"]
    assert parent(wait) == waiter.context.span_id
    assert linked(wait) == [holder.context.span_id]
    facts = attributes(wait)
    assert facts == {
        **COMMON,
        **{key: value for key, value in facts.items() if key.startswith(("thread.", "code."))},
        "instrumented_sessions.task.name": "task-a",
        "instrumented_sessions.lock": "opening",
        "instrumented_sessions.lock.name": "opening lock of transport weather",
        "instrumented_sessions.lock.granularity": "transport",
        "instrumented_sessions.holder": "opening weather/c-8 #1 at start (app/boot.py:7)",
        "instrumented_sessions.holder.count": 1,
        "instrumented_sessions.holder.held_s": 3.0,
        "instrumented_sessions.holder.transport.id": "weather",
        "instrumented_sessions.holder.conversation.id": "c-8",
        "instrumented_sessions.holder.thread.id": 202,
        "instrumented_sessions.holder.thread.name": "portal",
        "instrumented_sessions.holder.location": "start (/app/boot.py:7)",
        "instrumented_sessions.waited_s": 0.25,
        "instrumented_sessions.outcome": "ok",
    }


def test_wait_for_a_call_lock_belongs_to_the_call(backend: Backend) -> None:
    """Both kinds of lock look alike; the parent is who waits."""
    facts: dict[str, Any] = {"lock": LockKind.CALL, "owner_id": 32, "holder_ids": (31,)}
    backend.tell(story.called(31), story.called(32), story.waiting(**facts))
    backend.tell(story.granted(lock=LockKind.CALL, owner_id=32), story.returned(31), story.returned(32))
    holder, waiter = [span for span in backend.spans if span.name == "tools/call forecast"]
    wait = backend.span("session.lock.wait")
    assert (parent(wait), linked(wait)) == (waiter.context.span_id, [holder.context.span_id])
    assert attributes(wait)["instrumented_sessions.lock"] == "call"


def test_wait_for_a_users_own_lock_is_a_span(backend: Backend) -> None:
    """It belongs to the caller's span and carries no transport."""
    with backend.tracers.get_tracer("app").start_as_current_span("agent step") as step:
        backend.tell(story.waiting(lock_name="ledger", holder_ids=(), **story.OWN_LOCK))
    backend.tell(story.granted(lock_name="ledger", **story.OWN_LOCK))
    wait = backend.span("session.lock.wait")
    assert parent(wait) == step.get_span_context().span_id
    facts = attributes(wait)
    assert facts["instrumented_sessions.lock.name"] == "ledger"
    assert not facts.keys() & {"instrumented_sessions.lock", "instrumented_sessions.transport.id"}


def test_heartbeat_is_a_root_span_over_its_window(backend: Backend) -> None:
    """One span sums a window up; it is nobody's child."""
    lags = [0.001] * 98 + [0.1, 0.4]
    with backend.tracers.get_tracer("app").start_as_current_span("somebody else"):
        backend.tell(story.heartbeat(*lags, at=10.0))
    span = backend.span("loop.heartbeat")
    assert parent(span) is None
    assert (seconds(span.start_time), seconds(span.end_time)) == (0.0, 10.0)
    assert attributes(span) == {
        "instrumented_sessions.loop": "main",
        "thread.id": 101,
        "instrumented_sessions.loop.ticks": 100,
        "instrumented_sessions.loop.lag.mean_s": pytest.approx(0.00598),
        "instrumented_sessions.loop.lag.p99_s": 0.1,
        "instrumented_sessions.loop.lag.max_s": 0.4,
    }


def test_stall_is_back_dated_and_linked_to_what_it_delays(backend: Backend) -> None:
    """Its span begins when the loop stopped, and names cause, culprit and stacks as known at last."""
    backend.tell(story.called(1), story.called(2, caller=story.HOLDER), story.stalled(duration_s=0.3))
    backend.tell(story.recovered(duration_s=2.0), story.returned(1, at=2.0), story.returned(2, at=2.0))
    stall = backend.span("loop.stall")
    delayed = [
        span for span in backend.spans if attributes(span).get("thread.id") == 101 and span is not stall
    ]
    assert parent(stall) is None
    assert (seconds(stall.start_time), seconds(stall.end_time)) == (0.0, 2.0)
    assert linked(stall) == [span.context.span_id for span in delayed if span.name == "tools/call forecast"]
    assert attributes(stall) == {
        "instrumented_sessions.loop": "main",
        "instrumented_sessions.cause": "blocking_call",
        "thread.id": 101,
        "code.function.name": "handler",
        "code.file.path": "/app/agent.py",
        "code.line.number": 42,
    }
    (stack,) = stall.events
    assert stack.name == "stack"
    assert dict(stack.attributes or {}) == {
        "code.stacktrace": "main (/app/main.py:1)\nhandler (/app/agent.py:42)",
        "instrumented_sessions.stack.count": 3,
    }


def test_delayed_work_links_back_to_the_stall(backend: Backend) -> None:
    """From a slow call one click leads to the stall that delayed it, while both last and afterwards."""
    backend.tell(story.called(1), story.called(2, caller=story.HOLDER, target="search"), story.stalled())
    backend.pass_time(1.1)
    backend.tell(story.recovered(), story.returned(1), story.returned(2, target="search"))
    stall = backend.span("loop.stall")
    for name in ("tools/call forecast", "tools/call forecast.in_progress"):
        (link,) = backend.span(name).links
        assert link.context.span_id == stall.context.span_id
        assert dict(link.attributes or {}) == {"instrumented_sessions.loop": "main"}


def test_stall_known_only_at_its_end_is_still_a_span(backend: Backend) -> None:
    """The GIL was held all the while, so the first report is the last."""
    backend.tell(story.recovered(duration_s=2.0))
    assert seconds(backend.span("loop.stall").start_time) == 0.0


def test_one_of_very_many_stalls_is_no_span_unless_it_is_long(backend: Backend) -> None:
    """What the watchdog did not examine in detail is counted, and seen once it lasts a second."""
    backend.tell(story.stalled(1, detailed=False), story.recovered(1, 0.4, detailed=False))
    backend.tell(story.stalled(2, detailed=False), story.stalled(2, 1.0, detailed=False))
    backend.tell(story.recovered(2, duration_s=2.0, detailed=False))
    assert seconds(backend.span("loop.stall").end_time) == 2.0


def test_call_started_in_another_context_keeps_its_parent(backend: Backend) -> None:
    """Parents follow the context of the fact, not the thread."""
    with backend.tracers.get_tracer("app").start_as_current_span("agent step") as step:
        context = contextvars.copy_context()
    context.run(backend.tell, story.called())
    backend.tell(story.returned())
    assert parent(backend.span("tools/call forecast")) == step.get_span_context().span_id


def test_clock_that_went_back_makes_no_negative_span(backend: Backend) -> None:
    """The wall clock may be set; a span never ends before it starts."""
    backend.tell(story.called(at=5.0), story.returned(at=1.0))
    span = backend.span("tools/call forecast")
    assert span.start_time == span.end_time


def test_too_much_open_work_is_dropped_and_counted() -> None:
    """Memory is bounded; the counter says what is missing."""
    backend = Backend(max_open=2)
    backend.tell(*(story.called(call_id) for call_id in range(5)))
    backend.tell(*(story.returned(call_id) for call_id in range(5)))
    assert len(backend.spans) == 2
    assert backend.observer.read_live().dropped == {"opentelemetry": 3}
    assert (("observer", "opentelemetry"),) in backend.points("instrumented_sessions.telemetry.dropped")
    backend.close()


def test_unsampled_work_costs_no_attributes() -> None:
    """Nothing is exported, metrics are complete."""
    backend = Backend(ALWAYS_OFF)
    backend.tell(story.called(), story.returned())
    assert backend.spans == []
    assert "mcp.client.operation.duration" in backend.metrics()
    backend.close()


def test_trace_of_open_work_is_told(backend: Backend) -> None:
    """The core asks for it to name the trace in `hangs()`."""
    backend.tell(story.called(31))
    trace_id = backend.observer.trace_id(WorkKind.CALL, 31)
    backend.tell(story.returned(31))
    assert trace_id == f"{backend.span('tools/call forecast').context.trace_id:032x}"
    assert backend.observer.trace_id(WorkKind.CALL, 31) is None


def test_observer_without_an_sdk_is_harmless() -> None:
    """The program has no SDK: no span, no error."""
    observer = OpenTelemetryObserver(tracer_provider=trace.NoOpTracerProvider(), report_in_progress=False)
    for event in (
        story.requested(),
        story.opening(),
        story.waiting(),
        story.granted(),
        story.opened(),
        story.acquired(),
    ):
        observer.on_event(event)
        with observer.scope(event):
            pass
    assert repr(observer) == "<OpenTelemetryObserver 0 open, 0 dropped>"
    observer.close()


def test_phase_is_where_it_ended(backend: Backend) -> None:
    """A timeout names its phase."""
    backend.tell(story.called(), story.returned(outcome=Outcome.TIMEOUT, phase=Phase.WRITE))
    assert attributes(backend.span("tools/call forecast"))["instrumented_sessions.phase"] == "write"
