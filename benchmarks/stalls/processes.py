"""What the harness does not do: many loops at once, long stalls, thousands of stalls, and a load.

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

from .echo import echo_in_memory, echo_over_http, echo_without_deadline
from .saturated import saturated

__all__ = [
    "echo_in_memory",
    "echo_over_http",
    "echo_without_deadline",
    "saturated",
]  # Run by name, as what follows.

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
    """Watch `count` idle loops, each in a thread of its own, for twenty seconds.

    Returns:
        Which share of a core that costs, in percent.
    """
    watchdog = LoopWatchdog(stall_threshold_s=THRESHOLD_S)

    def run() -> None:
        async def main() -> None:
            watchdog.watch()
            await asyncio.sleep(23)

        asyncio.run(main())

    threads = [threading.Thread(target=run, daemon=True) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    time.sleep(2)
    cpu_s, start = time.process_time(), time.monotonic()
    time.sleep(20)
    percent = 100 * (time.process_time() - cpu_s) / (time.monotonic() - start)
    for thread in threads:
        thread.join()
    return {"loops": count, "percent": percent}


LONG_S = (5.0, 10.0, 20.0, 40.0, 60.0)


def long_stalls(longest_s: float) -> dict[str, float]:
    """Stall a loop each for 5 to 60 s at once; every report of each is to blame the line that sleeps."""
    told = Collector()
    lengths_s = [seconds for seconds in LONG_S if seconds <= longest_s]

    def run(seconds: float) -> None:
        async def main() -> None:
            watchdog.watch(name=f"loop-{seconds}")
            await asyncio.sleep(0.5)
            culprit_of_many(seconds)
            await asyncio.sleep(0.5)

        asyncio.run(main())

    with LoopWatchdog(observers=[told], stall_threshold_s=THRESHOLD_S) as watchdog:
        threads = [threading.Thread(target=run, args=(seconds,)) for seconds in lengths_s]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reports = [report for report in told.reports(LoopStalled) if report.duration_s > THRESHOLD_S]
    right = {
        report.loop
        for report in told.reports(LoopRecovered)
        if report.culprit is not None and report.culprit.function == "culprit_of_many"
    }
    dismissed = sum(not report.cause.blames_code for report in reports)
    return {"loops": len(lengths_s), "right": len(right), "dismissed": dismissed}


SOAKING_LOOPS = 4


def soak(count: float) -> dict[str, float]:
    """Stall four loops `count` times in all, 30 ms each, threshold 10 ms; returns how many were told once.

    Stalls that the machine adds between them may be told, but blame nobody.
    """
    told = Collector()
    made: list[tuple[float, float, str]] = []

    def stall(name: str) -> None:
        start = time.time()
        time.sleep(0.03)
        made.append((start, time.time(), name))

    def run(name: str) -> None:
        async def main() -> None:
            watchdog.watch(name=name)
            await asyncio.sleep(0.1)
            for _ in range(int(count) // SOAKING_LOOPS):
                stall(name)
                # Long enough for the heartbeat to come and to be due again.
                await asyncio.sleep(0.012)

        asyncio.run(main())

    with LoopWatchdog(observers=[told], stall_threshold_s=0.01, heartbeat_interval_s=0.005) as watchdog:
        threads = [threading.Thread(target=run, args=(f"loop-{number}",)) for number in range(SOAKING_LOOPS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted = watchdog.statistics()
    begun = {report.stall_id for report in told.reports(LoopStalled)}
    recovered = told.reports(LoopRecovered)
    ended = Counter(report.stall_id for report in recovered)
    by_loop: dict[str, list[Any]] = {}
    for report in sorted(recovered, key=lambda report: report.started_at):
        by_loop.setdefault(report.loop, []).append(report)
    exactly, blamed = 0, 0
    for start, end, name in made:
        reports = by_loop.get(name, [])
        first = bisect.bisect_left(reports, start - 0.005, key=lambda report: report.started_at)
        within = [
            report
            for report in reports[first : first + 10]
            if report.started_at < end and report.started_at + report.duration_s > start + 0.01
        ]
        exactly += len(within) == 1
        blamed += len(within) == 1 and within[0].cause.blames_code
    return {
        "made": len(made),
        "told_once": exactly,
        "blamed": blamed,
        "consistent": float(set(ended) == begun and set(ended.values()) == {1}),
        "counted": float(sum(counted.stalls.values()) == len(begun)),
        "failures": counted.failures,
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](float(sys.argv[2]))))
