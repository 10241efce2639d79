"""When heartbeats are due."""

from __future__ import annotations

import time
from array import array

import pytest

from instrumented_sessions.watchdog.page import Slot
from instrumented_sessions.watchdog.pulse import Pulse


class HandPulse(Pulse):
    """Beats when a test says so."""

    def _start(self) -> None: ...

    def _has_ended(self) -> bool:
        return False

    def _is_running(self) -> bool:
        return True

    def _task_name(self) -> str | None:
        return None


@pytest.fixture
def pulse() -> HandPulse:
    return HandPulse(0.1, 0.25, Slot(array("d", [0.0]), 0, None))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        pytest.param(70.001, 70.1, id="in-time"),
        pytest.param(70.099, 70.2, id="a-little-early"),
        pytest.param(70.06, 70.1, id="late"),
        pytest.param(73.42, 73.5, id="after-a-stall"),
    ],
)
def test_loops_beat_at_the_same_instants(
    pulse: HandPulse, monkeypatch: pytest.MonkeyPatch, now: float, due: float
) -> None:
    """Whenever one beats, its next beat is due at a multiple of the interval."""
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert pulse.beat() == pytest.approx(due - now)
    assert pulse.mark.due == pytest.approx(due)


def test_late_beat_is_kept_with_the_cpu_time_before_it(
    pulse: HandPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lag counts from when it was due; the first beat after a pause says nothing."""
    instants = iter([70.0, 70.1, 70.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(instants))
    for _ in range(3):
        pulse.beat()
    assert list(pulse.lags) == pytest.approx([0.0, 0.3])
    [late] = pulse.late
    assert (late.due, late.at) == (pytest.approx(70.2), 70.5)
    assert late.cpu_before_s is not None
    assert late.cpu_before_s <= late.cpu_s
