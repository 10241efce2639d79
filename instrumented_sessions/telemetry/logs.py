"""Facts that deserve a line of log: to OpenTelemetry in the context of the span, and to stdlib `logging`.

Stdlib lines go to the logger `instrumented_sessions`. A program that sends its own `logging` through
OpenTelemetry as well gets a fact twice, unless that logger's `propagate` is False.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time_ns
from typing import Any

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from .. import events
from . import catalog
from .old_sdk import emitter

EVENT_IN_PROGRESS = f"{catalog.SCOPE}.in_progress"
EVENT_SLOW_CALL = f"{catalog.SCOPE}.slow_call"
EVENT_DEADLOCK = f"{catalog.SCOPE}.deadlock"
EVENT_LOCK_ORDER = f"{catalog.SCOPE}.lock_order_inversion"
EVENT_BLOCKING_CALL = f"{catalog.SCOPE}.blocking_call_refused"

_SEVERITIES = {
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
}


class Logs:
    """Writes log events; any thread may call it.

    Args:
        otel: Where records go; costs nothing while the program has no SDK.
        stdlib: Where lines go. Default: the logger `instrumented_sessions`.
    """

    def __init__(self, otel: Logger, stdlib: logging.Logger | None = None) -> None:
        self._emit = emitter(otel)
        self._stdlib = stdlib if stdlib is not None else logging.getLogger(catalog.SCOPE)

    def write(
        self,
        event_name: str,
        body: str,
        *,
        level: int,
        attributes: dict[str, AttributeValue] | None = None,
        context: Context | None = None,
        at: float | None = None,
    ) -> None:
        """Write one fact.

        Args:
            event_name: What kind of fact.
            body: One sentence.
            level: `logging.INFO`, `WARNING` or `ERROR`.
            attributes: Its facts one by one; for OpenTelemetry only.
            context: Holds the span it belongs to. Default: the current one.
            at: Unix seconds. Default: now.
        """
        self._stdlib.log(level, "%s", body)
        now = time_ns()
        self._emit(
            timestamp=now if at is None else int(at * 1e9),
            observed_timestamp=now,
            context=context,
            severity_number=_SEVERITIES[level],
            severity_text=logging.getLevelName(level),
            body=body,
            attributes=attributes,
            event_name=event_name,
        )

    @staticmethod
    def heeds(event: events.Event) -> bool:
        """Return whether `on_event` may have something to write."""
        return type(event) in _HANDLERS

    def on_event(self, event: events.Event, context: Context | None) -> None:
        """Write what `event` says if nobody should miss it; most events write nothing."""
        if (handler := _HANDLERS.get(type(event))) is not None:
            handler(self, event, context)

    def _returned(self, event: events.CallEnded, context: Context | None) -> None:
        if not event.slow:
            return
        what = f"{event.method} {event.target}" if event.target else event.method
        body = f"slow call: {what} on session {event.key} ended after {event.duration_s:.1f} s"
        body += f", outcome {event.outcome}, phase {event.phase}"
        facts: dict[str, AttributeValue] = {
            catalog.TRANSPORT_ID: event.key.transport_id,
            catalog.CONVERSATION_ID: event.key.conversation,
            catalog.OUTCOME: event.outcome.value,
        }
        self.write(
            EVENT_SLOW_CALL, body, level=logging.WARNING, attributes=facts, context=context, at=event.at
        )

    def _slowed(self, event: events.CallBecameSlow, context: Context | None) -> None:
        body = f"slow call: {event.chain}"
        if event.stack:
            body += f"; its caller is at {' > '.join(event.stack[-3:])}"
        facts: dict[str, AttributeValue] = {
            catalog.TRANSPORT_ID: event.key.transport_id,
            catalog.CONVERSATION_ID: event.key.conversation,
            catalog.STACK: "\n".join(event.stack),
        }
        self.write(
            EVENT_SLOW_CALL, body, level=logging.WARNING, attributes=facts, context=context, at=event.at
        )

    def _deadlocked(self, event: events.DeadlockDetected, context: Context | None) -> None:
        self.write(
            EVENT_DEADLOCK, f"deadlock: {event.cycle}", level=logging.ERROR, context=context, at=event.at
        )

    def _inverted(self, event: events.LockOrderInversion, context: Context | None) -> None:
        body = f"locks {event.first!r} and {event.second!r} were taken in both orders, which can deadlock"
        body += f" some day: now at {event.now}, before at {event.earlier}"
        self.write(EVENT_LOCK_ORDER, body, level=logging.WARNING, context=context, at=event.at)

    def _refused(self, event: events.BlockingCallRefused, context: Context | None) -> None:
        body = f"{event.door} was called by {event.caller}, whose thread runs a loop; use {event.twin}"
        self.write(EVENT_BLOCKING_CALL, body, level=logging.WARNING, context=context, at=event.at)


_HANDLERS: dict[type[events.Event], Callable[[Logs, Any, Context | None], None]] = {
    events.CallBecameSlow: Logs._slowed,
    events.CallEnded: Logs._returned,
    events.DeadlockDetected: Logs._deadlocked,
    events.LockOrderInversion: Logs._inverted,
    events.BlockingCallRefused: Logs._refused,
}
