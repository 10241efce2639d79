"""Zero code heeds `OTEL_*_EXPORTER`, and sets nothing up before there is something to tell."""

from __future__ import annotations

import pytest

from instrumented_sessions.chain import CodeLocation
from instrumented_sessions.events import LoopHeartbeat, LoopStalled, StackSample, StallReport
from instrumented_sessions.integrations.auto import exporters
from instrumented_sessions.integrations.auto.exporters import SetupAtFirstFact
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import otel
from instrumented_sessions.vocabulary import StallCause

BEAT = LoopHeartbeat(at=0.0, loop="main", thread_id=1, window_s=10.0, lags_s=(0.0,))


def stall(file: str) -> LoopStalled:
    frame = CodeLocation("work", file, 1)
    report = StallReport(
        loop="main",
        thread_id=1,
        started_at=0.0,
        duration_s=1.0,
        ongoing=True,
        cause=StallCause.CPU,
        culprit=frame,
        stacks=(StackSample((frame,), 1),),
    )
    return LoopStalled(0.0, report)


def test_setup_waits_for_the_first_fact_and_comes_before_its_observer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that brings its own SDK has set it by then; the first fact is exported all the same."""
    calls: list[int] = []
    monkeypatch.setattr(exporters, "set_up", lambda: calls.append(1))
    setup = SetupAtFirstFact()
    try:
        assert AMBIENT.observers.index(setup) < AMBIENT.observers.index(otel.install())
        setup.on_event(stall("<frozen importlib._bootstrap>"))  # The import may bring the SDK.
        assert calls == []
        setup.on_event(BEAT)
        setup.on_event(BEAT)
        assert calls == [1]
        assert setup not in AMBIENT.observers
    finally:
        setup.close()


def test_stall_of_the_programs_own_sets_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has to be told while it lasts."""
    calls: list[int] = []
    monkeypatch.setattr(exporters, "set_up", lambda: calls.append(1))
    setup = SetupAtFirstFact()
    setup.on_event(stall("/home/me/agent.py"))
    setup.close()
    assert calls == [1]
