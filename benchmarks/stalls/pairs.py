"""Compare turns without and with a watchdog, each with its neighbour: the machine's speed drifts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from instrumented_sessions.watchdog import LoopWatchdog


class Pair(NamedTuple):
    """What one turn without and one with a watchdog measured, in the same unit."""

    plain: float
    watched: float


async def alternate(
    pairs: int, settle: Callable[[], Awaitable[object]], turn: Callable[[], Awaitable[float]]
) -> list[Pair]:
    """Run `turn` in turns without and with a watchdog; what drifts weighs on both.

    Args:
        pairs: How many turns of each.
        settle: Awaited before each turn, when the watchdog has started.
        turn: Returns what it measured.

    Returns:
        What was measured.
    """
    measured: list[Pair] = []
    for number in range(pairs):
        rates: dict[bool, float] = {}
        for watch in (False, True)[:: 1 if number % 2 else -1]:
            with LoopWatchdog() as watchdog:
                if watch:
                    watchdog.watch()
                await settle()
                rates[watch] = await turn()
        measured.append(Pair(rates[False], rates[True]))
    return measured


def median_error(values: Sequence[float]) -> float:
    """Return the standard error of the median, by drawing the values again: Efron's bootstrap."""
    draw = random.Random(0).choices
    return statistics.stdev(statistics.median(draw(values, k=len(values))) for _ in range(400))
