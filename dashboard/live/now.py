"""What is true now, from everything that arrived; used on the dashboard's loop only."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable

from instrumented_sessions.telemetry import catalog

from ..rows import Batch, Resource, Span, Work
from ..schemas import LoopNow, Now, Process, SessionCount
from ..store.protocol import StoredSpan
from . import chains
from .gauges import GaugeTable
from .open_work import OpenTable
from .signals import GaugeSignals
from .verdict import RECENT_S, Trouble, verdict

MAX_LISTED = 200
"""How many waits are listed; the oldest matter most."""
GONE_AFTER_S = 900.0
"""A process that sent nothing for this long, in seconds, is no longer listed."""
_MAX_PROCESSES = 1_000
_MAX_TROUBLE = 10_000
_TROUBLE = ("timeout", "deadlock", "error", "refused")


class Live:
    """Open work, gauges, processes and recent trouble, all bounded.

    Args:
        clock: Returns Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open = OpenTable()
        self._gauges = GaugeTable()
        self._signals = GaugeSignals(self._gauges)
        self._heard: OrderedDict[Resource, float] = OrderedDict()
        self._trouble: deque[tuple[float, Trouble]] = deque(maxlen=_MAX_TROUBLE)
        self._kinds: dict[str, str] = {}
        self.version = 0
        """Rises with every batch."""

    def apply(self, batch: Batch, received_at: float) -> None:
        """Take in what arrived."""
        self.version += 1
        for rows in (batch.spans, batch.points, batch.logs):
            for resource in {row.resource for row in rows}:
                self._heard[resource] = received_at
                self._heard.move_to_end(resource)
        while len(self._heard) > _MAX_PROCESSES:
            self._heard.popitem(last=False)
        ours = [span for span in batch.spans if span.work is not None]
        self._open.apply(ours, received_at)
        self._note(ours, received_at)
        self._gauges.apply(batch.points, received_at)

    def restore(self, reports: Iterable[StoredSpan]) -> None:
        """Take in reports that were stored before the dashboard was started."""
        for report in reports:
            self._open.apply([report.span], report.received_at)
            self._heard.setdefault(report.span.resource, report.received_at)

    def now(self) -> Now:
        """Return a snapshot."""
        at = self._clock()
        self._open.expire(at, self._last_heard)
        open_work = self._open.all()
        stalls = chains.stalls(open_work, at)
        stalls += self._signals.stalls(at, stalls)
        waits = chains.waits(open_work, at, self._last_heard)
        waits += self._signals.waits(at, waits, self._kinds, self._last_heard)
        waits.sort(key=lambda wait: wait.started_at)
        sessions = self._sessions(at)
        loops = [
            LoopNow(
                loop=gauge.labels[0],
                service=gauge.resource.service,
                instance=gauge.resource.instance,
                heartbeat_age_s=gauge.value,
            )
            for gauge in self._gauges.now(catalog.LOOP_HEARTBEAT_AGE.name, at)
        ]
        processes = self._processes(at)
        return Now(
            at=at,
            version=self.version,
            verdict=verdict(waits, stalls, loops, sessions, processes, self._recent(at)),
            waits=waits[:MAX_LISTED],
            waits_total=sum(wait.waiters for wait in waits),
            stalls=stalls,
            sessions=sessions,
            loops=loops,
            processes=processes,
        )

    def lock_gauges(self) -> dict[str, dict[tuple[str, str], float]]:
        """Return how the locks are now, by metric, transport and lock."""
        return self._signals.locks(self._clock(), self._open.all())

    def _note(self, spans: Iterable[Span], received_at: float) -> None:
        """Remember kinds of transports, where something ended, and what went wrong."""
        for span in spans:
            facts = span.attributes
            transport, kind = facts.get(catalog.TRANSPORT_ID), facts.get(catalog.MCP_TRANSPORT)
            if isinstance(transport, str) and isinstance(kind, str) and len(self._kinds) < _MAX_TROUBLE:
                self._kinds[transport] = kind
            if span.in_progress:
                continue
            self._signals.note_end(span, received_at)
            if span.work is Work.STALL:
                self._trouble.append(
                    (span.end_ns / 1e9, ("stall", f"loop {facts.get(catalog.LOOP, 'other')}"))
                )
            # A request that failed inside a call, or with its opening, is counted once.
            elif span.work in (Work.REQUEST, Work.CALL) and facts.get(catalog.OUTCOME) in _TROUBLE:
                self._trouble.append((span.end_ns / 1e9, (str(facts[catalog.OUTCOME]), str(transport or ""))))

    def _last_heard(self, resource: Resource) -> float:
        return self._heard.get(resource, 0.0)

    def _recent(self, at: float) -> dict[Trouble, int]:
        while self._trouble and self._trouble[0][0] < at - RECENT_S:
            self._trouble.popleft()
        return dict(Counter(trouble for when, trouble in self._trouble if when >= at - RECENT_S))

    def _sessions(self, at: float) -> list[SessionCount]:
        states: dict[str, Counter[str]] = {}
        for gauge in self._gauges.now(catalog.SESSIONS.name, at):
            transport, state = gauge.labels
            states.setdefault(transport, Counter())[state] += int(gauge.value)
        return [
            SessionCount(
                transport=transport,
                kind=self._kinds.get(transport, ""),
                by_state={state: count for state, count in sorted(counts.items()) if count},
                total=sum(counts.values()),
            )
            for transport, counts in sorted(states.items())
        ]

    def _processes(self, at: float) -> list[Process]:
        return [
            Process(
                service=resource.service,
                instance=resource.instance,
                last_seen=heard_at,
                silent_s=max(0.0, at - heard_at),
            )
            for resource, heard_at in reversed(self._heard.items())
            if at - heard_at < GONE_AFTER_S
        ]
