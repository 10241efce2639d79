"""Every transport, in every era of the protocol, does the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions.transports import (
    InMemoryTransport,
    SSETransport,
    StdioTransport,
    StreamableHTTPTransport,
    sdk,
)
from instrumented_sessions.transports.client import ClientAdapter
from instrumented_sessions.vocabulary import Phase
from tests import servers
from tests.servers import toolbox
from tests.transports.watching import ERAS, GUARD_S, IS_2, Watch, call, is_error

KINDS = ["stdio", "http", "json", "sse", "memory"]


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    with (
        servers.running("http") as http,
        servers.running("http", *servers.options(json=True)) as json,
        servers.running("sse") as sse,
    ):
        yield {"http": http.url, "json": json.url, "sse": sse.url}


@pytest.fixture(params=ERAS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS)
def transport(request: pytest.FixtureRequest, mode: str, addresses: dict[str, str]) -> Any:
    """A transport of each kind in each mode."""
    if request.param == "stdio":
        return StdioTransport("stdio", *servers.command(), mode=mode)
    if request.param == "memory":
        return InMemoryTransport("memory", toolbox.build(), mode=mode)
    cls = SSETransport if request.param == "sse" else StreamableHTTPTransport
    return cls(request.param, addresses[request.param], mode=mode)


async def test_session_calls_lists_checks_and_closes(transport: Any, mode: str) -> None:
    """A session yields the SDK's own client, answers, and its closing is no loss."""
    watch = Watch()
    with anyio.fail_after(GUARD_S):
        async with transport.connect() as client:
            assert isinstance(client, sdk.Client if IS_2 else sdk.ClientSession)
            adapter = ClientAdapter(client)
            assert isinstance(adapter.session, sdk.ClientSession)
            assert watch.phases == [Phase.NEGOTIATE]
            assert await call(client, text="hi") == "hi"
            assert is_error(await adapter.call_tool("fail", {}))
            tools = {tool.name for tool in (await adapter.list_tools()).tools}
            assert {"echo", "gate", "counter"} <= tools
            await adapter.check(GUARD_S)
            assert adapter.is_modern == (IS_2 and mode != "legacy")
            assert adapter.protocol_version is not None
        assert watch.losses == []


async def test_calls_run_at_the_same_time(transport: Any) -> None:
    """Two calls of one session are both on the server before either is answered."""
    with servers.Gate() as gate:
        async with transport.connect() as client, anyio.create_task_group() as group:
            for label in ("one", "two"):
                group.start_soon(lambda label=label: call(client, "gate", port=gate.port, label=label))
            assert {await gate.aarrived(), await gate.aarrived()} == {"one", "two"}
            assert await call(client, text="meanwhile") == "meanwhile"
            gate.open()


async def test_cancelled_call_leaves_the_session_usable(transport: Any) -> None:
    """A caller that goes away takes nobody with it."""
    with servers.Gate() as gate:
        async with transport.connect() as client:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: call(client, "gate", port=gate.port))
                await gate.aarrived()
                group.cancel_scope.cancel()
            assert await call(client, text="still") == "still"


async def test_progress_is_told(transport: Any) -> None:
    """An async function hears of every step, where the answer leaves room for it."""
    if transport.id == "json":
        pytest.skip("an answer in one piece of JSON carries no progress")
    steps: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append((done, total, message))

    async with transport.connect() as client:
        await ClientAdapter(client).call_tool("steps", {"number": 2}, progress=progress)
    assert sorted(steps) == [(1, 2, "step 1"), (2, 2, "step 2")]


async def test_sdk_timeout_is_passed_on(transport: Any) -> None:
    """`timeout_s` reaches the SDK in the form that its generation wants."""
    with servers.Gate() as gate:
        async with transport.connect() as client:
            with anyio.fail_after(GUARD_S), pytest.raises((sdk.MCPError, TimeoutError)):
                await ClientAdapter(client).call_tool("gate", {"port": gate.port}, timeout_s=0.05)


async def test_sessions_are_apart(transport: Any, mode: str) -> None:
    """Two openings of one transport are two sessions of the server, where it keeps any."""
    if transport.id == "memory" or (transport.id in ("http", "json") and IS_2 and mode != "legacy"):
        pytest.skip("one process, and a protocol without sessions")
    async with transport.connect() as one, transport.connect() as two:
        assert await call(one, "counter") == "1"
        assert await call(two, "counter") == "1"
        assert await call(one, "counter") == "2"
        assert await call(one, "whoami") != await call(two, "whoami")


async def test_cancelled_opening_leaves_nothing_behind(tmp_path: Path) -> None:
    """An opening that is cancelled in the handshake ends at once, its process with it."""
    with servers.Gate() as gate:
        command, args = servers.command(*servers.options(gate=gate))
        watch = Watch()

        async def open_it() -> None:
            async with StdioTransport("slow", command, args).connect():
                raise AssertionError("it opened")

        with anyio.fail_after(GUARD_S):
            async with anyio.create_task_group() as group:
                group.start_soon(open_it)
                await gate.aarrived()
                group.cancel_scope.cancel()
        assert watch.phases == [Phase.NEGOTIATE]
        assert watch.losses == []


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_cancelled_opening_over_http_leaves_nothing_behind(kind: str) -> None:
    """The same over HTTP."""
    with servers.Gate() as gate, servers.running(kind, *servers.options(gate=gate)) as server:
        cls = SSETransport if kind == "sse" else StreamableHTTPTransport

        async def open_it() -> None:
            async with cls("slow", server.url).connect():
                raise AssertionError("it opened")

        with anyio.fail_after(GUARD_S):
            async with anyio.create_task_group() as group:
                group.start_soon(open_it)
                await gate.aarrived()
                group.cancel_scope.cancel()


async def test_headers_function_is_called_for_each_opening(addresses: dict[str, str]) -> None:
    """A function gives each opening headers of its own: the way for tokens that rotate."""
    tokens = iter(["one", "two"])
    transport = StreamableHTTPTransport("web", addresses["http"], lambda: {"x-token": next(tokens)})
    for expected in ("one", "two"):
        async with transport.connect() as client:
            assert await call(client, "header", header_name="x-token") == expected
            assert await call(client, "header", header_name="x-token") == expected


async def test_stdio_environment_and_directory_are_passed(tmp_path: Path) -> None:
    """`env` is added to what is inherited, which leaves our own variables out."""
    command, args = servers.command()
    transport = StdioTransport("x", command, args, {"GREETING": "grüezi"}, tmp_path)
    assert transport.cwd == str(tmp_path)
    async with transport.connect() as client:
        assert await call(client, "environment", variable="GREETING") == "grüezi"
        assert await call(client, "environment", variable="PYTEST_CURRENT_TEST") == ""
        assert await call(client, "environment", variable="PATH")


@pytest.mark.skipif(not IS_2, reason="only SDK 2.x negotiates eras")
@pytest.mark.parametrize(("era", "modern"), [("legacy", False), ("modern", True)])
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_auto_mode_finds_the_servers_era(kind: str, era: str, modern: bool) -> None:
    """`auto` speaks the modern protocol where the server does, else the handshake's."""
    if kind == "stdio":
        async with StdioTransport("x", *servers.command(*servers.options(era=era))).connect() as client:
            assert ClientAdapter(client).is_modern == modern
        return
    with servers.running("http", *servers.options(era=era)) as server:
        async with StreamableHTTPTransport("x", server.url).connect() as client:
            assert ClientAdapter(client).is_modern == modern
            assert await call(client, text="hi") == "hi"


async def test_read_timeout_bounds_every_answer() -> None:
    """`read_timeout_s` is the SDK's own limit for a session."""
    with servers.Gate() as gate:
        async with InMemoryTransport("x", toolbox.build(), read_timeout_s=0.05).connect() as client:
            with anyio.fail_after(GUARD_S), pytest.raises((sdk.MCPError, TimeoutError)):
                await ClientAdapter(client).call_tool("gate", {"port": gate.port})


async def test_error_of_the_block_comes_out_as_it_is(transport: Any) -> None:
    """What the program raises inside is not wrapped into the SDK's groups."""
    with pytest.raises(KeyError, match="mine"):
        async with transport.connect():
            raise KeyError("mine")
