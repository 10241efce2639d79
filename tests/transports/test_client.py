from __future__ import annotations

from typing import Any

import anyio
import pytest

from instrumented_sessions.transports import InMemoryTransport, StreamableHTTPTransport, sdk
from instrumented_sessions.transports.client import ClientAdapter
from tests.servers import raw, toolbox
from tests.transports.watching import ERAS, GUARD_S, IS_2, call


def pages(*cursors: str | None) -> raw.Behaviour:
    """A list of tools with one tool on a page, each followed by the next of `cursors`."""
    given = iter(cursors)

    def behave(request: raw.Request) -> None:
        number = len([one for one in request.server.requests if one.rpc == "tools/list"])
        result: dict[str, Any] = {"tools": [{"name": f"tool-{number}", "inputSchema": {"type": "object"}}]}
        cursor = next(given)
        if cursor is not None:
            result["nextCursor"] = cursor
        request.result(result)

    return behave


async def listed(behaviour: raw.Behaviour) -> tuple[Any, list[Any]]:
    with raw.Raw(raw.mcp(tools_list=behaviour)) as server, anyio.fail_after(GUARD_S):
        async with StreamableHTTPTransport("x", server.url(), mode="legacy").connect() as client:
            result = await ClientAdapter(client).list_tools()
        asked = [
            (one.message.get("params") or {}).get("cursor")
            for one in server.requests
            if one.rpc == "tools/list"
        ]
        return result, asked


async def test_all_pages_are_joined() -> None:
    """The result is the SDK's own, with every tool and without a cursor."""
    result, asked = await listed(pages("a", "b", None))
    assert isinstance(result, sdk.types.ListToolsResult)
    assert [tool.name for tool in result.tools] == ["tool-1", "tool-2", "tool-3"]
    assert getattr(result, "next_cursor", getattr(result, "nextCursor", None)) is None
    assert asked == [None, "a", "b"]


async def test_single_page_is_the_sdks_own_result() -> None:
    """Nothing is asked for twice."""
    result, asked = await listed(pages(None))
    assert [tool.name for tool in result.tools] == ["tool-1"]
    assert asked == [None]


async def test_repeated_cursor_ends_the_listing() -> None:
    """A paginator that goes round in circles is an error, not a hang."""
    with pytest.raises(RuntimeError, match="does not end"):
        await listed(pages("a", "b", "a"))


async def test_endless_listing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that always has another page."""
    monkeypatch.setattr("instrumented_sessions.transports.client.PAGE_LIMIT", 3)
    with pytest.raises(RuntimeError, match="still goes on"):
        await listed(pages("a", "b", "c", "d", "e"))


@pytest.mark.scenario("S34")
@pytest.mark.parametrize("mode", ERAS)
async def test_check_fits_the_era(mode: str) -> None:
    """A modern session is asked to discover, one with a handshake is pinged."""
    async with InMemoryTransport("x", toolbox.build(), mode=mode).connect() as client:
        adapter = ClientAdapter(client)
        asked: list[str] = []
        for name in ("send_ping", "send_discover"):
            if hasattr(adapter.session, name):
                monitor(adapter.session, name, asked)
        await adapter.check(GUARD_S)
        assert asked == ["send_discover" if IS_2 and mode != "legacy" else "send_ping"]


def monitor(session: Any, name: str, asked: list[str]) -> None:
    """Note calls of a method and pass them on."""
    real = getattr(session, name)

    async def noted(*args: Any) -> Any:
        asked.append(name)
        return await real(*args)

    setattr(session, name, noted)


async def test_check_is_bounded() -> None:
    """A server that does not answer fails the check after its limit."""
    with raw.Raw(raw.mcp(ping=raw.silent)) as server:
        async with StreamableHTTPTransport("x", server.url(), mode="legacy").connect() as client:
            with pytest.raises(TimeoutError):
                await ClientAdapter(client).check(0.05)


async def test_raw_client_session_will_do() -> None:
    """The SDK's `ClientSession` is adapted like its client, on both generations."""
    async with InMemoryTransport("x", toolbox.build()).connect() as client:
        session = ClientAdapter(client).session
        adapter = ClientAdapter(session)
        assert adapter.session is session
        assert adapter.is_modern == IS_2
        assert await call(session, text="hi") == "hi"
        assert "echo" in {tool.name for tool in (await adapter.list_tools()).tools}
        await adapter.check(GUARD_S)


async def test_lookalike_will_do() -> None:
    """An object with the methods of a client is used as it is."""

    class Lookalike:
        __slots__ = ()  # Cannot even be referred to weakly.

        async def call_tool(self, name: str, arguments: Any) -> str:
            return f"{name} {arguments}"

    adapter = ClientAdapter(Lookalike())
    assert await adapter.call_tool("echo", {"a": 1}) == "echo {'a': 1}"
    assert adapter.protocol_version is None
    assert not adapter.is_modern
