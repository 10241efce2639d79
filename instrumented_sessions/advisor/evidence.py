"""How sure a difference between two replays is, and how far a recording bears it."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean, median

from .figures import SAME_INSTANT_S
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
    granted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in measured:
        if each.granted_s is not None:
            granted[each.opening.transport].append((each.granted_s, each.ended_s))
    ratios: dict[str, float] = {}
    for name, spans in granted.items():
        alone, beside = _apart(sorted(spans))
        if min(len(alone), len(beside)) >= _MIN_TO_COMPARE and median(alone) > 0:
            ratios[name] = median(beside) / median(alone)
    return ratios


def _apart(spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return the lengths of spans, in the order of their begins, that overlap no other, and of the rest."""
    alone: list[float] = []
    beside: list[float] = []
    until_s = -math.inf
    for (begin_s, end_s), following in zip_longest(spans, spans[1:]):
        # A permit that is handed on is measured twice, some microseconds apart: no overlap.
        overlaps = until_s > begin_s + SAME_INSTANT_S
        if following is not None:
            overlaps |= end_s > following[0] + SAME_INSTANT_S
        (beside if overlaps else alone).append(end_s - begin_s)
        until_s = max(until_s, end_s)
    return alone, beside
