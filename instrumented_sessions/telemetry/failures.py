"""How an error is named in telemetry: by class or code, never by the text of somebody else's message."""

from __future__ import annotations

from ..errors import SessionError, SessionOpenError, SessionTimeoutError
from ..vocabulary import Outcome

TOOL_ERROR = "tool_error"
"""What the MCP convention calls a result with `isError`: the call worked, the tool did not."""

_MAX_TEXT = 1_000


def rpc_status_code(error: BaseException | None) -> str | None:
    """Return the code of a JSON-RPC error of either SDK generation, None for other errors."""
    code = getattr(getattr(error, "error", None), "code", None)
    return str(code) if isinstance(code, int) else None


def error_type(error: BaseException | None, outcome: Outcome | None = None) -> str | None:
    """Return the value of `error.type`, None when nothing failed.

    It is the JSON-RPC code when the server answered with one, the category of a failed opening,
    `timeout` at a limit, else the error's class; without an error, the outcome.
    """
    if (code := rpc_status_code(error)) is not None:
        return code
    if isinstance(error, SessionOpenError):
        return str(error.category)
    if isinstance(error, SessionTimeoutError):
        return str(Outcome.TIMEOUT)
    if outcome in (Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.DEADLOCK, Outcome.REFUSED):
        return str(outcome)
    if error is not None:
        kind = type(error)
        return (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
    return str(outcome) if outcome is Outcome.ERROR else None


def description(error: BaseException | None) -> str | None:
    """Return the message of an error of ours; others may quote arguments or results and are left out."""
    return str(error)[:_MAX_TEXT] if isinstance(error, SessionError) else None
