"""Stacks that are taken while native code holds the GIL."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from typing import Any

import pytest

from instrumented_sessions.chain import CodeLocation
from instrumented_sessions.watchdog.held import SWITCH, HeldStacks, parse_stacks
from instrumented_sessions.watchdog.pulse import Seat, take_seat

off_by_default = pytest.mark.skipif(
    os.environ.get(SWITCH) != "1", reason=f"it has crashed programs under load; {SWITCH}=1 switches it on"
)
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the timers are Linux's")


def test_what_faulthandler_writes_is_read_back() -> None:
    """Innermost frame first in the text, last in the stack; every thread under its id."""
    text = (
        "Thread 0x00007f0000000001 (most recent call first):\n"
        '  File "/srv/app/a b.py", line 12 in leaf\n'
        '  File "/srv/app/main.py", line 3 in <module>\n'
        "\n"
        "Current thread 0x00007f0000000002 (most recent call first):\n"
        "  <no Python frame>\n"
    )
    assert parse_stacks(text) == {
        0x7F0000000001: (
            CodeLocation("<module>", "/srv/app/main.py", 3),
            CodeLocation("leaf", "/srv/app/a b.py", 12),
        ),
        0x7F0000000002: (),
    }
    assert parse_stacks("") == {}


@off_by_default
@linux_only
def test_thread_that_computes_with_the_gil_is_caught_in_the_act() -> None:
    """The timer fires while nobody else can run, and leaves what comes after it unseen."""
    seats: list[Seat] = []
    seated, armed = threading.Event(), threading.Event()

    def compute() -> None:
        seats.append(take_seat())
        big = 3**2_000_000
        seated.set()
        armed.wait(5)
        big * big

    thread = threading.Thread(target=compute)
    held = HeldStacks()
    try:
        thread.start()
        assert seated.wait(20)
        cpu_s = time.clock_gettime(seats[0].cpu_clock)  # type: ignore[arg-type]
        again_at = held.arm(seats[0], cpu_s, 0.05)
        assert cpu_s < again_at < cpu_s + 0.05
        armed.set()
        thread.join()
        stacks = held.take(late_s=60)
        assert stacks[seats[0].thread_id][-1].function == "compute"
        assert held.take(late_s=60) == {}
        held.forget(seats[0])
    finally:
        held.close()


@linux_only
def test_timer_of_the_test_runner_is_left_alone() -> None:
    """`faulthandler.dump_traceback_later` has one timer, which belongs to whoever set it."""
    read, write = os.pipe()
    faulthandler.dump_traceback_later(0.05, file=write)
    held = HeldStacks()
    try:
        held.arm(take_seat(), time.thread_time(), 0.01)
        assert os.read(read, 64)  # Blocks until that timer has fired.
    finally:
        held.close()
        faulthandler.cancel_dump_traceback_later()
        os.close(read)
        os.close(write)


@off_by_default
@linux_only
def test_nothing_is_left_behind() -> None:
    """After closing, the signal has its default action and no timer is left to send it."""
    held = HeldStacks()
    number = held._signal
    assert signal.getsignal(number) is signal.SIG_DFL
    held.arm(take_seat(), time.thread_time(), 0.01)
    held.disarm()
    assert held.arm(take_seat(), time.thread_time(), 0.01) == float("inf")
    held.close()
    held.close()
    assert not faulthandler.unregister(number)


def test_system_without_timers_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux nothing is taken, and nothing fails."""
    monkeypatch.setattr(sys, "platform", "darwin")
    held = HeldStacks()
    seat: Any = take_seat()
    assert held.arm(seat, 0.0, 0.1) == float("inf")
    assert held.take(1.0) == {}
    held.forget(seat)
    held.close()
