"""A real authorization server, the SDK's own, before a real MCP server, in this process; and its clients."""

from __future__ import annotations

import http.client
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn

from instrumented_sessions.transports import sdk
from tests.servers import toolbox

LIMIT_S = 60.0
MARK = "s3cr3t"
"""In every secret that is planted, so that whoever looks for one finds all."""
PRIVATE = "pr1vate"
"""What a program tells a tool, and a tool the program: the SDK may log it, we record it nowhere."""

IS_2 = sdk.SDK_GENERATION == 2
server_provider: Any = sdk.module("server.auth.provider")
settings: Any = sdk.module("server.auth.settings")
VALIDATES = "validate_token_resource" in settings.AuthSettings.model_fields
client: Any = sdk.module("client.auth")
shared: Any = sdk.module("shared.auth")


class Grants:
    """The authorization server's memory: who is registered, and what was granted."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.codes: dict[str, Any] = {}
        self.tokens: dict[str, Any] = {}
        self.secrets: set[str] = set()
        """Every code and token that was ever given out."""

    def _new(self, kind: str) -> str:
        secret = f"{MARK}-{kind}-{secrets.token_urlsafe(24)}"
        self.secrets.add(secret)
        return secret

    async def get_client(self, client_id: str) -> Any:
        return self.clients.get(client_id)

    async def register_client(self, client_info: Any) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: Any, params: Any) -> str:
        code = server_provider.AuthorizationCode(
            code=self._new("code"),
            scopes=params.scopes or [],
            expires_at=time.time() + 300,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
        )
        self.codes[code.code] = code
        found: str = server_provider.construct_redirect_uri(
            str(params.redirect_uri), code=code.code, state=params.state
        )
        return found

    async def load_authorization_code(self, client: Any, authorization_code: str) -> Any:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client: Any, authorization_code: Any) -> Any:
        del self.codes[authorization_code.code]
        token = server_provider.AccessToken(
            token=self._new("token"), client_id=client.client_id, scopes=authorization_code.scopes
        )
        self.tokens[token.token] = token
        return shared.OAuthToken(access_token=token.token, token_type="Bearer", expires_in=3600)

    async def load_access_token(self, token: str) -> Any:
        return self.tokens.get(token)

    async def load_refresh_token(self, client: Any, refresh_token: str) -> Any:
        return None


@contextmanager
def running() -> Iterator[tuple[str, Grants]]:
    """Serve the tests' tools over HTTP to those who were granted access; yield the address and the grants."""
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    grants = Grants()
    tools = toolbox.build(
        auth_server_provider=grants,
        auth=settings.AuthSettings(
            issuer_url=base,
            resource_server_url=f"{base}/mcp",
            client_registration_options=settings.ClientRegistrationOptions(enabled=True),
            # Newer SDKs warn when it is not set.
            **({"validate_token_resource": False} if VALIDATES else {}),
        ),
    )
    config = uvicorn.Config(tools.streamable_http_app(), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="authorization-server")
    thread.start()
    try:
        yield f"{base}/mcp", grants
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listener.close()


class Storage:
    """Keeps tokens in memory, as the SDK wants it."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


def provider(address: str, person: Callable[[], None] = lambda: None) -> Any:
    """Return the SDK's OAuth provider; `person` blocks until there is consent, as `input()` does."""
    sent_back: dict[str, list[str]] = {}

    async def redirect(url: str) -> None:
        parts = urlsplit(url)
        browser = http.client.HTTPConnection(parts.netloc, timeout=LIMIT_S)
        browser.request("GET", f"{parts.path}?{parts.query}")
        location = browser.getresponse().headers["location"]
        browser.close()
        sent_back.update(parse_qs(urlsplit(location).query))

    async def callback() -> Any:
        person()
        (code,), (state,) = sent_back["code"], sent_back["state"]
        if not IS_2:
            return code, state
        more = {"iss": sent_back["iss"][0]} if "iss" in sent_back else {}
        return client.AuthorizationCodeResult(code=code, state=state, **more)

    return client.OAuthClientProvider(
        server_url=address,
        client_metadata=shared.OAuthClientMetadata(
            client_name="tests",
            redirect_uris=["http://127.0.0.1:1/callback"],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
        ),
        storage=Storage(),
        redirect_handler=redirect,
        callback_handler=callback,
    )
