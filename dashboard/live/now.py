"""What is true now, from everything that arrived; used on the dashboard's loop only."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable

from instrumented_sessions.telemetry import catalog

from ..rows import Batch, Resource, Span, Work
from ..schemas import LoopNow, Now, Process, SessionCount, Stall, Wait
from ..store.protocol import StoredSpan
from . import chains
from .gauges import Gauge, GaugeTable
from .open_work import OpenTable
from .verdict import RECENT_S, Trouble, verdict

MAX_LISTED = 200
"""How many waits are listed; the oldest matter most."""
GONE_AFTER_S = 900.0
"""A process that sent nothing for this long, in seconds, is no longer listed."""
_GAUGE_STALL_S = 1.0
_GAUGE_TELLS_S = 15.0  # An older gauge says nothing of now: the wait may be over.
_MAX_PROCESSES = 1_000
_MAX_TROUBLE = 10_000
_TROUBLE = ("timeout", "deadlock", "error", "refused")
_MAX_PLACES = 10_000

_Place = tuple[Resource, str]
"""A process, and one of its transports or loops."""


class Live:
    """Open work, gauges, processes and recent trouble, all bounded.

    Args:
        clock: Returns Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open = OpenTable()
        self._gauges = GaugeTable()
        self._heard: OrderedDict[Resource, float] = OrderedDict()
        self._trouble: deque[tuple[float, Trouble]] = deque(maxlen=_MAX_TROUBLE)
        self._kinds: dict[str, str] = {}
        self._ended_at: OrderedDict[_Place, float] = OrderedDict()
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
        stalls += self._gauge_stalls(at, {(s.service, s.instance, s.loop) for s in stalls})
        waits = chains.waits(open_work, at, self._last_heard)
        waits = sorted([*waits, *self._gauge_waits(at, waits)], key=lambda wait: wait.started_at)
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
        """Return the lock gauges by metric, transport and lock: counts summed, ages the maximum.

        Open waits that spans tell of count where the gauges are older.
        """
        at = self._clock()
        found: dict[str, dict[tuple[str, str], float]] = {}
        for metric in (catalog.LOCK_WAITERS, catalog.LOCK_OLDEST_WAITER_AGE, catalog.LOCK_HOLDER_AGE):
            values = found.setdefault(metric.name, {})
            for gauge in self._gauges.now(metric.name, at):
                key = (gauge.labels[0], gauge.labels[1])
                value = gauge.value if self._tells_of_now(gauge, at) else 0.0
                old = values.get(key, 0.0)
                values[key] = max(old, value) if metric.unit == "s" else old + value
        open_waits: Counter[tuple[str, str]] = Counter()
        ages = found[catalog.LOCK_OLDEST_WAITER_AGE.name]
        for item in self._open.all():
            transport, lock = (
                item.span.attributes.get(name) for name in (catalog.TRANSPORT_ID, catalog.LOCK)
            )
            if item.work is Work.LOCK and isinstance(transport, str) and isinstance(lock, str):
                open_waits[transport, lock] += 1
                ages[transport, lock] = max(ages.get((transport, lock), 0.0), at - item.started_at)
        waiters = found[catalog.LOCK_WAITERS.name]
        for place, count in open_waits.items():
            waiters[place] = max(waiters.get(place, 0.0), count)
        return found

    def _note(self, spans: Iterable[Span], received_at: float) -> None:
        """Remember kinds of transports, where something ended, and what went wrong."""
        for span in spans:
            facts = span.attributes
            transport, kind = facts.get(catalog.TRANSPORT_ID), facts.get(catalog.MCP_TRANSPORT)
            if isinstance(transport, str) and isinstance(kind, str) and len(self._kinds) < _MAX_TROUBLE:
                self._kinds[transport] = kind
            if span.in_progress:
                continue
            if span.work in (Work.LOCK, Work.STALL):
                place = (span.resource, str(transport or facts.get(catalog.LOOP, "")))
                self._ended_at[place] = received_at
                self._ended_at.move_to_end(place)
                if len(self._ended_at) > _MAX_PLACES:
                    self._ended_at.popitem(last=False)
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

    def _tells_of_now(self, gauge: Gauge, at: float) -> bool:
        """Return whether a gauge tells what is so now: it is young, and nothing ended there since."""
        ended_at = self._ended_at.get((gauge.resource, gauge.labels[0]), 0.0)
        return gauge.age_s <= _GAUGE_TELLS_S and at - gauge.age_s >= ended_at

    def _gauge_waits(self, at: float, known: list[Wait]) -> list[Wait]:
        """Return the waits for locks that only gauges tell of: too young for a report, or not sampled."""
        told = {
            (w.service, w.instance, w.transport) for w in known if w.phase == "lock" or w.lock is not None
        }
        ages = {
            (gauge.resource, gauge.labels): gauge
            for gauge in self._gauges.now(catalog.LOCK_OLDEST_WAITER_AGE.name, at)
        }
        found = []
        for gauge in self._gauges.now(catalog.LOCK_WAITERS.name, at):
            resource, (transport, lock) = gauge.resource, gauge.labels
            if gauge.value < 1 or not self._tells_of_now(gauge, at):
                continue
            if (resource.service, resource.instance, transport) in told:
                continue
            oldest = ages.get((resource, gauge.labels))
            waited_s = oldest.value + oldest.age_s if oldest is not None else gauge.age_s
            found.append(
                Wait(
                    kind="gauge",
                    name=catalog.LOCK_WAITERS.name,
                    phase="lock",
                    transport=transport,
                    transport_kind=self._kinds.get(transport, ""),
                    conversation="",
                    lock=lock,
                    lock_name=f"{lock} lock of transport {transport}",
                    started_at=at - waited_s,
                    waited_s=waited_s,
                    waiters=int(gauge.value),
                    service=resource.service,
                    instance=resource.instance,
                    thread=None,
                    task=None,
                    code=None,
                    stack=[],
                    doing=None,
                    holder=None,
                    trace_id="",
                    span_id="",
                    silent_s=max(0.0, at - self._last_heard(resource)),
                    source="gauges",
                    steps=[],
                )
            )
        return found

    def _gauge_stalls(self, at: float, known: set[tuple[str, str, str]]) -> list[Stall]:
        """Return the loops whose heartbeat is overdue and of which no span tells."""
        return [
            Stall(
                loop=gauge.labels[0],
                service=gauge.resource.service,
                instance=gauge.resource.instance,
                cause="unknown",
                ongoing=True,
                started_at=at - gauge.value - gauge.age_s,
                duration_s=gauge.value + gauge.age_s,
                culprit=None,
                task=None,
                stacks=[],
                delayed=0,
                trace_id="",
                span_id="",
            )
            for gauge in self._gauges.now(catalog.LOOP_HEARTBEAT_AGE.name, at)
            if gauge.value >= _GAUGE_STALL_S
            and self._tells_of_now(gauge, at)
            and (gauge.resource.service, gauge.resource.instance, gauge.labels[0]) not in known
        ]

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
