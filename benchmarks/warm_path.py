"""The warm path beside a plain dict lookup and a bare coroutine call, in one run, as ratios.

    python -m benchmarks.warm_path [--repeats N]

All telemetry is on: OpenTelemetry SDK with an OTLP exporter to a closed port, Prometheus, a recorder,
and the watchdog. Figures are the best of several rounds, which are interleaved so that noise hits all
alike.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any

from instrumented_sessions import Session, SessionManager, Settings
from instrumented_sessions.telemetry import setup
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport

LOOPS = 100_000
ROWS = (
    ("`dict.get(key)`", ""),
    ("a method that looks a key up in a dict", "`dict.get(key)`"),
    ("`manager.session()`", "a method that looks a key up in a dict"),
    ("a bare coroutine that looks a key up in a dict", ""),
    ("`await manager.asession()`", "a bare coroutine that looks a key up in a dict"),
)
"""What is measured, and what it is compared with."""


class Plain:
    """The least a cache can do: a method that looks a key up in a dict."""

    def __init__(self, sessions: dict[tuple[str, str], Session]) -> None:
        self._sessions = sessions

    def session(self, transport: FakeTransport, conversation: str = "default") -> Session | None:
        return self._sessions.get((transport.id, conversation))

    async def asession(self, transport: FakeTransport, conversation: str = "default") -> Session | None:
        return self._sessions.get((transport.id, conversation))


def time_calls(call: Callable[..., Any], *args: Any) -> float:
    """Return nanoseconds for one call."""
    loops = range(LOOPS)
    begun = time.perf_counter_ns()
    for _ in loops:
        call(*args)
    return (time.perf_counter_ns() - begun) / LOOPS


async def time_awaits(call: Callable[..., Any], *args: Any) -> float:
    """Return nanoseconds for one awaited call."""
    loops = range(LOOPS)
    begun = time.perf_counter_ns()
    for _ in loops:
        await call(*args)
    return (time.perf_counter_ns() - begun) / LOOPS


def measure(manager: SessionManager, transport: FakeTransport, repeats: int) -> dict[str, float]:
    """Return the best time of each contestant in nanoseconds."""
    session = manager.session(transport, "c-7")
    sessions = {("fake", "c-7"): session}
    plain = Plain(sessions)
    best: dict[str, float] = {}

    def note(name: str, nanoseconds: float) -> None:
        best[name] = min(nanoseconds, best.get(name, float("inf")))

    key = ("fake", "c-7")
    for _ in range(repeats):
        note("`dict.get(key)`", time_calls(sessions.get, key))
        note("a method that looks a key up in a dict", time_calls(plain.session, transport, "c-7"))
        note("`manager.session()`", time_calls(manager.session, transport, "c-7"))
        coroutine = time_awaits(plain.asession, transport, "c-7")
        note("a bare coroutine that looks a key up in a dict", asyncio.run(coroutine))
        note("`await manager.asession()`", asyncio.run(time_awaits(manager.asession, transport, "c-7")))
    return best


def table(repeats: int) -> str:
    """Measure, and return a Markdown table."""
    handle = setup(service_name="warm-path", otlp_endpoint="http://127.0.0.1:9", prometheus_port=0)
    transport = FakeTransport()
    with SessionManager(Settings(), observers=[Recorder()]) as manager:
        best = measure(manager, transport, repeats)
        hits = manager.statistics().counters["requests_hit"]
    handle.close(1.0)
    assert hits == 2 * repeats * LOOPS, "every hit is counted"
    lines = ["| warm path, all telemetry on | ns | ratio |", "| --- | ---: | --- |"]
    for name, base in ROWS:
        ratio = f"{best[name] / best[base]:.2f} × {base}" if base else ""
        lines.append(f"| {name} | {best[name]:.0f} | {ratio} |")
    return "\n".join([*lines, "", f"{hits:,} hits were counted, none was lost."])


def main() -> None:
    parser = argparse.ArgumentParser(description="The warm path beside a dict lookup, as ratios.")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the best counts; default 7")
    print(table(parser.parse_args().repeats))


if __name__ == "__main__":
    main()
