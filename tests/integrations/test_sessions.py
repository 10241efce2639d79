"""Sessions that a program opens itself are told as a manager's own are, and those are not told twice."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionManager
from instrumented_sessions.events import (
    CallEnded,
    CallStarted,
    OpeningEnded,
    OpeningStarted,
    SessionAcquired,
    SessionRequested,
    SessionStateChanged,
)
from instrumented_sessions.integrations.auto.instrumentation import Instrumentation
from instrumented_sessions.telemetry import Recorder
from instrumented_sessions.transports import InMemoryTransport, StdioTransport
from instrumented_sessions.vocabulary import OpenFailure, Outcome, Phase, SessionState
from tests import servers
from tests.integrations import clients
from tests.servers import toolbox

pytestmark = pytest.mark.blocks_the_loop("our hooks stand on the stack of whatever the program does itself")

LIMIT_S = 25.0
SESSION_EVENTS = (
    SessionRequested,
    OpeningStarted,
    OpeningEnded,
    SessionAcquired,
    SessionStateChanged,
    CallStarted,
    CallEnded,
)


def of_sessions(recorder: Recorder) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, SESSION_EVENTS)]


def moves(recorder: Recorder) -> list[str]:
    return [event.move for event in recorder.of(SessionStateChanged)]


async def until(condition: Any) -> None:
    """Wait for what nothing announces."""
    with anyio.fail_after(LIMIT_S):
        while not condition():
            await anyio.sleep(0.01)


async def test_session_of_the_raw_sdk_tells_its_whole_life(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Request, opening, calls and end come in order, under one key, with the program's own lines."""
    async with clients.over_stdio() as session:
        await session.initialize()
        assert clients.text_of(await session.call_tool("echo", {"text": "hi"})) == "hi"
        await session.call_tool("fail", {})
    story = of_sessions(recorder)
    assert [type(event) for event in story[:6]] == [
        SessionRequested,
        OpeningStarted,
        SessionStateChanged,
        OpeningEnded,
        SessionStateChanged,
        SessionAcquired,
    ]
    assert len({event.key for event in story}) == 1
    assert {(event.key.transport_id, event.transport_kind) for event in story} == {("server.py", "stdio")}
    assert moves(recorder) == ["open", "opened", "drain", "close"]
    assert recorder.of(SessionAcquired)[0].outcome is Outcome.CREATED
    called = [(call.method, call.target, call.outcome, call.tool_error) for call in recorder.of(CallEnded)]
    assert ("tools/call", "echo", Outcome.OK, False) in called
    assert ("tools/call", "fail", Outcome.OK, True) in called
    asked = recorder.of(SessionRequested)[0].caller.location
    assert asked is not None
    assert asked.file.endswith("clients.py")
    calling = recorder.of(CallStarted)[0].caller.location
    assert calling is not None
    assert calling.file == __file__


async def test_high_level_client_is_told_too(instrumented: Instrumentation, recorder: Recorder) -> None:
    """`mcp.Client` opens its transport and its session by itself; both are one session."""
    client = clients.high_level()
    if client is None:
        pytest.skip("mcp 1.x has no high-level client")
    async with client:
        await client.call_tool("echo", {"text": "hi"})
    assert moves(recorder) == ["open", "opened", "drain", "close"]
    assert {event.key.transport_id for event in of_sessions(recorder)} == {"server.py"}
    assert "echo" in [call.target for call in recorder.of(CallEnded)]


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_server_at_an_address_is_named_by_host_and_port(
    kind: str, instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Paths may hold secrets and stay out of the label."""
    with servers.running(kind) as server:
        connect = clients.over_http if kind == "http" else clients.over_sse
        async with connect(server.url) as session:
            await session.initialize()
            await session.call_tool("echo", {"text": "hi"})
    assert {(event.key.transport_id, event.transport_kind) for event in of_sessions(recorder)} == {
        (f"127.0.0.1:{server.port}", kind)
    }
    assert moves(recorder) == ["open", "opened", "drain", "close"]


async def test_managers_own_sessions_are_not_told_twice(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """One opening and one call, whether the transport is ours or the SDK's."""
    command, args = servers.command()
    own = StdioTransport(id="own", command=command, args=args)
    memory = InMemoryTransport(id="memory-own", server=toolbox.build())
    async with SessionManager() as manager:
        for transport in (own, memory):
            session = await manager.asession(transport)
            await session.acall_tool("echo", {"text": "hi"})
    assert [event.key.transport_id for event in recorder.of(OpeningStarted)] == ["own", "memory-own"]
    assert [event.key.transport_id for event in recorder.of(CallStarted)] == ["own", "memory-own"]
    assert not instrumented.ledger.hangs()


async def test_program_that_does_not_start_is_a_failed_opening(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """The SDK's error reaches the program unchanged; the opening says what kind of failure it was."""
    server = clients.StdioServerParameters(command="/no/such/program")
    with pytest.raises(FileNotFoundError):
        async with clients.stdio.stdio_client(server):
            pass
    (ended,) = recorder.of(OpeningEnded)
    assert (ended.outcome, ended.category, ended.phase) == (Outcome.ERROR, OpenFailure.COMMAND, Phase.CONNECT)
    assert moves(recorder) == ["open", "open_failed", "close"]


async def test_hung_handshake_is_seen_while_it_lasts_and_ends_cancelled(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Diagnostics name the phase and the waiter's stack; giving up ends the opening."""
    with servers.Gate() as gate:
        async with anyio.create_task_group() as group:

            async def agent() -> None:
                async with clients.over_stdio(*servers.options(gate=gate)) as session:
                    await session.initialize()

            group.start_soon(agent)
            await gate.aarrived()
            (chain,) = instrumented.view.hangs()
            assert chain.phase is Phase.NEGOTIATE
            assert any("agent" in frame for frame in chain.waiter_stack)
            assert "the server's answer to the handshake" in instrumented.view.explain()
            group.cancel_scope.cancel()
    (ended,) = recorder.of(OpeningEnded)
    assert ended.outcome is Outcome.CANCELLED
    assert moves(recorder) == ["open", "open_failed", "close"]
    assert instrumented.view.hangs() == []


async def test_hung_call_is_seen_while_it_lasts(instrumented: Instrumentation, recorder: Recorder) -> None:
    """A call that a server does not answer is in hangs(); the counts show its session as ready."""
    with servers.Gate() as gate:
        async with clients.over_stdio() as session, anyio.create_task_group() as group:
            await session.initialize()
            group.start_soon(session.call_tool, "gate", {"port": gate.port})
            await gate.aarrived()
            (chain,) = [chain for chain in instrumented.view.hangs() if chain.phase is Phase.RESPONSE]
            assert "tools/call gate" in str(chain)
            states = instrumented.view.statistics()["sessions"]
            assert {"transport": "server.py", "state": "ready", "count": 1} in states
            gate.open()
    assert instrumented.view.hangs() == []
    assert recorder.of(CallEnded)[-1].outcome is Outcome.OK


async def test_session_whose_server_dies_is_broken(instrumented: Instrumentation, recorder: Recorder) -> None:
    """The call that was in flight ends with an error, and the session is told to be lost."""
    with servers.Gate() as gate:
        async with clients.over_stdio() as session:
            await session.initialize()
            pid = int(clients.text_of(await session.call_tool("pid", {})))
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with pytest.raises(Exception, match=r"[Cc]onnection closed"):
                        await session.call_tool("gate", {"port": gate.port})

                group.start_soon(call)
                await gate.aarrived()
                servers.kill(pid)
    assert recorder.of(CallEnded)[-1].outcome is Outcome.ERROR
    assert moves(recorder) == ["open", "opened", "lost", "close"]
    assert recorder.of(SessionStateChanged)[-1].new is SessionState.CLOSED


async def test_what_fails_in_a_hook_harms_nobody(
    instrumented: Instrumentation, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The program's session works, the failure is logged once and counted."""

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug of ours")

    for name in ("begin", "begin_call", "opened", "ended"):
        monkeypatch.setattr(instrumented.ledger, name, broken)
    before = instrumented.view.statistics()["hook_failures"]
    async with clients.over_stdio() as session:
        await session.initialize()
        assert clients.text_of(await session.call_tool("echo", {"text": "hi"})) == "hi"
    assert instrumented.view.statistics()["hook_failures"] > before
    assert caplog.text.count("recording an opening failed") <= 1
    assert not of_sessions(recorder)
