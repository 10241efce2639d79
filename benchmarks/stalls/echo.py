"""What a watchdog costs a program that makes one MCP call after the other; calls a second of CPU.

CPU time of the program counts, the watchdog's thread included, but not its start. The best tenth of the turns
is compared, as whatever else the machine does can only make a turn worse. Beside it what nothing but a timer
costs, far in the future: with one, asyncio looks at the clock in each step, and most programs have one.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from instrumented_sessions.transports import InMemoryTransport, StreamableHTTPTransport
from instrumented_sessions.watchdog import LoopWatchdog

from .. import telemetry_peers
from ..scenario_tools import tool_server

TURN_S = 0.4


def echo_over_http(rounds: float) -> dict[str, float]:
    """Compare turns of a load on a real server: without anything, with a timer, and with a watchdog.

    Returns:
        Changes and their standard errors, and what the watchdog's thread itself took, in percent.
    """
    with telemetry_peers.started("mcp") as address:
        return asyncio.run(_compare(StreamableHTTPTransport("tools", address), int(rounds)))


def echo_in_memory(rounds: float) -> dict[str, float]:
    """Compare as `echo_over_http`, with a server on the same loop, which is so busy all the time."""
    return asyncio.run(_compare(InMemoryTransport(id="tools", server=tool_server()), int(rounds)))


async def _compare(transport: Any, rounds: int) -> dict[str, float]:
    plain: list[float] = []
    timed: list[float] = []
    watched: list[float] = []
    own_cpu_s = 0.0
    async with transport.connect() as client:
        await _rate(client)
        for number in range(rounds):
            for rates in (plain, timed, watched)[:: 1 if number % 2 else -1]:  # What drifts weighs on all.
                with LoopWatchdog() as watchdog:
                    if rates is watched:
                        watchdog.watch()
                    await asyncio.sleep(0.05)
                    before_s = watchdog.statistics().cpu_s
                    timer = asyncio.get_running_loop().call_later(60, int) if rates is timed else None
                    rates.append(await _rate(client))
                    if timer is not None:
                        timer.cancel()
                    own_cpu_s += watchdog.statistics().cpu_s - before_s
    return {
        "percent": _change(plain, watched),
        "error": _error(plain, watched),
        "timer_percent": _change(plain, timed),
        "timer_error": _error(plain, timed),
        "own_percent": 100 * own_cpu_s / (len(watched) * TURN_S),
    }


async def _rate(client: Any) -> float:
    calls, start, cpu_s = 0, time.monotonic(), time.process_time()
    while time.monotonic() < start + TURN_S:
        await client.call_tool("echo", {"text": "x"})
        calls += 1
    return calls / (time.process_time() - cpu_s)


def _change(off: Sequence[float], on: Sequence[float]) -> float:
    """Return by how much the best tenth of the rates differs, in percent."""
    best_off, best_on = (statistics.quantiles(rates, n=10)[-1] for rates in (off, on))
    return 100 * (best_on / best_off - 1)


def _error(off: Sequence[float], on: Sequence[float]) -> float:
    """Return the standard error of `_change`, by drawing the turns again: Efron's bootstrap."""
    draw = random.Random(0).choices
    return statistics.stdev(_change(draw(off, k=len(off)), draw(on, k=len(on))) for _ in range(400))
