from __future__ import annotations

import asyncio
from typing import Any

import pytest

from instrumented_sessions import LockGranularity
from instrumented_sessions.transports import (
    InMemoryTransport,
    SSETransport,
    StdioTransport,
    StreamableHTTPTransport,
    Transport,
)
from tests.servers import toolbox
from tests.transports.watching import IS_2

URL = "http://127.0.0.1:9/mcp"


def http(**options: Any) -> StreamableHTTPTransport:
    return StreamableHTTPTransport(**{"id": "web", "url": URL, **options})


def test_all_transports_satisfy_the_protocol() -> None:
    """Each of the four is a `Transport`, with its kind."""
    transports = [
        StdioTransport("a", "python"),
        SSETransport("b", URL),
        StreamableHTTPTransport("c", URL),
        InMemoryTransport("d", toolbox.build()),
    ]
    assert all(isinstance(transport, Transport) for transport in transports)
    assert [transport.kind for transport in transports] == ["stdio", "sse", "http", "memory"]
    assert [transport.id for transport in transports] == ["a", "b", "c", "d"]


def test_custom_class_is_a_transport() -> None:
    """A class of its own with id, kind and connect is one, too; and one without is none."""

    class Custom:
        id = "mine"
        kind = "carrier pigeon"

        def connect(self) -> Any: ...

    assert isinstance(Custom(), Transport)
    assert not isinstance(object(), Transport)


def test_defaults_are_the_documented_ones() -> None:
    """Without options: auto mode, no limit of calls, by session, the SDK's timeouts."""
    transport = http()
    assert (transport.mode, transport.call_permits) == ("auto", None)
    assert transport.call_granularity is LockGranularity.SESSION
    assert (transport.timeout_s, transport.sse_read_timeout_s) == (30.0, 300.0)
    assert transport.terminate_on_close
    assert SSETransport("a", URL).timeout_s == 5.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"id": ""}, ["id", "''"]),
        ({"id": "x" * 65}, ["id", "64"]),
        ({"id": None}, ["id", "None"]),
        ({"id": "a\nb"}, ["id", "printable"]),
        ({"url": ""}, ["url"]),
        ({"url": "ftp://host/x"}, ["url", "ftp://host/x"]),
        ({"url": "http://user:pass@/x"}, ["url"]),
        ({"mode": "2099-01-01"}, ["mode", "2099-01-01", "auto", "legacy"]),
        ({"call_permits": 0}, ["call_permits", "0"]),
        ({"call_permits": True}, ["call_permits", "True"]),
        ({"call_granularity": "global"}, ["call_granularity", "global"]),
        ({"timeout_s": 0}, ["timeout_s", "0"]),
        ({"timeout_s": float("nan")}, ["timeout_s", "nan"]),
        ({"read_timeout_s": -1}, ["read_timeout_s", "-1"]),
        ({"headers": ["a"]}, ["headers", "list"]),
        ({"headers": {"authorization": 7}}, ["headers", "authorization"]),
        ({"sampling_callback": "no"}, ["sampling_callback", "no"]),
        ({"callback_loop": "no"}, ["callback_loop", "no"]),
    ],
)
def test_bad_option_is_named(options: dict[str, Any], words: list[str]) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ValueError) as raised:
        http(**options)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": " "}, ["command"]),
        ({"args": "server.py"}, ["args", "str"]),
        ({"args": [1]}, ["args"]),
        ({"env": {"A": 1}}, ["env", "A"]),
        ({"env": "A=1"}, ["env", "str"]),
    ],
)
def test_bad_stdio_option_is_named(options: dict[str, Any], words: list[str]) -> None:
    """The same for stdio."""
    with pytest.raises(ValueError) as raised:
        StdioTransport(**{"id": "x", "command": "python", **options})
    for word in words:
        assert word in str(raised.value)


def test_bad_values_are_not_shown_when_they_may_be_secret() -> None:
    """A refused header, variable or address does not appear in the error."""
    for build in (
        lambda: http(headers={"authorization": b"tok3n"}),
        lambda: http(url="ftp://user:tok3n@host/x?key=tok3n"),
        lambda: StdioTransport("x", "python", env={"TOKEN": ("tok3n",)}),  # type: ignore[dict-item]
    ):
        with pytest.raises(ValueError) as raised:
            build()
        assert "tok3n" not in str(raised.value)


@pytest.mark.skipif(IS_2, reason="the modern protocol needs SDK 2.x, which is installed")
def test_modern_mode_is_refused_on_generation_1() -> None:
    """The error says which SDK would be needed."""
    with pytest.raises(ValueError, match="need mcp 2"):
        http(mode="2026-07-28")


def test_not_a_server_is_refused_in_memory() -> None:
    """An object that is no server of the installed SDK is named."""
    with pytest.raises(ValueError, match="server"):
        InMemoryTransport("m", object())


def test_repr_shows_no_secrets() -> None:
    """Neither header values, nor variables, arguments, userinfo or query appear; their names do."""
    shown = repr(http(url="https://user:s3cret@host:1/mcp?key=s3cret#s3cret", headers={"X-Key": "s3cret"}))
    shown += repr(StdioTransport("x", "python", ["--key=s3cret"], env={"TOKEN": "s3cret"}))
    shown += repr(http(headers=lambda: {"X": "s3cret"}, auth=("user", "s3cret")))
    assert "s3cret" not in shown
    assert "https://host:1/mcp" in shown
    assert "X-Key" in shown
    assert "TOKEN" in shown
    assert "id='web'" in shown


def test_equal_targets_headers_and_callbacks_compare_equal() -> None:
    """What is built twice from equal parts is equal and hashes alike."""

    def headers() -> dict[str, str]:
        return {}

    async def log(params: Any) -> None: ...

    assert http() == http()
    assert hash(http()) == hash(http())
    assert http(headers={"a": "1"}) == http(headers={"a": "1"})
    assert http(headers=headers, logging_callback=log) == http(headers=headers, logging_callback=log)
    assert StdioTransport("x", "python", ["a"], {"B": "1"}) == StdioTransport(
        "x", "python", ("a",), {"B": "1"}
    )


def test_other_target_credential_or_callback_compares_unequal() -> None:
    """Any difference makes another transport."""

    async def log(params: Any) -> None: ...

    for other in (
        http(id="other"),
        http(url=URL + "x"),
        http(headers={"a": "2"}),
        http(headers=lambda: {"a": "1"}),
        http(logging_callback=log),
        http(mode="legacy"),
        http(timeout_s=3),
        SSETransport("web", URL),
        "web",
    ):
        assert http(headers={"a": "1"}) != other


def test_auth_compares_by_identity() -> None:
    """Two auth objects that are equal are still two credentials."""

    class Auth:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    auth = Auth()
    assert http(auth=auth) == http(auth=auth)
    assert http(auth=auth) != http(auth=Auth())


def test_later_change_of_the_arguments_has_no_effect() -> None:
    """A transport keeps copies, and cannot be changed itself."""
    headers, args, env = {"a": "1"}, ["x"], {"A": "1"}
    web, stdio = http(headers=headers), StdioTransport("x", "python", args, env)
    headers["a"] = "2"
    args.append("y")
    env["A"] = "2"
    assert web.headers == {"a": "1"}
    assert (stdio.args, stdio.env) == (("x",), {"A": "1"})
    with pytest.raises(AttributeError):
        web.url = "http://elsewhere"  # type: ignore[misc]


def test_callback_loop_is_taken() -> None:
    """An asyncio loop is accepted as `callback_loop`."""
    loop = asyncio.new_event_loop()
    try:
        assert http(callback_loop=loop).callback_loop is loop
    finally:
        loop.close()
