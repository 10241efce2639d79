from __future__ import annotations

import logging

import pytest
from opentelemetry._logs import SeverityNumber

from instrumented_sessions.chain import BlockingChain
from instrumented_sessions.events import BlockingCallRefused, DeadlockDetected, LockOrderInversion
from instrumented_sessions.vocabulary import LockKind, Outcome, Phase

from . import story
from .backend import Backend, event_name


def test_slow_call_says_when_it_ended_after_all(backend: Backend) -> None:
    """The second report of a slow call: how long it took in the end, in the call's own span."""
    backend.tell(story.called(), story.returned(duration_s=31.0, slow=True, at=31.0))
    (record,) = backend.logs
    assert record.body == (
        "slow call: tools/call forecast on session weather/c-7 ended after 31.0 s, outcome ok, phase response"
    )
    assert event_name(record) == "instrumented_sessions.slow_call"
    assert record.span_id == backend.span("tools/call forecast").context.span_id


@pytest.mark.parametrize(
    ("event", "name", "severity", "part"),
    [
        (
            DeadlockDetected(
                story.T0,
                BlockingChain(story.KEY, Phase.LOCK, 0.1, story.CALLER, story.T0, is_cycle=True),
                LockKind.CALL,
            ),
            "instrumented_sessions.deadlock",
            SeverityNumber.ERROR,
            "nobody in it can go on",
        ),
        (
            LockOrderInversion(story.T0, "a", "b", story.LINE, story.LINE),
            "instrumented_sessions.lock_order_inversion",
            SeverityNumber.WARN,
            "handler (/app/agent.py:42)",
        ),
        (
            BlockingCallRefused(story.T0, story.KEY, "session()", "asession()", story.CALLER),
            "instrumented_sessions.blocking_call_refused",
            SeverityNumber.WARN,
            "use asession()",
        ),
    ],
)
def test_facts_nobody_should_miss_are_logged(
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    event: object,
    name: str,
    severity: SeverityNumber,
    part: str,
) -> None:
    """To OpenTelemetry and to the program's own log alike."""
    backend.tell(event)  # type: ignore[arg-type]  # Each of them is an event.
    (record,) = backend.logs
    assert (event_name(record), record.severity_number) == (name, severity)
    assert part in record.body
    (line,) = [line for line in caplog.records if line.name == "instrumented_sessions"]
    assert line.levelno == (logging.ERROR if severity is SeverityNumber.ERROR else logging.WARNING)
    assert line.message == record.body


def test_ordinary_events_are_not_logged(backend: Backend) -> None:
    """A log line for each call would be noise."""
    backend.tell(story.requested(), story.called(), story.returned(outcome=Outcome.ERROR), story.acquired())
    assert backend.logs == []
