"""What gauges say of now: waits and stalls that no span tells of, and the state of locks."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping

from instrumented_sessions.telemetry import catalog

from ..rows import Resource, Span, Work
from ..schemas import Stall, Wait
from .gauges import Gauge, GaugeTable
from .open_work import OpenWork

_STALLED_FROM_S = 1.0
_TELLS_FOR_S = 15.0  # An older gauge says nothing of now: the wait may be over.
_MAX_PLACES = 10_000

_Place = tuple[Resource, str]
"""A process, and one of its transports or loops."""


class GaugeSignals:
    """Reads a table of gauges; not for use by several threads at once.

    Gauges come every few seconds, ends of waits and stalls at once: a gauge that is older than the
    last end in its place is not believed.

    Args:
        gauges: The table.
    """

    def __init__(self, gauges: GaugeTable) -> None:
        self._gauges = gauges
        self._ended_at: OrderedDict[_Place, float] = OrderedDict()

    def note_end(self, span: Span, received_at: float) -> None:
        """Remember where a wait or a stall ended."""
        name = catalog.TRANSPORT_ID if span.work is Work.LOCK else catalog.LOOP
        label = span.attributes.get(name)
        if span.work in (Work.LOCK, Work.STALL) and isinstance(label, str):
            place = (span.resource, label)
            self._ended_at[place] = received_at
            self._ended_at.move_to_end(place)
            if len(self._ended_at) > _MAX_PLACES:
                self._ended_at.popitem(last=False)

    def waits(
        self,
        at: float,
        known: Iterable[Wait],
        kinds: Mapping[str, str],
        last_heard: Callable[[Resource], float],
    ) -> list[Wait]:
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
                    transport_kind=kinds.get(transport, ""),
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
                    silent_s=max(0.0, at - last_heard(resource)),
                    source="gauges",
                    steps=[],
                )
            )
        return found

    def stalls(self, at: float, known: Iterable[Stall]) -> list[Stall]:
        """Return the loops whose heartbeat is overdue and of which no span tells."""
        told = {(stall.service, stall.instance, stall.loop) for stall in known}
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
            if gauge.value >= _STALLED_FROM_S
            and self._tells_of_now(gauge, at)
            and (gauge.resource.service, gauge.resource.instance, gauge.labels[0]) not in told
        ]

    def locks(self, at: float, open_work: Iterable[OpenWork]) -> dict[str, dict[tuple[str, str], float]]:
        """Return the lock gauges by metric, transport and lock: counts summed, ages the maximum.

        Open waits that spans tell of count where the gauges are older.
        """
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
        for item in open_work:
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

    def _tells_of_now(self, gauge: Gauge, at: float) -> bool:
        """Return whether a gauge tells what is so now: it is young, and nothing ended there since."""
        ended_at = self._ended_at.get((gauge.resource, gauge.labels[0]), 0.0)
        return gauge.age_s <= _TELLS_FOR_S and at - gauge.age_s >= ended_at
