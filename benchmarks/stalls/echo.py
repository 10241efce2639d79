"""What a watchdog costs a program that makes one MCP call after the other: calls in the same CPU time.

CPU time of the program counts, the watchdog's thread included, but not its start. Calls have a deadline, as
in production; a loop without any timer looks at no clock, and pays for the first one, which is then ours.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from typing import Any

import anyio

from instrumented_sessions.transports import InMemoryTransport, StreamableHTTPTransport

from .. import telemetry_peers
from ..scenario_tools import tool_server
from .pairs import alternate, median_error
from .yardstick import Yardstick

_TURN_S = 0.15
_SETTLE_S = 0.12
"""Longer than an interval, so that the last turn's timers are gone."""
_DEADLINE_S = 30.0


def echo_over_http(pairs: float) -> dict[str, float]:
    """Compare turns of a load on a real server, without and with a watchdog.

    Returns:
        The change and its standard error, in percent.
    """
    with telemetry_peers.started("mcp") as address:
        return asyncio.run(_compare(StreamableHTTPTransport("tools", address), int(pairs), _DEADLINE_S))


def echo_in_memory(pairs: float, deadline_s: float = _DEADLINE_S) -> dict[str, float]:
    """Compare as `echo_over_http`, with a server in the process, so that the loop is busy all the time."""
    return asyncio.run(_compare(InMemoryTransport(id="tools", server=tool_server()), int(pairs), deadline_s))


def echo_without_deadline(pairs: float) -> dict[str, float]:
    """Compare as `echo_in_memory`, with calls that may take for ever."""
    return echo_in_memory(pairs, math.inf)


async def _compare(transport: Any, pairs: int, deadline_s: float) -> dict[str, float]:
    async with transport.connect() as client:
        await _rate(client, deadline_s)
        measured = await alternate(pairs, lambda: asyncio.sleep(_SETTLE_S), lambda: _rate(client, deadline_s))
    changes = [100 * (pair.watched / pair.plain - 1) for pair in measured]
    return {"percent": statistics.median(changes), "error": median_error(changes)}


async def _rate(client: Any, deadline_s: float) -> float:
    """Return how many calls are made in the CPU time of one piece of the yardstick."""
    calls, yardstick = 0, Yardstick()
    start, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() < start + _TURN_S:
        with anyio.fail_after(deadline_s):
            await client.call_tool("echo", {"text": "x"})
        calls += 1
        yardstick.apply()
    return calls * yardstick.piece_s / (time.process_time() - cpu_s - yardstick.total_s)
