"""Heartbeats that another process can read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instrumented_sessions.watchdog.page import CAPACITY, HeartbeatPage, heartbeat_ages

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no memfd")


@pytest.fixture
def page() -> Iterator[HeartbeatPage]:
    page = HeartbeatPage()
    yield page
    page.close()


@linux_only
def test_another_process_reads_the_ages_by_name(page: HeartbeatPage) -> None:
    """Of loops with one name the oldest counts; loops without one yet are left out."""
    now = time.monotonic()
    for name, age_s in (("main", 5.0), ("portal", 3.0), ("portal", 4.0), ("", 9.0)):
        slot = page.take()
        page.rename(slot, name)
        slot.beats[slot.index] = now - age_s
    script = (
        f"from instrumented_sessions.watchdog import heartbeat_ages; print(heartbeat_ages({os.getpid()}))"
    )
    root = Path(__file__).parent.parent.parent
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=90
    ).stdout
    ages = eval(out)
    assert set(ages) == {"main", "portal"}
    assert 5.0 <= ages["main"] < 25.0
    assert 4.0 <= ages["portal"] < ages["main"]


@linux_only
def test_slot_given_back_is_seen_no_more(page: HeartbeatPage) -> None:
    """A loop that has ended has no age."""
    slot = page.take()
    page.rename(slot, "gone")
    slot.beats[slot.index] = time.monotonic()
    assert "gone" in heartbeat_ages(os.getpid())
    page.give_back(slot)
    assert "gone" not in heartbeat_ages(os.getpid())
    page.close()
    page.close()


def test_loops_beyond_the_capacity_are_watched_all_the_same(page: HeartbeatPage) -> None:
    """They have a place for their heartbeat that only this process sees."""
    slots = [page.take() for _ in range(CAPACITY + 3)]
    assert [slot.number for slot in slots[CAPACITY:]] == [None] * 3
    for slot in slots:
        slot.beats[slot.index] = 1.0
        page.give_back(slot)


@linux_only
def test_process_that_watches_nothing_says_so() -> None:
    """No page, no ages."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with pytest.raises(LookupError, match="watches no loops"):
            heartbeat_ages(other.pid)
        other.communicate(b"\n", timeout=90)
