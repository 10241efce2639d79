"""Both doors, on every kind of transport: getting a session and using it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    BlockingCallError,
    PortalClosedError,
    SessionBrokenError,
    SessionClosedError,
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
    TransportConflictError,
    live,
)
from instrumented_sessions.events import (
    BlockingCallRefused,
    CallEnded,
    CallStarted,
    OpeningEnded,
    OpeningStarted,
    SessionAcquired,
    SessionRequested,
)
from instrumented_sessions.telemetry.measure import Measure
from instrumented_sessions.telemetry.recorder import Recorder
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports.failures import NotSent
from instrumented_sessions.vocabulary import OpenFailure, Outcome, Phase

from .wires import LIMIT_S, Door, Wire, in_thread, text


async def test_session_is_ready_and_tool_answers(manager: SessionManager, door: Door, any_wire: Wire) -> None:
    """A cold request opens the session, and its tool's result is the SDK's own."""
    session = await door.session(manager, any_wire.transport, "c-7", timeout_s=LIMIT_S)
    assert session.state is SessionState.READY
    assert (session.key, session.generation) == (("weather", "c-7"), 1)
    result = await door.call_tool(session, "echo", {"text": "Zürich"}, timeout_s=LIMIT_S)
    assert text(result) == "Zürich"
    assert session.in_flight == 0


async def test_warm_session_is_the_identical_object(
    manager: SessionManager, door: Door, any_wire: Wire
) -> None:
    """Asking again gives the same handle and reaches no server."""
    first = await door.session(manager, any_wire.transport)
    again = await door.session(manager, any_wire.transport)
    assert again is first
    assert any_wire.handshakes() == 1
    assert manager.statistics().counters["requests_hit"] == 1


async def test_conversations_have_sessions_of_their_own(
    manager: SessionManager, door: Door, any_wire: Wire
) -> None:
    """Two conversations on one transport never share a session."""
    one = await door.session(manager, any_wire.transport, "c-1")
    two = await door.session(manager, any_wire.transport, "c-2")
    assert one is not two
    assert any_wire.handshakes() == 2


async def test_list_tools_and_run(manager: SessionManager, door: Door, any_wire: Wire) -> None:
    """Tools are listed, and a function gets the SDK's session on the portal's loop."""
    session = await door.session(manager, any_wire.transport)
    names = {tool.name for tool in (await door.list_tools(session)).tools}
    assert "echo" in names

    async def count(client: Any, extra: int) -> int:
        return len((await client.list_tools()).tools) + extra

    assert await door.run(session, count, 100) == len(names) + 100


@pytest.mark.scenario("S3")
async def test_cold_callers_share_one_opening(manager: SessionManager, any_wire: Wire) -> None:
    """Threads and tasks that ask at once get the identical session, from one handshake."""
    tasks = 20
    barrier = threading.Barrier(tasks)

    def from_thread() -> Any:
        barrier.wait(LIMIT_S)
        return manager.session(any_wire.transport, timeout_s=LIMIT_S)

    asked = [in_thread(from_thread) for _ in range(tasks)]
    asked += [manager.asession(any_wire.transport, timeout_s=LIMIT_S) for _ in range(tasks)]
    sessions = await asyncio.gather(*asked)
    assert len({id(session) for session in sessions}) == 1
    assert sessions[0].generation == 1
    assert any_wire.handshakes() == 1


async def test_joined_and_created_are_told_apart(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """The first requester created the session, the others joined its opening."""
    transport = FakeTransport()
    transport.connecting.close()
    async with anyio.create_task_group() as group:
        group.start_soon(door.session, manager, transport)
        await transport.connecting.await_for(1)
        for _ in range(3):
            group.start_soon(door.session, manager, transport)
        await until(lambda: manager.statistics().waiters == 4)
        transport.connecting.open()
    outcomes = sorted(event.outcome for event in recorder.of(SessionAcquired))
    assert outcomes == [Outcome.CREATED, Outcome.JOINED, Outcome.JOINED, Outcome.JOINED]
    (started,) = recorder.of(OpeningStarted)
    (ended,) = recorder.of(OpeningEnded)
    assert (ended.outcome, ended.opening_id) == (Outcome.OK, started.opening_id)
    assert {event.opening_id for event in recorder.of(SessionAcquired)} == {started.opening_id}
    assert len(recorder.of(SessionRequested)) == 4


async def test_timeout_names_phase_and_holder(manager: SessionManager, door: Door) -> None:
    """A waiter's limit passes with phase, opening and statistics; the opening goes on into the pool."""
    transport = FakeTransport()
    transport.connecting.close()
    async with anyio.create_task_group() as group:
        group.start_soon(door.session, manager, transport)
        await transport.connecting.await_for(1)
        with pytest.raises(SessionTimeoutError) as caught:
            await door.session(manager, transport, timeout_s=0.5)
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert (error.key, error.phase, error.limit_s) == (("fake", "default"), Phase.CONNECT, 0.5)
        assert error.chain is not None
        assert error.chain.links[0].holder is not None
        assert "(it holds the opening lock of transport fake)" in str(error)
        assert any("pass_through" in frame for frame in error.chain.links[0].stack)
        assert error.statistics.waiters >= 1
        transport.connecting.open()
    assert (await door.session(manager, transport)).state is SessionState.READY
    assert transport.connects == 1


async def test_no_wait_when_the_limit_is_zero(manager: SessionManager, door: Door) -> None:
    """A limit of 0 fails at once when the session is cold, and returns it when it is warm."""
    transport = FakeTransport()
    with pytest.raises(SessionTimeoutError):
        await door.session(manager, transport, timeout_s=0)
    assert transport.connects == 0
    session = await door.session(manager, transport)
    assert await door.session(manager, transport, timeout_s=0) is session


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), "soon", True])
async def test_bad_limit_is_refused(manager: SessionManager, door: Door, limit: Any) -> None:
    """A limit that is no finite number of seconds from 0 on raises ValueError, warm or cold."""
    transport = FakeTransport()
    with pytest.raises(ValueError, match=r"timeout_s"):
        await door.session(manager, transport, timeout_s=limit)
    session = await door.session(manager, transport)
    with pytest.raises(ValueError, match=r"timeout_s"):
        await door.session(manager, transport, timeout_s=limit)
    with pytest.raises(ValueError, match=r"timeout_s"):
        await door.call_tool(session, "echo", timeout_s=limit)


async def test_bad_targets_are_named(manager: SessionManager, door: Door) -> None:
    """What is no transport and no conversation is refused with its value."""
    with pytest.raises((ValueError, AttributeError)):
        await door.session(manager, object())
    with pytest.raises(ValueError, match="conversation must be a non-empty string; got 7"):
        await door.session(manager, FakeTransport(), 7)


async def test_failed_opening_is_one_error_for_all(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """All who waited get an error of their own with one cause, and nothing was tried twice."""
    transport = FakeTransport()
    transport.connecting.close()
    cause = ConnectionRefusedError(111, "nobody listens")
    transport.failures.append(cause)
    errors: list[BaseException] = []

    async def ask() -> None:
        with pytest.raises(SessionOpenError) as caught:
            await door.session(manager, transport)
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await until(lambda: manager.statistics().waiters == 5)
        await transport.connecting.await_for(1)
        transport.connecting.open()
    assert transport.connects == 1
    assert len({id(error) for error in errors}) == 5
    assert {id(error.__cause__) for error in errors} == {id(cause)}
    assert {error.category for error in errors} == {OpenFailure.UNREACHABLE}  # type: ignore[attr-defined]
    (ended,) = recorder.of(OpeningEnded)
    assert (ended.outcome, ended.error) == (Outcome.ERROR, cause)


async def test_call_times_out_at_its_own_limit(
    manager: SessionManager, door: Door, recorder: Recorder
) -> None:
    """A call that gets no answer raises with phase `response`; the session stays usable."""
    transport = FakeTransport()
    session = await door.session(manager, transport)
    transport.calling.close()
    with pytest.raises(SessionTimeoutError) as caught:
        await door.call_tool(session, "echo", {"text": "a"}, timeout_s=0.5)
    assert caught.value.phase is Phase.RESPONSE
    assert "tools/call echo" in str(caught.value)
    transport.calling.open()
    assert text(await door.call_tool(session, "echo", {"text": "b"})) == "b"
    await until(lambda: len(recorder.of(CallEnded)) == 2)
    assert [event.outcome for event in recorder.of(CallEnded)] == [Outcome.TIMEOUT, Outcome.OK]
    assert [event.target for event in recorder.of(CallStarted)] == ["echo", "echo"]


async def test_tool_error_is_a_result(
    manager: SessionManager, door: Door, any_wire: Wire, recorder: Recorder
) -> None:
    """An `isError` result is returned, not raised; the event of the call tells it from an answer."""
    session = await door.session(manager, any_wire.transport)
    result = await door.call_tool(session, "no-such-tool")
    assert getattr(result, "is_error", None) or getattr(result, "isError", None)
    await door.call_tool(session, "echo", {"text": "a"})
    ended = recorder.of(CallEnded)
    assert [(event.outcome, event.tool_error) for event in ended] == [(Outcome.OK, True), (Outcome.OK, False)]


@pytest.mark.scenario("S12")
async def test_blocking_doors_on_a_loop_name_their_twins(manager: SessionManager, recorder: Recorder) -> None:
    """Each blocking door raises on a thread that runs a loop, and says what to await."""
    transport = FakeTransport()
    with pytest.raises(BlockingCallError, match=r"await asession\(\)"):
        manager.session(transport)
    session = await manager.asession(transport)
    assert manager.session(transport) is session  # Warm: it does not block.
    with pytest.raises(BlockingCallError, match=r"await acall_tool\(\)"):
        session.call_tool("echo")
    with pytest.raises(BlockingCallError, match=r"await alist_tools\(\)"):
        session.list_tools()
    with pytest.raises(BlockingCallError, match=r"await arun\(\)"):
        session.run(lambda client: client.list_tools())
    with pytest.raises(BlockingCallError, match=r"await aclose_session\(\)"):
        manager.close_session(transport)
    with pytest.raises(BlockingCallError, match=r"await aclose\(\)"):
        manager.close()
    with pytest.raises(BlockingCallError, match="`async with SessionManager"), manager:
        pytest.fail("refused only at its end")
    assert [event.door for event in recorder.of(BlockingCallRefused)] == [
        "session()", "call_tool()", "list_tools()", "run()", "close_session()", "close()",
        "with SessionManager()",
    ]  # fmt: skip


async def test_blocks_own_exception_is_not_hidden_by_a_refused_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A `with` that was entered before the loop ran, and fails on it, says why it failed."""
    manager = await in_thread(SessionManager().__enter__)
    with pytest.raises(LookupError, match="mine"), ExitStack() as stack:
        stack.push(manager.__exit__)
        raise LookupError("mine")
    assert "was not closed when its block failed: close() would block an event loop" in caplog.text
    with pytest.raises(BlockingCallError, match=r"await aclose\(\)"):
        manager.__exit__(None, None, None)
    await manager.aclose()


async def test_blocking_call_policy_is_a_setting() -> None:
    """`warn` and `allow` let a blocking door block the caller's own loop."""
    transport = FakeTransport()
    async with SessionManager(Settings(blocking_call="allow")) as manager:
        assert manager.session(transport).state is SessionState.READY
    async with SessionManager(Settings(blocking_call="warn")) as manager:
        with pytest.warns(RuntimeWarning, match="asession"):
            manager.session(transport)


@pytest.mark.blocks_the_loop("that is what it allows")
async def test_request_that_goes_on_with_a_warning_is_not_refused(recorder: Recorder) -> None:
    """It is told as what it would have been, and counted once: as created."""
    settings, measure = Settings(blocking_call="warn"), Measure()
    async with SessionManager(settings, observers=[recorder]) as manager:
        with pytest.warns(RuntimeWarning, match="asession"):
            manager.session(FakeTransport("weather"))
    assert [event.refused for event in recorder.of(BlockingCallRefused)] == [False]
    for event in (*recorder.of(BlockingCallRefused), *recorder.of(SessionAcquired)):
        list(measure.samples(event))
    requests = measure.read(live.Reading())["instrumented_sessions.session.requests"]
    assert requests == {("weather", "created"): 1}


test_blocking_call_policy_is_a_setting = pytest.mark.blocks_the_loop("that is what it allows")(
    test_blocking_call_policy_is_a_setting
)


@pytest.mark.scenario("S9")
async def test_blocking_door_on_the_portal_is_refused(manager: SessionManager) -> None:
    """A cold `session()` inside work that runs on the portal raises at once, whatever the policy."""
    transport = FakeTransport()
    session = await manager.asession(transport)

    async def work(client: Any) -> None:
        with pytest.raises(BlockingCallError, match="portal"):
            manager.session(transport, "other")

    await session.arun(work)


async def test_close_session_ends_the_handle(manager: SessionManager, door: Door, any_wire: Wire) -> None:
    """After a close the handle raises, and the next request gives a new handle of generation 1."""
    session = await door.session(manager, any_wire.transport)
    await door.close_session(manager, any_wire.transport)
    assert session.state is SessionState.CLOSED
    with pytest.raises(SessionClosedError):
        await door.call_tool(session, "echo", {"text": "late"})
    fresh = await door.session(manager, any_wire.transport)
    assert fresh is not session
    assert fresh.generation == 1
    assert text(await door.call_tool(fresh, "echo", {"text": "new"})) == "new"


async def test_close_session_waits_for_calls(manager: SessionManager, door: Door) -> None:
    """Calls in flight end before the session does; requests meanwhile wait for the drain."""
    transport = FakeTransport()
    session = await door.session(manager, transport)
    transport.calling.close()
    results: list[Any] = []

    async def call() -> None:
        results.append(await door.call_tool(session, "echo", {"text": "kept"}))

    async def ask_again() -> None:
        results.append(await door.session(manager, transport))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await transport.calling.await_for(1)
        group.start_soon(door.close_session, manager, transport)
        await until(lambda: session.state is SessionState.DRAINING)
        group.start_soon(ask_again)
        await until(lambda: manager.statistics().waiters == 3)
        assert transport.connects == 1
        transport.calling.open()
    kept = next(result for result in results if not hasattr(result, "key"))
    fresh = next(result for result in results if hasattr(result, "key"))
    assert text(kept) == "kept"
    assert fresh is not session
    assert (session.state, fresh.state, transport.connects) == (SessionState.CLOSED, SessionState.READY, 2)


async def test_closed_manager_refuses_every_door(door: Door) -> None:
    """After `close` every door raises PortalClosedError, and closing again does nothing."""
    transport = FakeTransport()
    manager = SessionManager()
    session = await door.session(manager, transport)
    await manager.aclose()
    await manager.aclose()
    await in_thread(manager.close)
    assert session.state is SessionState.CLOSED
    with pytest.raises(PortalClosedError):
        await door.session(manager, transport)
    with pytest.raises(PortalClosedError):
        await door.session(manager, transport, "other")
    assert transport.open_clients == []


async def test_manager_that_opened_nothing_starts_no_thread() -> None:
    """Making and closing a manager starts no thread."""
    before = threading.active_count()
    async with SessionManager():
        assert threading.active_count() == before


async def test_other_target_under_one_id_is_refused(manager: SessionManager, door: Door) -> None:
    """One id with another target raises while sessions of the first are alive, and works afterwards."""
    first, second = FakeTransport("same"), FakeTransport("same")
    await door.session(manager, first)
    with pytest.raises(TransportConflictError, match="'same'"):
        await door.session(manager, second)
    await door.close_session(manager, first)
    assert (await door.session(manager, second)).state is SessionState.READY


async def test_server_and_program_errors_are_raised_unchanged(manager: SessionManager, door: Door) -> None:
    """What a function of the program raises on the portal reaches its caller as it is."""
    session = await door.session(manager, FakeTransport())

    async def fail(client: Any) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await door.run(session, fail)
    with pytest.raises(TypeError, match="must return an awaitable"):
        await door.run(session, lambda client: 7)
    assert session.state is SessionState.READY


async def test_client_view_looks_like_the_sdks_session(manager: SessionManager, any_wire: Wire) -> None:
    """`session.client` is awaited on the caller's loop and runs on the portal's."""
    session = await manager.asession(any_wire.transport)
    async with session.client as client:
        await client.initialize()
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
        assert text(await client.call_tool("echo", {"text": "view"})) == "view"


async def test_progress_is_told_where_the_caller_is(manager: SessionManager, door: Door) -> None:
    """Progress runs on the caller's loop, or in a thread of ours for the blocking door."""
    session = await door.session(manager, FakeTransport())
    told = anyio.Event()
    loop = asyncio.get_running_loop()
    where: list[str] = []

    def progress(done: float, total: float | None, message: str | None) -> None:
        where.append(threading.current_thread().name)
        loop.call_soon_threadsafe(told.set)

    await door.call_tool(session, "echo", {"text": "x"}, progress=progress)
    with anyio.fail_after(LIMIT_S):
        await told.wait()
    if door.blocking:
        assert where[0].endswith("-callbacks")
    else:
        assert where == [threading.current_thread().name]


async def until(condition: Any) -> None:
    """Wait until a condition of another thread holds, looking again each millisecond."""
    with anyio.fail_after(LIMIT_S):
        while not condition():
            await anyio.sleep(0.001)


async def test_function_that_is_run_is_never_run_again(manager: SessionManager, door: Door) -> None:
    """What it sent before may have run; and an error of its own work elsewhere is no loss of the session."""
    paid: list[str] = []
    session = await door.session(manager, FakeTransport(tools={"pay": lambda: paid.append("once") or "ok"}))

    async def fails_elsewhere(client: Any) -> None:
        await client.call_tool("pay", {})
        raise ConnectionRefusedError("the program's own database")

    with pytest.raises(ConnectionRefusedError, match="own database"):
        await door.run(session, fails_elsewhere)
    assert (paid, session.generation, session.state) == (["once"], 1, SessionState.READY)

    async def finds_the_session_gone(client: Any) -> None:
        await client.call_tool("pay", {})
        raise NotSent

    with pytest.raises(SessionBrokenError) as caught:
        await door.run(session, finds_the_session_gone)
    assert caught.value.may_have_run
    assert paid == ["once", "once"]
