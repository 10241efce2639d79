"""How sure a difference between two replays is, and how far a recording bears it."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from .replay import Played

_RESAMPLES = 1_000
_LONG_BURST_HOLDS = 25
_MIN_TO_COMPARE = 10


def bursts(measured: Sequence[Played]) -> list[list[int]]:
    """Return the openings, by index, in parts that know little of each other.

    A part ends where no opening is under way. One that goes on without a rest is cut every 25 mean
    holds: further apart, waits have next to nothing in common.
    """
    holds = [each.ended_s - each.granted_s for each in measured if each.granted_s is not None]
    longest_s = _LONG_BURST_HOLDS * fmean(holds) if holds else math.inf
    parts: list[list[int]] = []
    until_s = begun_s = -math.inf
    for index, each in enumerate(measured):
        if each.asked_s > until_s or each.asked_s - begun_s > longest_s:
            parts.append([])
            begun_s = each.asked_s
        parts[-1].append(index)
        until_s = max(until_s, each.ended_s)
    return parts


def saving_s(
    now: Sequence[Played], then: Sequence[Played], parts: Sequence[Sequence[int]]
) -> tuple[float, float, float]:
    """Return the waiting that `then` saves in all, and the 95 % interval of that, in seconds.

    The interval is a bootstrap over `parts`, always with the same random numbers.
    """
    saved = [math.fsum(now[index].waited_s - then[index].waited_s for index in part) for part in parts]
    chance = random.Random(0)
    sums = sorted(math.fsum(chance.choices(saved, k=len(saved))) for _ in range(_RESAMPLES))
    return math.fsum(saved), sums[int(0.025 * _RESAMPLES)], sums[int(0.975 * _RESAMPLES) - 1]


def slowdowns(measured: Sequence[Played]) -> dict[str, float]:
    """Return how many times as long openings took beside others of their transport than alone.

    Only transports with at least 10 of either kind are judged. A replay cannot know this effect.
    """
    alone: dict[str, list[float]] = defaultdict(list)
    beside: dict[str, list[float]] = defaultdict(list)
    ends: dict[str, list[float]] = defaultdict(list)
    granted = [(each.granted_s, each) for each in measured if each.granted_s is not None]
    for granted_s, each in sorted(granted, key=lambda pair: pair[0]):
        name = each.opening.transport
        ends[name] = [end_s for end_s in ends[name] if end_s > granted_s]
        (beside if ends[name] else alone)[name].append(each.ended_s - granted_s)
        ends[name].append(each.ended_s)
    return {
        name: median(beside[name]) / median(holds)
        for name, holds in alone.items()
        if min(len(holds), len(beside[name])) >= _MIN_TO_COMPARE and median(holds) > 0
    }
