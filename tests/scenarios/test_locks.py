"""Both locks: fair, timed, and released on every way out. Deadlines: held while the SDK is stuck."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    SessionBrokenError,
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
)
from instrumented_sessions.events import LockAcquired, LockReleased, LockWaitAbandoned
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.vocabulary import LockGranularity, LockKind, Phase
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, text

from .wires import GUARD, let_it_have_lived


def balanced(recorder: Recorder) -> bool:
    """Whether every permit that was granted was given back."""
    return len(recorder.of(LockAcquired)) == len(recorder.of(LockReleased))


@pytest.mark.scenario("S1", "S5")
async def test_opening_lock_is_granted_in_the_order_of_asking(door: Door, recorder: Recorder) -> None:
    """With one permit, conversations open one after the other, first come, first served."""
    transport = FakeTransport()
    transport.connecting.close()
    settings = Settings(permits=1)
    async with SessionManager(settings, observers=[recorder]) as manager:
        names = [f"c-{number}" for number in range(5)]
        async with anyio.create_task_group() as group:
            for number, name in enumerate(names):
                group.start_soon(door.session, manager, transport, name)
                await until(lambda: manager.statistics().sessions.get(SessionState.CREATING) == number + 1)  # noqa: B023  # Awaited in the same turn.
            for number in range(5):
                await transport.connecting.await_for(number + 1)
                transport.connecting.release_one()
        granted = [event.key.conversation for event in recorder.of(LockAcquired)]
        assert granted == names
    assert balanced(recorder)


@pytest.mark.scenario("S19")
@pytest.mark.parametrize("leaves_first", [True, False])
async def test_caller_that_leaves_between_grant_and_use_takes_no_permit(
    leaves_first: bool, recorder: Recorder
) -> None:
    """The grant and the cancellation cross each other, in either order: the next one gets the permit."""
    transport = FakeTransport(call_permits=1)
    async with SessionManager(observers=[recorder]) as manager:
        session = await manager.asession(transport)
        for _ in range(20):
            transport.calling.close()
            held = asyncio.create_task(session.acall_tool("echo", {"text": "held"}))
            await until(lambda: session.in_flight == 1)
            leaving = asyncio.create_task(session.acall_tool("echo", {"text": "leaving"}))
            await until(lambda: session.in_flight == 2)
            after = asyncio.create_task(session.acall_tool("echo", {"text": "after"}))
            await until(lambda: session.in_flight == 3)
            for step in (leaving.cancel, transport.calling.open)[:: 1 if leaves_first else -1]:
                step()
            with anyio.fail_after(LIMIT_S):
                assert text(await held) == "held"
                assert text(await after) == "after"
                await asyncio.wait([leaving])
        await until(lambda: manager.statistics().holders == 0)
    assert balanced(recorder)


@pytest.mark.scenario("S19")
async def test_caller_that_times_out_waiting_for_a_permit_gives_up_its_place(
    door: Door, recorder: Recorder
) -> None:
    """Its error says `lock` and who holds it; the permit goes to the one behind it."""
    transport = FakeTransport(call_permits=1, call_granularity=LockGranularity.TRANSPORT)
    async with SessionManager(observers=[recorder]) as manager:
        one, two = [await door.session(manager, transport, name) for name in ("c-1", "c-2")]
        transport.calling.close()
        held = asyncio.create_task(one.acall_tool("echo", {"text": "held"}))
        await transport.calling.await_for(1)
        with pytest.raises(SessionTimeoutError, match="call lock of transport fake") as caught:
            await door.call_tool(two, "echo", {"text": "late"}, timeout_s=0.5)
        assert caught.value.phase is Phase.LOCK
        assert caught.value.chain is not None
        assert "tools/call echo" in caught.value.chain.links[0].doing
        behind = asyncio.create_task(door.call_tool(two, "echo", {"text": "behind"}))
        await until(lambda: two.in_flight == 1)
        transport.calling.open()
        assert (text(await held), text(await behind)) == ("held", "behind")
        assert manager.statistics().holders == 0
        (abandoned,) = recorder.of(LockWaitAbandoned)
        assert abandoned.lock is LockKind.CALL
    assert balanced(recorder)


@pytest.mark.scenario("S19")
def test_permit_of_a_caller_whose_loop_is_gone_comes_back(recorder: Recorder) -> None:
    """Nobody cancels the task of a loop that was closed: its limit ends the call, and the permit is free."""
    transport = FakeTransport(call_permits=1)
    with SessionManager(observers=[recorder]) as manager:
        session = manager.session(transport)
        transport.calling.close()
        loop = asyncio.new_event_loop()
        dead = loop.create_task(session.acall_tool("echo", {"text": "dead"}, timeout_s=0.5))
        loop.run_until_complete(asyncio.wait([dead], timeout=0))
        transport.calling.wait_for(1)
        loop.close()
        dead._log_destroy_pending = False  # type: ignore[attr-defined]  # Whoever does this is told by asyncio.
        behind: list[Any] = []
        thread = threading.Thread(
            target=lambda: behind.append(session.call_tool("echo", {"text": "b"}, timeout_s=LIMIT_S))
        )
        thread.start()
        transport.calling.wait_for(2)  # It has the permit.
        transport.calling.open()
        thread.join(LIMIT_S)
        assert text(behind[0]) == "b"
        assert manager.statistics().holders == 0
    assert balanced(recorder)


@pytest.mark.scenario("S26", "S27")
async def test_call_that_outlives_its_session_holds_no_permit(
    manager: SessionManager, recorder: Recorder
) -> None:
    """Its function swallows the cancellation and goes on: the next generation's calls do not wait for it."""
    transport = FakeTransport(call_permits=1)
    session = await manager.asession(transport)
    let_it_have_lived(session)
    entered, enough = anyio.Event(), threading.Event()

    async def stubborn(client: Any) -> str:
        here.call_soon_threadsafe(entered.set)
        while not enough.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                pass
        return "too late"

    here = asyncio.get_running_loop()
    call = asyncio.create_task(session.arun(stubborn))
    await entered.wait()
    transport.lose(ConnectionResetError())
    with pytest.raises(SessionBrokenError):
        await call
    assert text(await session.acall_tool("echo", {"text": "next"}, timeout_s=LIMIT_S)) == "next"
    assert session.generation == 2
    enough.set()
    assert text(await session.acall_tool("echo", {"text": "on"}, timeout_s=LIMIT_S)) == "on"
    await until(lambda: not manager._shell.pool.calls)
    assert balanced(recorder)


@pytest.mark.scenario("S26", "S27")
async def test_calls_wait_for_their_permit_through_a_replacement(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """Three wait for the permit of a session that is replaced: they run on the next one, in their order."""
    transport = FakeTransport(call_permits=1)
    session = await door.session(manager, transport)
    let_it_have_lived(session)
    transport.calling.close()
    sent = asyncio.create_task(door.call_tool(session, "echo", {"text": "sent"}))
    await transport.calling.await_for(1)
    waiting = []
    for name in ("a", "b", "c"):
        waiting.append(asyncio.create_task(door.call_tool(session, "echo", {"text": name})))
        await until(lambda: session.in_flight == 1 + len(waiting))
    transport.lose(ConnectionResetError())
    with pytest.raises(SessionBrokenError):
        await sent
    transport.calling.open()
    await asyncio.gather(*waiting)
    (client,) = transport.open_clients
    assert [arguments["text"] for _, arguments in client.calls] == ["a", "b", "c"]
    assert session.generation == 2
    assert manager.statistics().holders == 0
    assert balanced(recorder)


def _shielded(enough: threading.Event) -> Any:
    """Return what takes the place of a gate's `pass_through` and ignores its cancellation."""

    async def pass_through() -> None:
        with anyio.CancelScope(shield=True):
            while not enough.is_set():
                try:
                    await asyncio.sleep(0.005)
                except asyncio.CancelledError:
                    pass

    return pass_through


@pytest.mark.scenario("S28")
async def test_call_s_limit_holds_while_the_sdk_ignores_its_cancellation(
    manager: SessionManager, door: Door
) -> None:
    """Stuck in a shielded scope, it still fails by its own limit, and others use the session."""
    transport, enough = FakeTransport(tools={"ok": lambda: "ok"}), threading.Event()
    session = await door.session(manager, transport)
    gate = transport.calling.pass_through
    transport.calling.pass_through = _shielded(enough)  # type: ignore[method-assign]
    with anyio.fail_after(GUARD * 0.2 + 1.0), pytest.raises(SessionTimeoutError):
        await door.call_tool(session, "ok", timeout_s=0.2)
    transport.calling.pass_through = gate  # type: ignore[method-assign]
    assert text(await door.call_tool(session, "ok", timeout_s=LIMIT_S)) == "ok"
    enough.set()
    await until(lambda: not manager._shell.pool.calls)


@pytest.mark.scenario("S32")
async def test_opening_s_limit_holds_while_the_sdk_ignores_its_cancellation(
    door: Door, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails by its limit, its permit goes on at once, and a line says what was left behind."""
    transport, enough = FakeTransport(), threading.Event()
    gate = transport.connecting.pass_through
    transport.connecting.pass_through = _shielded(enough)  # type: ignore[method-assign]
    settings = Settings(permits=1, open_timeout_s=0.1, backoff_initial_s=0.01, backoff_max_s=0.01)
    async with SessionManager(settings, observers=[recorder]) as manager:
        with anyio.fail_after(LIMIT_S), pytest.raises(SessionTimeoutError):
            await door.session(manager, transport, "stuck")
        transport.connecting.pass_through = gate  # type: ignore[method-assign]
        with anyio.fail_after(LIMIT_S):
            while True:
                try:
                    session = await door.session(manager, transport, "next")
                    break
                except SessionOpenError:
                    pass
        assert session.state is SessionState.READY
        await until(lambda: "fake/stuck #1 did not end within its limit" in caplog.text)
        enough.set()
    assert balanced(recorder)
