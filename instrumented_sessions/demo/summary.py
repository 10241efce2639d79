"""What the demo measured: a row for each transport, a row for each loop that stalled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..events import (
    CallEnded,
    CallStarted,
    Event,
    LockAcquired,
    LockWaitAbandoned,
    LoopRecovered,
    LoopStalled,
    StallReport,
)
from .table import render


@dataclass(frozen=True)
class TransportRow:
    """One transport.

    Attributes:
        transport: Its id.
        requests: How often a session was asked for, hits included.
        hits: How often it was ready.
        openings: How many openings succeeded.
        failed: How many did not, those given up for lack of interest left out.
        calls: How many calls ended.
        errors: How many of them did not end well.
        lock_waits_s: How long each wait for a lock took, of both kinds, in seconds.
        stalls: How many stalls of a loop held up one of its calls.
    """

    transport: str
    requests: int
    hits: int
    openings: int
    failed: int
    calls: int
    errors: int
    lock_waits_s: Sequence[float]
    stalls: int


@dataclass(frozen=True)
class LoopRow:
    """One loop that stalled; durations in seconds."""

    loop: str
    stalls: int
    longest_s: float
    total_s: float
    causes: Mapping[str, int]
    culprit: str
    """The line that was found at fault most often; empty when none was."""


def summarise_transports(
    counters: Mapping[str, Mapping[str, int]], events: Sequence[Event]
) -> list[TransportRow]:
    """Return a row for each transport.

    Args:
        counters: What the manager's `statistics()` counted, by transport.
        events: What a `Recorder` kept.
    """
    return [_row(transport, counts, events) for transport, counts in counters.items()]


def _row(transport: str, counts: Mapping[str, int], events: Sequence[Event]) -> TransportRow:
    own = [
        event
        for event in events
        if isinstance(event, (CallStarted, CallEnded, LockAcquired, LockWaitAbandoned))
        and event.key is not None
        and event.key.transport_id == transport
    ]
    waits_s = [
        event.waited_s
        for event in own
        if isinstance(event, LockWaitAbandoned) or (isinstance(event, LockAcquired) and event.contended)
    ]
    return TransportRow(
        transport=transport,
        requests=_total(counts, "requests"),
        hits=counts.get("requests_hit", 0),
        openings=counts.get("openings_ok", 0),
        failed=_total(counts, "openings")
        - counts.get("openings_ok", 0)
        - counts.get("openings_cancelled", 0),
        calls=_total(counts, "calls"),
        errors=_total(counts, "calls") - counts.get("calls_ok", 0),
        lock_waits_s=waits_s,
        stalls=_stalls_during(own, latest_reports(events)),
    )


def _total(counts: Mapping[str, int], prefix: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(f"{prefix}_"))


def _stalls_during(own: Sequence[Event], reports: Iterable[StallReport]) -> int:
    """Count the stalls of a loop while a call from that loop's thread was under way."""
    thread_ids = {event.call_id: event.caller.thread_id for event in own if isinstance(event, CallStarted)}
    spans = [
        (thread_ids.get(event.call_id), event.at - event.duration_s, event.at)
        for event in own
        if isinstance(event, CallEnded)
    ]
    return sum(
        any(
            thread_id == report.thread_id
            and start < report.started_at + report.duration_s
            and report.started_at < end
            for thread_id, start, end in spans
        )
        for report in reports
    )


def latest_reports(events: Iterable[Event]) -> list[StallReport]:
    """Return what is known last of each stall, in the order of their beginning."""
    reports = [event.report for event in events if isinstance(event, (LoopStalled, LoopRecovered))]
    return list({report.stall_id: report for report in reports}.values())


def summarise_loops(events: Iterable[Event]) -> list[LoopRow]:
    """Return a row for each loop that stalled, by name."""
    by_loop: dict[str, list[StallReport]] = {}
    for report in latest_reports(events):
        by_loop.setdefault(report.loop, []).append(report)
    rows = []
    for loop, reports in sorted(by_loop.items()):
        durations_s = [report.duration_s for report in reports]
        culprits = Counter(str(report.culprit) for report in reports if report.culprit)
        rows.append(
            LoopRow(
                loop=loop,
                stalls=len(reports),
                longest_s=max(durations_s),
                total_s=sum(durations_s),
                causes=Counter(str(report.cause) for report in reports),
                culprit=culprits.most_common(1)[0][0] if culprits else "",
            )
        )
    return rows


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that `percent` of `values` do not exceed (nearest rank); None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def describe_transports(rows: Iterable[TransportRow]) -> str:
    """Return the table of transports."""
    header = (
        "transport", "requests", "hits", "openings", "failed", "calls", "errors",
        "lock waits", "lock-wait p50", "lock-wait p99", "stalls",
    )  # fmt: skip
    return render(
        header,
        [
            (
                row.transport,
                *(str(number) for number in (row.requests, row.hits, row.openings, row.failed)),
                *(str(number) for number in (row.calls, row.errors, len(row.lock_waits_s))),
                _seconds(percentile(row.lock_waits_s, 50)),
                _seconds(percentile(row.lock_waits_s, 99)),
                str(row.stalls),
            )
            for row in rows
        ],
    )


def describe_loops(rows: Sequence[LoopRow]) -> str:
    """Return the table of loops, or a sentence when none stalled."""
    if not rows:
        return "No event loop stalled."
    return render(
        ("loop", "causes", "stalls", "longest", "in all", "at fault most often"),
        [
            (
                row.loop,
                ", ".join(f"{cause} {count}" for cause, count in sorted(row.causes.items())),
                str(row.stalls),
                _seconds(row.longest_s),
                _seconds(row.total_s),
                row.culprit,
            )
            for row in rows
        ],
        words=(0, 1, 5),
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"
