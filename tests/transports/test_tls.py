"""The TLS context of HTTP connections, which takes long to make."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from instrumented_sessions.transports import StreamableHTTPTransport, sdk, web
from tests import servers


async def test_context_is_made_once_and_not_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads files, wherever the machine keeps its certificates."""
    made: list[int] = []
    make = sdk.httpx.create_ssl_context

    def counted(*args: Any, **options: Any) -> Any:
        made.append(threading.get_ident())
        return make(*args, **options)

    monkeypatch.setattr(sdk.httpx, "create_ssl_context", counted)
    monkeypatch.setattr(web, "_tls_contexts", {})
    with servers.running("http") as server:
        for _ in range(2):
            async with StreamableHTTPTransport("x", server.url).connect() as client:
                await client.list_tools()
    assert len(made) == 1
    assert made[0] != threading.get_ident()
