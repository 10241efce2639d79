"""Servers that are reached over HTTP: the streamable protocol, and the older SSE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..vocabulary import OpenFailure
from . import sdk, secrets
from .base import Options, checked_mapping
from .failures import note_evidence
from .http_failures import bare_url
from .opening import opening
from .streams import Link, watched
from .web import WatchedClient, tls_context

Headers = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Headers for every request, or a function that returns them, called for each opening.

A plain function runs in a thread of ours, an async one on the callback loop. One that raises, or returns
something else, fails the opening (`OpenFailure.OTHER`); sessions that are open are not touched.
"""


@dataclass(frozen=True, eq=False, repr=False)
class _HTTPTransport(Options):
    id: str
    url: str
    headers: Headers | None = None
    auth: Any = None
    timeout_s: float = 30.0
    sse_read_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_text("url")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be an absolute http or https address; got {bare_url(self.url)!r}")
        for name in ("timeout_s", "sse_read_timeout_s"):
            self._check_seconds(name)
        if self.headers is not None and not callable(self.headers):
            self._set("headers", checked_mapping("headers", self.headers))

    def _shown(self) -> Mapping[str, object]:
        headers = "<function>" if callable(self.headers) else sorted(self.headers or ())
        auth = type(self.auth).__name__ if self.auth is not None else None
        return {"url": bare_url(self.url), "headers": headers, "auth": auth}

    async def _client(self, link: Link) -> Any:
        """Return a new HTTP client of the SDK's library, with this opening's headers."""
        headers = self.headers
        if callable(headers):
            headers = await _called(headers, link)
        link.secrets.keep((*secrets.in_headers(headers or {}), *secrets.in_url(self.url)))
        return WatchedClient(
            link,
            answers_on_post=self.kind == "http",
            headers=headers,
            auth=self.auth,
            timeout=sdk.httpx.Timeout(self.timeout_s, read=self.sse_read_timeout_s),
            verify=await tls_context(),
        )


async def _called(function: Callable[[], Any], link: Link) -> dict[str, str]:
    """Return what the program's headers function returns; its fault is not taken for the server's."""
    try:
        given = await link.callbacks.run(function, (), Context())
    except Exception as error:
        note_evidence(error, (OpenFailure.OTHER, f"the headers function raised {type(error).__name__}"))
        raise
    try:
        return _sendable(given)
    except ValueError as error:
        note_evidence(error, (OpenFailure.OTHER, f"{error} (ValueError)"))
        raise


def _sendable(given: object) -> dict[str, str]:
    """Return a copy of headers that HTTP can carry; neither names nor values appear in the error."""
    if not isinstance(given, Mapping):
        raise ValueError(f"the headers function returned {type(given).__name__}, not a mapping of strings")
    for text in (text for item in given.items() for text in item):
        if not isinstance(text, str):
            raise ValueError(
                f"the headers function returned a mapping with {type(text).__name__}, not strings"
            )
        if not (text.isascii() and text.replace("\t", " ").isprintable()):
            raise ValueError("the headers function returned text that is no header's")
    return dict(given)


@dataclass(frozen=True, eq=False, repr=False)
class StreamableHTTPTransport(_HTTPTransport):
    """Reaches a server over streamable HTTP.

    Args:
        id: A low-cardinality label, free of secrets.
        url: The endpoint.
        headers: A mapping, or a function called for each opening (rotating tokens).
        auth: Any auth object of the SDK's HTTP library, the SDK's OAuth provider included.
        timeout_s: Limit of connecting, writing and of a connection from the pool, in seconds. Default 30.
        sse_read_timeout_s: Limit of silence in a response, in seconds. Default 300.
        terminate_on_close: Whether closing tells the server to end the session. Default True.
    """

    kind: ClassVar[str] = "http"

    terminate_on_close: bool = True

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that connects, yields the client and disconnects."""
        return opening(self, self._streams)

    @asynccontextmanager
    async def _streams(self, link: Link) -> AsyncIterator[Any]:
        streams = sdk.module("client.streamable_http").streamable_http_client
        async with await self._client(link) as client:
            options = {"http_client": client, "terminate_on_close": self.terminate_on_close}
            async with watched(streams(self.url, **options), link) as pair:
                yield pair


@dataclass(frozen=True, eq=False, repr=False)
class SSETransport(_HTTPTransport):
    """Reaches a server over the older SSE protocol: one event stream, and a POST for each message.

    Args:
        id: A low-cardinality label, free of secrets.
        url: The address of the event stream.
        headers: A mapping, or a function called for each opening (rotating tokens).
        auth: Any auth object of the SDK's HTTP library, the SDK's OAuth provider included.
        timeout_s: Limit of connecting, writing and answering a POST, in seconds. Default 5.
        sse_read_timeout_s: Limit of silence on the event stream, in seconds. Default 300.
    """

    kind: ClassVar[str] = "sse"

    timeout_s: float = 5.0

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that connects, yields the client and disconnects."""
        return opening(self, self._streams)

    @asynccontextmanager
    async def _streams(self, link: Link) -> AsyncIterator[Any]:
        client = await self._client(link)

        def ours(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
            return client

        streams = sdk.module("client.sse").sse_client
        async with watched(streams(self.url, httpx_client_factory=ours), link) as pair:
            yield pair
