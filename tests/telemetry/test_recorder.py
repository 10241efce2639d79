from __future__ import annotations

import threading

import pytest

from instrumented_sessions import events
from instrumented_sessions.observer import Announcer
from instrumented_sessions.telemetry.recorder import Recorder, _renew_lock

from . import story


def test_recorder_returns_events_of_a_type_in_order() -> None:
    """`of` gives the events of one type, oldest first."""
    recorder = Recorder()
    announcer = Announcer([recorder])
    first, second = story.called(1), story.called(2)
    for event in (first, story.requested(), second):
        announcer.announce(event)
    assert recorder.of(events.CallStarted) == [first, second]
    assert recorder.of(events.LoopStalled) == []
    assert len(recorder.events) == 3


def test_full_recorder_drops_the_oldest_and_counts() -> None:
    """Memory is bounded, and what is lost is known."""
    recorder = Recorder(capacity_events=2)
    for call_id in range(5):
        recorder.on_event(story.called(call_id))
    assert [event.call_id for event in recorder.of(events.CallStarted)] == [3, 4]
    assert recorder.dropped == 3
    assert repr(recorder) == "<Recorder 2 events, 3 dropped>"
    recorder.clear()
    assert recorder.dropped == 0


def test_recorder_loses_nothing_between_threads() -> None:
    """Every event of every thread is kept or counted."""
    recorder = Recorder(capacity_events=100)
    start = threading.Barrier(4)

    def tell() -> None:
        start.wait(5)
        for call_id in range(100):
            recorder.on_event(story.called(call_id))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(recorder.events) + recorder.dropped == 400


def test_capacity_below_one_is_refused() -> None:
    """A recorder that can keep nothing is a mistake."""
    with pytest.raises(ValueError, match="capacity_events"):
        Recorder(capacity_events=0)


def test_recorder_of_a_forked_child_has_a_lock_of_its_own() -> None:
    """Another thread of the parent may have held it, and does not run in the child."""
    recorder = Recorder()
    with recorder._lock:
        _renew_lock(recorder)
        recorder.on_event(story.called(1))
    assert len(recorder.events) == 1
