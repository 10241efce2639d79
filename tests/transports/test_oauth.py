"""The SDK's own OAuth provider, against a server that asks for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from instrumented_sessions.transports import StreamableHTTPTransport, sdk
from instrumented_sessions.transports.failures import classify_opening
from instrumented_sessions.vocabulary import OpenFailure, Phase
from tests.servers import raw
from tests.transports.watching import GUARD_S, IS_2, Watch, call, opening_failure

auth: Any = sdk.module("client.auth")
shared: Any = sdk.module("shared.auth")


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


def protected(request: raw.Request) -> None:
    """An MCP server that is its own authorization server."""
    base = request.server.url("")

    def answer(body: dict[str, Any], status: int = 200) -> None:
        request.answer(status, json.dumps(body), content_type="application/json")

    if request.path.startswith("/.well-known/oauth-protected-resource"):
        answer({"resource": f"{base}/mcp", "authorization_servers": [base]})
    elif request.path.startswith("/.well-known/"):
        answer(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "registration_endpoint": f"{base}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            }
        )
    elif request.path == "/register":
        answer({**request.message, "client_id": "us"}, 201)
    elif request.path == "/token":
        answer({"access_token": "granted", "token_type": "Bearer", "expires_in": 3600})
    elif request.headers.get("authorization") != "Bearer granted":
        request.answer(401, www_authenticate="Bearer")
    else:
        raw.mcp()(request)


def provider(server: raw.Raw, person: Any) -> Any:
    metadata = shared.OAuthClientMetadata(
        client_name="tests",
        redirect_uris=["http://127.0.0.1:1/callback"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    state: list[str] = []

    async def redirect(url: str) -> None:
        state[:] = parse_qs(urlsplit(url).query)["state"]

    async def callback() -> Any:
        await person()
        if IS_2:
            return auth.AuthorizationCodeResult(code="code", state=state[0])
        return "code", state[0]

    return auth.OAuthClientProvider(
        server_url=server.url(),
        client_metadata=metadata,
        storage=Storage(),
        redirect_handler=redirect,
        callback_handler=callback,
    )


async def test_opening_is_in_authorize_until_a_person_grants_access() -> None:
    """The provider's wait shows, and the session opens with the token."""
    watch = Watch()
    waiting = anyio.Event()
    watch.probe.on_phase = lambda phase: waiting.set() if phase is Phase.AUTHORIZE else None
    with raw.Raw(protected) as server, anyio.fail_after(GUARD_S):
        transport = StreamableHTTPTransport(
            "x",
            server.url(),
            auth=provider(server, waiting.wait),
            mode="legacy",
            callback_loop=asyncio.get_running_loop(),
        )
        async with transport.connect() as client:
            assert waiting.is_set()
            assert watch.probe.phase is Phase.NEGOTIATE
            assert await call(client) == "ok"


async def test_second_opening_behind_the_first_is_in_authorize_too() -> None:
    """Who waits for the same consent is not taken for a hung server's victim."""
    granted = anyio.Event()
    both = anyio.Event()
    asked: list[int] = []
    with raw.Raw(protected) as server, anyio.fail_after(GUARD_S):
        shared_auth = provider(server, granted.wait)

        async def open_one(number: int) -> None:
            watch = Watch()

            def on_phase(phase: Phase) -> None:
                if phase is Phase.AUTHORIZE and number not in asked:
                    asked.append(number)
                    if len(asked) == 2:
                        both.set()

            watch.probe.on_phase = on_phase
            transport = StreamableHTTPTransport(
                "x",
                server.url(),
                auth=shared_auth,
                mode="legacy",
                callback_loop=asyncio.get_running_loop(),
            )
            async with transport.connect() as client:
                assert await call(client) == "ok"

        async with anyio.create_task_group() as group:
            group.start_soon(open_one, 1)
            group.start_soon(open_one, 2)
            await both.wait()
            granted.set()


@pytest.mark.scenario("S31")
async def test_refused_consent_is_unauthorized() -> None:
    """What the person says is no is a failure of its own, at once."""

    async def refuse() -> None:
        raise sdk.OAuthFlowError("access_denied")

    with raw.Raw(protected) as server:
        error = await opening_failure(
            StreamableHTTPTransport("x", server.url(), auth=provider(server, refuse), mode="legacy")
        )
    assert classify_opening(error)[0] is OpenFailure.UNAUTHORIZED
