"""Openings that fail: with the right category, at once, without secrets, and with nothing left behind."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from instrumented_sessions.transports import SSETransport, StdioTransport, StreamableHTTPTransport, sdk
from instrumented_sessions.transports.failures import classify_opening
from instrumented_sessions.vocabulary import OpenFailure, Phase
from tests import servers
from tests.servers import raw
from tests.transports.watching import ERAS, GUARD_S, IS_2, Watch, call, opening_failure

SECRETS = ("s3cret-user", "s3cret-pass", "s3cret-query", "s3cret-header", "s3cret-in-location", "s3cret-env")

ANSWERS = [
    ("401", raw.status(401), OpenFailure.UNAUTHORIZED),
    ("403", raw.status(403), OpenFailure.FORBIDDEN),
    ("404", raw.status(404), OpenFailure.NOT_FOUND),
    ("405", raw.status(405), OpenFailure.HTTP),
    ("500", raw.status(500), OpenFailure.HTTP),
    ("redirect", raw.redirect, OpenFailure.HTTP),
    ("html", raw.html, OpenFailure.PROTOCOL),
    ("garbage json", raw.garbage_json, OpenFailure.PROTOCOL),
    ("garbage", raw.garbage_bytes, OpenFailure.PROTOCOL),
    ("closed", raw.closes, OpenFailure.UNREACHABLE),
]


def assert_no_secrets(error: BaseException) -> None:
    """Neither the sentence nor the traceback with all its causes shows any."""
    shown = classify_opening(error)[1] + "".join(traceback.format_exception(error))
    for secret in SECRETS:
        assert secret not in shown


def web(cls: Any, server: raw.Raw, **options: Any) -> Any:
    url = server.url("/mcp?key=s3cret-query", "s3cret-user:s3cret-pass@")
    return cls("web", url, headers={"x-key": "s3cret-header"}, **options)


@pytest.mark.scenario("S31")
@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(
    ("behaviour", "category"), [case[1:] for case in ANSWERS], ids=[c[0] for c in ANSWERS]
)
@pytest.mark.parametrize("cls", [StreamableHTTPTransport, SSETransport])
async def test_bad_first_answer_has_its_category(
    cls: Any, behaviour: raw.Behaviour, category: OpenFailure, mode: str
) -> None:
    """The first answer says what is wrong; the opening fails at once and tells no secret."""
    watch = Watch()
    with raw.Raw(behaviour) as server:
        error = await opening_failure(web(cls, server, mode=mode))
    assert classify_opening(error)[0] is category
    assert_no_secrets(error)
    assert watch.losses == []  # Not a loss: it never was a session.


@pytest.mark.scenario("S31")
@pytest.mark.parametrize("mode", ERAS)
async def test_accepted_handshake_is_no_answer(mode: str) -> None:
    """202 in answer to the handshake fails the opening, which would wait for ever."""
    with raw.Raw(raw.accepted) as server:
        error = await opening_failure(web(StreamableHTTPTransport, server, mode=mode))
    category, text = classify_opening(error)
    assert category is OpenFailure.HTTP
    assert "202" in text


@pytest.mark.parametrize(
    ("post", "category"),
    [
        (raw.status(401), OpenFailure.UNAUTHORIZED),
        (raw.status(404), OpenFailure.NOT_FOUND),
        (raw.status(500), OpenFailure.HTTP),
        (raw.closes, OpenFailure.UNREACHABLE),
    ],
    ids=["401", "404", "500", "closed"],
)
async def test_refused_message_fails_an_sse_opening(post: raw.Behaviour, category: OpenFailure) -> None:
    """The event stream opens, but the handshake is not taken: the SDK would wait for ever."""
    with raw.Raw(raw.sse(post)) as server:
        error = await opening_failure(web(SSETransport, server))
    assert classify_opening(error)[0] is category
    assert_no_secrets(error)


@pytest.mark.scenario("S30", "S32")
@pytest.mark.parametrize("behaviour", [raw.silent, raw.keep_alives], ids=["silent", "keep-alives"])
@pytest.mark.parametrize("cls", [StreamableHTTPTransport, SSETransport])
async def test_silent_server_keeps_an_opening_in_negotiate(cls: Any, behaviour: raw.Behaviour) -> None:
    """A server that accepts and says nothing is waited for in `negotiate`, until the caller's limit."""
    watch = Watch()
    with raw.Raw(behaviour) as server:
        error = await opening_failure(web(cls, server), limit_s=0.3)
    assert isinstance(error, TimeoutError)
    assert watch.probe.phase is Phase.NEGOTIATE


@pytest.mark.parametrize("cls", [StreamableHTTPTransport, SSETransport])
async def test_refused_connection_is_unreachable(cls: Any) -> None:
    """Nobody listens: the phase is still `connect`, and the system's reason is told."""
    watch = Watch()
    with socket.socket() as taken:  # Bound and not listening: nobody else can get the port.
        taken.bind(("127.0.0.1", 0))
        error = await opening_failure(cls("web", f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"))
    assert isinstance(error, sdk.httpx.ConnectError)
    category, text = classify_opening(error)
    assert category is OpenFailure.UNREACHABLE
    assert "refused" in text.lower()
    assert watch.probe.phase is Phase.CONNECT


def stdio(way: str, *more: str, **options: Any) -> StdioTransport:
    return StdioTransport("child", sys.executable, [str(raw.STDIO), way, *more], **options)


async def test_process_that_ends_is_a_command_failure() -> None:
    """The exit status is told, and is the cause."""
    error = await opening_failure(stdio("exits", env={"TOKEN": "s3cret-env"}))
    category, text = classify_opening(error)
    assert category is OpenFailure.COMMAND
    assert "exit status 3" in text
    assert getattr(error, "returncode", None) == 3
    assert_no_secrets(error)


@pytest.mark.parametrize("command", ["/nowhere/at-all", "no-such-command-anywhere"])
async def test_missing_command_is_named(command: str) -> None:
    """A command that is not there is a command failure, in `connect`."""
    watch = Watch()
    error = await opening_failure(StdioTransport("child", command))
    category, text = classify_opening(error)
    assert category is OpenFailure.COMMAND
    assert command in text
    assert watch.probe.phase is Phase.CONNECT


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    """So is a working directory."""
    error = await opening_failure(StdioTransport("child", sys.executable, cwd=tmp_path / "gone"))
    category, text = classify_opening(error)
    assert category is OpenFailure.COMMAND
    assert "gone" in text


async def test_unknown_protocol_version_is_a_protocol_failure() -> None:
    """A server from another world is told from one that does not answer."""
    category, text = classify_opening(await opening_failure(stdio("version")))
    assert category is OpenFailure.PROTOCOL
    assert "1999-01-01" in text


@pytest.mark.scenario("S32")
@pytest.mark.parametrize("way", ["silent", "html"])
async def test_silent_process_is_ended_with_its_opening(way: str, tmp_path: Path) -> None:
    """A process that does not answer the handshake is waited for, then ended."""
    watch = Watch()
    error = await opening_failure(stdio(way), limit_s=0.5)
    assert isinstance(error, TimeoutError)
    assert watch.probe.phase is Phase.NEGOTIATE


async def test_noise_on_stdout_is_survived() -> None:
    """Lines that are no messages, before the handshake, do no harm."""
    async with stdio("noise").connect() as client:
        assert await call(client) == "ok"


@pytest.mark.skipif(not IS_2, reason="only SDK 2.x has pinned versions")
async def test_pinned_version_is_proved_at_the_opening() -> None:
    """A pinned version, which connects without traffic, does not open a server that does not speak it."""
    with raw.Raw(raw.mcp()) as server:
        error = await opening_failure(StreamableHTTPTransport("web", server.url(), mode="2026-07-28"))
    assert classify_opening(error)[0] is OpenFailure.PROTOCOL


async def test_failed_openings_leave_no_descriptors() -> None:
    """Fifty failures later the process has as many descriptors as before."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list descriptors")
    with raw.Raw(raw.html) as server:
        transports = [web(StreamableHTTPTransport, server), web(SSETransport, server), stdio("exits")]

        async def fail_all() -> None:
            for transport in transports:
                await opening_failure(transport)

        await fail_all()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await fail_all()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


class Consent(sdk.httpx.Auth):
    """An auth object that waits for a person before it sends anything."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.granted = anyio.Event()

    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:
        self.asked.set()
        await self.granted.wait()
        request.headers["authorization"] = "Bearer granted"
        yield request


async def test_opening_that_waits_for_a_person_is_in_authorize() -> None:
    """`authorize` while the auth object waits, then on to the handshake."""
    watch = Watch()
    consent = Consent()
    seen = anyio.Event()
    watch.probe.on_phase = lambda phase: seen.set() if phase is Phase.AUTHORIZE else None
    with raw.Raw(raw.mcp()) as server, anyio.fail_after(GUARD_S):
        async with anyio.create_task_group() as group:

            async def grant() -> None:
                await seen.wait()
                assert watch.probe.phase is Phase.AUTHORIZE
                consent.granted.set()

            group.start_soon(grant)
            transport = StreamableHTTPTransport(
                "web", server.url(), auth=consent, callback_loop=asyncio.get_running_loop()
            )
            async with transport.connect() as client:
                assert watch.probe.phase is Phase.NEGOTIATE
                assert await call(client) == "ok"
                assert consent.asked.is_set()


async def test_auth_flow_is_passed_through() -> None:
    """A flow that reacts to a response gets it, and its closing reaches it."""
    steps: list[str] = []

    class Flow(sdk.httpx.Auth):
        async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:
            try:
                response = yield request
                steps.append(f"got {response.status_code}")
                yield request
            finally:
                steps.append("closed")

    def challenge(request: raw.Request) -> None:
        first = request.server.requests[0] is request
        request.answer(401) if first else raw.mcp()(request)

    with raw.Raw(challenge) as server:
        async with StreamableHTTPTransport(
            "web", server.url(), auth=Flow(), mode="legacy"
        ).connect() as client:
            assert await call(client) == "ok"
    assert steps[:2] == ["got 401", "closed"]
    assert steps.count("closed") == len(server.requests) // 2


@pytest.mark.parametrize("cls", [StreamableHTTPTransport, SSETransport])
async def test_redirect_within_the_origin_is_followed(cls: Any) -> None:
    """A trailing-slash redirect keeps method and server, and is followed on every SDK."""
    inner = raw.mcp() if cls is StreamableHTTPTransport else raw.sse(raw.status(500))

    def behave(request: raw.Request) -> None:
        request.answer(307, location="/mcp/") if request.path == "/mcp" else inner(request)

    with raw.Raw(behave) as server:
        if cls is SSETransport:
            await opening_failure(cls("web", server.url()))
        else:
            async with cls("web", server.url(), mode="legacy").connect() as client:
                assert await call(client) == "ok"
        assert "/mcp/" in {request.path for request in server.requests}


async def test_child_starts_where_stderr_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks and task queues put something else in its place, with or without a descriptor."""
    command, args = servers.command()
    for stand_in in (object(), io.StringIO(), None):
        monkeypatch.setattr("sys.stderr", stand_in)
        async with StdioTransport("x", command, args).connect() as client:
            assert await call(client, text="hi") == "hi"
