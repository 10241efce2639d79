"""A headers function that fails is the program's own fault, and is told as that, without its secrets."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from instrumented_sessions import SessionManager, SessionOpenError, SessionState, Settings
from instrumented_sessions.transports import SSETransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import OpenFailure
from tests import servers
from tests.manager.wires import Door, text
from tests.servers import raw

SECRET = "s3cr3t-token"


class VaultError(Exception):
    """What a program's own functions raise."""


def raises() -> Any:
    raise VaultError("no token today")


async def raises_in_a_task() -> Any:
    raise VaultError("no token today")


def raises_as_a_connection() -> Any:
    raise ConnectionRefusedError("the vault is not there")


def exits() -> Any:
    raise SystemExit(3)


BAD: dict[str, tuple[Any, str]] = {
    "raises": (raises, "VaultError"),
    "raises, async": (raises_in_a_task, "VaultError"),
    "raises as a connection would": (raises_as_a_connection, "ConnectionRefusedError"),
    "exits": (exits, "RuntimeError"),
    "nothing": (lambda: None, "NoneType"),
    "text": (lambda: f"Bearer {SECRET}", "str"),
    "a number": (lambda: {"x-key": 5}, "int"),
    "swapped with bytes": (lambda: {SECRET: SECRET.encode()}, "bytes"),
    "a line break": (lambda: {"authorization": f"Bearer {SECRET}\r\nx: y"}, "ValueError"),
    "no ascii": (lambda: {"authorization": f"Bearer {SECRET} ü"}, "ValueError"),
}


@pytest.fixture(params=["task", "thread"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    async with SessionManager(Settings(backoff_initial_s=0.01, backoff_max_s=0.01)) as manager:
        yield manager


@pytest.mark.parametrize("cls", [StreamableHTTPTransport, SSETransport])
@pytest.mark.parametrize(("function", "type_name"), BAD.values(), ids=BAD)
async def test_bad_headers_function_is_named(
    manager: SessionManager, door: Door, cls: Any, function: Any, type_name: str
) -> None:
    """Category `other`, a sentence with the type of what went wrong, nothing sent and no secret shown."""
    with raw.Raw(raw.mcp()) as server:
        with pytest.raises(SessionOpenError, match="headers function") as caught:
            await door.session(manager, cls(id="web", url=server.url(), headers=function))
        assert server.requests == []
    assert caught.value.category is OpenFailure.OTHER
    assert type_name in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_open_session_outlives_its_headers_function(manager: SessionManager, door: Door) -> None:
    """Only openings ask it: a warm session goes on, and a lost one comes back with the function."""
    current: list[Any] = [lambda: {"x-key": SECRET}]
    with servers.running("http", *servers.options(era="legacy")) as server:
        transport = StreamableHTTPTransport(id="web", url=server.url, headers=lambda: current[0]())
        session = await door.session(manager, transport)
        current[0] = raises
        assert text(await door.call_tool(session, "echo", {"text": "warm"})) == "warm"
        assert (session.state, session.generation) == (SessionState.READY, 1)
        port = server.port
        server.kill()
        with servers.running("http", *servers.options(era="legacy"), port=port):
            # The new server does not know the session: the call may be sent again, on a new one.
            with pytest.raises(SessionOpenError, match="headers function") as caught:
                await door.call_tool(session, "echo", {"text": "lost"})
            assert caught.value.category is OpenFailure.OTHER
            current[0] = lambda: {"x-key": SECRET}
            assert text(await door.call_tool(session, "echo", {"text": "again"})) == "again"
            assert session.state is SessionState.READY
