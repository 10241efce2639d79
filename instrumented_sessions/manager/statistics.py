"""A snapshot of a manager: who has what, who waits, what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..live import Reading
from ..vocabulary import Outcome, SessionState
from .pool import Pool
from .records import Ticket

COUNTERS = (
    *(f"requests_{outcome}" for outcome in Outcome if outcome is not Outcome.OK),
    *(f"openings_{word}" for word in ("ok", "timeout", "cancelled", "error", "deadlock", "refused")),
    *(f"calls_{word}" for word in ("ok", "timeout", "cancelled", "error", "deadlock", "refused")),
    "lost",
    "deadlocks",
)
"""Every counter there is; each only grows."""


@dataclass(frozen=True)
class TransportStatistics:
    """One transport's part of a `ManagerStatistics`."""

    sessions: Mapping[SessionState, int]
    """How many sessions, by state; states without any are absent."""
    waiters: int
    """How many callers wait now, for a session, a permit or an answer."""
    holders: int
    """How many permits are held now, of both kinds of lock."""
    counters: Mapping[str, int]
    """What was counted since the manager began; the names are in `COUNTERS`."""


@dataclass(frozen=True)
class ManagerStatistics(TransportStatistics):
    """One consistent snapshot of a manager."""

    at: float
    """When it was taken, in Unix seconds."""
    by_transport: Mapping[str, TransportStatistics]
    """The same for each transport, by its id."""


def statistics_of(pool: Pool, tickets: Iterable[Ticket]) -> ManagerStatistics:
    """Return a snapshot; `pool.mutex` must be held."""
    sessions: dict[str, Counter[SessionState]] = {}
    for record in {*pool.active.values(), *list(pool.known.values())}:
        pool.absorb_hits(record)
        sessions.setdefault(record.transport_id, Counter())[record.state] += 1
    waiters = Counter(ticket.key.transport_id for ticket in tickets if ticket.open)
    holders: Counter[str] = Counter()
    for lock in pool.permits.locks:
        for holder in lock.holders:
            holders[holder.owner.transport.id] += 1
    by_transport = {
        transport_id: TransportStatistics(
            sessions=dict(sessions.get(transport_id, {})),
            waiters=waiters[transport_id],
            holders=holders[transport_id],
            counters=_counters(pool, transport_id),
        )
        for transport_id in sorted({*pool.tallies, *sessions, *waiters, *holders})
    }
    total: Counter[str] = Counter()
    states: Counter[SessionState] = Counter()
    for part in by_transport.values():
        total.update(part.counters)
        states.update(part.sessions)
    return ManagerStatistics(
        sessions=dict(states),
        waiters=sum(waiters.values()),
        holders=sum(holders.values()),
        counters={name: total[name] for name in COUNTERS},
        at=pool.clock.time(),
        by_transport=by_transport,
    )


def _counters(pool: Pool, transport_id: str) -> dict[str, int]:
    tally = pool.tallies.get(transport_id)
    if tally is None:
        return dict.fromkeys(COUNTERS, 0)
    counts = {name: tally.counts[name] for name in COUNTERS}
    counts["requests_hit"] += tally.warm_hits
    return counts


def reading_of(pool: Pool) -> Reading:
    """Return what telemetry reads at collection time; `pool.mutex` must be held."""
    now = pool.clock.monotonic()
    sessions: Counter[tuple[str, str]] = Counter()
    for record in pool.active.values():
        pool.absorb_hits(record)
        sessions[record.transport_id, record.state.value] += 1
    for record in list(pool.known.values()):
        if pool.active.get(record.key) is not record:
            sessions[record.transport_id, record.state.value] += 1
    waiters: Counter[tuple[str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    holding: dict[tuple[str, str], float] = {}
    for lock in pool.permits.locks:
        for waiting in lock.waiters:
            labels = (waiting.owner.transport.id, lock.kind.value)
            waiters[labels] += 1
            oldest[labels] = max(oldest.get(labels, 0.0), now - waiting.asked_at)
        for holder in lock.holders:
            labels = (holder.owner.transport.id, lock.kind.value)
            holding[labels] = max(holding.get(labels, 0.0), now - (holder.granted_at or now))
    hits = {transport_id: tally.warm_hits for transport_id, tally in pool.tallies.items() if tally.warm_hits}
    return Reading(hits, sessions, waiters, oldest, holding)
