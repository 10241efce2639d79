"""Work that is open now, from reports in progress; pure, with instants passed in.

A report is a child of the open span, so trace id and parent id name the work. A newer report replaces
an older one; the ended span takes the work out; work of a process that fell silent goes when its next
report is overdue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from instrumented_sessions.telemetry import catalog

from ..rows import Resource, Span, Work

MAX_OPEN = 5_000
SLACK_S = 10.0
"""How late a report may come, in seconds: exporters batch for five by default."""
SILENT_AFTER_S = 30.0
"""A process that sent nothing for this long, in seconds, is taken to be gone."""
_MAX_LATE_START_S = 10.0
_MAX_ENDED = 20_000
_ENDED_MATTERS_FROM_S = 0.5

Key = tuple[bytes, bytes]


@dataclass(frozen=True)
class OpenWork:
    """One piece of open work, as last reported."""

    key: Key
    """Trace id and id of the open span."""
    work: Work
    name: str
    """The open span's name."""
    started_at: float
    """Unix seconds by this machine's clock, as near as can be told."""
    due_at: float
    """When the next report should have come, in Unix seconds."""
    span: Span
    """The report."""


class OpenTable:
    """Open work by the span that is open; not for use by several threads at once."""

    def __init__(self) -> None:
        self._open: dict[Key, OpenWork] = {}
        self._ended: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def apply(self, spans: Iterable[Span], received_at: float) -> bool:
        """Take in reports and ends, in any order, and return whether anything changed."""
        changed = False
        for span in spans:
            if span.work is None or span.work is Work.HEARTBEAT:
                continue
            if span.in_progress:
                changed |= self._report(span, received_at)
            else:
                changed |= self._end(span)
        return changed

    def expire(self, now: float, last_heard: Callable[[Resource], float]) -> bool:
        """Drop what is overdue and return whether there was any.

        Of a process that is silent, work goes when its report is late; of one that is heard from,
        when the next one is missing too, since a report or an end may have been lost on the way.
        """
        gone = []
        for key, work in self._open.items():
            late_s = now - work.due_at - SLACK_S
            silent = now - last_heard(work.span.resource) > SILENT_AFTER_S
            if late_s > (0.0 if silent else _interval_s(work.due_at - work.started_at)):
                gone.append(key)
        for key in gone:
            del self._open[key]
        return bool(gone)

    def all(self) -> list[OpenWork]:
        """Return all open work, the oldest first."""
        return sorted(self._open.values(), key=lambda work: work.started_at)

    def _report(self, span: Span, received_at: float) -> bool:
        if span.parent_id is None:
            return False
        key = (span.trace_id, span.parent_id)
        known = self._open.get(key)
        if key in self._ended or (known is not None and known.span.end_ns >= span.end_ns):
            return False  # Requests overtake each other: it has ended, or a newer report has come.
        if known is None and len(self._open) >= MAX_OPEN:
            return False
        age_s = span.duration_s
        # Another machine's clock may be wrong, but work that was `age_s` old when it was reported is not
        # younger now; and the way here takes seconds, not minutes.
        latest = received_at - age_s
        started_at = max(latest - _MAX_LATE_START_S, min(span.start_ns / 1e9, latest))
        assert span.work is not None
        self._open[key] = OpenWork(
            key,
            span.work,
            span.name.removesuffix(catalog.IN_PROGRESS_SUFFIX),
            started_at,
            received_at + _interval_s(age_s),
            span,
        )
        return True

    def _end(self, span: Span) -> bool:
        key = (span.trace_id, span.span_id)
        if span.duration_s >= _ENDED_MATTERS_FROM_S:  # What was shorter was never reported.
            self._ended[key] = None
            if len(self._ended) > _MAX_ENDED:
                self._ended.popitem(last=False)
        return self._open.pop(key, None) is not None


def _interval_s(age_s: float) -> float:
    """Return how long after a report at this age the next one is due."""
    for due_s in catalog.IN_PROGRESS_AFTER_S:
        if age_s < due_s * 0.95:  # A report for 5 s may be made a moment before.
            return due_s - age_s
    return catalog.IN_PROGRESS_AFTER_S[-1]
