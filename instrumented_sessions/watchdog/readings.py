"""What can be read of the watchdog at any time, from any thread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..vocabulary import StallCause
from .registry import Registry


@dataclass(frozen=True)
class WatchdogStatistics:
    """The watchdog of the process at one instant: what it has seen, and what it costs."""

    loops: int
    """How many loops are watched."""
    stalls: Mapping[tuple[str, StallCause], int]
    """How many stalls were reported, by loop name and first cause; only grows."""
    heartbeats: int
    """How many heartbeats have come; only grows."""
    events: int
    """How many events were announced; only grows."""
    failures: int
    """How often the watchdog itself failed; the first is logged, and none reaches the program."""
    cpu_s: float
    """CPU time of its thread in seconds; the heartbeats take theirs on the loops."""


def count(registry: Registry, events: int, failures: int, cpu_s: float) -> WatchdogStatistics:
    """Return one snapshot, loops that have ended included."""
    with registry.lock:
        stalls = Counter(registry.past_stalls)
        beats = registry.past_beats
        for entry in registry:
            beats += entry.watched.pulse.beats
            for cause, number in list(entry.watched.stalls.items()):
                stalls[entry.watched.name, cause] += number
        return WatchdogStatistics(len(registry.entries), dict(stalls), beats, events, failures, cpu_s)


def heartbeat_ages_s(registry: Registry) -> dict[str, float]:
    """Return the seconds since the last heartbeat of every running loop; the oldest of one name counts."""
    now = time.monotonic()
    ages: dict[str, float] = {}
    for entry in registry:
        pulse = entry.watched.pulse
        if pulse.is_running and not pulse.has_ended:
            beat = pulse.last_at
            if not beat:
                continue  # It runs again, and its first beat is still to come.
            age = max(now - beat, 0.0)
            ages[entry.watched.name] = max(age, ages.get(entry.watched.name, 0.0))
    return ages


def stall_ages_s(registry: Registry) -> dict[tuple[str, str], float]:
    """Return how long each running loop's stall has lasted, by (loop, cause); 0 for every other cause.

    The zeros end a stall for whoever reads metrics that are pushed: there, what is not said any more
    counts for minutes on.
    """
    ages: dict[tuple[str, str], float] = {}
    for entry in registry:
        watched = entry.watched
        if not watched.pulse.is_running or watched.pulse.has_ended:
            continue
        name, stalled = watched.name, watched.stalled_for()
        for cause in StallCause:
            age = stalled[1] if stalled is not None and stalled[0] is cause else 0.0
            ages[name, cause.value] = max(age, ages.get((name, cause.value), 0.0))
    return ages
