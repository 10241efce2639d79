"""What is not the code's fault: a process that is stopped, starved or throttled, again and again.

The process runs a loop that is never late by itself, so every report that blames code is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from instrumented_sessions.events import LoopRecovered
from instrumented_sessions.watchdog import LoopWatchdog

ROOT = Path(__file__).parent.parent.parent
THRESHOLD_S = 0.1
GAP_S = 0.4
"""How long the process is left in peace between two faults."""
CGROUP = Path("/sys/fs/cgroup/cpu/instrumented-sessions-bench")
BURN = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"


def measure(fault: str, count: int) -> dict[str, float]:
    """Make a fault `count` times; returns how many stalls were told, and how many blamed code.

    Empty if this machine does not let it be made.
    """
    inject = {"stopped": _stop, "starved": _starve, "throttled": _throttle}[fault]
    command = [sys.executable, "-m", "benchmarks.stalls.faults"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # It is ready.
        try:
            inject(child.pid, count)
        except OSError as error:
            print(f"{fault}: cannot be made here: {error}", file=sys.stderr)
            child.kill()
            return {}
        out, _ = child.communicate("\n", timeout=60)
    figures: dict[str, float] = json.loads(out)
    return {"made": count, **figures}


def _stop(pid: int, count: int) -> None:
    for _ in range(count):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(pid, signal.SIGCONT)
        time.sleep(GAP_S)


def _starve(pid: int, count: int) -> None:
    """Let it compete with four others for one CPU, as the one that is least entitled to it."""
    _of_every_thread(pid, lambda thread: os.sched_setaffinity(thread, {0}))
    _of_every_thread(pid, lambda thread: os.setpriority(os.PRIO_PROCESS, thread, 19))
    with ExitStack() as stack:
        others = [subprocess.Popen([sys.executable, "-S", "-c", BURN]) for _ in range(4)]
        for other in others:
            stack.callback(other.wait)
            stack.callback(other.kill)
        for _ in range(count):
            for number in (signal.SIGCONT, signal.SIGSTOP):
                for other in others:
                    other.send_signal(number)
                time.sleep(1.0 if number == signal.SIGCONT else GAP_S)


def _of_every_thread(pid: int, change: Callable[[int], None]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        change(int(thread))


def _throttle(pid: int, count: int) -> None:
    """Give it 40 ms of each second."""
    with _group() as group:
        (group / "cgroup.procs").write_text(str(pid))
        try:
            for _ in range(count):
                (group / "cpu.cfs_quota_us").write_text("40000")
                time.sleep(1.0)
                (group / "cpu.cfs_quota_us").write_text("-1")
                time.sleep(GAP_S)
        finally:
            (group.parent / "cgroup.procs").write_text(str(pid))


@contextmanager
def _group() -> Iterator[Path]:
    if not (CGROUP.parent / "cpu.cfs_quota_us").exists():
        raise OSError("there are no control groups of version 1")
    CGROUP.mkdir(exist_ok=True)
    try:
        (CGROUP / "cpu.cfs_period_us").write_text("1000000")
        yield CGROUP
    finally:
        time.sleep(0.1)  # What has left it is booked.
        CGROUP.rmdir()


class Told:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.stalls = 0
        self.blamed = 0

    def on_event(self, event: Any) -> None:
        if isinstance(event, LoopRecovered):
            self.stalls += 1
            self.blamed += event.report.cause.blames_code or event.report.culprit is not None


async def _answer_until(done: threading.Event) -> None:
    """Work a little, and never for long."""
    while not done.is_set():
        sum(range(20_000))
        await asyncio.sleep(0.005)


def main() -> None:
    """Run the process that things happen to, until it is sent a line."""
    done, told = threading.Event(), Told()
    threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()

    async def run() -> None:
        watchdog.watch()
        await asyncio.sleep(0.5)
        print("ready", flush=True)
        await _answer_until(done)

    with LoopWatchdog(observers=[told], stall_threshold_s=THRESHOLD_S) as watchdog:
        asyncio.run(run())
    print(json.dumps({"told": told.stalls, "blamed": told.blamed}))


if __name__ == "__main__":
    main()
