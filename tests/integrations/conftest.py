"""A program that is instrumented as a whole, in this process, and taken back afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from instrumented_sessions.integrations.auto import instrument, uninstrument
from instrumented_sessions.integrations.auto.instrumentation import Instrumentation
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import Recorder


@pytest.fixture
def nothing_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SDK is set up in this process, which could have it only once."""
    for signal in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")


@pytest.fixture
def instrumented(nothing_exported: None) -> Iterator[Instrumentation]:
    try:
        yield instrument()
    finally:
        uninstrument()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Hears what the ambient observers hear."""
    recorder = Recorder()
    AMBIENT.add(recorder)
    yield recorder
    AMBIENT.remove(recorder)
