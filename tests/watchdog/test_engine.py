"""What the watchdog's own thread counts as being late."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from instrumented_sessions.testing import ManualClock
from instrumented_sessions.watchdog.engine import Engine
from instrumented_sessions.watchdog.probes import OwnReading, SlowReading

TURN_S = 1.0


class SlowEngine(Engine):
    """Each of its turns takes a second, and the next one is planned for its middle."""

    def __init__(self, clock: ManualClock, wakes: int) -> None:
        super().__init__()
        self.late_s: list[float] = []
        self.switches_now = 0
        self._clock, self._wakes = clock, wakes

    def read(self) -> OwnReading:
        return OwnReading(self.switches_now, 0.0, SlowReading(0.0, None, {}, {}))

    def switches(self) -> int:
        return self.switches_now

    def _goes_on(self) -> bool:
        return len(self.late_s) < 3

    def _turn(self, now: float, planned: float, before: OwnReading, probe: Any) -> float:
        self.late_s.append(now - planned)
        self._clock.advance(TURN_S)
        self.switches_now += self._wakes
        return now + TURN_S / 2


@pytest.mark.parametrize(
    ("wakes_in_an_interval", "late_s"),
    [
        pytest.param(20, 0.0, id="others-took-turns-with-the-gil"),
        pytest.param(1, TURN_S / 2, id="somebody-kept-the-gil"),
        pytest.param(0, TURN_S / 2, id="nothing-ran"),
    ],
)
def test_turn_that_takes_long_makes_the_next_one_late_unless_the_gil_was_shared(
    wakes_in_an_interval: int, late_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ask lets go of the GIL, and a loop with many short steps gives it back only now and then."""
    clock = ManualClock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    engine = SlowEngine(clock, round(wakes_in_an_interval * TURN_S / sys.getswitchinterval()))
    engine._watch(engine)  # type: ignore[arg-type]
    assert engine.late_s == pytest.approx([0.0, late_s, late_s])
