"""What each event adds to which metric: pure translation, shared by OpenTelemetry and Prometheus.

Histograms are recorded when their event comes. Counters and gauges are only read, at collection
time: from a tally of plain integers and from `live`, so that counting costs no SDK call.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .. import events, live
from ..vocabulary import LockKind, Outcome, Phase, SessionState
from . import catalog
from .catalog import Metric
from .failures import TOOL_ERROR, error_type, rpc_status_code

Labels = tuple[str, ...]
"""Label values in the order of `Metric.labels`; empty where the label does not apply."""

_MAX_WORDS = 200  # Tool names come from a model, error codes from a server: both could be anything.
_MAX_STALLS = 1_000
_COUNT_STALL_AFTER_S = 1.0
_OPEN = (SessionState.READY, SessionState.DRAINING)
_ENDED = (SessionState.COLD, SessionState.BROKEN, SessionState.CLOSED)


class Sample(NamedTuple):
    """One value for one histogram."""

    metric: Metric
    value: float
    labels: Labels


class Measure:
    """Turns events into samples of histograms, and keeps the tally of counters; any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Protects what follows.
        self._tally: dict[str, Counter[Labels]] = {
            m.name: Counter() for m in catalog.METRICS if m.kind == "counter"
        }
        self._words: set[str] = set()
        self._counted_stalls: OrderedDict[int, None] = OrderedDict()

    def samples(self, event: events.Event) -> Iterable[Sample]:
        """Count `event` and return what it adds to histograms."""
        handler = _HANDLERS.get(type(event))
        return handler(self, event) if handler is not None else ()

    def read(self, reading: live.Reading) -> dict[str, Mapping[Labels, float]]:
        """Return the values of all counters and gauges now, by metric name."""
        with self._lock:
            values: dict[str, dict[Labels, float]] = {
                name: dict(tally) for name, tally in self._tally.items()
            }
        requests = values[catalog.SESSION_REQUESTS.name]
        for transport, hits in reading.hits.items():
            requests[transport, Outcome.HIT.value] = hits
        values[catalog.TELEMETRY_DROPPED.name] = {(name,): count for name, count in reading.dropped.items()}
        if reading.watchdog_cpu_s is not None:
            values[catalog.WATCHDOG_CPU_TIME.name] = {(): reading.watchdog_cpu_s}
        gauges: dict[str, Mapping[Labels, float]] = {
            catalog.SESSIONS.name: _plain(reading.sessions),
            catalog.LOCK_WAITERS.name: _plain(reading.waiters),
            catalog.LOCK_OLDEST_WAITER_AGE.name: _plain(reading.oldest_waiter_age_s),
            catalog.LOCK_HOLDER_AGE.name: _plain(reading.holder_age_s),
            catalog.LOOP_HEARTBEAT_AGE.name: {(loop,): age for loop, age in reading.heartbeat_age_s.items()},
            catalog.LOOP_STALL_AGE.name: _plain(reading.stall_age_s),
        }
        return {**values, **gauges}

    def reset(self) -> None:
        """Begin at zero; called in the child after a fork, where another thread may have held the lock."""
        self._lock = threading.Lock()
        for tally in self._tally.values():
            tally.clear()
        self._words.clear()
        self._counted_stalls.clear()

    def _count(self, metric: Metric, labels: Labels) -> None:
        with self._lock:
            self._tally[metric.name][labels] += 1

    def _bounded(self, word: str | None) -> str:
        """Return `word`, or `_OTHER` once too many different ones have been seen; empty for none."""
        if not word or word in self._words:
            return word or ""
        with self._lock:
            if len(self._words) >= _MAX_WORDS:
                return catalog.OTHER
            self._words.add(word)
        return word

    def _acquired(self, event: events.SessionAcquired) -> Iterable[Sample]:
        labels = (event.key.transport_id, event.outcome.value)
        self._count(catalog.SESSION_REQUESTS, labels)
        return (Sample(catalog.SESSION_ACQUIRE_DURATION, event.waited_s, labels),)

    def _refused(self, event: events.BlockingCallRefused) -> Iterable[Sample]:
        # Other doors ask for no session; a request that goes on with a warning is counted at its end.
        if event.refused and event.key is not None and event.door == "session()":
            self._count(catalog.SESSION_REQUESTS, (event.key.transport_id, Outcome.REFUSED.value))
        return ()

    def _opened(self, event: events.OpeningEnded) -> Iterable[Sample]:
        if event.phase in (Phase.QUEUE, Phase.LOCK):
            return ()  # It was never granted its lock.
        labels = (event.key.transport_id, event.outcome.value)
        return (Sample(catalog.SESSION_CREATE_DURATION, event.duration_s, labels),)

    def _changed(self, event: events.SessionStateChanged) -> Iterable[Sample]:
        if event.old not in _OPEN or event.new not in _ENDED:
            return ()
        failure = error_type(event.error) if event.new is SessionState.BROKEN else None
        network = catalog.network_transport(event.transport_kind)
        labels = (self._bounded(failure), network or "", event.transport_kind)
        return (Sample(catalog.MCP_SESSION_DURATION, event.age_s, labels),)

    def _returned(self, event: events.CallEnded) -> Iterable[Sample]:
        failure = TOOL_ERROR if event.tool_error else None
        code = None
        if event.outcome is not Outcome.OK:
            failure, code = error_type(event.error, event.outcome), rpc_status_code(event.error)
        labels = (
            event.method,
            self._bounded(event.target) if event.method == "tools/call" else "",
            self._bounded(failure),
            self._bounded(code),
            catalog.network_transport(event.transport_kind) or "",
            event.transport_kind,
        )
        return (Sample(catalog.MCP_OPERATION_DURATION, event.duration_s, labels),)

    def _waited(self, event: events.LockAcquired | events.LockWaitAbandoned) -> Iterable[Sample]:
        if event.key is None or event.lock is None:
            return ()  # The users' own locks are not in metrics.
        if isinstance(event, events.LockAcquired):
            if not event.contended:
                return ()
        elif event.outcome is Outcome.TIMEOUT:
            self._count(catalog.LOCK_TIMEOUTS, (event.key.transport_id, event.lock.value))
        return (Sample(catalog.LOCK_WAIT_DURATION, event.waited_s, _lock_labels(event)),)

    def _released(self, event: events.LockReleased) -> Iterable[Sample]:
        if event.key is None or event.lock is None:
            return ()
        return (Sample(catalog.LOCK_HOLD_DURATION, event.held_s, _lock_labels(event)),)

    def _deadlocked(self, event: events.DeadlockDetected) -> Iterable[Sample]:
        if event.cycle.key is not None:
            lock = event.lock or LockKind.OPENING  # None: it wanted to join an opening.
            self._count(catalog.LOCK_DEADLOCKS, (event.cycle.key.transport_id, lock.value))
        return ()

    def _beat(self, event: events.LoopHeartbeat) -> Iterable[Sample]:
        labels = (event.loop,)
        return [Sample(catalog.LOOP_LAG, lag_s, labels) for lag_s in event.lags_s]

    def _stalled(self, event: events.LoopStalled | events.LoopRecovered) -> Iterable[Sample]:
        """Count a stall once: at its end, or while it lasts when the cause has had time to settle."""
        report = event.report
        labels = (report.loop, report.cause.value)
        over = isinstance(event, events.LoopRecovered)
        if over or report.duration_s >= _COUNT_STALL_AFTER_S:
            with self._lock:
                new = report.stall_id not in self._counted_stalls
                self._counted_stalls[report.stall_id] = None
                if over:
                    del self._counted_stalls[report.stall_id]
                elif len(self._counted_stalls) > _MAX_STALLS:
                    self._counted_stalls.popitem(last=False)
            if new:
                self._count(catalog.LOOP_STALLS, labels)
        return (Sample(catalog.LOOP_STALL_DURATION, report.duration_s, labels),) if over else ()


def _lock_labels(event: events.LockAcquired | events.LockReleased | events.LockWaitAbandoned) -> Labels:
    assert event.key is not None
    assert event.lock is not None
    granularity = event.granularity.value if event.granularity is not None else ""
    return event.key.transport_id, event.lock.value, granularity


def _plain(values: Mapping[tuple[str, str], float]) -> dict[Labels, float]:
    """Return `values` with plain strings as keys: words print as themselves, but exporters check types."""
    return {(str(first), str(second)): value for (first, second), value in values.items()}


_HANDLERS: dict[type[events.Event], Callable[[Measure, Any], Iterable[Sample]]] = {
    events.SessionAcquired: Measure._acquired,
    events.BlockingCallRefused: Measure._refused,
    events.OpeningEnded: Measure._opened,
    events.SessionStateChanged: Measure._changed,
    events.CallEnded: Measure._returned,
    events.LockAcquired: Measure._waited,
    events.LockWaitAbandoned: Measure._waited,
    events.LockReleased: Measure._released,
    events.DeadlockDetected: Measure._deadlocked,
    events.LoopHeartbeat: Measure._beat,
    events.LoopStalled: Measure._stalled,
    events.LoopRecovered: Measure._stalled,
}
