"""Client callbacks: off the session's loop, in the right context, and harmless when they block or raise."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from instrumented_sessions.transports import InMemoryTransport, StdioTransport, StreamableHTTPTransport, sdk
from tests import servers
from tests.servers import toolbox
from tests.transports.watching import GUARD_S, call, failure_of

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")

ROOTS = sdk.types.ListRootsResult(roots=[sdk.types.Root(uri="file:///home")])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with servers.running("http") as server:
        yield server.url


@pytest.fixture(params=["memory", "stdio", "http"])
def build(request: pytest.FixtureRequest, address: str) -> Callable[..., Any]:
    """Build a transport that speaks a handshake protocol, in which servers ask clients."""
    if request.param == "stdio":
        return lambda **options: StdioTransport("x", *servers.command(), mode="legacy", **options)
    if request.param == "http":
        return lambda **options: StreamableHTTPTransport("x", address, mode="legacy", **options)
    return lambda **options: InMemoryTransport("x", toolbox.build(), mode="legacy", **options)


async def test_plain_function_runs_in_a_thread_of_ours(build: Callable[..., Any]) -> None:
    """A plain callback may block: it is not on the session's thread."""
    seen: list[str] = []

    def roots(context: Any) -> Any:
        seen.append(threading.current_thread().name)
        return ROOTS

    async with build(list_roots_callback=roots).connect() as client:
        assert await call(client, "roots") == "file:///home"
    assert seen == ["instrumented-sessions-callback"]


async def test_coroutine_function_runs_on_a_loop_of_ours(build: Callable[..., Any]) -> None:
    """An async callback has a loop, which is not the session's."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def roots(context: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        return ROOTS

    async with build(list_roots_callback=roots).connect() as client:
        assert await call(client, "roots") == "file:///home"
    assert loops
    assert loops[0] is not asyncio.get_running_loop()


async def test_callback_loop_is_used_when_given() -> None:
    """`callback_loop` says where async callbacks run."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def roots(context: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        return ROOTS

    here = asyncio.get_running_loop()
    transport = InMemoryTransport(
        "x", toolbox.build(), mode="legacy", list_roots_callback=roots, callback_loop=here
    )
    async with transport.connect() as client:
        assert await call(client, "roots") == "file:///home"
    assert loops == [here]


async def test_plain_function_that_returns_an_awaitable_is_awaited() -> None:
    """Such as a lambda around a coroutine function, or a partial."""

    async def roots(context: Any) -> Any:
        await asyncio.sleep(0)
        return ROOTS

    transport = InMemoryTransport(
        "x", toolbox.build(), mode="legacy", list_roots_callback=lambda context: roots(context)
    )
    async with transport.connect() as client:
        assert await call(client, "roots") == "file:///home"


@pytest.mark.scenario("S17")
async def test_session_answers_others_while_a_callback_blocks(build: Callable[..., Any]) -> None:
    """Also on 1.x, which would read nothing until the callback returns."""
    blocked, release = threading.Event(), threading.Event()

    def roots(context: Any) -> Any:
        blocked.set()
        release.wait(GUARD_S)
        return ROOTS

    async with build(list_roots_callback=roots).connect() as client:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: call(client, "roots"))
            with anyio.fail_after(GUARD_S):
                await anyio.to_thread.run_sync(blocked.wait, GUARD_S)
                assert await call(client, text="meanwhile") == "meanwhile"
            release.set()


@pytest.mark.scenario("S17")
async def test_callback_may_call_the_same_session(build: Callable[..., Any]) -> None:
    """A callback that waits for an answer of its own session gets it."""
    here = asyncio.get_running_loop()
    clients: list[Any] = []

    def roots(context: Any) -> Any:
        nested = asyncio.run_coroutine_threadsafe(call(clients[0], text="nested"), here).result(GUARD_S)
        return sdk.types.ListRootsResult(roots=[sdk.types.Root(uri=f"file:///{nested}")])

    async with build(list_roots_callback=roots).connect() as client:
        clients.append(client)
        assert await call(client, "roots") == "file:///nested"


async def test_callback_runs_in_the_context_of_the_only_call(build: Callable[..., Any]) -> None:
    """With one call in flight, the callback sees its caller's variables."""

    def roots(context: Any) -> Any:
        return sdk.types.ListRootsResult(roots=[sdk.types.Root(uri=f"file:///{caller.get()}")])

    async with build(list_roots_callback=roots).connect() as client:
        caller.set("alice")
        assert await call(client, "roots") == "file:///alice"
        caller.set("bob")
        assert await call(client, "roots") == "file:///bob"


async def test_callback_never_sees_another_callers_context(build: Callable[..., Any]) -> None:
    """With several calls in flight it sees its own caller's variables, or none at all."""

    def roots(context: Any) -> Any:
        return sdk.types.ListRootsResult(roots=[sdk.types.Root(uri=f"file:///{caller.get()}")])

    with servers.Gate() as gate:
        async with build(list_roots_callback=roots).connect() as client, anyio.create_task_group() as group:
            caller.set("alice")
            group.start_soon(lambda: call(client, "gate", port=gate.port))
            await gate.aarrived()
            caller.set("bob")
            assert await call(client, "roots") in ("file:///bob", "file:///nobody")
            gate.open()


async def test_failing_callback_is_an_error_for_the_server_only(
    build: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged, and the server is told without details."""

    def roots(context: Any) -> Any:
        raise RuntimeError("s3cret detail")

    async with build(list_roots_callback=roots).connect() as client:
        try:
            told = await call(client, "roots")  # 1.x servers make a result of it,
        except sdk.MCPError as error:  # and 2.x ones pass the error on.
            told = str(error)
        assert "list_roots_callback failed" in told
        assert "s3cret" not in told
        assert await call(client, text="still") == "still"
    assert "s3cret detail" in caplog.text


async def test_notifications_arrive_in_order_and_off_the_loop(build: Callable[..., Any]) -> None:
    """Log messages and other notifications are passed on one after the other."""
    said: list[str] = []
    heard: list[Any] = []
    enough = threading.Event()

    def log(params: Any) -> None:
        said.append(f"{params.data} in {threading.current_thread().name}")
        if len(said) == 3:
            enough.set()

    async def message(message: Any) -> None:
        heard.append(message)

    async with build(logging_callback=log, message_handler=message).connect() as client:
        for word in ("one", "two", "three"):
            await call(client, "say", text=word)
        with anyio.fail_after(GUARD_S):
            await anyio.to_thread.run_sync(enough.wait, GUARD_S)
    assert [line.split()[0] for line in said] == ["one", "two", "three"]
    assert all(line.endswith("instrumented-sessions-callback") for line in said)


@pytest.mark.scenario("S17")
async def test_blocking_notification_delays_no_answer(build: Callable[..., Any]) -> None:
    """A log callback that never returns holds up later notifications only."""
    release = threading.Event()
    async with build(logging_callback=lambda params: release.wait(GUARD_S)).connect() as client:
        assert await call(client, "say", text="one") == "said"
        assert await call(client, "say", text="two") == "said"
        assert await call(client, text="still") == "still"
        release.set()


async def test_flood_of_notifications_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the limit notifications are dropped, with one warning."""
    monkeypatch.setattr("instrumented_sessions.transports.callbacks.NOTICE_LIMIT", 1)
    release = threading.Event()
    transport = InMemoryTransport(
        "x", toolbox.build(), mode="legacy", logging_callback=lambda params: release.wait(GUARD_S)
    )
    async with transport.connect() as client:
        for _ in range(6):
            await call(client, "say", text="x")
        release.set()
    assert caplog.text.count("notifications are dropped") == 1


async def test_closing_does_not_wait_for_a_callback(build: Callable[..., Any]) -> None:
    """A callback that blocks does not hold up its session's end."""
    blocked, release = threading.Event(), threading.Event()

    def roots(context: Any) -> Any:
        blocked.set()
        release.wait(GUARD_S)
        return ROOTS

    try:
        with anyio.fail_after(GUARD_S):
            async with (
                build(list_roots_callback=roots).connect() as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(failure_of, client, "roots")
                await anyio.to_thread.run_sync(blocked.wait, GUARD_S)
                group.cancel_scope.cancel()
    finally:
        release.set()


async def test_session_without_callbacks_starts_no_thread() -> None:
    """Who uses none pays for none."""
    before = set(threading.enumerate())
    async with InMemoryTransport("x", toolbox.build()).connect() as client:
        await call(client, text="hi")
        assert set(threading.enumerate()) == before
