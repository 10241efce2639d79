from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.telemetry.recorder import Recorder

from .wires import KINDS, Door, Wire, wire


@pytest.fixture(params=["task", "thread"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


@pytest.fixture(params=KINDS)
def any_wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    with wire(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def manager(recorder: Recorder) -> AsyncIterator[SessionManager]:
    manager = SessionManager(Settings(close_timeout_s=5.0), observers=[recorder])
    yield manager
    await manager.aclose()
