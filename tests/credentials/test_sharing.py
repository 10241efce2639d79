"""Who shares a session: equal transports and one conversation; never another target or credential."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from instrumented_sessions import SessionClosedError, SessionManager, SessionState, TransportConflictError
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StdioTransport, StreamableHTTPTransport, sdk
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import Door, text


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with servers.running("http") as server:
        yield server.url


@pytest.fixture(params=["task", "thread"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    async with SessionManager() as manager:
        yield manager


def http(address: str, **options: Any) -> StreamableHTTPTransport:
    return StreamableHTTPTransport(**{"id": "one", "url": address, **options})


@pytest.mark.scenario("S37")
@pytest.mark.parametrize(
    "other",
    [
        {"headers": {"authorization": "Bearer s3cr3t-two"}},
        {"headers": None},
        {"headers": lambda: {"authorization": "Bearer s3cr3t-one"}},
        {"auth": sdk.httpx.BasicAuth("me", "s3cr3t-two")},
        {"url": "http://me:s3cr3t-two@127.0.0.1:9/mcp"},
    ],
    ids=["header", "no header", "function", "auth", "url"],
)
async def test_other_credential_under_one_id_is_refused(
    manager: SessionManager, door: Door, address: str, other: dict[str, Any]
) -> None:
    """While a session of the first is alive, in any conversation; afterwards it is the id's new meaning."""
    headers = {"authorization": "Bearer s3cr3t-one"}
    first = http(address, headers=headers)
    await door.session(manager, first)
    changed = http(address, **{"headers": headers, **other})
    for conversation in ("default", "other"):
        with pytest.raises(TransportConflictError) as raised:
            await door.session(manager, changed, conversation)
        assert "'one'" in str(raised.value)
        assert "s3cr3t" not in str(raised.value) + repr(raised.value)


async def test_environment_is_part_of_the_target(manager: SessionManager, door: Door) -> None:
    """A stdio server with another variable is another one."""
    command, args = servers.command()
    first, equal, other = (
        StdioTransport(id="one", command=command, args=args, env={"TOKEN": token}) for token in "aab"
    )
    session = await door.session(manager, first)
    assert await door.session(manager, equal) is session
    with pytest.raises(TransportConflictError):
        await door.session(manager, other)
    await door.close_session(manager, first)
    again = await door.session(manager, other)
    assert text(await door.call_tool(again, "environment", {"variable": "TOKEN"})) == "b"


async def test_equal_transports_share_and_conversations_do_not(
    manager: SessionManager, door: Door, address: str
) -> None:
    """Equal by value; `auth` objects are equal only to themselves."""
    auth = sdk.httpx.BasicAuth("me", "s3cr3t")
    first, equal = (http(address, headers={"x-tenant": "a"}, auth=auth) for _ in range(2))
    session = await door.session(manager, first, "alice")
    assert await door.session(manager, equal, "alice") is session
    assert await door.session(manager, equal, "bob") is not session
    with pytest.raises(TransportConflictError):
        await door.session(manager, http(address, headers={"x-tenant": "a"}, auth=type(auth)("me", "s3cr3t")))


@pytest.mark.scenario("S37")
@pytest.mark.parametrize("is_async", [False, True])
async def test_function_rotates_a_token_with_each_opening(
    manager: SessionManager, door: Door, address: str, is_async: bool
) -> None:
    """One transport, one id, one key: an open session keeps its headers, the next generation has new ones."""
    numbers = itertools.count(1)

    def headers() -> dict[str, str]:
        return {"x-token": f"token-{next(numbers)}"}

    async def async_headers() -> dict[str, str]:
        return headers()

    transport = http(address, headers=async_headers if is_async else headers, mode="legacy")

    async def token(session: Any) -> str:
        return text(await door.call_tool(session, "header", {"header_name": "x-token"}))

    session = await door.session(manager, transport)
    assert [await token(session), await token(session)] == ["token-1", "token-1"]
    other = await door.session(manager, transport, "other")
    assert await token(other) == "token-2"
    await door.close_session(manager, transport)
    assert await token(await door.session(manager, transport)) == "token-3"
    assert sum(manager.statistics().sessions.values()) == 2


async def test_handle_of_a_cold_session_never_serves_another_credential(
    manager: SessionManager, door: Door
) -> None:
    """Its id may go to another target while it has no connection; the handle that was kept is closed."""
    first = FakeTransport("one", tools={"who": lambda: "first"})
    second = FakeTransport("one", tools={"who": lambda: "second"})
    kept = await door.session(manager, first)
    first.lose(ConnectionResetError())
    await until(lambda: kept.state is SessionState.BROKEN)
    other = await door.session(manager, second)
    assert other is not kept
    assert text(await door.call_tool(other, "who")) == "second"
    assert await door.session(manager, second) is other
    with pytest.raises(SessionClosedError):
        await door.call_tool(kept, "who")
    with pytest.raises(TransportConflictError):
        await door.session(manager, first)
