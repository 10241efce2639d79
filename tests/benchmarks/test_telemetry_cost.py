"""How the benchmark compares; what it measures is measured only when it is run."""

from __future__ import annotations

import pytest

from benchmarks import telemetry_cost
from benchmarks.scenario_tools import Figure
from benchmarks.telemetry_cost import NOTHING, Cost
from instrumented_sessions.events import Event
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import Recorder


def test_each_set_of_observers_hears_of_its_own_rounds_only() -> None:
    """Who observed before is put back, in its order."""
    before, recorder = AMBIENT.observers, Recorder()
    found = telemetry_cost.side_by_side(
        {NOTHING: (), "recorder": (recorder,)}, lambda: AMBIENT.announce(Event(1.0)), times=1, rounds=3
    )
    assert AMBIENT.observers == before
    assert len(recorder.events) == 3
    assert {name: len(costs) for name, costs in found.items()} == {NOTHING: 3, "recorder": 3}


def test_cost_is_the_median_of_differences_within_a_round() -> None:
    """A slow round slows both, and cancels out."""
    found = {
        NOTHING: [Cost(1.0, 0.5), Cost(9.0, 8.0), Cost(1.0, 0.5)],
        "all": [Cost(1.25, 0.75), Cost(9.25, 8.25), Cost(5.0, 0.75)],
    }
    extra = telemetry_cost.more(found, "all")
    assert (extra.wall_s, extra.cpu_s) == (pytest.approx(0.25), pytest.approx(0.25))


def test_page_says_which_target_was_missed() -> None:
    """Figures without a target have none."""
    page = telemetry_cost.page(
        [Figure("call", "this", "9 %", "<= 5 %", False), Figure("call", "that", "1 ns")]
    )
    assert "| this | 9 % | <= 5 % (missed) |" in page
    assert "| that | 1 ns |  |" in page
