"""Connections that break: noticed at once, with the cause, and without a caller left waiting."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport
from instrumented_sessions.transports.client import ClientAdapter
from instrumented_sessions.transports.failures import CallFailure, classify_call, session_is_gone
from tests import servers
from tests.servers import raw
from tests.transports.watching import ERAS, GUARD_S, IS_2, Watch, call, failure_of


def stdio(way: str, *files: Path) -> StdioTransport:
    return StdioTransport("child", sys.executable, [str(raw.STDIO), way, *map(str, files)])


@pytest.mark.scenario("S27")
async def test_child_that_dies_in_a_call_fails_it_at_once(tmp_path: Path) -> None:
    """The call fails, may have run, and the loss is told with the exit status."""
    watch = Watch()
    async with stdio("dies", tmp_path / "pid").connect() as client:
        error = await failure_of(client)
        assert classify_call(error) is CallFailure.LOST
        assert session_is_gone(error)
        assert [getattr(loss, "returncode", None) for loss in watch.losses] == [4]
    assert not servers.is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.scenario("S27")
async def test_child_that_is_killed_while_idle_is_noticed(tmp_path: Path) -> None:
    """No call is needed to notice it, and the next one is proved not to have run where that can be."""
    watch = Watch()
    async with stdio("good", tmp_path / "pid").connect() as client:
        servers.kill(int((tmp_path / "pid").read_text()))
        with anyio.fail_after(GUARD_S):
            await watch.lost.wait()
        assert "SIGKILL" in str(watch.losses[0])
        error = await failure_of(client)
        assert classify_call(error) in (CallFailure.LOST, CallFailure.NOT_RUN)
        assert session_is_gone(error)
        assert len(watch.losses) == 1


@pytest.mark.scenario("S27")
async def test_child_whose_own_child_holds_the_pipes_is_noticed(tmp_path: Path) -> None:
    """The end of the process counts, not that of its output; what it has started ends with it."""
    watch = Watch()
    async with stdio("parent", tmp_path / "pid", tmp_path / "grandchild").connect() as client:
        assert classify_call(await failure_of(client)) is CallFailure.LOST
        assert [getattr(loss, "returncode", None) for loss in watch.losses] == [5]
    await servers.ended(int((tmp_path / "grandchild").read_text()))


async def test_child_that_closes_its_output_is_lost_and_ended(tmp_path: Path) -> None:
    """A server that can answer no more is lost, though its process runs; closing ends it."""
    watch = Watch()
    async with stdio("mute", tmp_path / "pid").connect():
        with anyio.fail_after(GUARD_S):
            await watch.lost.wait()
        assert "closed its output" in str(watch.losses[0])
    assert not servers.is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.scenario("S28")
@pytest.mark.parametrize("size", [1, 500_000], ids=["small", "beyond the pipe"])
async def test_server_that_stops_reading_shows_as_blocked_write(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that lies unread is known not to be taken, whether or not it fits into the pipe."""
    monkeypatch.setattr("instrumented_sessions.transports.stdio.PATIENCE_S", (0.1, 0.5, 1.0))
    watch = Watch()
    async with stdio("deaf").connect() as client:
        adapter = ClientAdapter(client)
        with anyio.move_on_after(0.5):
            await adapter.call_tool("echo", {"text": "x" * size})
            raise AssertionError("it answered")
        assert watch.probe.is_write_blocked()


async def test_answered_session_is_not_blocked() -> None:
    """A server that reads is not taken for one that does not."""
    watch = Watch()
    async with stdio("good").connect() as client:
        assert await call(client) == "ok"
        assert not watch.probe.is_write_blocked()


@pytest.mark.scenario("S23")
@pytest.mark.slow
async def test_stubborn_process_is_killed(tmp_path: Path) -> None:
    """A server that ignores the end of its input and SIGTERM is killed, and does not hold up closing."""
    async with stdio("stubborn", tmp_path / "pid").connect() as client:
        assert await call(client) == "ok"
    assert not servers.is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.scenario("S23")
async def test_cancelled_closing_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling the task that closes does not leave the process behind, nor wait for it."""
    monkeypatch.setattr("instrumented_sessions.transports.stdio.PATIENCE_S", (60.0, 60.0, 60.0))

    async def own() -> None:
        async with stdio("stubborn", tmp_path / "pid", tmp_path / "eof").connect():
            pass

    task = asyncio.create_task(own())
    with anyio.fail_after(GUARD_S):
        while not (tmp_path / "eof").exists():  # The child has seen that its input was closed.
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    await servers.ended(int((tmp_path / "pid").read_text()))


@pytest.mark.scenario("S26")
@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_killed_http_server_fails_the_call_in_flight_at_once(
    kind: str, mode: str, tmp_path: Path
) -> None:
    """Also on 1.x, where it would wait for ever; and it has reached the server only once."""
    watch = Watch()
    journal = servers.Journal(tmp_path / "journal")
    options = servers.options(journal=journal.path)
    cls: Any = SSETransport if kind == "sse" else StreamableHTTPTransport
    failures: list[BaseException] = []
    with servers.Gate() as gate, servers.running(kind, *options) as server:
        async with cls("web", server.url, mode=mode).connect() as client:

            async def in_flight() -> None:
                failures.append(await failure_of(client, "gate", port=gate.port))

            with anyio.fail_after(GUARD_S):
                async with anyio.create_task_group() as group:
                    group.start_soon(in_flight)
                    await gate.aarrived()
                    server.kill()
            assert classify_call(failures[0]) is CallFailure.LOST
            assert journal.calls("gate") == 1
            if kind == "sse":
                assert watch.lost.is_set()
                return
            refused = await failure_of(client)
            assert classify_call(refused) is CallFailure.NOT_RUN
            with servers.running(kind, *options, port=server.port):
                if IS_2 and mode != "legacy":
                    assert await call(client, text="again") == "again"
                    return
                gone = await failure_of(client)
                assert classify_call(gone) is CallFailure.NOT_RUN
                assert session_is_gone(gone)
                assert journal.calls("echo") == 1  # It reached the server, which refused it.


def broken_body(request: raw.Request) -> None:
    """Break off within a JSON answer."""
    request.send('HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"json')
    raw.closes(request)


def broken_events(request: raw.Request) -> None:
    """Break off within an event."""
    request.events(': hi\n\nevent: message\ndata: {"jsonr')
    raw.closes(request)


def unfinished_events(request: raw.Request) -> None:
    """Break off within an event that could be resumed, by a server that cannot."""
    request.events("id: 1\nretry: 10\ndata: \n\n")
    raw.closes(request)


def one_event(request: raw.Request) -> None:
    """Answer on an event stream, and close it."""
    result = {"content": [{"type": "text", "text": "streamed"}]}
    answer = json.dumps({"jsonrpc": "2.0", "id": request.message["id"], "result": result})
    request.events(f"event: message\ndata: {answer}\n\n")
    raw.closes(request)


ANSWERS = [
    ("closed", raw.closes, CallFailure.LOST, False),
    ("broken json", broken_body, CallFailure.LOST, False),
    ("broken events", broken_events, CallFailure.LOST, False),
    ("unresumed events", unfinished_events, CallFailure.LOST, False),
    ("garbage", raw.garbage_bytes, CallFailure.LOST, False),
    ("401", raw.status(401), CallFailure.NOT_RUN, True),
    ("gone", lambda request: request.error(-32600, "Session not found", 404), CallFailure.NOT_RUN, True),
    ("500", raw.status(500), CallFailure.SERVER, False),
    ("202", raw.accepted, CallFailure.SERVER, False),
    ("html", raw.html, CallFailure.SERVER, False),
    ("garbage json", raw.garbage_json, CallFailure.SERVER, False),
    ("redirect", raw.redirect, CallFailure.SERVER, False),
    ("own error", lambda request: request.error(-32050, "no"), CallFailure.SERVER, False),
    ("own error, 400", lambda request: request.error(-32602, "no", 400), CallFailure.SERVER, False),
    ("closed error", lambda request: request.error(-32000, "I am closed"), CallFailure.SERVER, False),
]


@pytest.mark.parametrize(
    ("behaviour", "failure", "is_gone"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
async def test_bad_answer_fails_one_call_only(
    behaviour: raw.Behaviour, failure: CallFailure, is_gone: bool
) -> None:
    """The caller is answered at once, with what that means; the session and its other users go on."""
    watch = Watch()
    with raw.Raw(raw.mcp(tools_call=behaviour)) as server:
        async with StreamableHTTPTransport("web", server.url(), mode="legacy").connect() as client:
            error = await failure_of(client)
            assert classify_call(error) is failure
            assert session_is_gone(error) == is_gone
            with anyio.fail_after(GUARD_S):
                tools = await ClientAdapter(client).list_tools()
            assert [tool.name for tool in tools.tools] == ["echo"]
    assert watch.losses == []


async def test_servers_own_error_is_raised_unchanged() -> None:
    """Code and message of a JSON-RPC error are the server's, also when its status is 400."""
    behaviour = raw.mcp(tools_call=lambda request: request.error(-32602, "bad arguments", 400))
    with raw.Raw(behaviour) as server:
        async with StreamableHTTPTransport("web", server.url(), mode="legacy").connect() as client:
            error: Any = await failure_of(client)
    assert (error.error.code, error.error.message) == (-32602, "bad arguments")


async def test_answer_on_an_event_stream_arrives_once() -> None:
    """A stream that ends after its answer is no loss."""
    watch = Watch()
    with raw.Raw(raw.mcp(tools_call=one_event)) as server:
        async with StreamableHTTPTransport("web", server.url(), mode="legacy").connect() as client:
            assert await call(client) == "streamed"
            assert await call(client) == "streamed"
    assert watch.losses == []


async def test_refused_message_loses_an_sse_session() -> None:
    """The SDK would log it and leave everybody waiting; here the loss is told."""
    watch = Watch()
    is_open = anyio.Event()

    def post(request: raw.Request) -> None:
        request.answer(500 if is_open.is_set() else 202)
        if not is_open.is_set() and request.rpc == "initialize":
            info = {"name": "raw", "version": "0"}
            version = request.message["params"]["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": {}, "serverInfo": info}
            answer = json.dumps({"jsonrpc": "2.0", "id": request.message["id"], "result": result})
            stream = request.server.requests[0]
            stream.send(f"event: message\ndata: {answer}\n\n")

    with raw.Raw(raw.sse(post)) as server:
        async with SSETransport("web", server.url(), mode="legacy").connect() as client:
            is_open.set()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: ClientAdapter(client).call_tool("echo", {}))
                with anyio.fail_after(GUARD_S):
                    await watch.lost.wait()
                group.cancel_scope.cancel()
    assert "500" in str(watch.losses[0])


@pytest.mark.scenario("S29")
async def test_post_that_never_completes_shows_as_blocked_write() -> None:
    """In the older SSE protocol one unanswered POST blocks all that follow, and this can be seen."""
    watch = Watch()
    with servers.running("sse") as server:
        async with SSETransport("web", server.url).connect() as client:
            server.stop()
            try:
                with anyio.move_on_after(0.3):
                    await ClientAdapter(client).call_tool("echo", {"text": "x"})
                assert watch.probe.is_write_blocked()
            finally:
                server.resume()


def initialize_with_session(request: raw.Request) -> None:
    """Shake hands and name a session of the protocol."""
    info = {"name": "raw", "version": "0"}
    version = request.message["params"]["protocolVersion"]
    result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    body = json.dumps({"jsonrpc": "2.0", "id": request.message["id"], "result": result})
    request.answer(200, body, content_type="application/json", mcp_session_id="abc")


@pytest.mark.scenario("S26")
@pytest.mark.parametrize(
    "behaviour",
    [
        raw.status(404, "gone"),
        raw.status(400, "Bad Request: No valid session ID provided"),
        lambda request: request.error(-32000, "Bad Request: No valid session ID provided", 400),
        lambda request: request.error(-32000, "Bad Request: Server not initialized", 400),
        lambda request: request.error(-32600, "Session not found", 404),
        lambda request: request.error(-32600, "Not Found: Session has been terminated", 404),
        lambda request: request.error(-32001, "Session not found", 404),
    ],
    ids=["404", "1.24", "typescript", "typescript, new", "2.x", "deleted", "typescript, 404"],
)
async def test_forgotten_session_is_known_by_what_servers_say(behaviour: raw.Behaviour) -> None:
    """However a restarted server puts it, the call did not run and the session is gone."""
    with raw.Raw(raw.mcp(initialize=initialize_with_session, tools_call=behaviour)) as server:
        async with StreamableHTTPTransport("web", server.url(), mode="legacy").connect() as client:
            error = await failure_of(client)
    assert classify_call(error) is CallFailure.NOT_RUN
    assert session_is_gone(error)


@pytest.mark.scenario("S23")
async def test_hung_server_does_not_hold_up_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that ends the server's session has a short limit of its own."""
    monkeypatch.setattr("instrumented_sessions.transports.web.CLOSING_LIMIT_S", 0.1)
    with raw.Raw(raw.mcp(initialize=initialize_with_session, DELETE=raw.silent)) as server:
        with anyio.fail_after(GUARD_S):
            async with StreamableHTTPTransport("web", server.url(), mode="legacy").connect():
                pass
        assert [request.method for request in server.requests].count("DELETE") == 1


async def test_large_messages_and_floods_pass() -> None:
    """Ten megabytes arrive whole, both ways, and so do a thousand answers while nobody reads on."""
    async with StdioTransport("child", *servers.command()).connect() as client:
        text = "ü" * 5_000_000
        assert await call(client, text=text) == text
        steps: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            steps.append(done)

        with anyio.fail_after(GUARD_S):
            await ClientAdapter(client).call_tool("steps", {"number": 1000}, progress=progress)
            while len(steps) < 1000:
                await anyio.sleep(0.01)
