"""The demo's servers speak MCP, each with its own fault."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from instrumented_sessions.demo import leash
from instrumented_sessions.demo.fleet import Fleet, ServerPlan
from instrumented_sessions.demo.servers import NAMES, TOOLS, delay_handshakes
from tests.demo.client import failed, over_http, over_stdio

GUARD_S = 25.0


@pytest.fixture
def one_at_a_time(tmp_path: Path) -> Iterator[str]:
    with Fleet([ServerPlan("printer", ("--one-at-a-time",))], tmp_path, threading.Event()) as fleet:
        yield fleet.url("printer")


def test_every_server_has_a_tool() -> None:
    """A name without a tool would be a server that nobody can ask."""
    assert set(TOOLS) == set(NAMES)


async def test_stdio_server_answers() -> None:
    """A stdio server answers its tool by name."""
    with anyio.fail_after(GUARD_S):
        async with over_stdio(leash.command("instrumented_sessions.demo.servers", "weather")) as client:
            result = await client.call_tool("forecast", {"subject": "Zürich"})
    assert result.content[0].text == "weather: Zürich"


async def test_http_server_answers(one_at_a_time: str) -> None:
    """An HTTP server answers its tool by name."""
    with anyio.fail_after(GUARD_S):
        async with over_http(one_at_a_time) as client:
            result = await client.call_tool("print_page", {"subject": "lease"})
    assert result.content[0].text == "printer: lease"


async def test_server_that_takes_one_call_refuses_the_second(one_at_a_time: str) -> None:
    """Calls at once to a server that takes one at a time are refused, all but one."""
    with anyio.fail_after(GUARD_S):
        async with over_http(one_at_a_time) as client:
            await client.call_tool("print_page", {"subject": "first"})
            results = await asyncio.gather(
                *(client.call_tool("print_page", {"subject": str(page)}) for page in range(3))
            )
    assert [failed(result) for result in results].count(False) == 1


async def test_stalling_server_stands_still_for_all_calls() -> None:
    """A stall of the server holds up a call that has no part in it."""
    stalling = leash.command(
        "instrumented_sessions.demo.servers", "notes", "--stall-every=1", "--stall-s=0.4"
    )
    with anyio.fail_after(GUARD_S):
        async with over_stdio(stalling) as client:
            start = time.monotonic()
            await asyncio.gather(*(client.call_tool("find_note", {"subject": str(n)}) for n in range(2)))
    assert time.monotonic() - start >= 0.8  # One after the other, though the client sent both at once.


@pytest.mark.parametrize("method", ["initialize", "server/discover", "tools/call"])
async def test_only_handshakes_are_delayed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is slow to shake hands is not slow to answer calls, and gets the body unchanged."""
    pauses: list[float] = []
    bodies: list[bytes] = []

    async def note_pause(delay_s: float) -> None:
        pauses.append(delay_s)

    async def app(scope: object, receive: object, send: object) -> None:
        bodies.append((await receive())["body"])  # type: ignore[operator] # A bare ASGI application.

    sent = [b'{"jsonrpc": "2.0", "id": 1, ', b'"method": "%s"}' % method.encode()]
    parts = [{"body": part, "more_body": part is not sent[-1]} for part in sent]

    async def receive() -> dict[str, object]:
        return parts.pop(0)

    async def send(message: object) -> None:
        raise AssertionError(f"nothing to send, not {message}")

    monkeypatch.setattr("instrumented_sessions.demo.servers.asyncio.sleep", note_pause)
    await delay_handshakes(app, 0.8)({"type": "http", "method": "POST"}, receive, send)
    assert pauses == ([] if method == "tools/call" else [0.8])
    assert bodies == [b"".join(sent)]
