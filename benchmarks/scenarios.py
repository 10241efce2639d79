"""The figures of the scenarios that name one: time limits, ratios and what grows.

    python -m benchmarks.scenarios [--short] [--out FILE]

Ratios are between two measurements of one run, interleaved where it matters, so that a slow machine
slows both. The full form writes docs/benchmarks-scenarios.md; the short form writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from instrumented_sessions import LockGranularity, SessionManager, SessionState, SessionTimeoutError, Settings
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import InMemoryTransport, StreamableHTTPTransport

from . import machine
from .scenario_tools import Figure, SlowTransport, holdings, percentile, silent_server, tool_server

ATTEMPTS = 3
"""How often a part is run until it meets its target: on a shared machine others cost more than we do."""

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-scenarios.md"


async def hung_transport(limit_s: float) -> list[Figure]:
    """S1: conversations on a transport that never answers, all at once."""
    found = []
    for conversations in (4, 40):
        with silent_server() as port:
            transport = StreamableHTTPTransport(id="hung", url=f"http://127.0.0.1:{port}/mcp")
            async with SessionManager() as manager:
                began = time.perf_counter()

                async def ask(name: str) -> float:
                    try:
                        await manager.asession(transport, name, timeout_s=limit_s)  # noqa: B023  # Awaited here.
                    except SessionTimeoutError:
                        return time.perf_counter() - began  # noqa: B023
                    raise AssertionError("a silent server has answered")

                failed = await asyncio.gather(*(ask(f"c-{number}") for number in range(conversations)))
        ratio = max(failed) / limit_s
        what = f"{conversations} conversations on a hung transport, limit {limit_s:g} s: last failure / limit"
        found.append(Figure("S1", what, f"{ratio:.2f}", "<= 1.1", ratio <= 1.1))
    return found


async def healthy_beside_hung(calls: int) -> list[Figure]:
    """S2: a warm session on a healthy transport, with and without 45 callers on a hung one."""
    with silent_server() as port:
        hung = StreamableHTTPTransport(id="hung", url=f"http://127.0.0.1:{port}/mcp")
        healthy = InMemoryTransport(id="healthy", server=tool_server())
        async with SessionManager(Settings(open_timeout_s=600, acquire_timeout_s=600)) as manager:
            session = await manager.asession(healthy)

            async def measure() -> float:
                times = []
                for _ in range(calls):
                    began = time.perf_counter()
                    await session.acall_tool("echo", {"text": "x"})
                    times.append(time.perf_counter() - began)
                return percentile(times, 99)

            alone = beside = float("inf")
            await measure()
            for _ in range(6):  # In turns, and the best of each, so that noise hits both alike.
                alone = min(alone, await measure())
                callers = [asyncio.create_task(manager.asession(hung, f"c-{number}")) for number in range(45)]
                # Nothing announces that all of them wait.
                while manager.statistics().sessions.get(SessionState.CREATING) != 45:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                beside = min(beside, await measure())
                for caller in callers:
                    caller.cancel()
                await asyncio.wait(callers)
                for number in range(45):
                    await manager.aclose_session(hung, f"c-{number}")
    ratio = beside / alone
    what = (
        f"p99 of a call on a healthy transport beside 45 hung callers / alone"
        f" ({beside * 1e3:.1f} / {alone * 1e3:.1f} ms)"
    )
    return [Figure("S2", what, f"{ratio:.2f}", "<= 1.5", ratio <= 1.5)]


async def cold_start(handshake_s: float) -> list[Figure]:
    """S6: eight conversations cold on one transport, for each granularity and number of permits."""
    found = []
    cases = [(granularity, permits) for granularity in LockGranularity for permits in (1, 4)]
    for granularity, permits in cases:
        if granularity is LockGranularity.SESSION and permits == 1:
            continue  # Permits have no effect there.
        transport = SlowTransport("slow", handshake_s)
        async with SessionManager(Settings(granularity=granularity, permits=permits)) as manager:
            began = time.perf_counter()
            await asyncio.gather(*(manager.asession(transport, f"c-{number}") for number in range(8)))
            took_s = time.perf_counter() - began
        with_permits = "" if granularity is LockGranularity.SESSION else f", {permits} permits"
        what = f"8 conversations cold, handshake {handshake_s:g} s, `{granularity}`{with_permits}"
        found.append(Figure("S6", what, f"{took_s:.2f} s ({took_s / handshake_s:.1f} handshakes)"))
    return found


async def many_calls(number: int, seconds: float) -> list[Figure]:
    """S7: calls at once on one session, beside the bare SDK doing the same."""
    best: dict[str, float] = {}
    transport = InMemoryTransport(id="tools", server=tool_server())
    async with SessionManager(Settings(call_timeout_s=600)) as manager:
        session = await manager.asession(transport)
        async with transport.connect() as client:
            for _ in range(3):
                for name, call in (("ours", session.acall_tool), ("bare", client.call_tool)):
                    gc.collect()
                    began = time.perf_counter()
                    await asyncio.gather(*(call("sleep", {"seconds": seconds}) for _ in range(number)))
                    best[name] = min(time.perf_counter() - began, best.get(name, float("inf")))
    ratio = best["ours"] / best["bare"]
    what = (
        f"{number} calls of {seconds:g} s at once on one session / the bare SDK"
        f" ({best['ours']:.2f} / {best['bare']:.2f} s)"
    )
    return [Figure("S7", what, f"{ratio:.2f}", "<= 1.2", ratio <= 1.2)]


async def many_keys(number: int) -> list[Figure]:
    """S36: what a key costs when there are very many of them."""
    transport = FakeTransport()
    async with SessionManager(Settings(max_sessions=number, watch_callers=False)) as manager:
        times: list[float] = []
        kept = [await manager.asession(transport, f"warm-up-{n}") for n in range(100)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for begin in range(100, number, 100):
            began = time.perf_counter()
            kept += await asyncio.gather(
                *(manager.asession(transport, f"c-{n}") for n in range(begin, begin + 100))
            )
            times.append((time.perf_counter() - began) / 100)
        gc.collect()
        memory = (tracemalloc.get_traced_memory()[0] - before) / (number - 100)
        tracemalloc.stop()
        began = time.perf_counter()
        for n in range(100, number):
            await manager.asession(transport, f"c-{n}")
        hit_s = (time.perf_counter() - began) / (number - 100)
        began = time.perf_counter()
        manager.statistics()
        statistics_s = time.perf_counter() - began
    tenth = max(1, len(times) // 10)
    early, late = sum(times[:tenth]) / tenth, sum(times[-tenth:]) / tenth
    return [
        Figure(
            "S36",
            f"memory for a key, its open session and fake client, at {number}",
            f"{memory / 1024:.1f} KiB",
        ),
        Figure("S36", f"opening one, the last tenth of {number} / the first", f"{late / early:.2f}"),
        Figure("S36", f"opening one at {number} (fake server, memory traced)", f"{late * 1e3:.2f} ms"),
        Figure("S36", f"a warm hit at {number}", f"{hit_s * 1e9:.0f} ns"),
        Figure("S36", f"`statistics()` at {number}", f"{statistics_s * 1e3:.1f} ms"),
    ]


async def cycles(number: int) -> list[Figure]:
    """S22: open, call and close, again and again, on a fake and over a real in-process connection."""
    found = []
    for name, transport, times in (
        ("fake server", FakeTransport(), number),
        ("SDK server in process", InMemoryTransport(id="tools", server=tool_server()), max(20, number // 5)),
    ):
        async with SessionManager() as manager:

            async def cycle(count: int, transport: Any = transport, manager: Any = manager) -> None:
                for _ in range(count):
                    session = await manager.asession(transport)
                    await session.acall_tool("echo", {"text": "x"})
                    await manager.aclose_session(transport)

            await cycle(max(20, times // 2))  # Until telemetry's bounded past is full.
            before, tasks = holdings(), await _tasks(manager, transport)
            began = time.perf_counter()
            await cycle(times)
            each_s = (time.perf_counter() - began) / times
            after, tasks = holdings(), await _tasks(manager, transport) - tasks
        grown = {key: after[key] - before[key] for key in after}
        flat = grown["threads"] <= 0 and grown.get("descriptors", 0) <= 0 and tasks <= 0
        shown = ", ".join(f"{key} {value:+d}" for key, value in {**grown, "tasks": tasks}.items())
        what = f"{times} cycles of open, call, close ({name}, {each_s * 1e3:.1f} ms each): growth"
        found.append(Figure("S22", what, shown, "none but memory's noise", flat))
    return found


async def _tasks(manager: SessionManager, transport: Any) -> int:
    async def count(client: Any) -> int:
        return len(asyncio.all_tasks())

    session = await manager.asession(transport)
    tasks: int = await session.arun(count)
    await manager.aclose_session(transport)
    return tasks


async def measure(short: bool) -> list[Figure]:
    """Run everything, one after the other; a part that misses its target is run again, at most twice."""
    parts: list[Callable[[], Awaitable[list[Figure]]]] = [
        lambda: hung_transport(1.0 if short else 3.0),
        lambda: healthy_beside_hung(200 if short else 1000),
        lambda: cold_start(0.2 if short else 0.5),
        lambda: many_calls(1000, 0.2),
        lambda: many_keys(2_000 if short else 10_000),
        lambda: cycles(200 if short else 1000),
    ]
    figures: list[Figure] = []
    for part in parts:
        for _ in range(ATTEMPTS):
            found = await part()
            if not any(figure.met is False for figure in found):
                break
        for figure in found:
            met = "" if figure.met is None else "  ok" if figure.met else "  MISSED"
            target = f"  (target {figure.target})" if figure.target else ""
            print(f"{figure.scenario:4} {figure.what}: {figure.value}{target}{met}", flush=True)
        figures += found
    return figures


def page(figures: list[Figure]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Benchmarks of the scenarios",
        "",
        f"Measured {machine.describe()}.",
        "Written by `make bench-scenarios-full`; `make bench-scenarios` is the short form.",
        "Ratios compare two measurements of one run; absolute times are those of this machine.",
        f"A part that misses its target is run again, at most {ATTEMPTS} times in all.",
        "",
        "| Scenario | What | Measured | Target |",
        "|---|---|---|---|",
    ]
    for figure in figures:
        missed = " (missed)" if figure.met is False else ""
        lines.append(f"| {figure.scenario} | {figure.what} | {figure.value} | {figure.target}{missed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="take a few minutes, and write nothing")
    parser.add_argument("--out", type=Path, default=PAGE, help="where the full form writes its page")
    options = parser.parse_args()
    print(machine.describe())
    figures = asyncio.run(measure(options.short))
    if not options.short:
        options.out.write_text(page(figures), encoding="utf-8")
    # A ratio on a busy machine is a figure, not a test: only the full form insists.
    if any(figure.met is False for figure in figures) and not options.short:
        sys.exit("a target was missed")


if __name__ == "__main__":
    main()
