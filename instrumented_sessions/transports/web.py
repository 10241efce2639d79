"""The HTTP client of a connection: sees what the SDK hides, and keeps one bad answer from harming the rest.

In the SDK a request that cannot be sent, or a body that breaks off, ends the session of everybody who
shares it; on 1.x some of them leave their caller waiting for ever. Here each gets an answer of its own.
"""

from __future__ import annotations

import os
from typing import Any

from ..vocabulary import Phase
from . import answers, sdk
from .authorizing import watched_auth
from .elsewhere import in_thread
from .http_failures import content_type, describe_response, describe_transport_error, is_unsent
from .stand_ins import AnsweringStream, error, event, response, stand_in
from .streams import Link

CLOSING_LIMIT_S = 2.0
"""Limit of the request that tells the server of our closing, in seconds."""

_REDIRECT_LIMIT = 5
_RESUME_ATTEMPTS = 2  # After so many 1.x gives up without a word.


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
        auth: The auth object.
        options: Those of the HTTP library's client; `verify` is to be `await tls_context()`, because it
            makes one where it is called otherwise.
    """

    def __init__(self, link: Link, *, answers_on_post: bool, auth: Any = None, **options: Any) -> None:
        super().__init__(auth=watched_auth(auth, link), **options)
        self._link = link
        self._answers_on_post = answers_on_post
        self._resuming: dict[str, tuple[Any, int]] = {}  # By event id: the request, and failed attempts.

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request; once the session is open, what goes wrong with it becomes its answer."""
        link = self._link
        if link.is_closing:
            limits = dict.fromkeys(("connect", "read", "write", "pool"), CLOSING_LIMIT_S)
            request.extensions = {**request.extensions, "timeout": limits}
            return await super().send(request, **options)
        if not link.is_open:
            request.extensions = {**request.extensions, "trace": self._trace}
        try:
            real = await self._send_within_origin(request, options)
            if request.method == "POST" and self._answers_on_post:
                if content_type(real) == "application/json" or real.status_code == 400:
                    await real.aread()  # Here, where a broken body can still be given an answer.
                elif sdk.SDK_GENERATION == 1 and content_type(real) == "text/event-stream":
                    real.stream = AnsweringStream(real, self._resumable)
        except sdk.httpx.TransportError as failure:
            found = self._unanswered(request, failure)
            if found is None:
                raise
            return found
        found = self._instead(request, real)
        if found is not None:
            await real.aclose()
            return found
        return real

    async def _trace(self, name: str, info: Any) -> None:
        if self._link.probe.phase is Phase.CONNECT and name.endswith("send_request_headers.started"):
            self._link.probe.phase = Phase.NEGOTIATE

    async def _send_within_origin(self, request: Any, options: dict[str, Any]) -> Any:
        real = await super().send(request, **options)
        for _ in range(0 if sdk.FOLLOWS_REDIRECTS else _REDIRECT_LIMIT):
            following = real.next_request
            if following is None or not _is_same_origin(request, following):
                break
            await real.aclose()
            real = await super().send(following, **options)
        return real

    def _unanswered(self, request: Any, failure: Exception) -> Any:
        """Return what the SDK should see of a request that got no response; None for the failure itself."""
        link = self._link
        if not link.is_open:
            link.evidence = describe_transport_error(failure)
            if request.method == "POST" and not self._answers_on_post:
                self._give_up(failure)
            return None
        if request.method != "POST":
            return self._not_resumed(request, failure)
        if not self._answers_on_post:
            link.ended(failure)
            return response(request, 202)
        _, text = describe_transport_error(failure)
        fate = answers.NOT_RUN if is_unsent(failure) else answers.LOST
        return error(request, answers.CONNECTION_LOST, text, fate)

    def _instead(self, request: Any, real: Any) -> Any:
        """Return what the SDK should see instead of a response; None for the response itself."""
        link = self._link
        if real.next_request is not None and _is_same_origin(request, real.next_request):
            return None  # The SDK follows it.
        if not link.is_open and (request.method == "POST" or not self._answers_on_post):
            link.evidence = describe_response(real, self._answers_on_post)
            link.secrets.keep({real.headers.get("location", "")})
        if request.method != "POST":
            return self._not_resumed(request, RefusedByServer(real.status_code)) if real.is_error else None
        if self._answers_on_post:
            return stand_in(request, real, link.is_open)
        if real.status_code >= 300:
            # The SDK would log it, write nothing more and leave its callers waiting.
            self._give_up(RefusedByServer(real.status_code))
            return response(request, 202)
        return None

    def _give_up(self, failure: Exception) -> None:
        self._link.ended(failure)
        self._link.abort()

    def _resumable(self, event_id: str, request_id: Any) -> None:
        self._resuming[event_id] = (request_id, 0)

    def _not_resumed(self, request: Any, failure: Exception) -> Any:
        """Return the answer for a caller whose event stream 1.x has failed to resume for the last time."""
        event_id = request.headers.get("last-event-id")
        if event_id not in self._resuming:
            return None
        request_id, failures = self._resuming.pop(event_id)
        if failures + 1 < _RESUME_ATTEMPTS:
            self._resuming[event_id] = (request_id, failures + 1)
            return None
        return response(request, 200, event(request_id, f"not resumed: {failure}"), "text/event-stream")


async def tls_context() -> Any:
    """Return the process's TLS context, the HTTP library's own.

    Made once, in a thread: it reads files for 30 ms, which is too long for the portal's loop.
    """
    places = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    context = _tls_contexts.get(places)
    if context is None:
        context = await in_thread(sdk.httpx.create_ssl_context, "instrumented-sessions-tls")
        _tls_contexts.clear()  # It is as good as never that a program changes the places.
        _tls_contexts[places] = context
    return context


_tls_contexts: dict[tuple[str | None, str | None], Any] = {}
"""By the places that it was read from."""


def _is_same_origin(sent: Any, following: Any) -> bool:
    """Return whether a redirect keeps method, server and credentials, as newer SDKs demand."""
    return bool(
        sent.method == following.method
        and (sent.url.scheme, sent.url.host, sent.url.port)
        == (following.url.scheme, following.url.host, following.url.port)
        and following.url.userinfo in (b"", sent.url.userinfo)
    )
