"""What the harness does not do: twenty loops at once, eight idle loops, and thousands of stalls.

Each is a process of its own: `python -m benchmarks.stalls.processes NAME ARGUMENT` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from instrumented_sessions.events import Event, LoopRecovered, LoopStalled
from instrumented_sessions.watchdog import LoopWatchdog

ROOT = Path(__file__).parent.parent.parent
THRESHOLD_S = 0.1


def measure(name: str, argument: float) -> dict[str, float]:
    """Run one of them in a process of its own and return its figures."""
    command = [sys.executable, "-m", "benchmarks.stalls.processes", name, str(argument)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(out)
    return figures


class Collector:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def reports(self, kind: type[Any]) -> list[Any]:
        return [event.report for event in self.events if isinstance(event, kind)]


def culprit_of_many(seconds: float) -> None:
    time.sleep(seconds)


def many_loops(count: float) -> dict[str, float]:
    """Stall `count` loops at once; every one is to be reported, live, with its own name and line."""
    told, barrier = Collector(), threading.Barrier(int(count))
    spans: dict[str, tuple[float, float]] = {}

    def run(name: str) -> None:
        async def main() -> None:
            watchdog.watch(name=name)
            await asyncio.sleep(0.5)
            barrier.wait()
            start = time.time()
            culprit_of_many(0.5)
            spans[name] = (start, time.time())
            await asyncio.sleep(0.5)

        asyncio.run(main())

    with LoopWatchdog(observers=[told], stall_threshold_s=THRESHOLD_S) as watchdog:
        threads = [threading.Thread(target=run, args=(f"loop-{number}",)) for number in range(int(count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    first: dict[str, tuple[float, Any]] = {}
    for event in told.events:
        if isinstance(event, LoopStalled) and event.report.culprit is not None:
            first.setdefault(event.report.loop, (event.at, event.report))
    latencies = sorted(at - spans[name][0] for name, (at, _) in first.items())
    right = [name for name, (_, report) in first.items() if report.culprit.function == "culprit_of_many"]
    return {
        "loops": count,
        "reported": len(first),
        "right": len(right),
        "last_s": latencies[-1] if latencies else -1.0,
    }


def idle_loops(count: float) -> dict[str, float]:
    """Watch `count` idle loops for eight seconds; returns the share of a core that it costs, in percent."""

    def run() -> None:
        async def main() -> None:
            watchdog.watch()
            await asyncio.sleep(12)

        asyncio.run(main())

    watchdog = LoopWatchdog(stall_threshold_s=THRESHOLD_S)
    for _ in range(int(count)):
        threading.Thread(target=run, daemon=True).start()
    time.sleep(2)
    cpu_s, start = time.process_time(), time.monotonic()
    time.sleep(8)
    percent = 100 * (time.process_time() - cpu_s) / (time.monotonic() - start)
    return {"loops": count, "percent": percent, "watchdog_s": watchdog.statistics().cpu_s}


def soak(count: float) -> dict[str, float]:
    """Stall one loop `count` times for 30 ms, threshold 10 ms; returns how many were told exactly once.

    Stalls that the machine adds between them may be told, but blame nobody.
    """
    told = Collector()
    made: list[tuple[float, float]] = []

    def stall() -> None:
        start = time.time()
        time.sleep(0.03)
        made.append((start, time.time()))

    async def main() -> None:
        watchdog.watch()
        await asyncio.sleep(0.1)
        for _ in range(int(count)):
            stall()
            # Long enough for the heartbeat to come and to be due again.
            await asyncio.sleep(0.012)

    with LoopWatchdog(observers=[told], stall_threshold_s=0.01, heartbeat_interval_s=0.005) as watchdog:
        asyncio.run(main())
        statistics = watchdog.statistics()
    begun = {report.stall_id for report in told.reports(LoopStalled)}
    recovered = told.reports(LoopRecovered)
    ended = Counter(report.stall_id for report in recovered)
    spans = sorted((report.started_at, report.started_at + report.duration_s, report) for report in recovered)
    starts = [start for start, _, _ in spans]
    exactly, blamed = 0, 0
    for start, end in made:
        first = bisect.bisect_left(starts, start - 0.005)
        within = [span for span in spans[first : first + 10] if span[0] < end and span[1] > start + 0.01]
        exactly += len(within) == 1
        blamed += len(within) == 1 and within[0][2].cause.blames_code
    return {
        "made": count,
        "told_once": exactly,
        "blamed": blamed,
        "consistent": float(set(ended) == begun and set(ended.values()) == {1}),
        "counted": float(sum(statistics.stalls.values()) == len(begun)),
        "failures": statistics.failures,
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](float(sys.argv[2]))))
