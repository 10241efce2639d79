"""What can be read at any instant: gauges and counters that no event could keep up to date.

Managers and the watchdog register themselves here as sources; telemetry reads them at collection
time, from its own thread, also while every loop is stalled.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .chain import BlockingChain

TransportLabel = str
"""A transport's id."""


@dataclass(frozen=True)
class Reading:
    """One source's state at one instant; keys are label values in the catalog's order.

    Attributes:
        hits: Warm requests so far, by transport; only grows.
        sessions: How many sessions, by (transport, state).
        waiters: How many wait, by (transport, lock kind).
        oldest_waiter_age_s: How long the oldest has waited, by (transport, lock kind).
        holder_age_s: How long the oldest holder has held, by (transport, lock kind).
        heartbeat_age_s: Seconds since the last heartbeat, by loop.
        stall_age_s: How long the stall that lasts has lasted, by (loop, cause); 0 where there is none.
        dropped: Events or spans that were dropped, by observer; only grows.
        watchdog_cpu_s: CPU time of the watchdog's thread so far; None while no loop was ever watched.
    """

    hits: Mapping[TransportLabel, int] = field(default_factory=dict)
    sessions: Mapping[tuple[TransportLabel, str], int] = field(default_factory=dict)
    waiters: Mapping[tuple[TransportLabel, str], int] = field(default_factory=dict)
    oldest_waiter_age_s: Mapping[tuple[TransportLabel, str], float] = field(default_factory=dict)
    holder_age_s: Mapping[tuple[TransportLabel, str], float] = field(default_factory=dict)
    heartbeat_age_s: Mapping[str, float] = field(default_factory=dict)
    stall_age_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    watchdog_cpu_s: float | None = None


class Source(Protocol):
    """Something that can be read from any thread without waiting for a loop.

    It may also have `explain_live(id)`, which returns the blocking chain of the request, opening, call
    or wait of that id, None when it knows of none; and `waits_live(thread_id)`, which returns the chains of
    what waits on that thread.
    """

    def read_live(self) -> Reading:
        """Return what is true now."""
        ...


_lock = threading.Lock()  # Protects the three below.
_sources: weakref.WeakSet[Source] = weakref.WeakSet()
_retired_hits: Counter[str] = Counter()
_retired_dropped: Counter[str] = Counter()


def register(source: Source) -> None:
    """Let telemetry read `source` until `retire(source)`; held weakly."""
    with _lock:
        _sources.add(source)


def retire(source: Source) -> None:
    """Read `source` for the last time: its counters stay in the sum, its gauges go."""
    with _lock:
        if source in _sources:
            _sources.discard(source)
            last = source.read_live()
            _retired_hits.update(last.hits)
            _retired_dropped.update(last.dropped)


def reset() -> None:
    """Forget everything; called in the child after a fork, where counters begin at zero."""
    global _lock
    _lock = threading.Lock()  # The parent's other threads may have held it.
    _sources.clear()
    _retired_hits.clear()
    _retired_dropped.clear()


os.register_at_fork(after_in_child=reset)


def explain(id: int) -> BlockingChain | None:
    """Return why the request, opening, call or wait of that id waits now, None when nobody knows of it."""
    with _lock:
        explainers: list[Any] = [source for source in _sources if hasattr(source, "explain_live")]
    for source in explainers:
        chain: BlockingChain | None = source.explain_live(id)
        if chain is not None:
            return chain
    return None


def waits(thread_id: int) -> list[BlockingChain]:
    """Return what waits on that thread now, by itself or in its loop's tasks; the oldest first."""
    with _lock:
        sources: list[Any] = [source for source in _sources if hasattr(source, "waits_live")]
    found: dict[tuple[str, float], BlockingChain] = {}  # Several managers know of the users' own locks.
    for source in sources:
        for chain in source.waits_live(thread_id):
            found.setdefault((chain.waiter.name, chain.started_at), chain)
    return sorted(found.values(), key=lambda chain: -chain.waited_s)


def read() -> Reading:
    """Return the sum over all sources: counters and counts are added, ages take the maximum."""
    with _lock:
        readings = [source.read_live() for source in _sources]
        hits = Counter(_retired_hits)
        dropped = Counter(_retired_dropped)
    sessions: Counter[tuple[str, str]] = Counter()
    waiters: Counter[tuple[str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    holder: dict[tuple[str, str], float] = {}
    heartbeat: dict[str, float] = {}
    stall: dict[tuple[str, str], float] = {}
    for reading in readings:
        hits.update(reading.hits)
        sessions.update(reading.sessions)
        waiters.update(reading.waiters)
        dropped.update(reading.dropped)
        for target, ages in (
            (oldest, reading.oldest_waiter_age_s),
            (holder, reading.holder_age_s),
            (stall, reading.stall_age_s),
        ):
            for labels, age in ages.items():
                target[labels] = max(age, target.get(labels, 0.0))
        for loop, age in reading.heartbeat_age_s.items():
            heartbeat[loop] = max(age, heartbeat.get(loop, 0.0))
    costs_s = [reading.watchdog_cpu_s for reading in readings if reading.watchdog_cpu_s is not None]
    cost_s = sum(costs_s) if costs_s else None
    return Reading(hits, sessions, waiters, oldest, holder, heartbeat, stall, dropped, cost_s)
