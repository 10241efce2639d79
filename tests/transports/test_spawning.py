"""Openings that are given up while their process is being started: nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from instrumented_sessions import SessionError, SessionManager
from instrumented_sessions.transports import StdioTransport
from instrumented_sessions.transports.guardian import GUARDIAN

GUARD_S = 30.0
READS = ': > "$0"; sleep 3600 & read -r line; exit'
STUBBORN = 'trap "" TERM; : > "$0"; sleep 3600 & while :; do wait; done'


class Spawn:
    """Holds each start of a process, when the process is there and asyncio has not said so yet."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.pid = 0
        self._here: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._real = asyncio.base_events.BaseEventLoop.subprocess_exec

    async def held(self, loop: Any, *args: Any, **options: Any) -> Any:
        transport, protocol = await self._real(loop, *args, **options)
        self.pid = transport.get_pid()
        gate = asyncio.Event()
        self._here.append((loop, gate))
        self.arrived.set()
        await gate.wait()
        return transport, protocol

    def let_go(self) -> None:
        for loop, gate in self._here:
            loop.call_soon_threadsafe(gate.set)


@pytest.fixture
def spawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spawn]:
    found = Spawn()

    async def subprocess_exec(loop: Any, *args: Any, **options: Any) -> Any:
        return await found.held(loop, *args, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "subprocess_exec", subprocess_exec)
    yield found
    if found.pid:
        try:
            os.killpg(found.pid, 9)  # What a failed test has left.
        except ProcessLookupError:
            pass


async def started(spawn: Spawn, ready: Path) -> None:
    """Wait until the process has been started and has said that it is ready."""
    await anyio.to_thread.run_sync(spawn.arrived.wait, GUARD_S)
    with anyio.fail_after(GUARD_S):
        while not ready.exists():
            await anyio.sleep(0.01)


async def gone(group: int) -> None:
    """Wait until nobody is left in a process group, and the guardian has forgotten it."""
    with anyio.fail_after(GUARD_S):
        while is_there(group) or group in GUARDIAN._groups:
            await anyio.sleep(0.01)


def is_there(group: int) -> bool:
    """Return whether anybody runs in a process group; zombies do not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def shell(script: str, ready: Path) -> StdioTransport:
    return StdioTransport("child", "/bin/sh", ["-c", script, str(ready)])


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed on Linux")


@pytest.mark.scenario("S32")
@pytest.mark.parametrize("script", [READS, STUBBORN], ids=["reads", "stubborn"])
async def test_cancelled_start_leaves_no_process(script: str, spawn: Spawn, tmp_path: Path) -> None:
    """Who is cancelled goes on at once; the process and its child end when the start is over."""
    ready = tmp_path / "ready"

    async def open_it() -> None:
        async with shell(script, ready).connect():
            raise AssertionError("it opened")

    opening = asyncio.ensure_future(open_it())
    await started(spawn, ready)
    opening.cancel()
    with anyio.fail_after(GUARD_S), pytest.raises(asyncio.CancelledError):
        await opening  # Though the start is still held.
    spawn.let_go()
    await gone(spawn.pid)


@pytest.mark.scenario("S32")
@pytest.mark.parametrize("script", [READS, STUBBORN], ids=["reads", "stubborn"])
async def test_start_that_does_not_end_leaves_no_process(
    script: str, spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that nobody waits for and that does not come back is given up."""
    monkeypatch.setattr("instrumented_sessions.transports.spawning._START_LIMIT_S", 0.01)
    ready = tmp_path / "ready"
    opening = asyncio.ensure_future(shell(script, ready).connect().__aenter__())
    await started(spawn, ready)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await gone(spawn.pid)


@pytest.mark.scenario("S32")
@pytest.mark.parametrize("script", [READS, STUBBORN], ids=["reads", "stubborn"])
@pytest.mark.parametrize("door", ["session", "asession"])
async def test_manager_that_closes_leaves_no_process(
    door: str, script: str, spawn: Spawn, tmp_path: Path
) -> None:
    """The manager's loop ends while the start is held for ever: the process ends with it."""
    ready = tmp_path / "ready"
    manager = SessionManager()

    async def ask() -> BaseException | None:
        try:
            if door == "session":
                await anyio.to_thread.run_sync(manager.session, shell(script, ready))
            else:
                await manager.asession(shell(script, ready))
        except SessionError as error:
            return error
        return None

    asking = asyncio.ensure_future(ask())
    await started(spawn, ready)
    with anyio.fail_after(GUARD_S):
        await manager.aclose(timeout_s=10.0)
        assert await asking is not None
    await gone(spawn.pid)
