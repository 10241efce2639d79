"""JSON-RPC answers that we give in the server's place, where the SDK would leave a caller without one.

They carry what is known about the request, so that `failures.classify_call` need not guess.
"""

from __future__ import annotations

import json
from typing import Any

from . import sdk

CONNECTION_LOST = -32000
"""The code of an answer that stands for a connection that broke; the SDK's own choice."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

MARK = "instrumented_sessions"
"""The key in an answer's `data` under which `NOT_RUN` or `LOST` stands."""

NOT_RUN = "not_run"
LOST = "lost"


def error(request_id: Any, code: int, message: str, fate: str | None = None) -> str:
    """Return a JSON-RPC error in one line; `fate` says what became of the request."""
    body: dict[str, Any] = {"code": code, "message": message}
    if fate is not None:
        body["data"] = {MARK: fate}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": body})


def fate_of(data: object) -> str | None:
    """Return what an answer's `data` says about the request, when the answer is one of ours."""
    fate = data.get(MARK) if isinstance(data, dict) else None
    return fate if isinstance(fate, str) else None


def request_id_in(request: Any) -> Any:
    """Return the id of the JSON-RPC request in an HTTP request; None when it holds none."""
    try:
        message = json.loads(request.read())  # One made for a redirect has not been read yet.
    except ValueError:
        return None
    if isinstance(message, dict) and "method" in message:
        return message.get("id")
    return None


def is_message(content: bytes) -> bool:
    """Return whether an HTTP body is a JSON-RPC message."""
    try:
        sdk.parse_message(content)
    except ValueError:
        return False
    return True


def is_error(content: bytes) -> bool:
    """Return whether an HTTP body is a JSON-RPC error."""
    try:
        message = json.loads(content)
    except ValueError:
        return False
    return isinstance(message, dict) and isinstance(message.get("error"), dict)
