"""What a replay, or what was measured, comes to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .replay import Played

SAME_INSTANT_S = 0.001
"""Instants that are closer are not told apart, in seconds."""


@dataclass(frozen=True)
class Figures:
    """Lock waits of all openings, those that did not wait included; seconds."""

    openings: int
    waited: int
    """How many had to wait."""
    gave_up: int
    """How many were still waiting when nobody wanted them any more."""
    p50_s: float
    p99_s: float
    max_s: float
    sum_s: float
    at_once: int
    """The most openings that held a permit at one instant."""
    at_once_on_one: int
    """The same for the transport that had most of them."""

    @property
    def share_waited(self) -> float:
        """The share of openings that had to wait, 0 to 1."""
        return self.waited / self.openings if self.openings else 0.0

    @classmethod
    def of(cls, played: Sequence[Played]) -> Figures:
        """Return the figures of one replay."""
        waits = sorted(each.waited_s for each in played)
        by_transport: dict[str, list[Played]] = defaultdict(list)
        for each in played:
            by_transport[each.opening.transport].append(each)
        return cls(
            openings=len(played),
            waited=sum(each.queued for each in played),
            gave_up=sum(each.granted_s is None for each in played),
            p50_s=_percentile(waits, 0.5),
            p99_s=_percentile(waits, 0.99),
            max_s=waits[-1] if waits else 0.0,
            sum_s=math.fsum(waits),
            at_once=_at_once(played),
            at_once_on_one=max(map(_at_once, by_transport.values()), default=0),
        )


def _percentile(ordered: Sequence[float], share: float) -> float:
    # The nearest rank: always a wait that happened.
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _at_once(played: Iterable[Played]) -> int:
    changes: list[tuple[float, int]] = []
    for each in played:
        if each.granted_s is not None:
            # A permit that is handed on is measured twice, some microseconds apart: no overlap.
            changes += [(each.granted_s + SAME_INSTANT_S, 1), (each.ended_s, -1)]
    most = now = 0
    for _, change in sorted(changes):  # At one instant those that end come first.
        now += change
        most = max(most, now)
    return most
