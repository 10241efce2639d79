"""What only a process of its own can show: being stopped, holding the GIL, forking, ending."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
LINUX = sys.platform.startswith("linux")
PRELUDE = """
import asyncio, gc, json, os, sys, threading, time
from instrumented_sessions.events import LoopRecovered, LoopStalled
from instrumented_sessions.watchdog import LoopWatchdog, process_watchdog, watch_loop

class Teller:
    '''Prints each report as a line of JSON.'''
    def __init__(self):
        self.told = threading.Event()
        self.recovered = threading.Event()
    def on_event(self, event):
        if isinstance(event, (LoopStalled, LoopRecovered)):
            report = event.report
            say(type(event).__name__, loop=report.loop, cause=str(report.cause), ongoing=report.ongoing,
                culprit=report.culprit and report.culprit.function, duration_s=report.duration_s,
                stall_id=report.stall_id)
            (self.recovered if isinstance(event, LoopRecovered) else self.told).set()

def say(what, **facts):
    print(json.dumps({"what": what, **facts}), flush=True)

teller = Teller()
"""


class Child:
    """A Python process that prints lines of JSON."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(script)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []

    def until(self, what: str) -> dict[str, Any]:
        """Read until a line says `what`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["what"] == what:
                return self.lines[-1]
        raise AssertionError(f"it ended without saying {what}: {self.lines} {self.finish()}")

    def finish(self) -> str:
        """Wait for the end; returns the errors it wrote. What the library logs of stalls is none."""
        out, err = self.process.communicate(timeout=90)
        self.lines += [json.loads(line) for line in out.splitlines()]
        return "\n".join(line for line in err.splitlines() if not line.startswith("loop "))

    def reports(self, what: str = "LoopStalled") -> list[dict[str, Any]]:
        return [line for line in self.lines if line["what"] == what]


@pytest.fixture
def start() -> Iterator[Any]:
    children: list[Child] = []

    def start(script: str) -> Child:
        children.append(Child(script))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.process.communicate(timeout=90)


@pytest.mark.scenario("O6")
@pytest.mark.skipif(not LINUX, reason="the evidence is Linux's")
def test_stopped_process_blames_no_code(start: Any) -> None:
    """SIGSTOP is `suspended`, though the loop was in the middle of something."""
    child = start(
        """
        async def main():
            with LoopWatchdog(observers=[teller], stall_threshold_s=0.1) as watchdog:
                watchdog.watch()
                await asyncio.sleep(0.3)
                say("ready")
                while not teller.recovered.is_set():
                    await asyncio.sleep(0.005)
        asyncio.run(main())
        """
    )
    child.until("ready")
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED)
    _wait_until_stopped_for(child.process.pid, 0.5)
    child.process.send_signal(signal.SIGCONT)
    assert child.finish() == ""
    longest = max(child.reports(), key=lambda report: report["duration_s"])
    assert longest["cause"] == "suspended"
    assert all(report["culprit"] is None for report in child.reports())


def _wait_until_stopped_for(pid: int, seconds: float) -> None:
    """Let the clock of a stopped process run on; a child that does nothing else than wait tells the time."""
    subprocess.run(
        [sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"], check=True, timeout=90
    )


def test_collector_is_told_from_the_code_it_interrupts(start: Any) -> None:
    """A collection of many objects is `gc`, whichever line allocated."""
    child = start(
        """
        heap = []
        def innocent():
            gc.collect()
        async def main():
            with LoopWatchdog(observers=[teller], stall_threshold_s=0.1) as watchdog:
                watchdog.watch()
                await asyncio.sleep(0.2)
                innocent()
                await asyncio.sleep(0.2)
        gc.disable()
        heap = [{"i": [i]} for i in range(2_000_000)]
        asyncio.run(main())
        say("end")
        sys.stdout.flush()
        os._exit(0)
        """
    )
    child.until("end")
    longest = max(child.reports(), key=lambda report: report["duration_s"])
    assert longest["cause"] == "gc"
    assert all(report["culprit"] is None for report in child.reports())


@pytest.mark.scenario("O5")
@pytest.mark.skipif(not LINUX, reason="the evidence is Linux's")
@pytest.mark.parametrize(
    "call",
    [
        pytest.param("ctypes.PyDLL(None).usleep(400000)", id="asleep"),
        pytest.param("re.search('a*b', 'a' * 40000)", id="computing"),
        pytest.param("big * big", id="without-a-call"),
    ],
)
def test_native_code_that_holds_the_gil_is_never_taken_for_a_later_line(start: Any, call: str) -> None:
    """Reported as soon as anything can run; the line that kept the GIL is named, or nobody is."""
    child = start(
        f"""
        import ctypes, re
        big = 3 ** 2_500_000 if "big" in {call!r} else None
        def culprit():
            {call}
        def innocent():
            for _ in range(1000): pass
        async def main():
            with LoopWatchdog(observers=[teller], stall_threshold_s=0.1) as watchdog:
                watchdog.watch()
                await asyncio.sleep(0.2)
                culprit()
                innocent()
                await asyncio.sleep(0.2)
        asyncio.run(main())
        """
    )
    assert child.finish() == ""
    # A full machine adds stalls that are nobody's; and a starved watchdog cannot tell who kept the GIL.
    reports = child.reports()
    blamed = [report for report in reports if report["cause"] in {"gil", "cpu"}]
    assert blamed or any(report["cause"] in {"starved", "suspended"} for report in reports)
    assert {report["culprit"] for report in blamed} <= {"culprit", None}


@pytest.mark.scenario("S38")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_watches_its_own_loops(start: Any) -> None:
    """The child of a process with a warm watchdog has one that works; the parent's goes on."""
    child = start(
        """
        from instrumented_sessions.observer import AMBIENT
        AMBIENT.add(teller)
        def stuck_in_child(): teller.told.wait(60)
        def stuck_in_parent(): teller.told.wait(60)
        async def main(stuck, name):
            watch_loop(name)
            await asyncio.sleep(0.1)
            stuck()
            await asyncio.sleep(0.2)
        async def parent():
            watch_loop("parent")
            await asyncio.sleep(0.1)
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                asyncio.run(main(stuck_in_child, "child"))
                os._exit(0)
            await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
            stuck_in_parent()
            await asyncio.sleep(0.2)
        import warnings; warnings.simplefilter("ignore")
        asyncio.run(parent())
        """
    )
    assert child.finish() == ""
    stalled = {(report["loop"], report["culprit"]) for report in child.reports() if report["culprit"]}
    assert stalled == {("child", "stuck_in_child"), ("parent", "stuck_in_parent")}


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyboardInterrupt", "os.kill(os.getpid(), 15)"])
def test_interpreter_ends_quietly_while_loops_are_watched(start: Any, ending: str) -> None:
    """No traceback, no hang, the program's own exit status."""
    child = start(
        f"""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        process_watchdog().watch(loop, "endless")
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.15), loop).result()
        say("ready")
        {ending}
        """
    )
    child.until("ready")
    err = child.finish()
    status = {"": 0, "sys.exit(3)": 3, "raise KeyboardInterrupt": -signal.SIGINT}.get(ending, -signal.SIGTERM)
    assert child.process.returncode == status
    assert "instrumented" not in err
    if not ending.startswith("raise"):
        assert err == ""


def test_permanent_stall_is_reported_again_and_again_with_one_id(start: Any) -> None:
    """At the threshold and after a second, by a process whose only loop never comes back."""
    child = start(
        """
        def culprit():
            threading.Event().wait()
        async def main():
            watchdog = LoopWatchdog(observers=[teller], stall_threshold_s=0.1)
            watchdog.watch(name="hung")
            await asyncio.sleep(0.2)
            culprit()
        asyncio.run(main())
        """
    )
    first, second = child.until("LoopStalled"), child.until("LoopStalled")
    assert first["stall_id"] == second["stall_id"]
    assert first["duration_s"] < 1.0 <= second["duration_s"]
    assert {first["culprit"], second["culprit"]} == {"culprit"}
    assert not child.reports("LoopRecovered")
