"""What the heartbeats of a loop leave behind."""

from __future__ import annotations

import threading
import time
from array import array

import pytest

from instrumented_sessions.watchdog.loops import make_pulse, running_loop
from instrumented_sessions.watchdog.page import Slot
from instrumented_sessions.watchdog.pulse import AT_REST, Mark
from tests.watchdog.loops import RUNNERS, HandPulse, run_on


@pytest.fixture
def pulse() -> HandPulse:
    pulse = HandPulse(0.1, 0.25, Slot(array("d", [0.0]), 0, None))
    pulse.repeats = False
    return pulse


def beat_at(pulse: HandPulse, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pulse.beat()


def test_late_beat_is_kept_with_the_cpu_time_before_it(
    pulse: HandPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lag counts from when it was due, and then none is asked for any more."""
    told: list[bool] = []
    pulse.notify = lambda: told.append(True)
    pulse.ask(Mark(70.1, 0.5))
    beat_at(pulse, monkeypatch, 70.2)
    assert (list(pulse.lags), list(pulse.late), told) == (pytest.approx([0.1]), [], [])
    pulse.ask(Mark(70.2, 1.5))
    beat_at(pulse, monkeypatch, 70.5)
    assert list(pulse.lags) == pytest.approx([0.1, 0.3])
    [late] = pulse.late
    assert (late.due, late.at, late.cpu_before_s) == (70.2, 70.5, 1.5)
    assert told == [True]
    assert pulse.mark is AT_REST
    assert pulse.slot.beats[0] == 70.5


@pytest.mark.parametrize(
    ("now", "due"),
    [
        pytest.param(70.001, 70.1, id="in-time"),
        pytest.param(70.099, 70.2, id="a-little-early"),
        pytest.param(70.06, 70.1, id="late"),
        pytest.param(73.42, 73.5, id="after-a-stall"),
    ],
)
def test_busy_loops_beat_at_the_same_instants(
    pulse: HandPulse, monkeypatch: pytest.MonkeyPatch, now: float, due: float
) -> None:
    """Whenever one beats, its next beat is due at a multiple of the interval."""
    pulse.ask(Mark(70.0, None))
    pulse.repeats = True
    beat_at(pulse, monkeypatch, now)
    assert pulse.delay_s == pytest.approx(due - now)
    assert pulse.mark.due == pytest.approx(due)


def test_first_beat_after_a_pause_says_nothing(pulse: HandPulse, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for before the loop stopped for a while; the next one counts again."""
    pulse.ask(Mark(70.0, None))
    pulse.pause()
    assert pulse.slot.beats[0] == 0.0
    beat_at(pulse, monkeypatch, 90.0)
    assert (list(pulse.lags), list(pulse.late), pulse.beats) == ([], [], 1)
    pulse.ask(Mark(90.0, None))
    beat_at(pulse, monkeypatch, 90.5)
    assert list(pulse.lags) == [0.5]


def test_loop_that_rests_makes_heartbeats_that_are_not_late(pulse: HandPulse) -> None:
    """Other processes see that it is well, and its lag is summed up with the others."""
    pulse.rest(70.1)
    assert (list(pulse.lags), pulse.beats, pulse.slot.beats[0]) == ([0.0], 1, 70.1)


@pytest.mark.parametrize("runner", RUNNERS)
def test_loop_that_is_watched_from_its_own_thread_is_known_at_once(runner: str) -> None:
    """It may stall before its first heartbeat: its thread and the CPU time of that are known by then."""

    async def main() -> None:
        pulse = make_pulse(running_loop(), 0.1, 0.25, Slot(array("d", [0.0]), 0, None))
        assert pulse.seat is not None
        assert pulse.seat.thread_id == threading.get_ident()
        assert pulse.mark.cpu_s is not None

    run_on(runner, main)


def test_beat_after_the_end_leaves_the_slot_alone(pulse: HandPulse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot may be another loop's by then."""
    pulse.ask(Mark(70.0, None))
    pulse.stop()
    pulse.slot.beats[0] = 1.0
    beat_at(pulse, monkeypatch, 70.1)
    assert (pulse.slot.beats[0], pulse.beats) == (1.0, 0)
