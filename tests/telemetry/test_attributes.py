"""What reaches a backend, held against the catalog: names, types and values of every attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.errors import SessionOpenError
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import catalog, logs
from instrumented_sessions.telemetry.catalog.attributes import ATTRIBUTES
from instrumented_sessions.telemetry.old_sdk import EVENT_NAME
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import LockKind, OpenFailure, Outcome, Phase, StallCause

from . import story
from .backend import Backend, event_name

SPANS = {
    catalog.SPAN_ACQUIRE,
    catalog.SPAN_CREATE,
    catalog.SPAN_LOCK_WAIT,
    catalog.SPAN_HEARTBEAT,
    catalog.SPAN_STALL,
    "tools/call forecast",
    "tools/call echo",
    "tools/list",
    "prompts/get greeting",
}
EVENTS = {
    logs.EVENT_IN_PROGRESS,
    logs.EVENT_SLOW_CALL,
    logs.EVENT_DEADLOCK,
    logs.EVENT_LOCK_ORDER,
    logs.EVENT_BLOCKING_CALL,
}


def recorded(backend: Backend) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every set of attributes that the SDK has, with a name for it."""
    for span in backend.spans:
        yield span.name, span.attributes or {}
        for event in span.events:
            yield f"{span.name}: event {event.name}", event.attributes or {}
        for link in span.links:
            yield f"{span.name}: link", link.attributes or {}
    for record in backend.logs:
        facts = dict(record.attributes or {})
        facts.pop(EVENT_NAME, None)
        yield event_name(record), facts


def check(backend: Backend) -> set[str]:
    """Hold all that was recorded against the catalog; return the names of the attributes seen."""
    seen: set[str] = set()
    for where, attributes in recorded(backend):
        for name, value in attributes.items():
            attribute = ATTRIBUTES.get(name)
            assert attribute is not None, f"{where}: {name} is not in the catalog"
            assert type(value) is attribute.kind, f"{where}: {name}={value!r}"
            assert not attribute.values or value in attribute.values, f"{where}: {name}={value!r}"
        seen |= attributes.keys()
    for span in backend.spans:
        name = span.name.removesuffix(catalog.IN_PROGRESS_SUFFIX)
        assert name in SPANS
        in_progress = name != span.name
        assert ((span.attributes or {}).get(catalog.IN_PROGRESS) is True) is in_progress
        assert not (in_progress and catalog.MCP_METHOD in (span.attributes or {}))
    assert {event_name(record) for record in backend.logs} <= EVENTS
    return seen


def test_every_attribute_of_events_is_as_the_catalog_says(backend: Backend) -> None:
    """All that the core can announce, with every outcome, phase, cause and category."""
    for number, outcome in enumerate(Outcome):
        error = story.JsonRpcError(-32600, "no")
        backend.tell(story.called(number), story.returned(number, outcome=outcome, error=error, slow=True))
        backend.tell(story.requested(number), story.acquired(number, outcome=outcome))
    for number, phase in enumerate(Phase):
        backend.tell(story.called(number), story.returned(number, phase=phase, tool_error=True))
    for number, category in enumerate(OpenFailure):
        failed: dict[str, Any] = {"outcome": Outcome.ERROR, "category": category}
        backend.tell(story.opening(number), story.opened(number, **failed))
    for number, cause in enumerate(StallCause):
        facts: dict[str, Any] = {"cause": cause, "task": "task-a"}
        backend.tell(story.stalled(number, **facts), story.recovered(number, **facts))
    backend.tell(
        story.called(90, method="prompts/get", target="greeting", caller=story.HOLDER),
        story.called(91, method="tools/list", target=None, transport_kind="http"),
        story.opening(10, key=story.OTHER_KEY),
        story.opening(11),
        story.waiting(21),
        story.waiting(22, lock=LockKind.CALL, owner_id=90, holder_ids=(91,)),
        story.waiting(23, holders=(story.CALLER,), **story.OWN_LOCK),
        story.heartbeat(0.01),
        story.stalled(95),
    )
    backend.pass_time(1.1)
    backend.pass_time(5.1)
    backend.tell(
        story.recovered(95),
        *(story.granted(wait_id) for wait_id in (21, 23)),
        story.abandoned(22, lock=LockKind.CALL, owner_id=90),
        story.opened(10),
        story.opened(11),
        story.returned(90, method="prompts/get", target="greeting"),
        story.returned(91, method="tools/list", target=None),
    )
    # Only explanations of a manager have these.
    assert check(backend) == ATTRIBUTES.keys() - {catalog.STACK, catalog.HOLDER_STACK, catalog.DOING}


@pytest.mark.parametrize("settings", [Settings(permits=1), Settings(granularity="session")])  # type: ignore[arg-type]
def test_every_attribute_of_a_real_manager_is_as_the_catalog_says(settings: Settings) -> None:
    """Openings that work, wait and fail, calls and errors, as the manager itself announces them."""
    backend = Backend()
    AMBIENT.add(backend.observer)
    try:
        transport = FakeTransport("weather")
        transport.failures.append(ConnectionRefusedError("no"))
        with SessionManager(settings) as manager:
            with pytest.raises(SessionOpenError):
                manager.session(transport, "c-1")
            session = manager.session(transport, "c-2", timeout_s=20.0)
            session.call_tool("echo", {"text": "x"})
            session.list_tools()
    finally:
        AMBIENT.remove(backend.observer)
        backend.close()
    seen = check(backend)
    assert {catalog.OPEN_FAILURE, catalog.ERROR_TYPE, catalog.TOOL_NAME, catalog.CODE_LINE} <= seen
