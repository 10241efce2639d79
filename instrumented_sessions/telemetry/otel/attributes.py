"""Span attributes made from events."""

from __future__ import annotations

from ... import events
from ...chain import CodeLocation, Party
from ...vocabulary import LockGranularity, LockKind, SessionKey
from .. import catalog
from .work import Attributes


def session(key: SessionKey | None, transport_kind: str | None) -> Attributes:
    """Return what every span but the loops' carries."""
    attributes: Attributes = {}
    if key is not None:
        attributes[catalog.TRANSPORT_ID] = key.transport_id
        attributes[catalog.CONVERSATION_ID] = key.conversation
    if transport_kind is not None:
        attributes[catalog.MCP_TRANSPORT] = transport_kind
    return attributes


def call(event: events.CallStarted) -> Attributes:
    """Return a call's attributes by the MCP convention; never its arguments."""
    attributes = session(event.key, event.transport_kind)
    attributes[catalog.MCP_METHOD] = event.method
    if event.target is not None and event.method == "tools/call":
        attributes[catalog.TOOL_NAME] = event.target
        attributes[catalog.OPERATION_NAME] = "execute_tool"
    elif event.target is not None and event.method == "prompts/get":
        attributes[catalog.PROMPT_NAME] = event.target
    if (network := catalog.network_transport(event.transport_kind)) is not None:
        attributes[catalog.NETWORK_TRANSPORT] = network
    return attributes


def call_name(event: events.CallStarted) -> str:
    """Return a call's span name; targets that are no low-cardinality names, such as URIs, stay out of it."""
    named = event.target is not None and event.method in ("tools/call", "prompts/get", "run")
    return f"{event.method} {event.target}" if named else event.method


def lock(event: events.LockWaitStarted) -> Attributes:
    """Return a lock wait's attributes."""
    attributes = session(event.key, event.transport_kind)
    attributes[catalog.LOCK_NAME] = event.lock_name
    if isinstance(event.lock, LockKind):
        attributes[catalog.LOCK] = event.lock.value
    if isinstance(event.granularity, LockGranularity):
        attributes[catalog.LOCK_GRANULARITY] = event.granularity.value
    return attributes


def code(location: CodeLocation | None) -> Attributes:
    """Return a line of code by the code convention."""
    if location is None:
        return {}
    return {
        catalog.CODE_FUNCTION: location.function,
        catalog.CODE_FILE: location.file,
        catalog.CODE_LINE: location.line,
    }


def party(who: Party) -> Attributes:
    """Return who waits or calls."""
    attributes = code(who.location)
    if who.thread_id:
        attributes[catalog.THREAD_ID] = who.thread_id
    if who.thread_name:
        attributes[catalog.THREAD_NAME] = who.thread_name
    if who.task_name is not None:
        attributes[catalog.TASK_NAME] = who.task_name
    return attributes


def holder(who: Party, held_s: float, key: SessionKey | None = None) -> Attributes:
    """Return who holds, so that the wait explains itself where the holder's span was not sampled."""
    attributes: Attributes = {catalog.HOLDER: str(who), catalog.HOLDER_HELD_S: held_s}
    if key is not None:
        attributes[catalog.HOLDER_TRANSPORT_ID] = key.transport_id
        attributes[catalog.HOLDER_CONVERSATION_ID] = key.conversation
    if who.thread_id:
        attributes[catalog.HOLDER_THREAD_ID] = who.thread_id
    if who.thread_name:
        attributes[catalog.HOLDER_THREAD_NAME] = who.thread_name
    if who.task_name is not None:
        attributes[catalog.HOLDER_TASK_NAME] = who.task_name
    if who.location is not None:
        attributes[catalog.HOLDER_LOCATION] = str(who.location)
    return attributes


def heartbeat(event: events.LoopHeartbeat) -> Attributes:
    """Return the sum of one window of a loop's ticks."""
    lags = sorted(event.lags_s)
    attributes: Attributes = {
        catalog.LOOP: event.loop,
        catalog.THREAD_ID: event.thread_id,
        catalog.LOOP_TICKS: len(lags),
    }
    if lags:
        attributes[catalog.LOOP_LAG_MEAN_S] = sum(lags) / len(lags)
        attributes[catalog.LOOP_LAG_P99_S] = lags[-(-99 * len(lags) // 100) - 1]  # Nearest rank, rounded up.
        attributes[catalog.LOOP_LAG_MAX_S] = lags[-1]
    return attributes


def stall(report: events.StallReport) -> Attributes:
    """Return what is known of a stall so far."""
    attributes: Attributes = {
        catalog.LOOP: report.loop,
        catalog.THREAD_ID: report.thread_id,
        catalog.CAUSE: report.cause.value,
        **code(report.culprit),
    }
    if report.task is not None:
        attributes[catalog.TASK_NAME] = report.task
    return attributes


def stack(sample: events.StackSample) -> str:
    """Return a stack as text, outermost call first, one `function (file:line)` a line."""
    return "\n".join(str(frame) for frame in sample.frames)
