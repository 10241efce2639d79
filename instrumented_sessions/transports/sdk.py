"""The MCP SDK that is installed, 1.x (1.24 or later) or 2.x: everything that differs between the two.

Its modules are loaded by name and typed as `Any`, because no static view fits both generations.
Nothing outside `transports` and `integrations` imports `mcp`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any


def _first(*names: str) -> Any:
    """Return the first of these modules that can be imported."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return importlib.import_module(names[-1])


mcp: Any = importlib.import_module("mcp")

SDK_GENERATION: int = 2 if hasattr(mcp, "Client") else 1
"""1 or 2."""

types: Any = _first("mcp_types", "mcp.types")
"""The protocol's types: `mcp_types` on 2.x, `mcp.types` on 1.x."""

httpx: Any = importlib.import_module("httpx2" if SDK_GENERATION == 2 else "httpx")
"""The HTTP library that the SDK uses: `httpx2` on 2.x, `httpx` on 1.x."""

# Imported with us: the SDK would do it at the first connection and the first structured result,
# on the loop, which would stand still for a tenth of a second.
for _name in ("httpcore2" if SDK_GENERATION == 2 else "httpcore", "jsonschema"):
    importlib.import_module(_name)

_exceptions: Any = importlib.import_module("mcp.shared.exceptions")
OAuthFlowError: type[Exception] = importlib.import_module("mcp.client.auth").OAuthFlowError
"""Base of what the SDK's OAuth provider raises."""

FOLLOWS_REDIRECTS: bool = hasattr(importlib.import_module("mcp.shared._httpx_utils"), "stream_within_origin")
"""Whether the SDK itself follows redirects within an endpoint's origin; older ones left it to the client."""

_session: Any = importlib.import_module("mcp.client.session")

MCPError: type[Exception] = _exceptions.MCPError if SDK_GENERATION == 2 else _exceptions.McpError
"""A JSON-RPC error, of the server or made by the SDK; both generations have `.error.code`."""

Client: Any = mcp.Client if SDK_GENERATION == 2 else None
"""`mcp.Client`; None on 1.x."""

ClientSession: Any = _session.ClientSession
SessionMessage: Any = importlib.import_module("mcp.shared.message").SessionMessage

MODERN_VERSIONS: frozenset[str] = frozenset(
    importlib.import_module("mcp_types.version").MODERN_PROTOCOL_VERSIONS if SDK_GENERATION == 2 else ()
)
"""Protocol versions without a handshake; none on 1.x."""

MODES: tuple[str, ...] = ("auto", "legacy", *sorted(MODERN_VERSIONS))
"""What a transport's `mode` may be."""


def timeout(seconds: float | None) -> Any:
    """Return `seconds` as the SDK wants them: a `timedelta` on 1.x."""
    if seconds is None or SDK_GENERATION == 2:
        return seconds
    return timedelta(seconds=seconds)


def parse_message(text: str | bytes) -> Any:
    """Return the JSON-RPC message in `text`.

    Raises:
        ValueError: It is not one.
    """
    if SDK_GENERATION == 2:
        return types.jsonrpc_message_adapter.validate_json(text, by_name=False)
    return types.JSONRPCMessage.model_validate_json(text)


def format_message(message: Any) -> str:
    """Return a JSON-RPC message as one line of JSON."""
    unset: Mapping[str, bool] = {"exclude_unset": True} if SDK_GENERATION == 2 else {"exclude_none": True}
    text: str = message.model_dump_json(by_alias=True, **unset)
    return text


def is_cancellation(message: Any) -> bool:
    """Return whether a JSON-RPC message tells the server that a request is not wanted any more."""
    message = getattr(message, "root", message)
    return getattr(message, "method", "") == "notifications/cancelled"


def page(cursor: str | None) -> Any:
    """Return the request parameters that ask for the page at `cursor`."""
    return types.PaginatedRequestParams(cursor=cursor)


def module(name: str) -> ModuleType:
    """Return the SDK's module `mcp.<name>`; for the parts that only one transport needs."""
    return importlib.import_module(f"mcp.{name}")
