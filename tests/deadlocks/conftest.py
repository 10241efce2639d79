from __future__ import annotations

from collections.abc import Iterator

import pytest

from instrumented_sessions.lockorder import ORDER
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.userlocks.chains import waiting
from instrumented_sessions.userlocks.held import held_by_tasks
from instrumented_sessions.waitgraph import GRAPH

from .worlds import KINDS, World


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Hears of every user lock; afterwards nobody may hold or wait for anything."""
    ORDER.forget()
    recorder = Recorder(capacity_events=100_000)
    AMBIENT.add(recorder)
    yield recorder
    AMBIENT.remove(recorder)
    assert (GRAPH._holders, GRAPH._waits, waiting, held_by_tasks) == ({}, {}, {}, {})
