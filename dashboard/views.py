"""What the store returned, as the API answers it; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from instrumented_sessions.telemetry import catalog

from . import schemas
from .live import chains
from .live.open_work import OpenWork
from .ranges import Range
from .rows import Span, Work
from .schemas import Bar, Lane, LoopHealth, LoopPoint, Loops, Now, Stall, Timeline, Trace, TraceSpan
from .sketch import percentiles
from .store.protocol import LoopLag, StoredSpan, TraceLog
from .store.slots import Window

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS = ("unset", "ok", "error")
_BAR_KINDS = {Work.CALL: "call", Work.REQUEST: "request", Work.OPENING: "opening", Work.LOCK: "lock"}

_Loop = tuple[str, str, str]


def as_of(now: Now, chosen: Range | None) -> Now:
    """Return what is open now as far as it is part of a chosen range; all of it without one.

    What began after the range is left out, and heartbeats, which tell of this instant only.
    """
    if chosen is None:
        return now
    return now.model_copy(
        update={
            "at": min(now.at, chosen.until),
            "waits": [
                wait.model_copy(
                    update={"steps": [step for step in wait.steps if step.started_at < chosen.until]}
                )
                for wait in now.waits
            ],
            "stalls": [stall for stall in now.stalls if stall.started_at < chosen.until],
            "loops": [],
        }
    )


def loops(lags: Iterable[LoopLag], ended: Iterable[StoredSpan], now: Now, window: Window) -> Loops:
    """Return loops with their lag and stalls, the worst first."""
    stalls = [*now.stalls, *(_ended_stall(stored.span) for stored in ended)]
    of_loop: defaultdict[_Loop, list[Stall]] = defaultdict(list)
    for stall in stalls:
        of_loop[stall.service, stall.instance, stall.loop].append(stall)
    parts: defaultdict[_Loop, dict[int, LoopLag]] = defaultdict(dict)
    for lag in lags:
        parts[lag.service, lag.instance, lag.loop][lag.step] = lag
    ages = {(loop.service, loop.instance, loop.loop): loop.heartbeat_age_s for loop in now.loops}
    found = [
        _loop(key, parts.get(key, {}), of_loop.get(key, []), ages.get(key), window)
        for key in {*parts, *of_loop, *ages}
    ]
    found.sort(
        key=lambda loop: (not loop.stalled_now, -loop.stalled_s, loop.service, loop.loop, loop.instance)
    )
    stalls.sort(key=lambda stall: (not stall.ongoing, -stall.started_at))
    return Loops(since=window.since, until=window.until, step_s=window.step_s, loops=found, stalls=stalls)


def _loop(
    key: _Loop, parts: dict[int, LoopLag], stalls: Sequence[Stall], age_s: float | None, window: Window
) -> LoopHealth:
    whole = parts.get(-1)
    p50 = p99 = None
    if whole is not None and whole.buckets:
        p50, p99 = percentiles(whole.buckets, (0.5, 0.99), whole.max_s)
    elif whole is not None and whole.ticks:  # Heartbeat spans tell the mean and the maximum only.
        p50, p99 = whole.total_s / whole.ticks, whole.max_s
    points = [
        LoopPoint(
            at=window.since + step * window.step_s,
            lag_p99_s=percentiles(part.buckets, (0.99,), part.max_s)[0]
            if part.buckets
            else part.max_s or 0.0,
            lag_max_s=part.max_s,
        )
        for step, part in sorted(parts.items())
        if step >= 0
    ]
    service, instance, loop = key
    return LoopHealth(
        loop=loop,
        service=service,
        instance=instance,
        heartbeat_age_s=age_s,
        ticks=whole.ticks if whole else 0,
        lag_p50_s=p50,
        lag_p99_s=p99,
        lag_max_s=whole.max_s if whole else None,
        stalls=len(stalls),
        stalled_s=sum(stall.duration_s for stall in stalls),
        stalled_now=any(stall.ongoing for stall in stalls),
        points=points,
    )


def _ended_stall(span: Span) -> Stall:
    item = OpenWork((span.trace_id, span.span_id), Work.STALL, span.name, span.start_ns / 1e9, 0.0, span)
    return chains.stall(span.attributes, item, span.duration_s, ongoing=False)


def timeline(ended: Iterable[StoredSpan], now: Now, shown: Range, *, truncated: bool) -> Timeline:
    """Return what ended and what is still open as lanes, the most recently active first."""
    lanes: defaultdict[tuple[str, str], list[Bar]] = defaultdict(list)
    for wait in now.waits:
        for step in wait.steps:
            lanes[wait.transport, wait.conversation].append(
                Bar(
                    kind=step.kind,
                    started_at=step.started_at,
                    ended_at=now.at,
                    ongoing=True,
                    outcome="",
                    phase=step.phase or wait.phase,
                    trace_id=wait.trace_id,
                )
            )
    for stored in ended:
        span = stored.span
        facts = span.attributes
        assert span.work is not None
        lanes[_text(facts.get(catalog.TRANSPORT_ID)), _text(facts.get(catalog.CONVERSATION_ID))].append(
            Bar(
                kind=_BAR_KINDS[span.work],
                started_at=span.start_ns / 1e9,
                ended_at=span.end_ns / 1e9,
                ongoing=False,
                outcome=_text(facts.get(catalog.OUTCOME)),
                phase=_text(facts.get(catalog.PHASE)),
                trace_id=span.trace_id.hex(),
            )
        )
    found = [
        Lane(
            transport=transport, conversation=conversation, bars=sorted(bars, key=lambda bar: bar.started_at)
        )
        for (transport, conversation), bars in lanes.items()
    ]
    found.sort(key=lambda lane: max(bar.ended_at for bar in lane.bars), reverse=True)
    return Timeline(since=shown.since, until=shown.until, lanes=found, truncated=truncated)


def trace(trace_id: str, spans: Sequence[StoredSpan], logs: Sequence[TraceLog]) -> Trace:
    """Return a trace, the oldest span first."""
    return Trace(
        trace_id=trace_id,
        spans=[_trace_span(stored.span) for stored in spans],
        logs=[
            schemas.TraceLog(
                span_id=log.span_id.hex() if log.span_id else None,
                at=log.time_ns / 1e9,
                severity=log.severity,
                event=log.event,
                body=log.body,
            )
            for log in logs
        ],
    )


def _trace_span(span: Span) -> TraceSpan:
    return TraceSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_id.hex() if span.parent_id else None,
        name=span.name,
        service=span.resource.service,
        instance=span.resource.instance,
        scope=span.scope,
        kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
        status=_STATUS[span.status] if 0 <= span.status < len(_STATUS) else _STATUS[0],
        status_message=span.status_message,
        started_at=span.start_ns / 1e9,
        ended_at=span.end_ns / 1e9,
        duration_s=span.duration_s,
        in_progress=span.in_progress,
        attributes=dict(span.attributes),
        events=[
            schemas.TraceEvent(name=event.name, at=event.time_ns / 1e9, attributes=dict(event.attributes))
            for event in span.events
        ],
        links=[
            schemas.TraceLink(trace_id=link.trace_id, span_id=link.span_id, attributes=dict(link.attributes))
            for link in span.links
        ],
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
