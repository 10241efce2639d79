"""The SDK's OAuth provider against a real authorization server, through the manager's doors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from instrumented_sessions import LockGranularity, SessionManager, SessionTimeoutError, Settings
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StreamableHTTPTransport
from tests.manager.wires import Door, text

from . import authorization
from .authorization import LIMIT_S, Grants

pytestmark = [
    pytest.mark.blocks_the_loop("a person's consent blocks the loop of its auth object"),
    pytest.mark.timeout(180),
]


def wait_for(event: threading.Event) -> None:
    event.wait(LIMIT_S)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Grants]]:
    with authorization.running() as found:
        yield found


@pytest.fixture(params=["task", "thread"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


async def test_session_opens_when_access_was_granted(door: Door, server: tuple[str, Grants]) -> None:
    """Discovery, registration, consent, token and calls, from sync and async programs."""
    address, _ = server
    where: list[str] = []
    auth = authorization.provider(address, lambda: where.append(threading.current_thread().name))
    transport = StreamableHTTPTransport(id="mine", url=address, auth=auth)
    async with SessionManager() as manager:
        for conversation in ("one", "two"):
            session = await door.session(manager, transport, conversation)
            result = await door.call_tool(session, "echo", {"text": "hello"})
            assert text(result) == "hello"
    assert where == ["instrumented-sessions-auth"]  # Once: the second session has the first one's token.


async def test_opening_that_waits_for_a_person_holds_nobody_up(
    door: Door, server: tuple[str, Grants]
) -> None:
    """It gives back the only permit there is, and a consent that blocks its thread stops no session."""
    address, _ = server
    granted, other = threading.Event(), FakeTransport("other")
    auth = authorization.provider(address, lambda: wait_for(granted))
    mine = StreamableHTTPTransport(id="mine", url=address, auth=auth)
    theirs = StreamableHTTPTransport(id="theirs", url=address, auth=authorization.provider(address))
    settings = Settings(granularity=LockGranularity.GLOBAL, permits=1)
    async with SessionManager(settings) as manager:
        got: list[Any] = []

        async def wait() -> None:
            got.append(await door.session(manager, mine))

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await until_it_waits_for_a_person(manager)
                for transport in (other, theirs):
                    session = await door.session(manager, transport)
                    await door.call_tool(session, "echo", {"text": "meanwhile"})
                assert [chain.phase for chain in manager.hangs()] == ["authorize"]
                granted.set()
        finally:
            granted.set()
        assert text(await door.call_tool(got[0], "echo", {"text": "at last"})) == "at last"


async def test_person_who_does_not_come_is_a_timeout_in_authorize(
    door: Door, server: tuple[str, Grants]
) -> None:
    """`authorize_timeout_s` limits it, not `open_timeout_s`."""
    address, _ = server
    never = threading.Event()
    auth = authorization.provider(address, lambda: wait_for(never))
    settings = Settings(open_timeout_s=3600.0, authorize_timeout_s=0.3)
    try:
        async with SessionManager(settings) as manager:
            with pytest.raises(SessionTimeoutError) as raised:
                await door.session(manager, StreamableHTTPTransport(id="mine", url=address, auth=auth))
        assert raised.value.phase == "authorize"
    finally:
        never.set()


async def until_it_waits_for_a_person(manager: Any) -> None:
    with anyio.fail_after(LIMIT_S):
        while [chain.phase for chain in manager.hangs()] != ["authorize"]:
            await anyio.sleep(0.01)
