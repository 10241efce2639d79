"""Who may ask: an ASGI layer around everything, ingest included.

Against DNS rebinding, the `Host` must be one of ours. Against other sites in the same browser, a
foreign `Origin` is refused. On any address but this machine's own, a token is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "instrumented_sessions_dashboard"
OPEN_PATHS = ("/healthz", "/readyz")
"""What needs no token: probes send none, and learn nothing but that it runs."""

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_CACHE_CONTROL = "no-store"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Return whether an address reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> frozenset[str]:
    """Return the names under which a server that listens on `host` may be asked for."""
    if is_loopback(host):
        return _LOOPBACK_NAMES | {host.lower()}
    return _LOOPBACK_NAMES | {host.lower(), socket.gethostname().lower()}


class Guard:
    """Refuses requests from elsewhere and adds security headers to every answer.

    Args:
        app: What is guarded.
        host: The address it listens on.
        token: The secret that has to be shown; None for none.
        allowed_hosts: More names it may be asked for, for use behind a proxy.

    Raises:
        ValueError: `host` is not this machine's own and there is no token.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, token: str | None = None, allowed_hosts: Iterable[str] = ()
    ) -> None:
        if not token and not is_loopback(host):
            raise ValueError(
                f"listening on {host} needs a token: anybody who reaches it could read everything"
            )
        self._app = app
        self._names = names_of(host) | {name.lower() for name in allowed_hosts}
        # Under an address of the machine any of its addresses is ours; a rebinding page has a name.
        self._any_address = not is_loopback(host)
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", _CACHE_CONTROL)
            await send(message)

        headers = Headers(scope=scope)
        answer = self._foreign(scope, headers) or self._without_token(scope, headers)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse(f"this server is not {host[:100] or 'nobody'}", 421)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return PlainTextResponse("requests from other sites are refused", 403)
        # A browser tells where a request comes from even where it sends no Origin. Links may lead here.
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and not (
            scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        ):
            return PlainTextResponse("requests from other sites are refused", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        if parts.username is not None or parts.path:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = [value for name, value in query if name == "token"]
        if shown and scope["method"] in ("GET", "HEAD"):
            if not self._matches(shown[0]):
                return _unauthorized("the token in the link is wrong")
            return self._into_cookie(scope, headers, [(n, v) for n, v in query if n != "token"])
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(credential.strip()):
            return None
        if hmac.compare_digest(
            _cookie(headers, self._cookie_name(scope)).encode(), self._cookie_value().encode()
        ):
            return None
        if _is_from_elsewhere(headers):
            return _go_on(_target(scope, query))
        return _unauthorized("open the link with ?token=…, or send Authorization: Bearer …")

    def _into_cookie(self, scope: Scope, headers: Headers, rest: list[tuple[str, str]]) -> Response:
        """Move the token from the address to a cookie, so that it is in no history, log or Referer."""
        target = _target(scope, rest)
        answer = _go_on(target) if _is_from_elsewhere(headers) else RedirectResponse(target, 303)
        answer.set_cookie(
            self._cookie_name(scope),
            self._cookie_value(),
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return answer

    def _matches(self, shown: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(shown.encode(), self._token)

    def _cookie_name(self, scope: Scope) -> str:
        """Return a name with the port in it: browsers share cookies between the ports of a host."""
        server = scope.get("server")
        return f"{COOKIE}_{server[1]}" if server else COOKIE

    def _cookie_value(self) -> str:
        assert self._token is not None
        return hmac.new(self._token, b"dashboard cookie", hashlib.sha256).hexdigest()


def _is_from_elsewhere(headers: Headers) -> bool:
    """Return whether a link on another site leads here, which comes without the strict cookie."""
    return headers.get("sec-fetch-site") == "cross-site"


def _go_on(target: str) -> Response:
    """Return a page that goes on to `target`, with the strict cookie; a redirect would go without it."""
    return HTMLResponse(
        f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(target)}">'
        "<title>Dashboard</title>"
    )


def _target(scope: Scope, query: list[tuple[str, str]]) -> str:
    """Return the address that is asked for, on this server, with another query."""
    path = quote(scope["path"]) if not scope["path"].startswith("//") else "/"
    return f"{path}?{urlencode(query)}" if query else path


def _cookie(headers: Headers, name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _unauthorized(text: str) -> Response:
    return PlainTextResponse(text, 401, headers={"www-authenticate": "Bearer"})
