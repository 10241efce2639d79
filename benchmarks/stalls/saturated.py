"""A healthy loop that never waits: what a step costs more under watch, and what is told of it."""

from __future__ import annotations

import asyncio
import statistics
import time

from instrumented_sessions.vocabulary import StallCause
from instrumented_sessions.watchdog import LoopWatchdog

from .pairs import alternate, median_error

OF_THE_MACHINE = {StallCause.STARVED, StallCause.THROTTLED, StallCause.SUSPENDED, StallCause.GC}
"""What others may do to a healthy loop while it is measured."""

_TASKS, _STEPS = 100, 1000
_SETTLE_S = 0.03


def saturated(pairs: float) -> dict[str, float]:
    """Let a hundred tasks take turns, without and with a watchdog, and never anything to wait for.

    Returns:
        The added CPU time of a step and its standard error, in microseconds, and how many stalls were told.
    """
    return asyncio.run(_compare(int(pairs)))


async def _compare(pairs: int) -> dict[str, float]:
    await _step_us()
    measured = await alternate(pairs, lambda: asyncio.sleep(_SETTLE_S), _step_us)
    added = [pair.watched - pair.plain for pair in measured]
    with LoopWatchdog() as watchdog:
        stalls = watchdog.statistics().stalls
    told = sum(number for (_, cause), number in stalls.items() if cause not in OF_THE_MACHINE)
    return {"us": statistics.median(added), "error": median_error(added), "told": told}


async def _step_us() -> float:
    async def task() -> None:
        for _ in range(_STEPS):
            await asyncio.sleep(0)

    cpu_s = time.process_time()
    await asyncio.gather(*(task() for _ in range(_TASKS)))
    return 1e6 * (time.process_time() - cpu_s) / (_TASKS * _STEPS)
