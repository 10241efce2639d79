"""Spans from events: parents, links and ends as the table in docs/metrics.md says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from ... import events
from ...vocabulary import LockKind, Outcome, Phase
from .. import catalog
from ..failures import TOOL_ERROR, description, error_type, rpc_status_code
from . import attributes
from .work import MAX_LINKS, Attributes, Work, WorkKind, WorkTable

_FAILED = (Outcome.ERROR, Outcome.TIMEOUT, Outcome.DEADLOCK, Outcome.REFUSED, Outcome.CANCELLED)
_LONG_STALL_S = 1.0
"""A stall of this length has a span in any case."""
_MAX_STACKS = 5


def nanoseconds(at: float) -> int:
    """Return an instant as spans want it."""
    return int(at * 1e9)


class Spans:
    """Starts and ends spans as events come; call it in the context of the fact.

    Args:
        tracer: Where spans are made; costs next to nothing while the program has no SDK.
        table: Where open work is kept.
        opened: Told of work that has been opened.
    """

    def __init__(self, tracer: trace.Tracer, table: WorkTable, opened: Callable[[Work], None]) -> None:
        self._tracer = tracer
        self._table = table
        self._opened = opened

    def on_event(self, event: events.Event) -> None:
        """Start or end what `event` started or ended."""
        if (handler := _HANDLERS.get(type(event))) is not None:
            handler(self, event)

    # Starts.

    def _requested(self, event: events.SessionRequested) -> None:
        call = self._table.get(WorkKind.CALL, event.call_id)
        base = {**attributes.session(event.key, event.transport_kind), catalog.LIMIT_S: event.limit_s}
        self._start(
            Work(
                WorkKind.REQUEST,
                event.request_id,
                catalog.SPAN_ACQUIRE,
                trace.INVALID_SPAN,
                event.at,
                base,
                key=event.key,
                party=event.caller,
                threads=(event.caller.thread_id, threading.get_ident()),
                phase=Phase.QUEUE,
            ),
            context=_under(call),
        )

    def _opening(self, event: events.OpeningStarted) -> None:
        request = self._table.get(WorkKind.REQUEST, event.request_id)
        base = {**attributes.session(event.key, event.transport_kind), catalog.GENERATION: event.generation}
        self._start(
            Work(
                WorkKind.OPENING,
                event.opening_id,
                catalog.SPAN_CREATE,
                trace.INVALID_SPAN,
                event.at,
                base,
                key=event.key,
                threads=(threading.get_ident(),),
            ),
            context=_under(request) or Context(),  # Without a request it is nobody's child.
        )

    def _called(self, event: events.CallStarted) -> None:
        self._start(
            Work(
                WorkKind.CALL,
                event.call_id,
                attributes.call_name(event),
                trace.INVALID_SPAN,
                event.at,
                attributes.call(event),
                key=event.key,
                party=event.caller,
                threads=(event.caller.thread_id, threading.get_ident()),
            ),
            kind=SpanKind.CLIENT,
        )

    def _waiting(self, event: events.LockWaitStarted) -> None:
        kind = WorkKind.CALL if event.lock is LockKind.CALL else WorkKind.OPENING
        owner = self._table.get(kind, event.owner_id)
        contexts = [self._table.span_context(kind, id) for id in event.holder_ids[:MAX_LINKS]]
        base = attributes.lock(event)
        if event.holders:
            first = self._table.get(kind, event.holder_ids[0] if event.holder_ids else None)
            base.update(attributes.holder(event.holders[0], event.held_s, first.key if first else None))
            base[catalog.HOLDER_COUNT] = len(event.holders)
        work = self._start(
            Work(
                WorkKind.WAIT,
                event.wait_id,
                catalog.SPAN_LOCK_WAIT,
                trace.INVALID_SPAN,
                event.at,
                base,
                key=event.key,
                party=event.owner,
                threads=(event.owner.thread_id, threading.get_ident()),
                links=tuple(
                    Link(context) for context in contexts if context is not None and context.is_valid
                ),
                phase=Phase.LOCK,
                owner_id=event.owner_id,
            ),
            context=_under(owner),
        )
        if work is not None and owner is not None:
            owner.wait = work

    def _stalled(self, event: events.LoopStalled) -> None:
        report = event.report
        known = self._table.get(WorkKind.STALL, report.stall_id)
        if known is not None:
            known.attributes = attributes.stall(report)
            known.facts["report"] = report
            return
        if not report.detailed and report.duration_s < _LONG_STALL_S:
            return  # One of very many: metrics count it, and the others show what it is.
        delayed = self._table.on_thread(report.thread_id)
        stall = self._start(
            Work(
                WorkKind.STALL,
                report.stall_id,
                catalog.SPAN_STALL,
                trace.INVALID_SPAN,
                report.started_at,
                attributes.stall(report),
                links=tuple(Link(work.context) for work in delayed if work.context.is_valid),
                facts={"report": report},
            ),
            context=Context(),
        )
        if stall is None or not stall.context.is_valid:
            return
        back = Link(stall.context, {catalog.LOOP: report.loop})
        for work in delayed:  # Their reports in progress carry the link too.
            work.links = (*work.links, back)
            work.span.add_link(back.context, back.attributes)

    def _heartbeat(self, event: events.LoopHeartbeat) -> None:
        span = self._tracer.start_span(
            catalog.SPAN_HEARTBEAT,
            context=Context(),
            attributes={catalog.LOOP: event.loop},
            start_time=nanoseconds(event.at - event.window_s),
        )
        if span.is_recording():
            span.set_attributes(attributes.heartbeat(event))
        span.end(nanoseconds(event.at))

    def _start(
        self, work: Work, *, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Work | None:
        """Start the span of `work`; None when too much is open."""
        if not self._table.has_room():
            return None
        facts = work.attributes
        if work.party is not None:  # All at once: the SDK checks and locks for each time it is told.
            facts = {**facts, **attributes.party(work.party)}
        work.span = self._tracer.start_span(
            work.name,
            context=context,
            kind=kind,
            attributes=facts,
            links=work.links,
            start_time=nanoseconds(work.started_at),
        )
        self._table.add(work)
        self._opened(work)
        return work

    # Ends.

    def _acquired(self, event: events.SessionAcquired) -> None:
        work = self._table.pop(WorkKind.REQUEST, event.request_id)
        if work is None:
            return
        if work.span.is_recording():
            opening = self._table.span_context(WorkKind.OPENING, event.opening_id)
            if opening is not None and opening.is_valid:
                work.span.add_link(opening)
            work.span.set_attribute(catalog.WAITED_S, event.waited_s)
        _end(work, event.at, event.outcome, event.phase, event.error)

    def _opened_or_failed(self, event: events.OpeningEnded) -> None:
        work = self._table.pop(WorkKind.OPENING, event.opening_id)
        if work is None:
            return
        if work.span.is_recording():
            work.span.set_attribute(catalog.WAITED_S, event.waited_s)
            if event.category is not None:
                work.span.set_attribute(catalog.OPEN_FAILURE, event.category.value)
        _end(work, event.at, event.outcome, event.phase, event.error)

    def _returned(self, event: events.CallEnded) -> None:
        work = self._table.pop(WorkKind.CALL, event.call_id)
        if work is None:
            return
        if work.span.is_recording():
            if event.slow:
                work.span.set_attribute(catalog.SLOW, True)
            if (code := rpc_status_code(event.error)) is not None:
                work.span.set_attribute(catalog.RPC_STATUS_CODE, code)
            if event.tool_error:  # The outcome stays `ok`; the convention wants the span marked.
                work.span.set_attribute(catalog.ERROR_TYPE, TOOL_ERROR)
                work.span.set_status(StatusCode.ERROR)
        _end(work, event.at, event.outcome, event.phase, event.error)

    def _granted(self, event: events.LockAcquired) -> None:
        self._end_wait(event, Outcome.OK)

    def _abandoned(self, event: events.LockWaitAbandoned) -> None:
        self._end_wait(event, event.outcome)

    def _end_wait(self, event: events.LockAcquired | events.LockWaitAbandoned, outcome: Outcome) -> None:
        work = self._table.pop(WorkKind.WAIT, event.wait_id)
        if work is None:
            return
        kind = WorkKind.CALL if event.lock is LockKind.CALL else WorkKind.OPENING
        owner = self._table.get(kind, event.owner_id)
        if owner is not None and owner.wait is work:
            owner.wait = None
        if work.span.is_recording():
            work.span.set_attribute(catalog.WAITED_S, event.waited_s)
        _end(work, event.at, outcome)

    def _recovered(self, event: events.LoopRecovered) -> None:
        report = event.report
        if self._table.get(WorkKind.STALL, report.stall_id) is None:
            self._stalled(
                events.LoopStalled(event.at, report)
            )  # The first report was lost, or came too late.
        work = self._table.pop(WorkKind.STALL, report.stall_id)
        if work is None:
            return
        if work.span.is_recording():
            work.span.set_attributes(attributes.stall(report))
            add_stacks(work.span, report, nanoseconds(event.at))
        work.span.end(max(nanoseconds(report.started_at + report.duration_s), nanoseconds(work.started_at)))


def add_stacks(span: Span, report: events.StallReport, at_ns: int) -> None:
    """Add what was seen on the stalled thread as events, the most frequent stack first."""
    for sample in report.stacks[:_MAX_STACKS]:
        facts: Attributes = {
            catalog.CODE_STACKTRACE: attributes.stack(sample),
            catalog.STACK_COUNT: sample.count,
        }
        span.add_event("stack", facts, at_ns)


def _under(parent: Work | None) -> Context | None:
    """Return a context in which `parent` is the current span; None stands for the context of the fact."""
    return None if parent is None else trace.set_span_in_context(parent.span)


def _end(
    work: Work, at: float, outcome: Outcome, phase: Phase | None = None, error: BaseException | None = None
) -> None:
    """End the span of `work` with its outcome; a wall clock that went back never makes it negative."""
    span = work.span
    if span.is_recording():
        facts: Attributes = {catalog.OUTCOME: outcome.value}
        if phase is not None:
            facts[catalog.PHASE] = phase.value
        if outcome in _FAILED:
            facts[catalog.ERROR_TYPE] = error_type(error, outcome) or outcome.value
            span.set_status(Status(StatusCode.ERROR, description(error)))
        span.set_attributes(facts)
    span.end(max(nanoseconds(at), nanoseconds(work.started_at)))


_HANDLERS: dict[type[events.Event], Callable[[Spans, Any], None]] = {
    events.SessionRequested: Spans._requested,
    events.SessionAcquired: Spans._acquired,
    events.OpeningStarted: Spans._opening,
    events.OpeningEnded: Spans._opened_or_failed,
    events.CallStarted: Spans._called,
    events.CallEnded: Spans._returned,
    events.LockWaitStarted: Spans._waiting,
    events.LockAcquired: Spans._granted,
    events.LockWaitAbandoned: Spans._abandoned,
    events.LoopHeartbeat: Spans._heartbeat,
    events.LoopStalled: Spans._stalled,
    events.LoopRecovered: Spans._recovered,
}
