"""When a loop is asked for a heartbeat, and from when on that is due."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import closing
from types import FrameType

import pytest

from instrumented_sessions.events import Event, LoopRecovered, LoopStalled
from instrumented_sessions.testing import ManualClock
from instrumented_sessions.vocabulary import StallCause
from instrumented_sessions.watchdog.collector import CollectorProbe
from instrumented_sessions.watchdog.measurement import Turn
from instrumented_sessions.watchdog.page import Slot
from instrumented_sessions.watchdog.probes import OwnProbe, ThreadProbe
from instrumented_sessions.watchdog.pulse import AT_REST, Mark, Seat
from instrumented_sessions.watchdog.stacks import current_frames, waits
from instrumented_sessions.watchdog.watched import WatchedLoop
from tests.watchdog.loops import HandPulse

INTERVAL_S, THRESHOLD_S = 0.125, 0.25
BUSY: Mapping[int, FrameType] = {}


class Watching:
    """One loop, looked at whenever a test says so."""

    def __init__(self, thread_id: int, probe: OwnProbe) -> None:
        self.clock = ManualClock()
        self.pulse = HandPulse(INTERVAL_S, THRESHOLD_S, Slot(array("d", [0.0]), 0, None))
        self.pulse.seat = Seat(thread_id, 0, None, False)
        self.pulse.mark, self.pulse.repeats = AT_REST, False
        self.pulse.slot.beats[0] = self.clock.monotonic()
        self.loop = WatchedLoop(self.pulse, "agent", THRESHOLD_S, CollectorProbe(), self.clock)
        self.probe = probe
        self.events: list[Event] = []

    def look(self, after_s: float, frames: Mapping[int, FrameType], late_s: float = 0.0) -> float:
        """Look after `after_s` seconds; returns in how many seconds to look again."""
        self.clock.advance(after_s)
        now = self.clock.monotonic()
        turn = Turn(now, now - late_s, late_s, frames, self.probe.read(), self.probe)
        at = self.loop.glance(turn)
        if at is None:
            events, at = self.loop.look(turn)
            self.events += events
        assert at is not None
        return at - now

    @property
    def due(self) -> float:
        """When the heartbeat was due that is waited for, in seconds from now."""
        return self.pulse.mark.due - self.clock.monotonic()

    def answer(self) -> None:
        self.pulse.mark = AT_REST

    def beat(self) -> None:
        """Let the loop beat, as if on its own thread."""
        seat = self.pulse.seat
        self.pulse.beat()
        self.pulse.seat = seat


@pytest.fixture(scope="module")
def idle() -> Iterator[tuple[int, FrameType]]:
    """A thread that runs an idle loop, and its frame."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert thread.ident is not None
    while not waits(frame := current_frames()[thread.ident]):
        pass
    yield thread.ident, frame
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def watching(idle: tuple[int, FrameType], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    monkeypatch.setattr(ThreadProbe, "cpu_s", lambda probe: 0.0)
    with closing(OwnProbe()) as probe:
        yield Watching(idle[0], probe)


@pytest.fixture
def waiting(idle: tuple[int, FrameType]) -> Mapping[int, FrameType]:
    return dict([idle])


def test_idle_loop_is_asked_once_a_second(watching: Watching, waiting: Mapping[int, FrameType]) -> None:
    """In between, that it waits for its next event is its heartbeat."""
    asked = []
    for _ in range(40):
        watching.look(INTERVAL_S, waiting)
        asked.append(watching.pulse.asked)
        watching.answer()
    # At the first two looks, before which no CPU time is known, and then in each second.
    assert asked[-1] == 6
    assert watching.pulse.beats == 34
    assert len(watching.pulse.lags) == 34


def test_busy_loop_is_asked_once_and_then_beats_by_itself(
    watching: Watching, waiting: Mapping[int, FrameType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at before a heartbeat comes; once it has waited for a second, its next one is the last."""
    monkeypatch.setattr(time, "monotonic", watching.clock.monotonic)
    assert watching.look(INTERVAL_S, BUSY) == pytest.approx(0.98 * INTERVAL_S)
    assert watching.due == 0.0
    for _ in range(3):
        watching.beat()
        assert (watching.due, watching.pulse.delay_s) == (INTERVAL_S, INTERVAL_S)
        assert watching.look(0.98 * INTERVAL_S, BUSY) == pytest.approx(INTERVAL_S)
        watching.clock.advance(0.02 * INTERVAL_S)
    for _ in range(9):
        watching.beat()
        assert watching.due == INTERVAL_S
        watching.look(0.98 * INTERVAL_S, waiting)
        watching.clock.advance(0.02 * INTERVAL_S)
    watching.beat()
    assert watching.pulse.mark is AT_REST
    assert watching.look(0.0, waiting) == pytest.approx(INTERVAL_S)
    assert watching.pulse.asked == 1


def test_loop_that_only_looks_for_events_is_busy(
    watching: Watching, waiting: Mapping[int, FrameType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop with many short steps lets go of the GIL only there: whoever looks sees it wait."""
    cpu_s, repeats = 0.0, []
    monkeypatch.setattr(ThreadProbe, "cpu_s", lambda probe: cpu_s)
    for share in (0.1, 0.9):
        for _ in range(24):
            cpu_s += share * INTERVAL_S
            watching.look(INTERVAL_S, waiting)
            watching.answer()
        repeats.append(watching.pulse.repeats)
    assert repeats == [False, True]


def test_loop_whose_cpu_time_is_not_known_counts_as_busy(
    watching: Watching, waiting: Mapping[int, FrameType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every system tells it; such a loop always beats by itself, which costs little."""
    monkeypatch.setattr(ThreadProbe, "cpu_s", lambda probe: None)
    for asked in range(1, 5):
        watching.look(1.5, waiting)
        assert (watching.pulse.asked, watching.pulse.repeats) == (asked, True)
        watching.answer()
    assert watching.pulse.beats == 0


def test_loop_that_does_not_answer_is_not_asked_again(
    watching: Watching, waiting: Mapping[int, FrameType]
) -> None:
    """Whether it was busy or idle when it was asked, it is looked at again when that is late."""
    for frames in (BUSY, waiting):
        watching.answer()
        watching.look(1.5, frames)
        asked = watching.pulse.asked
        assert 0 < watching.look(INTERVAL_S, frames) < 0.8 * THRESHOLD_S
        assert watching.pulse.asked == asked


@pytest.mark.parametrize(
    ("late_s", "busy", "due"),
    [
        pytest.param(0.1, True, -0.1, id="busy"),
        pytest.param(0.1, False, 0.0, id="idle"),
        pytest.param(0.5, False, -0.5, id="longer-than-the-threshold"),
    ],
)
def test_watchdog_that_was_kept_asks_from_when_it_meant_to_look(
    watching: Watching, waiting: Mapping[int, FrameType], late_s: float, busy: bool, due: float
) -> None:
    """What kept it for that long kept a busy loop too, and an idle one if it is a stall by itself."""
    watching.look(INTERVAL_S, waiting)
    watching.answer()
    watching.look(1.5, BUSY if busy else waiting, late_s)
    assert watching.due == pytest.approx(due)


def test_loop_that_does_not_run_is_not_asked(watching: Watching, waiting: Mapping[int, FrameType]) -> None:
    """Its thread may run another one; when it runs again, a heartbeat from before says nothing."""
    watching.look(INTERVAL_S, BUSY)
    watching.pulse.runs = False
    watching.look(INTERVAL_S, waiting)
    watching.look(10.0, waiting)
    assert (watching.pulse.asked, watching.pulse.beats) == (1, 0)
    watching.pulse.runs = True
    assert watching.look(10.0, BUSY) <= THRESHOLD_S
    assert watching.loop.stalled_for() is None
    assert watching.pulse.mark == Mark(1000.0 + INTERVAL_S, None)


def test_stall_right_after_a_pause_ends_when_the_loop_beats(
    watching: Watching, waiting: Mapping[int, FrameType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells the watchdog of that heartbeat, which was asked for before the loop stopped."""
    monkeypatch.setattr(time, "monotonic", watching.clock.monotonic)
    watching.look(INTERVAL_S, BUSY)
    watching.pulse.runs = False
    watching.look(THRESHOLD_S, waiting)
    watching.pulse.runs = True
    watching.look(INTERVAL_S, BUSY)
    after_s = watching.look(THRESHOLD_S, BUSY)
    assert watching.loop.ongoing is not None
    watching.clock.advance(after_s / 2)
    watching.beat()
    watching.look(after_s / 2, BUSY)
    assert watching.loop.ongoing is None
    [recovered] = [event for event in watching.events if isinstance(event, LoopRecovered)]
    assert recovered.report.duration_s == pytest.approx(THRESHOLD_S + after_s / 2)


def test_stall_of_which_nothing_was_known_at_first_gets_its_cause_when_it_lasts(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog came late, and how much CPU time the thread had used before was not known."""
    monkeypatch.setattr(ThreadProbe, "run_delay_s", lambda probe: 0.0)
    monkeypatch.setattr(ThreadProbe, "state", lambda probe: "S")
    watching.pulse.mark = Mark(watching.clock.monotonic(), None)
    frames = {watching.loop.thread_id: sys._getframe()}
    after_s = watching.look(2 * THRESHOLD_S, frames, late_s=THRESHOLD_S)
    while watching.loop.ongoing is None or watching.loop.ongoing.duration_s < 1.0:
        after_s = watching.look(after_s, frames)
    causes = [event.report.cause for event in watching.events if isinstance(event, LoopStalled)]
    assert causes == [StallCause.UNKNOWN, StallCause.BLOCKING_CALL]


@pytest.mark.parametrize(
    ("ran_s", "delayed_s", "cause"),
    [
        pytest.param(0.05, 0.25, StallCause.STARVED, id="hardly-ran"),
        pytest.param(0.25, 0.05, StallCause.CPU, id="ran"),
    ],
)
def test_what_a_busy_loop_did_before_its_heartbeat_was_due_does_not_speak_against_it(
    ran_s: float, delayed_s: float, cause: StallCause, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CPU time was last read when it beat, which may be an interval earlier."""
    delays = iter([0.0])
    monkeypatch.setattr(ThreadProbe, "cpu_s", lambda probe: INTERVAL_S + ran_s)
    monkeypatch.setattr(ThreadProbe, "run_delay_s", lambda probe: next(delays, delayed_s))
    watching.pulse.mark = Mark(watching.clock.monotonic(), 0.0)
    watching.look(ran_s + delayed_s, {watching.loop.thread_id: sys._getframe()}, late_s=ran_s + delayed_s)
    [stalled] = [event.report for event in watching.events if isinstance(event, LoopStalled)]
    assert stalled.cause is cause


def test_heartbeat_is_never_due_before_the_last_one_came(watching: Watching) -> None:
    """That may have been while the watchdog was about to ask again: it is no second stall."""
    watching.pulse.rest(watching.clock.monotonic() + INTERVAL_S - 0.01)
    watching.look(INTERVAL_S, BUSY, late_s=0.1)
    assert watching.due == pytest.approx(-0.01)


def test_what_was_seen_long_ago_says_nothing_about_now(watching: Watching) -> None:
    """A watchdog that was kept while it looked at others asks from now on: the loop may have run since."""
    watching.look(INTERVAL_S, BUSY)
    watching.answer()
    watching.clock.advance(1.0)
    now = watching.clock.monotonic()
    turn = Turn(now, now - 0.2, 0.2, BUSY, watching.probe.read(), watching.probe)
    watching.clock.advance(0.5)
    watching.loop.look(turn)
    assert watching.due == 0.0


def test_late_beat_that_is_still_being_noted_is_no_second_stall(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog may look between the two steps in which the loop's thread takes note of it."""
    watching.look(INTERVAL_S, BUSY)
    watching.look(2 * THRESHOLD_S, BUSY)
    monkeypatch.setattr(time, "monotonic", watching.clock.monotonic)
    looked: list[float] = []
    watching.pulse.notify = lambda: looked.extend(watching.look(0.001, BUSY) for _ in range(3))
    watching.pulse.beat()
    watching.look(INTERVAL_S, BUSY)
    assert watching.loop.stalls.total() == 1
    assert looked[0] < 0.01
    assert watching.pulse.asked == 1
