"""The HTTP client of an opening: sees what the SDK hides, and keeps one bad answer from harming the rest.

In the SDK a request that cannot be sent, or a body that breaks off, ends the session of everybody who
shares it; on 1.x some of them leave their caller waiting for ever. Here each gets an answer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from ..vocabulary import OpenFailure, Phase
from . import answers, sdk
from .failures import bare_url, describe_transport_error, is_unsent
from .streams import Link

AUTHORIZE_AFTER_S = 0.1
"""An auth object that has sent nothing for this long, in seconds, is taken to wait for a person."""

CLOSING_LIMIT_S = 2.0
"""Limit of the request that tells the server of our closing, in seconds."""

_REDIRECT_LIMIT = 5


class RefusedByServer(ConnectionError):
    """The server did not take a message.

    Attributes:
        status: The HTTP status it answered with.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the server refused a message with HTTP {status}")
        self.status = status


class WatchedClient(sdk.httpx.AsyncClient):  # type: ignore[misc]  # Its type depends on the SDK.
    """The SDK's HTTP client, which tells `link` what it sees.

    Args:
        link: The connection.
        answers_on_post: Whether the answer to a message comes in the response to its POST; in the older
            SSE protocol it comes on the event stream.
        options: Those of the HTTP library's client.
    """

    def __init__(self, link: Link, *, answers_on_post: bool, auth: Any = None, **options: Any) -> None:
        if hasattr(auth, "async_auth_flow"):
            auth = _WatchedAuth(auth, link)
        super().__init__(auth=auth, **options)
        self._link = link
        self._answers_on_post = answers_on_post

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request; once the session is open, what goes wrong with it becomes its answer."""
        if self._link.is_closing:
            limits = dict.fromkeys(("connect", "read", "write", "pool"), CLOSING_LIMIT_S)
            request.extensions = {**request.extensions, "timeout": limits}
        elif not self._link.is_open:
            request.extensions = {**request.extensions, "trace": self._trace}
        try:
            response = await self._send_within_origin(request, options)
            if request.method == "POST" and self._answers_on_post and not self._link.is_closing:
                if _content_type(response) == "application/json":
                    await response.aread()  # Here, where a broken body can still be given an answer.
                elif sdk.SDK_GENERATION == 1 and _content_type(response) == "text/event-stream":
                    response.stream = _AnsweringStream(response, request.content)
        except sdk.httpx.TransportError as error:
            return self._unanswered(request, error)
        return await self._judged(request, response)

    async def _trace(self, name: str, info: Any) -> None:
        if self._link.probe.phase is Phase.CONNECT and name.endswith("send_request_headers.started"):
            self._link.probe.phase = Phase.NEGOTIATE

    async def _send_within_origin(self, request: Any, options: dict[str, Any]) -> Any:
        response = await super().send(request, **options)
        for _ in range(0 if sdk.FOLLOWS_REDIRECTS else _REDIRECT_LIMIT):
            following = response.next_request
            if following is None or not _is_same_origin(request, following):
                break
            await response.aclose()
            response = await super().send(following, **options)
        return response

    def _unanswered(self, request: Any, error: Exception) -> Any:
        """Deal with a request that got no response: raise while opening, else answer it ourselves."""
        link = self._link
        if link.is_closing:
            raise error
        if not link.is_open:
            link.evidence = describe_transport_error(error)
            if not self._answers_on_post and request.method == "POST":
                link.abort()  # The SDK would log it and wait on.
            raise error
        if request.method != "POST":
            if sdk.SDK_GENERATION == 1 and "last-event-id" in request.headers:
                link.ended(error)  # It would have brought the answers that callers wait for.
            raise error
        if not self._answers_on_post:
            link.ended(error)
            return _response(request, 202)
        request_id = answers.request_id_in(request.content)
        if request_id is None:
            return _response(request, 202)  # A notification: nobody waits for what became of it.
        _, text = describe_transport_error(error)
        fate = answers.NOT_RUN if is_unsent(error) else answers.LOST
        return _response(request, 200, answers.error(request_id, answers.CONNECTION_LOST, text, fate))

    async def _judged(self, request: Any, response: Any) -> Any:
        """Return the response, or the answer that the SDK should see instead."""
        link, status = self._link, response.status_code
        answers_here = self._answers_on_post and request.method == "POST"
        if not link.is_open and (answers_here or (not self._answers_on_post and status >= 300)):
            link.evidence = describe_response(response)
        if not self._answers_on_post:
            if request.method == "POST" and status >= 300 and not link.is_closing:
                link.ended(RefusedByServer(status))
                link.abort()
                return _response(request, 202)
            return response
        if not answers_here or link.is_closing:
            return response
        stand_in = _stand_in(request, response, link.is_open)
        if stand_in is None:
            return response
        await response.aclose()
        return stand_in


def _stand_in(request: Any, response: Any, is_open: bool) -> Any:
    """Return what the SDK should see instead of `response`; None when it deals with it well."""
    status = response.status_code
    if status == 401 and is_open:
        # The credential has expired: the server has not run it, and a new opening brings new headers.
        request_id = answers.request_id_in(request.content)
        text = "the server wants a new credential (HTTP 401)"
        return _answer(request, request_id, answers.CONNECTION_LOST, text, answers.NOT_RUN)
    if sdk.SDK_GENERATION == 2:
        return None
    if 200 <= status < 300 and status != 202:
        kind = _content_type(response)
        if kind == "text/event-stream" or (kind == "application/json" and _is_message(response.content)):
            return None
        request_id = answers.request_id_in(request.content)
        return _answer(request, request_id, *_not_mcp(response)) if request_id is not None else None
    if status == 404 or not (is_open or status == 202):
        return None  # 1.x says by itself that the session has ended, and raises while opening.
    request_id = answers.request_id_in(request.content)
    if status == 202:
        text = "server answered a request with 202 Accepted"
        return None if request_id is None else _answer(request, request_id, answers.INVALID_REQUEST, text)
    if request_id is not None and response.is_stream_consumed and answers.is_error(response.content):
        return _response(request, 200, response.text)
    return _answer(request, request_id, answers.INTERNAL_ERROR, f"Server returned HTTP {status}")


def _answer(request: Any, request_id: Any, code: int, text: str, fate: str | None = None) -> Any:
    if request_id is None:
        return _response(request, 202)
    return _response(request, 200, answers.error(request_id, code, text, fate))


def _not_mcp(response: Any) -> tuple[int, str]:
    kind = _content_type(response)
    if kind == "application/json":
        return answers.PARSE_ERROR, "the answer is not a JSON-RPC message"
    return answers.INVALID_REQUEST, f"Unexpected content type: {kind or 'none'}"


def _is_message(content: bytes) -> bool:
    try:
        sdk.parse_message(content)
    except ValueError:
        return False
    return True


def _response(request: Any, status: int, text: str = "") -> Any:
    headers = {"content-type": "application/json"}
    return sdk.httpx.Response(status, headers=headers, content=text.encode(), request=request)


def _content_type(response: Any) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _is_same_origin(sent: Any, following: Any) -> bool:
    """Return whether a redirect keeps method, server and credentials, as newer SDKs demand."""
    return bool(
        sent.method == following.method
        and (sent.url.scheme, sent.url.host, sent.url.port)
        == (following.url.scheme, following.url.host, following.url.port)
        and following.url.userinfo in (b"", sent.url.userinfo)
    )


def describe_response(response: Any) -> tuple[OpenFailure, str] | None:
    """Return what a response to the first requests means for an opening; None when it may be an answer."""
    status, kind = response.status_code, _content_type(response)
    if status == 401:
        return OpenFailure.UNAUTHORIZED, "the server wants a credential, or a valid one (HTTP 401)"
    if status == 403:
        return OpenFailure.FORBIDDEN, "the server does not allow this with this credential (HTTP 403)"
    if status == 404:
        return OpenFailure.NOT_FOUND, "there is no MCP endpoint at this address (HTTP 404)"
    if status in (301, 302, 303, 307, 308):
        place = bare_url(str(response.next_request.url)) if response.next_request is not None else "nowhere"
        return OpenFailure.HTTP, f"the server redirects to {place}, which was not followed (HTTP {status})"
    if not 200 <= status < 300:
        return OpenFailure.HTTP, f"the server answered with HTTP {status}"
    if status == 202 and answers.request_id_in(response.request.content) is not None:
        return OpenFailure.HTTP, "the server accepted the handshake without an answer (HTTP 202)"
    if status != 202 and kind not in ("application/json", "text/event-stream"):
        return OpenFailure.PROTOCOL, f"the server answered with {kind or 'no content type'}, which is not MCP"
    return None


class _AnsweringStream(sdk.httpx.AsyncByteStream):  # type: ignore[misc]  # Its type depends on the SDK.
    """The event stream that answers a POST; when it breaks off unanswered, it ends with an answer."""

    def __init__(self, response: Any, request: bytes) -> None:
        self._inner = response.stream
        self._request = request
        # A stream with event ids is one that 1.x resumes by itself; in a compressed one we cannot write.
        self._is_ours = not response.headers.get("content-encoding")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        text = "SSE stream ended without a response"
        try:
            async for chunk in self._inner:
                if b"id:" in chunk and any(line.startswith(b"id:") for line in chunk.splitlines()):
                    self._is_ours = False
                yield chunk
        except sdk.httpx.TransportError as error:
            if not self._is_ours:
                raise
            text = describe_transport_error(error)[1]
        request_id = answers.request_id_in(self._request)
        if self._is_ours and request_id is not None:
            answer = answers.error(request_id, answers.CONNECTION_LOST, text, answers.LOST)
            yield f"\n\nevent: message\ndata: {answer}\n\n".encode()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()


class _WatchedAuth(sdk.httpx.Auth):  # type: ignore[misc]  # Its type depends on the SDK.
    """An auth object that shows when it waits for a person, or for another request that does."""

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner = inner
        self._link = link

    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:
        """Run the flow of the auth object."""
        flow = self._inner.async_auth_flow(request)
        try:
            with self._thinking():
                outgoing = await flow.__anext__()
            while True:
                response = yield outgoing
                with self._thinking():
                    outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    @contextmanager
    def _thinking(self) -> Iterator[None]:
        """Show `authorize` when the auth object takes its time between two requests of its own."""
        probe = self._link.probe
        if self._link.is_open:
            yield
            return
        before = probe.phase

        def authorize() -> None:
            probe.phase = Phase.AUTHORIZE

        timer = asyncio.get_running_loop().call_later(AUTHORIZE_AFTER_S, authorize)
        try:
            yield
        finally:
            timer.cancel()
            probe.phase = before
