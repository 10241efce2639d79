from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from instrumented_sessions import SessionManager, Settings
from instrumented_sessions.telemetry.recorder import Recorder
from tests import servers
from tests.manager.wires import Door

from .wires import Silent, silent_target


@pytest.fixture(params=["task", "thread"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def manager(recorder: Recorder) -> AsyncIterator[SessionManager]:
    manager = SessionManager(Settings(close_timeout_s=5.0), observers=[recorder])
    yield manager
    await manager.aclose()


@pytest.fixture(params=["fake", "stdio", "http", "sse"])
def silent(request: pytest.FixtureRequest) -> Iterator[Silent]:
    """A server of each kind that accepts and never answers."""
    with silent_target(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def http_journal(tmp_path_factory: pytest.TempPathFactory) -> servers.Journal:
    """What reached the module's HTTP server."""
    path: Path = tmp_path_factory.mktemp("http") / "journal"
    return servers.Journal(path)


@pytest.fixture(scope="module")
def http_server(http_journal: servers.Journal) -> Iterator[servers.Server]:
    """One real HTTP server for all tests of a module that do not harm it."""
    with servers.running("http", *servers.options(journal=http_journal.path)) as server:
        yield server
