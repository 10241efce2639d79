"""What HTTP statuses and exceptions mean; never in the library's own words, which may hold secrets."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..vocabulary import OpenFailure
from . import answers, sdk

Evidence = tuple[OpenFailure, str]
"""Why an opening failed, and a sentence without secrets."""

_STATUSES = {
    401: (OpenFailure.UNAUTHORIZED, "the server wants a credential, or a valid one (HTTP 401)"),
    403: (OpenFailure.FORBIDDEN, "the server does not allow this with this credential (HTTP 403)"),
    404: (OpenFailure.NOT_FOUND, "there is no MCP endpoint at this address (HTTP 404)"),
}
_UNSENT = tuple(
    getattr(sdk.httpx, name)
    for name in ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")
)


def bare_url(url: str) -> str:
    """Return `url` without what may be secret: userinfo, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def content_type(response: Any) -> str:
    """Return a response's content type without parameters, in lower case; empty when it has none."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def is_unsent(exc: BaseException) -> bool:
    """Return whether an exception of the HTTP library proves that nothing reached the server."""
    return isinstance(exc, _UNSENT)


def describe_response(response: Any, answers_on_post: bool) -> Evidence | None:
    """Return what a response means for an opening; None when it may be what an MCP server answers.

    Args:
        response: To one of the opening's first requests.
        answers_on_post: Whether answers come in the responses to POSTs, as in streamable HTTP.
    """
    status, kind = response.status_code, content_type(response)
    if status in _STATUSES:
        return _STATUSES[status]
    if response.next_request is not None:
        place = bare_url(str(response.next_request.url))
        return OpenFailure.HTTP, f"the server redirects to {place}, which was not followed (HTTP {status})"
    if not 200 <= status < 300:
        return OpenFailure.HTTP, f"the server answered with HTTP {status}"
    if response.request.method == "GET":
        if kind != "text/event-stream":
            return OpenFailure.PROTOCOL, f"the server answered with {kind or 'nothing'}, not an event stream"
    elif answers_on_post and answers.request_id_in(response.request) is not None:
        if status == 202:
            return OpenFailure.HTTP, "the server accepted the handshake without an answer (HTTP 202)"
        if kind not in ("application/json", "text/event-stream"):
            return OpenFailure.PROTOCOL, f"the server answered with {kind or 'nothing'}, which is not MCP"
    return None


def describe_transport_error(exc: BaseException) -> Evidence:
    """Return what an exception of the HTTP library means for an opening or a request."""
    if type(exc).__name__ == "SSEError":  # Of `httpx_sse` on 1.x.
        return OpenFailure.PROTOCOL, "the server's answer is not an event stream"
    if isinstance(exc, sdk.httpx.ConnectTimeout):
        return OpenFailure.UNREACHABLE, "the server did not accept the connection in time"
    if isinstance(exc, sdk.httpx.ConnectError):
        return OpenFailure.UNREACHABLE, f"no connection to the server{_system_reason(exc)}"
    if isinstance(exc, sdk.httpx.TimeoutException):
        return OpenFailure.UNREACHABLE, "the server did not answer in time"
    if isinstance(exc, sdk.httpx.RemoteProtocolError):
        if "closed connection" in str(exc):
            return OpenFailure.UNREACHABLE, "the connection broke off within an answer"
        if "disconnected" not in str(exc):
            return OpenFailure.PROTOCOL, "the server's answer is not HTTP"
    return OpenFailure.UNREACHABLE, "the connection was closed before an answer"


def _system_reason(exc: BaseException | None) -> str:
    """Return the system's reason for a failed connection, from wherever in the chain it is."""
    while exc is not None:
        for leaf in getattr(exc, "exceptions", (exc,)):
            if isinstance(leaf, OSError) and leaf.errno:
                # Names that do not resolve have negative numbers, and a text of their own.
                return f": {os.strerror(leaf.errno) if leaf.errno > 0 else leaf.strerror}"
        exc = exc.__cause__ or exc.__context__
    return ""
