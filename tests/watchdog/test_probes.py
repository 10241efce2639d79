"""What the system tells of threads, on threads that are really there."""

from __future__ import annotations

import gc
import sys
import threading
import time

import pytest

from instrumented_sessions.watchdog.collector import CollectorProbe
from instrumented_sessions.watchdog.probes import (
    Load,
    OwnProbe,
    OwnReading,
    SlowReading,
    ThreadProbe,
    busiest_between,
    gil_changed_hands,
    gil_wait_s,
    threads_cpu_s,
)
from instrumented_sessions.watchdog.pulse import Seat, take_seat

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the files are Linux's")


@linux_only
def test_thread_that_waits_is_asleep_and_uses_no_cpu() -> None:
    """Its state is read from outside, while it waits."""
    seats: list[Seat] = []
    seated, release = threading.Event(), threading.Event()

    def wait() -> None:
        seats.append(take_seat())
        seated.set()
        release.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert seated.wait(60)
        probe = ThreadProbe(seats[0])
        while probe.state() != "S":
            pass
        before = probe.cpu_s()
        assert before is not None
        assert probe.cpu_s() == before
        assert probe.run_delay_s() is not None
        assert ThreadProbe(take_seat()).state() == "R"
    finally:
        release.set()
        thread.join()
    while probe.state():
        pass  # The kernel's thread ends a moment after Python's.
    assert probe.cpu_s() is None
    assert probe.run_delay_s() is None
    probe.close()
    probe.close()


@linux_only
def test_busiest_thread_is_found_among_the_others() -> None:
    """By the CPU time that each used between two readings."""
    before = threads_cpu_s()
    mine = threading.get_ident()
    assert mine in before
    start = time.thread_time()
    while time.thread_time() - start < 0.02:
        pass
    after = threads_cpu_s()
    ident, used_s = busiest_between(before, after, but=())
    assert ident == mine
    assert used_s >= 0.02
    assert busiest_between(before, after, but={mine})[0] != mine
    assert busiest_between({}, {}, but=()) == (0, 0.0)


def reading(switches: int | None) -> OwnReading:
    return OwnReading(switches, 0.0, SlowReading(0.0, None, {}, {}))


def test_wait_for_the_gil_is_told_by_the_switches_it_makes() -> None:
    """A thread that waits wakes every switch interval; one that sleeps or is stopped does not."""
    interval_s = sys.getswitchinterval()
    assert gil_wait_s(reading(10), reading(112)) == pytest.approx(100 * interval_s)
    assert gil_wait_s(reading(10), reading(11)) == 0.0
    assert gil_wait_s(reading(None), reading(5)) is None


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        pytest.param(10 + 98, False, id="held"),
        pytest.param(10, False, id="stopped"),
        pytest.param(10 + 300, True, id="changed-hands"),
        pytest.param(None, False, id="not-known"),
    ],
)
def test_gil_that_changes_hands_wakes_who_waits_for_it(after: int | None, changed: bool) -> None:
    """More often than every switch interval, which is how often one wakes by itself."""
    assert gil_changed_hands(10, after, 100 * sys.getswitchinterval()) is changed


def test_load_is_low_unless_a_thread_uses_most_of_a_core() -> None:
    """What is not known is not low. Readings in quick succession are left out, as they say little."""
    load = Load()
    lows = []
    for now, cpu_s in [(1.0, 0.5), (2.0, 1.1), (2.05, 1.1), (3.0, 1.5), (4.0, None), (5.0, 3.0)]:
        load.update(now, cpu_s, period_s=0.1)
        lows.append(load.is_low)
    assert lows == [False, False, False, True, False, False]


def test_what_takes_files_is_read_rarely_unless_it_matters() -> None:
    """A healthy loop costs no files for each look."""
    probe = OwnProbe()
    first = probe.read()
    assert probe.read().slow is first.slow
    assert probe.read(fresh=True).slow is not first.slow
    probe.close()


def test_collector_is_timed_while_it_runs_and_after() -> None:
    """Only the part that lies in the window counts."""
    probe = CollectorProbe()
    inside: list[float] = []
    start = time.monotonic()

    def look(phase: str, info: object) -> None:
        if phase == "start":
            inside.append(probe.between_s(start, time.monotonic() + 10))

    with probe:
        gc.callbacks.append(look)
        try:
            heap = [[] for _ in range(300_000)]  # type: ignore[var-annotated]
            gc.collect()
        finally:
            gc.callbacks.remove(look)
    probe.stop()
    end = time.monotonic()
    assert inside[0] >= 9
    assert 0 < probe.between_s(start, end) <= end - start
    assert probe.between_s(end, end + 1) == 0.0
    assert len(heap) == 300_000


def test_collection_whose_end_is_not_told_does_not_last_for_ever() -> None:
    """The watchdog's thread may end while another thread collects, and start again later."""
    probe = CollectorProbe()
    with probe:
        probe._on_collection("start", {})
    with probe:
        now = time.monotonic()
        assert probe.between_s(now - 10.0, now) == 0.0
