"""The observer that turns events into spans, metrics and logs."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import _logs, context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, format_span_id, format_trace_id

from ... import events, live
from ...clock import SYSTEM_CLOCK, Clock
from ...observer import AMBIENT, read_trace_ids_with
from ...vocabulary import LockKind
from .. import catalog
from ..exemplars import read_exemplars_with
from ..logs import Logs
from ..measure import Measure
from .in_progress import Explain, Reporter
from .metrics import Metrics
from .spans import Spans
from .work import MAX_OPEN, WorkKind, WorkTable

DROPPED_AS = "opentelemetry"
"""The `observer` label of what this one drops."""


class OpenTelemetryObserver:
    """Reports events through OpenTelemetry's API; any thread may call it.

    Without an SDK in the program it makes no span, and costs a few microseconds for work that had to
    wait, nothing for warm hits. Work that stays open is reported by a daemon thread, see `Reporter`.

    Args:
        tracer_provider: Default: the program's.
        meter_provider: Default: the program's.
        logger_provider: Default: the program's.
        clock: Tells when open work is due for a report.
        explain: Tells why something waits, for reports in progress. Default `live.explain`.
        max_open: How many requests, openings, calls and waits may be open at once; spans beyond it are
            dropped and counted. Default 10,000.
        report_in_progress: Whether to start the thread that reports open work. Default True.
    """

    only_contended = True

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: _logs.LoggerProvider | None = None,
        clock: Clock = SYSTEM_CLOCK,
        explain: Explain = live.explain,
        max_open: int = MAX_OPEN,
        report_in_progress: bool = True,
    ) -> None:
        tracer = trace.get_tracer(catalog.SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(catalog.SCOPE, meter_provider=meter_provider)
        self._logs = Logs(_logs.get_logger(catalog.SCOPE, logger_provider=logger_provider))
        self._table = WorkTable(max_open)
        self.reporter = Reporter(
            tracer, self._logs, self._table, clock=clock, explain=explain, own_thread=report_in_progress
        )
        """Reports work that stays open."""
        self._spans = Spans(tracer, self._table, self.reporter.add)
        self._measure = Measure()
        self._metrics = Metrics(meter, self._measure)
        live.register(self)
        _reset_after_fork(self)

    def __repr__(self) -> str:
        return f"<OpenTelemetryObserver {len(self._table)} open, {self._table.dropped} dropped>"

    def on_event(self, event: events.Event) -> None:
        """Record `event`; must be called in the thread and context of the fact."""
        samples = self._measure.samples(event)
        if samples or self._logs.heeds(event):
            here = _NOWHERE if type(event) in _OF_NO_SPAN else self._context_of(event)
            for sample in samples:
                self._metrics.record(sample, here)
            self._logs.on_event(event, here)
        self._spans.on_event(event)

    def scope(self, event: events.Event) -> AbstractContextManager[object]:
        """Return a context manager in which the span of an opening or a call is the current one."""
        current = self._context_of(event)
        return nullcontext() if current is None else _Current(current)

    def trace_id(self, kind: WorkKind, id: int) -> str | None:
        """Return the trace of open work as 32 hexadecimal digits, None when it has none."""
        work = self._table.get(kind, id)
        return format_trace_id(work.context.trace_id) if work is not None and work.context.is_valid else None

    def exemplar_of(self, event: events.Event) -> dict[str, str] | None:
        """Return the sampled span that `event` is about, open or just ended, as an exemplar's labels."""
        span = self._span_of(event)
        if span is None or not span.trace_flags.sampled:
            return None
        return {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}

    def read_live(self) -> live.Reading:
        """Return how many spans and reports were dropped; called by `live`."""
        return live.Reading(dropped={DROPPED_AS: self._table.dropped + self.reporter.dropped})

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread that reports open work; open spans stay open."""
        live.retire(self)
        self.reporter.close(timeout_s)

    def reset(self) -> None:
        """Begin anew; called in the child after a fork, where the parent's work does not run."""
        self._table.reset()
        self._measure.reset()
        self._metrics.reset()
        self.reporter.reset()

    def _context_of(self, event: events.Event) -> Context | None:
        """Return a context in which the span that `event` is about is the current one."""
        lookup = _SUBJECT.get(type(event))
        work = self._table.get(*lookup(event)) if lookup is not None else None
        if work is not None and work.context.is_valid:
            return trace.set_span_in_context(work.span)
        span = self._span_of(event)
        return trace.set_span_in_context(NonRecordingSpan(span)) if span is not None else None

    def _span_of(self, event: events.Event) -> SpanContext | None:
        """Identify the span that `event` is about; it may have ended a moment ago."""
        lookup = _SUBJECT.get(type(event))
        span = self._table.span_context(*lookup(event)) if lookup is not None else None
        return span if span is not None and span.is_valid else None


class _Current:
    """Makes a context the current one."""

    def __init__(self, current: Context) -> None:
        self._context = current

    def __enter__(self) -> None:
        self._token = context.attach(self._context)

    def __exit__(self, *exc_info: object) -> None:
        context.detach(self._token)


def _reset_after_fork(observer: OpenTelemetryObserver) -> None:
    if hasattr(os, "register_at_fork"):
        reference = weakref.ref(observer)

        def reset() -> None:
            if (alive := reference()) is not None:
                alive.reset()
                live.register(alive)  # `live` forgets its sources in the child.

        os.register_at_fork(after_in_child=reset)


def _owner_of(event: events.LockReleased) -> tuple[WorkKind, int | None]:
    return WorkKind.CALL if event.lock is LockKind.CALL else WorkKind.OPENING, event.owner_id


_SUBJECT: dict[type[events.Event], Callable[..., tuple[WorkKind, int | None]]] = {
    events.SessionAcquired: lambda event: (WorkKind.REQUEST, event.request_id),
    events.OpeningStarted: lambda event: (WorkKind.OPENING, event.opening_id),
    events.OpeningEnded: lambda event: (WorkKind.OPENING, event.opening_id),
    events.CallStarted: lambda event: (WorkKind.CALL, event.call_id),
    events.CallBecameSlow: lambda event: (WorkKind.CALL, event.call_id),
    events.CallEnded: lambda event: (WorkKind.CALL, event.call_id),
    events.LockAcquired: lambda event: (WorkKind.WAIT, event.wait_id),
    events.LockWaitAbandoned: lambda event: (WorkKind.WAIT, event.wait_id),
    events.LockReleased: _owner_of,
    events.LoopRecovered: lambda event: (WorkKind.STALL, event.report.stall_id),
}
"""Which work an event is about."""

# These are announced where whatever is current has nothing to do with them: on the loop's timer, or in
# the task that owns a session for all its users. An exemplar would lead to the wrong trace.
_OF_NO_SPAN = (events.LoopHeartbeat, events.SessionStateChanged)
_NOWHERE = trace.set_span_in_context(trace.INVALID_SPAN, Context())  # An empty one stands for the current.


def _current_trace_id() -> str | None:
    span = trace.get_current_span().get_span_context()
    return format_trace_id(span.trace_id) if span.is_valid else None


_install_lock = threading.Lock()  # Protects the one below.
_installed: OpenTelemetryObserver | None = None


def install() -> OpenTelemetryObserver:
    """Let every manager of the process report through OpenTelemetry; calling it again has no effect."""
    global _installed
    with _install_lock:
        if _installed is None:
            _installed = OpenTelemetryObserver()
            read_trace_ids_with(_current_trace_id)
            read_exemplars_with(_installed.exemplar_of)
        AMBIENT.add(_installed)
        return _installed
