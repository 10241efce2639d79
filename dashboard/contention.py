"""The contention of transports side by side, from what the store summed up and what gauges say now; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from instrumented_sessions.telemetry import catalog

from .schemas import ContentionPoint, Latency, LockContention, TransportContention, Transports, Wait
from .sketch import percentiles
from .store.protocol import Busy, Contention, Durations
from .store.slots import Window, spread

_COMPLETE = 0.9
_HIT = "hit"
_OPENED = "ok"
_FAILED_WAITS = {"timeout": catalog.LOCK_TIMEOUTS.name, "deadlock": catalog.LOCK_DEADLOCKS.name}

Gauges = Mapping[str, Mapping[tuple[str, str], float]]


def latency(parts: Iterable[Durations]) -> Latency | None:
    """Return the latency of all parts together, None when nothing ended.

    Spans are exact, but may be sampled; histograms are complete, but coarse. Spans are taken when
    there are about as many.
    """
    by_source: defaultdict[str, list[Durations]] = defaultdict(list)
    for part in parts:
        by_source[part.source].append(part)
    counts = {source: sum(part.observations for part in found) for source, found in by_source.items()}
    if not any(counts.values()):
        return None
    spans, metrics = counts.get("spans", 0), counts.get("metrics", 0)
    source: Literal["spans", "metrics"] = "spans" if spans and spans >= metrics * _COMPLETE else "metrics"
    chosen = by_source[source]
    count, total_s = counts[source], sum(part.total_s for part in chosen)
    known = [part.max_s for part in chosen]
    max_s = None if any(m is None for m in known) else max(m for m in known if m is not None)
    p50, p95, p99 = percentiles((bucket for part in chosen for bucket in part.buckets), maximum=max_s)
    return Latency(
        count=count,
        total_s=total_s,
        mean_s=total_s / count,
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        max_s=max_s,
        source=source,
    )


def still_open(waits: Iterable[Wait], now: float, window: Window) -> Iterator[Busy]:
    """Yield the seconds that waits which have not ended spent in each step so far."""
    for wait in waits:
        for step in wait.steps:
            since = max(step.started_at, window.since)
            for number, busy_s in spread(int(since * 1e9), int(now * 1e9), window.step_s):
                index = number - window.since // window.step_s
                if step.kind in ("request", "lock") and 0 <= index < window.steps:
                    yield Busy(wait.transport, step.kind, index, busy_s)


def transports(contention: Contention, gauges: Gauges, window: Window) -> Transports:
    """Return all transports, the one that was waited for longest first."""
    names = {part.transport for part in contention.durations}
    names.update(amount.transport for amount in contention.amounts)
    names.update(stretch.transport for stretch in contention.busy)
    names.update(transport for values in gauges.values() for transport, _ in values)
    found = [_transport(name, contention, gauges, window) for name in names]
    found.sort(key=lambda item: (-_waited_s(item, window), item.transport))
    return Transports(since=window.since, until=window.until, step_s=window.step_s, transports=found)


def _waited_s(item: TransportContention, window: Window) -> float:
    return item.oldest_waiter_age_s + sum(p.waiting + p.lock_waiting for p in item.points) * window.step_s


def _transport(name: str, contention: Contention, gauges: Gauges, window: Window) -> TransportContention:
    durations = [part for part in contention.durations if part.transport == name]
    whole: defaultdict[str, list[Durations]] = defaultdict(list)
    for part in durations:
        if part.step == -1:
            whole[part.what].append(part)
    by_outcome = _requests(name, contention, whole["request"])
    openings, failed = _openings(whole["opening"])
    locks = _locks(name, contention, whole, gauges)
    return TransportContention(
        transport=name,
        kind=contention.kinds.get(name, ""),
        requests=sum(by_outcome.values()),
        hits=by_outcome.get(_HIT, 0),
        by_outcome=by_outcome,
        openings=openings,
        openings_failed=failed,
        opening=latency(whole["opening"]),
        acquire=latency(whole["request"]),
        call=latency(whole["call"]),
        lock_wait=latency(whole["lock"]),
        lock_hold=latency(whole["hold"]),
        waiters=sum(lock.waiters for lock in locks),
        oldest_waiter_age_s=max((lock.oldest_waiter_age_s for lock in locks), default=0.0),
        holder_age_s=max((lock.holder_age_s for lock in locks), default=0.0),
        timeouts=sum(lock.timeouts for lock in locks),
        deadlocks=sum(lock.deadlocks for lock in locks),
        locks=locks,
        points=_points(name, durations, contention, window),
    )


def _requests(name: str, contention: Contention, requests: Sequence[Durations]) -> dict[str, int]:
    """Return requests by outcome; where both sources tell, the one that saw more."""
    metrics: Counter[str] = Counter()
    for amount in contention.amounts:
        if amount.transport == name and amount.metric == catalog.SESSION_REQUESTS.name:
            metrics[amount.labels[0]] += round(amount.value)
    return dict(sorted((metrics | _by_outcome(requests)).items()))


def _by_outcome(parts: Iterable[Durations]) -> Counter[str]:
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        by_source[part.source][part.outcome] += part.observations
    return by_source["spans"] | by_source["metrics"]


def _openings(parts: Sequence[Durations]) -> tuple[int, int]:
    by_outcome = _by_outcome(parts)
    total = sum(by_outcome.values())
    return total, total - by_outcome.get(_OPENED, 0)


def _locks(
    name: str, contention: Contention, whole: Mapping[str, Sequence[Durations]], gauges: Gauges
) -> list[LockContention]:
    granularities: defaultdict[str, set[str]] = defaultdict(set)
    for part in (*whole.get("lock", ()), *whole.get("hold", ())):
        granularities[part.lock].add(part.granularity)
    for values in gauges.values():
        for transport, lock in values:
            if transport == name:
                granularities.setdefault(lock, set())
    counts: Counter[tuple[str, str]] = Counter()
    for amount in contention.amounts:
        if amount.transport == name and amount.metric in (
            catalog.LOCK_TIMEOUTS.name,
            catalog.LOCK_DEADLOCKS.name,
        ):
            counts[amount.metric, amount.labels[0]] += round(amount.value)
            granularities.setdefault(amount.labels[0], set())
    seen: Counter[tuple[str, str]] = Counter()
    for part in whole.get("lock", ()):
        if part.source == "spans" and part.outcome in _FAILED_WAITS:
            seen[_FAILED_WAITS[part.outcome], part.lock] += part.observations
    counts |= seen
    return [
        LockContention(
            lock=lock,
            granularity=", ".join(sorted(filter(None, words))),
            wait=latency(part for part in whole.get("lock", ()) if part.lock == lock),
            hold=latency(part for part in whole.get("hold", ()) if part.lock == lock),
            waiters=int(gauges.get(catalog.LOCK_WAITERS.name, {}).get((name, lock), 0)),
            oldest_waiter_age_s=gauges.get(catalog.LOCK_OLDEST_WAITER_AGE.name, {}).get((name, lock), 0.0),
            holder_age_s=gauges.get(catalog.LOCK_HOLDER_AGE.name, {}).get((name, lock), 0.0),
            timeouts=counts[catalog.LOCK_TIMEOUTS.name, lock],
            deadlocks=counts[catalog.LOCK_DEADLOCKS.name, lock],
        )
        for lock, words in sorted(granularities.items())
    ]


def _points(
    name: str, durations: Sequence[Durations], contention: Contention, window: Window
) -> list[ContentionPoint]:
    busy: defaultdict[tuple[str, int], float] = defaultdict(float)
    for stretch in contention.busy:
        if stretch.transport == name:
            busy[stretch.what, stretch.step] += stretch.busy_s / window.step_s
    requests: Counter[int] = Counter()
    waiters: Counter[int] = Counter()
    for amount in contention.amounts:
        if amount.transport == name and amount.metric == catalog.SESSION_REQUESTS.name:
            requests[amount.step] += round(amount.value)
        elif amount.transport == name and amount.metric == catalog.LOCK_WAITERS.name:
            waiters[amount.step] += round(amount.value)
    by_step: defaultdict[tuple[str, int], list[Durations]] = defaultdict(list)
    for part in durations:
        by_step[part.what, part.step].append(part)
    points = []
    for step in range(window.steps):
        wait = latency(by_step["lock", step])
        ended = latency(by_step["request", step])
        points.append(
            ContentionPoint(
                at=window.since + step * window.step_s,
                requests=max(requests[step], ended.count if ended else 0),
                waiting=busy["request", step],
                lock_waiting=max(busy["lock", step], waiters[step]),
                lock_wait_p99_s=wait.p99_s if wait else None,
            )
        )
    return points
