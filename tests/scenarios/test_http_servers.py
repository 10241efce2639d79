"""S26, S29-S32: HTTP servers that die, hang, keep silent or answer with something else."""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions import (
    SessionBrokenError,
    SessionManager,
    SessionOpenError,
    SessionState,
    SessionTimeoutError,
    Settings,
)
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import SSETransport, StreamableHTTPTransport
from instrumented_sessions.vocabulary import OpenFailure, Phase
from tests import servers
from tests.manager.test_doors import until
from tests.manager.wires import LIMIT_S, Door, in_thread, text
from tests.servers import raw

from .wires import GUARD, Silent, let_it_have_lived, raw_stdio

SECRET = "s3cret-token-5ecf1"


@pytest.mark.scenario("S26")
async def test_restarted_legacy_server_is_used_on_the_next_generation(
    manager: SessionManager, door: Door, tmp_path: Path
) -> None:
    """The call in flight fails and is sent once only; the next one finds the new server."""
    journal = servers.Journal(tmp_path / "journal")
    options = servers.options(journal=journal.path, era="legacy")
    with servers.Gate() as gate:
        with servers.running("http", *options) as server:
            transport = StreamableHTTPTransport(id="one", url=server.url)
            session = await door.session(manager, transport, timeout_s=LIMIT_S)
            let_it_have_lived(session)
            in_flight = asyncio.create_task(door.call_tool(session, "gate", {"port": gate.port}))
            await gate.aarrived()
            await in_thread(server.kill)
            with anyio.fail_after(LIMIT_S), pytest.raises(SessionBrokenError) as caught:
                await in_flight
            assert caught.value.may_have_run
        with servers.running("http", *options, port=server.port):
            assert text(await door.call_tool(session, "echo", {"text": "new"}, timeout_s=LIMIT_S)) == "new"
            assert session.generation == 2
            assert await door.session(manager, transport) is session
            await manager.aclose()
    assert (journal.calls("gate"), journal.calls("echo")) == (1, 1)


@pytest.mark.scenario("S26")
async def test_session_that_the_new_server_does_not_know_is_replaced(
    manager: SessionManager, door: Door, tmp_path: Path
) -> None:
    """Restarted while nobody calls: its refusal proves that the call was not run, so it is sent again."""
    journal = servers.Journal(tmp_path / "journal")
    options = servers.options(journal=journal.path, era="legacy")
    with servers.running("http", *options) as server:
        transport = StreamableHTTPTransport(id="one", url=server.url)
        session = await door.session(manager, transport, timeout_s=LIMIT_S)
        let_it_have_lived(session)
        await in_thread(server.kill)
    with servers.running("http", *options, port=server.port):
        calls = [door.call_tool(session, "echo", {"text": "new"}, timeout_s=LIMIT_S) for _ in range(5)]
        assert {text(result) for result in await asyncio.gather(*calls)} == {"new"}
        assert session.generation == 2
        await manager.aclose()


@pytest.mark.scenario("S29")
async def test_post_that_never_completes_holds_up_nobody_over_streamable_http(
    manager: SessionManager, door: Door
) -> None:
    """Each call has a POST of its own: one hangs, another with its own limit fails by it, a third answers."""
    held: list[raw.Request] = []

    def first_hangs(request: raw.Request) -> None:
        held.append(request)
        if len(held) < 3:
            request.hang()
        else:
            request.result({"content": [{"type": "text", "text": "ok"}]})

    with raw.Raw(raw.mcp(tools_call=first_hangs)) as server:
        session = await door.session(manager, StreamableHTTPTransport(id="one", url=server.url()))
        hung = asyncio.create_task(session.acall_tool("echo", timeout_s=LIMIT_S))
        await until(lambda: held)
        began = time.monotonic()
        with pytest.raises(SessionTimeoutError, match="the server's answer to tools/call echo") as caught:
            await door.call_tool(session, "echo", timeout_s=0.2)
        assert time.monotonic() - began < GUARD * 2.5 / 2 * 0.2
        assert caught.value.phase is Phase.RESPONSE
        assert text(await door.call_tool(session, "echo", timeout_s=LIMIT_S)) == "ok"
        hung.cancel()
        await asyncio.wait([hung])


@pytest.mark.scenario("S29")
async def test_call_behind_a_post_that_never_completes_names_it(manager: SessionManager, door: Door) -> None:
    """Over SSE the POSTs go one after the other: who waits behind one is told which."""

    def post(request: raw.Request) -> None:
        if request.rpc == "tools/call":
            request.hang()
        elif request.rpc == "initialize":
            answer(request)
        else:
            request.answer(202)

    stream: list[raw.Request] = []

    def answer(request: raw.Request) -> None:
        import json

        version = request.message["params"]["protocolVersion"]
        info = {"name": "raw", "version": "0"}
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        message = json.dumps({"jsonrpc": "2.0", "id": request.message["id"], "result": result})
        request.answer(202)
        stream[0].send(f"event: message\ndata: {message}\n\n")

    def behave(request: raw.Request) -> None:
        if request.method == "GET":
            stream.append(request)
        raw.sse(post)(request)

    with raw.Raw(behave) as server:
        transport = SSETransport(id="one", url=server.url("/sse"), timeout_s=LIMIT_S, mode="legacy")
        session = await door.session(manager, transport, timeout_s=LIMIT_S)

        async def first(client: Any) -> Any:
            return await client.call_tool("slow", {})

        hung = asyncio.create_task(session.arun(first, timeout_s=LIMIT_S))
        await until(lambda: any(request.rpc == "tools/call" for request in server.requests))
        with pytest.raises(SessionTimeoutError) as caught:
            await door.run(session, first, timeout_s=0.2)
        error = caught.value
        assert error.phase is Phase.WRITE
        assert error.chain is not None
        (link,) = error.chain.links
        assert "to take run" in link.waits_for
        assert link.holder is not None
        assert "first" in link.doing
        assert link.held_s > 0
        hung.cancel()
        await asyncio.wait([hung])


@pytest.mark.scenario("S30", "S32")
async def test_silent_opening_fails_at_its_limit(door: Door, silent: Silent) -> None:
    """Silent to discovery and handshake, or keep-alives only: the opening's own limit holds, in its phase."""
    limit_s = 0.3
    async with SessionManager(Settings(open_timeout_s=limit_s)) as manager:
        began = time.monotonic()
        with pytest.raises(SessionTimeoutError, match=r"passed its limit of 0\.3 s") as caught:
            await door.session(manager, silent.transport, timeout_s=LIMIT_S)
        assert time.monotonic() - began < GUARD * limit_s
        assert caught.value.phase == silent.phase
        assert caught.value.statistics.sessions == {SessionState.CREATING: 1}


ANSWERS: dict[str, tuple[raw.Behaviour, OpenFailure]] = {
    "401": (raw.status(401), OpenFailure.UNAUTHORIZED),
    "403": (raw.status(403), OpenFailure.FORBIDDEN),
    "404": (raw.status(404), OpenFailure.NOT_FOUND),
    "405": (raw.status(405), OpenFailure.HTTP),
    "500": (raw.status(500), OpenFailure.HTTP),
    "202": (raw.accepted, OpenFailure.HTTP),
    "html": (raw.html, OpenFailure.PROTOCOL),
    "redirect": (raw.redirect, OpenFailure.HTTP),
    "garbage": (raw.garbage_bytes, OpenFailure.PROTOCOL),
    "garbage-json": (raw.garbage_json, OpenFailure.PROTOCOL),
    "closed": (raw.closes, OpenFailure.UNREACHABLE),
}


@pytest.mark.scenario("S31")
@pytest.mark.parametrize("answer", ANSWERS)
async def test_wrong_first_answer_is_a_typed_error_at_once(
    manager: SessionManager, door: Door, answer: str
) -> None:
    """It has its category long before any limit, and no secret in it, the traceback included."""
    behaviour, category = ANSWERS[answer]
    with raw.Raw(behaviour) as server:
        url = f"{server.url(userinfo=f'user:{SECRET}@')}?token={SECRET}"
        headers = {"authorization": f"Bearer {SECRET}"}
        transport = StreamableHTTPTransport(id="one", url=url, headers=headers)
        with anyio.fail_after(LIMIT_S), pytest.raises(SessionOpenError) as caught:
            await door.session(manager, transport, timeout_s=60.0)
    error = caught.value
    assert error.category is category
    assert not isinstance(error, SessionTimeoutError)
    assert error.__cause__ is not None
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for word in (SECRET, "s3cret-in-location"):
        assert word not in shown + repr(error) + str(error.__dict__) + repr(transport)


@pytest.mark.scenario("S31")
async def test_program_that_is_no_server_is_a_typed_error(manager: SessionManager, door: Door) -> None:
    """A child that ends before it answers, or speaks a version from another world."""
    for way, category in (("exits", OpenFailure.COMMAND), ("version", OpenFailure.PROTOCOL)):
        with pytest.raises(SessionOpenError) as caught:
            await door.session(manager, raw_stdio(way, id=way), timeout_s=LIMIT_S)
        assert caught.value.category is category


async def test_failure_of_one_transport_leaves_the_others_alone(manager: SessionManager, door: Door) -> None:
    """While one transport is in back-off, another opens and answers."""
    with raw.Raw(raw.status(500)) as server:
        with pytest.raises(SessionOpenError):
            await door.session(manager, StreamableHTTPTransport(id="sick", url=server.url()))
        session = await door.session(manager, FakeTransport("well"), timeout_s=LIMIT_S)
        assert text(await door.call_tool(session, "echo", {"text": "well"})) == "well"
