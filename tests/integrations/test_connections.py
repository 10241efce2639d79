"""Which session uses which transport, also where the program puts streams of its own between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import ClientSession

from instrumented_sessions.events import CallStarted, OpeningEnded, OpeningStarted
from instrumented_sessions.integrations.auto.instrumentation import Instrumentation
from instrumented_sessions.telemetry import Recorder
from instrumented_sessions.vocabulary import Outcome, Phase
from tests import servers
from tests.integrations import clients

LIMIT_S = 25.0

pytestmark = pytest.mark.blocks_the_loop("our hooks stand on the stack of whatever the program does itself")


@asynccontextmanager
async def session_over(read: Any, write: Any, *, wraps: str = "both") -> AsyncIterator[Any]:
    """A session over streams of the program's own: what is read, what is written, or both."""
    with anyio.fail_after(LIMIT_S):
        async with AsyncExitStack() as stack:
            if wraps != "written":
                read = await stack.enter_async_context(clients.wrapped(read))
            session = ClientSession(read, clients.Outbox(write) if wraps != "read" else write)
            yield await stack.enter_async_context(session)


async def close(*streams: Any) -> None:
    """Close what no session has closed, as 1.x expects."""
    for stream in streams:
        await stream.aclose()


def counts(instrumented: Instrumentation) -> list[tuple[str, str, int]]:
    sessions = instrumented.view.statistics()["sessions"]
    return [(entry["transport"], entry["state"], entry["count"]) for entry in sessions]


def called(recorder: Recorder) -> list[tuple[str, str | None]]:
    return [(event.key.transport_id, event.target) for event in recorder.of(CallStarted)]


@pytest.mark.parametrize("wraps", ["read", "both"])
async def test_session_over_wrapped_streams_is_its_transports(
    wraps: str, instrumented: Instrumentation, recorder: Recorder
) -> None:
    """One opening, ended by the handshake; nothing waits when the session is ready."""
    async with clients.stdio.stdio_client(clients.parameters()) as (read, write):
        async with session_over(read, write, wraps=wraps) as session:
            await session.initialize()
            await session.call_tool("echo", {"text": "hi"})
            assert instrumented.view.hangs() == []
            assert counts(instrumented) == [("server.py", "ready", 1)]
    assert [event.outcome for event in recorder.of(OpeningEnded)] == [Outcome.OK]
    assert ("server.py", "echo") in called(recorder)


async def test_hung_handshake_over_wrapped_streams_is_seen(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """It is the transport's, in the phase that it is in."""
    with servers.Gate() as gate:
        parameters = clients.parameters(*servers.options(gate=gate))
        async with anyio.create_task_group() as group:

            async def agent() -> None:
                async with clients.stdio.stdio_client(parameters) as (read, write):
                    try:
                        async with session_over(read, write) as session:
                            await session.initialize()
                    finally:
                        with anyio.CancelScope(shield=True):
                            await close(read, write)

            group.start_soon(agent)
            await gate.aarrived()
            (chain,) = instrumented.view.hangs()
            assert chain.phase is Phase.NEGOTIATE
            assert chain.key is not None
            assert chain.key.transport_id == "server.py"
            group.cancel_scope.cancel()
    assert [event.outcome for event in recorder.of(OpeningEnded)] == [Outcome.CANCELLED]


async def test_nested_transports_are_told_apart_by_any_stream_of_theirs(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """The stream that is not wrapped says whose session it is, in whatever order they open."""
    with servers.running("sse") as server:
        async with (
            clients.stdio.stdio_client(clients.parameters()) as outer,
            clients.sse.sse_client(server.url) as inner,
        ):
            async with (
                session_over(*outer, wraps="written") as first,
                session_over(*inner, wraps="read") as second,
            ):
                for session, text in ((first, "outer"), (second, "inner")):
                    await session.initialize()
                    await session.call_tool("echo", {"text": text})
                assert instrumented.view.hangs() == []
            await close(*outer, *inner)
        address = f"127.0.0.1:{server.port}"
    assert [event.key.transport_id for event in recorder.of(OpeningStarted)] == ["server.py", address]
    echoes = [transport for transport, target in called(recorder) if target == "echo"]
    assert echoes == ["server.py", address]


async def test_transport_is_not_guessed_where_it_may_be_one_of_several(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Calls have no transport then, and no opening stays behind as if it waited."""
    with servers.running("http") as server:
        async with (
            clients.stdio.stdio_client(clients.parameters()) as outer,
            clients.streamable_http.streamable_http_client(server.url) as inner,
        ):
            async with session_over(*outer) as first, session_over(*inner[:2]) as second:
                for session in (first, second):
                    await session.initialize()
                    await session.call_tool("echo", {"text": "hi"})
                assert instrumented.view.hangs() == []
            await close(*outer, *inner[:2])
    assert {transport for transport, _ in called(recorder)} == {"unknown"}
    assert {event.outcome for event in recorder.of(OpeningEnded)} == {Outcome.OK}


async def test_second_session_over_one_transport_has_its_label(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Each has an opening of its own."""
    async with clients.stdio.stdio_client(clients.parameters()) as (read, write):
        for wraps in ("both", "read"):
            async with session_over(read, write, wraps=wraps) as session:
                await session.initialize()
                await session.call_tool("echo", {"text": wraps})
                assert instrumented.view.hangs() == []
        await close(read, write)
    assert [event.outcome for event in recorder.of(OpeningEnded)] == [Outcome.OK, Outcome.OK]
    assert len({event.key for event in recorder.of(OpeningStarted)}) == 2
    assert {transport for transport, _ in called(recorder)} == {"server.py"}


async def test_transport_without_a_session_waits_for_nothing(instrumented: Instrumentation) -> None:
    """A program that only passes messages on, such as a proxy, is in no handshake."""
    async with clients.stdio.stdio_client(clients.parameters()):
        assert instrumented.view.hangs() == []
    assert counts(instrumented) == []


async def test_session_of_another_task_ends_the_transports_opening(
    instrumented: Instrumentation, recorder: Recorder
) -> None:
    """Neither streams nor context tell whose it is; the transport's opening is over all the same."""
    handed_over, taken = anyio.create_memory_object_stream[Any](1)
    done = anyio.Event()

    async def connect() -> None:
        async with clients.stdio.stdio_client(clients.parameters()) as streams:
            await handed_over.send(streams)
            await done.wait()

    async with anyio.create_task_group() as group, handed_over, taken:
        group.start_soon(connect)
        async with session_over(*await taken.receive()) as session:
            await session.initialize()
            assert instrumented.view.hangs() == []
            assert counts(instrumented) == [("server.py", "ready", 1), ("unknown", "ready", 1)]
        done.set()
    assert [event.outcome for event in recorder.of(OpeningEnded)] == [Outcome.OK, Outcome.OK]
