"""`ThreadLock` and `TaskLock` beside the standard locks, in one run, and the check for circles by size.

    python -m benchmarks.user_locks [--repeats N]

A manager is open and OpenTelemetry's observer hears of the locks; every hold and every wait is recorded,
as `statistics()` proves. Figures are the best of several short rounds, which are interleaved so that noise
hits all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import threading
import time
from typing import Any

from instrumented_sessions import SessionManager, TaskLock, ThreadLock
from instrumented_sessions.waitgraph import GRAPH, WaitGraph

LOOPS = 500
RINGS = (2, 100, 1000)
PAIRS = (("`threading.Lock`", "`ThreadLock`"), ("`asyncio.Lock`", "`TaskLock`"))


def time_thread(lock: Any) -> float:
    """Return nanoseconds for one uncontended acquire and release in a thread."""
    loops = range(LOOPS)
    begun = time.perf_counter_ns()
    for _ in loops:
        with lock:
            pass
    return (time.perf_counter_ns() - begun) / LOOPS


async def time_task(lock: Any) -> float:
    """Return nanoseconds for one uncontended acquire and release in a task."""
    loops = range(LOOPS)
    begun = time.perf_counter_ns()
    for _ in loops:
        async with lock:
            pass
    return (time.perf_counter_ns() - begun) / LOOPS


async def time_tasks(best: dict[str, float], locks: dict[str, Any]) -> None:
    for name in PAIRS[1]:
        best[name] = min(await time_task(locks[name]), best.get(name, float("inf")))


def measure_locks(repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the best time of each lock in nanoseconds, and the locks."""
    locks = {
        "`threading.Lock`": threading.Lock(),
        "`ThreadLock`": ThreadLock("benchmark"),
        "`asyncio.Lock`": asyncio.Lock(),
        "`TaskLock`": TaskLock("benchmark"),
    }
    best: dict[str, float] = {}
    for _ in range(repeats):
        for name in PAIRS[0]:
            best[name] = min(time_thread(locks[name]), best.get(name, float("inf")))
        asyncio.run(time_tasks(best, locks))
    return best, locks


class RingLock(ThreadLock):
    """A lock whose holder is given, so that a ring needs no threads."""

    __slots__ = ("given",)

    def holder(self) -> tuple[Any, Any] | None:
        return self.given, self.given


def time_ring(size: int, repeats: int) -> float:
    """Return microseconds for the check that finds a ring of so many."""
    graph = WaitGraph()
    locks = [RingLock(f"lock {number}") for number in range(size)]
    for number, lock in enumerate(locks):
        lock.given = f"party {number}"
    for number in range(size - 1):
        graph.wait(f"party {number}", locks[number + 1])
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter_ns()
        circle = graph.cycle(f"party {size - 1}", locks[0])
        best = min(best, (time.perf_counter_ns() - begun) / 1000)
        assert circle is not None
        assert len(circle) == size
    return best


def table(repeats: int) -> str:
    """Measure, and return Markdown."""
    gc.collect()  # A manager that another benchmark closed might still have observers that want all events.
    with SessionManager():
        best, locks = measure_locks(repeats)
    lines = ["| uncontended acquire and release | ns | ratio | added |", "| --- | ---: | ---: | ---: |"]
    for standard, ours in PAIRS:
        added = best[ours] - best[standard]
        lines.append(f"| {standard} | {best[standard]:.0f} | | |")
        lines.append(f"| {ours} | {best[ours]:.0f} | {best[ours] / best[standard]:.1f} | {added:.0f} ns |")
        assert locks[ours].statistics().holds == repeats * LOOPS, "every hold is recorded"
    assert not GRAPH._waits
    lines += ["", f"{2 * repeats * LOOPS:,} holds were recorded, none was lost.", ""]
    lines += ["| the check that finds a ring of | µs |", "| ---: | ---: |"]
    lines += [f"| {size:,} | {time_ring(size, repeats):.0f} |" for size in RINGS]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The users' own locks beside the standard ones.")
    parser.add_argument(
        "--repeats", type=int, default=400, help="rounds, of which the best counts; default 400"
    )
    print(table(parser.parse_args().repeats))


if __name__ == "__main__":
    main()
