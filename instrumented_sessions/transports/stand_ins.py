"""HTTP responses that the SDK gets to see in place of real ones that it deals with badly."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from . import answers, sdk
from .http_failures import content_type, describe_transport_error

_SESSION_LOST = re.compile(
    r"(no valid|invalid|unknown|expired) session|server not initialized"
    r"|session( id)?( is| has)?( been)? (not found|invalid|unknown|expired|terminated)",
    re.IGNORECASE,
)
"""How servers of several SDKs say that they do not know the session (any more)."""


def response(request: Any, status: int, text: str = "", kind: str = "application/json") -> Any:
    """Return a response to `request`."""
    headers = {"content-type": kind}
    return sdk.httpx.Response(status, headers=headers, content=text.encode(), request=request)


def error(request: Any, code: int, text: str, fate: str | None = None) -> Any:
    """Return a response with a JSON-RPC error; nobody waits for one to a notification."""
    request_id = answers.request_id_in(request)
    if request_id is None:
        return response(request, 202)
    return response(request, 200, answers.error(request_id, code, text, fate))


def event(request_id: Any, text: str) -> str:
    """Return a server-sent event with the error of a request whose answer was lost."""
    answer = answers.error(request_id, answers.CONNECTION_LOST, text, answers.LOST)
    return f"event: message\ndata: {answer}\n\n"


def stand_in(request: Any, real: Any, is_open: bool) -> Any:
    """Return what the SDK should see instead of the response to a POST; None when it deals with that well.

    Args:
        request: What was posted.
        real: The response; its body has been read if it is JSON, or its status is 400.
        is_open: Whether the handshake is done; before, an exception of the SDK does no harm.
    """
    status = real.status_code
    if status == 401 and is_open:
        # The credential has expired: the server has not run it, and a new opening brings new headers.
        text = "the server wants a new credential (HTTP 401)"
        return error(request, answers.CONNECTION_LOST, text, answers.NOT_RUN)
    if status == 400 and "mcp-session-id" in request.headers and _SESSION_LOST.search(real.text):
        # By the specification this is 404, which the SDK knows; many servers say 400 after a restart.
        return error(request, answers.INVALID_REQUEST, "Session not found", answers.NOT_RUN)
    if sdk.SDK_GENERATION == 2:
        return None
    return _stand_in_1(request, real, is_open)


def _stand_in_1(request: Any, real: Any, is_open: bool) -> Any:
    """1.x leaves the caller waiting after what it cannot read, and ends the session on a bad status."""
    status, kind = real.status_code, content_type(real)
    is_json = kind == "application/json"
    if status == 202 or 200 <= status < 300:
        if answers.request_id_in(request) is None:
            return None
        if status == 202:
            return error(request, answers.INVALID_REQUEST, "server answered a request with 202 Accepted")
        if is_json and not answers.is_message(real.content):
            return error(request, answers.PARSE_ERROR, "the answer is not a JSON-RPC message")
        if not is_json and kind != "text/event-stream":
            return error(request, answers.INVALID_REQUEST, f"Unexpected content type: {kind or 'none'}")
        return None
    if status == 404 or not is_open:
        return None  # 1.x says by itself that the session has ended; and it raises while opening.
    if is_json and answers.is_error(real.content) and answers.request_id_in(request) is not None:
        return response(request, 200, real.text)
    return error(request, answers.INTERNAL_ERROR, f"Server returned HTTP {status}")


class AnsweringStream(sdk.httpx.AsyncByteStream):  # type: ignore[misc]  # Its type depends on the SDK.
    """The event stream that answers a POST; when it breaks off unanswered, it ends with an answer.

    1.x would leave the caller waiting. A stream with event ids is one that it tries to resume.

    Args:
        real: The response whose stream this is.
        resumable: Called with the last event id and the request's id when the SDK will try to resume.
    """

    def __init__(self, real: Any, resumable: Callable[[str, Any], None]) -> None:
        self._inner = real.stream
        self._request = real.request
        self._is_plain = not real.headers.get("content-encoding")  # We cannot write into a compressed one.
        self._resumable = resumable

    async def __aiter__(self) -> AsyncIterator[bytes]:
        text = "SSE stream ended without a response"
        partial, event_id = b"", b""
        try:
            async for chunk in self._inner:
                *lines, partial = (partial + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"id:"):
                        event_id = line[3:].strip()
                yield chunk
        except sdk.httpx.TransportError as error:
            if not self._is_plain:
                raise
            text = describe_transport_error(error)[1]
        request_id = answers.request_id_in(self._request)
        if event_id:
            self._resumable(event_id.decode(errors="replace"), request_id)
        elif self._is_plain and request_id is not None:
            yield f"\n\n{event(request_id, text)}".encode()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()
