"""What an exception of the SDK means: why an opening failed, and whether a call may have run."""

from __future__ import annotations

from enum import Enum

import anyio

from ..vocabulary import OpenFailure
from . import sdk

_CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class CallFailure(str, Enum):
    """What a failed call means for the caller and for the session."""

    SERVER = "server"
    """The server answered with a JSON-RPC error: raise it unchanged."""
    NOT_RUN = "not_run"
    """There is proof that the server did not run the call."""
    LOST = "lost"
    """The connection broke; the server may have run the call."""
    TIMEOUT = "timeout"
    """The SDK's own read timeout."""
    OTHER = "other"
    """Something else, on our side."""


_CONNECTION_CLOSED = -32000
_TIMEOUTS = frozenset({-32001, 408})
_SESSION_GONE = frozenset({-32600, 32600})


def is_mcp_error(exc: BaseException) -> bool:
    """Return whether `exc` is the SDK's JSON-RPC error, `MCPError` or `McpError`."""
    return isinstance(exc, sdk.MCPError)


def unwrap(exc: BaseException) -> BaseException:
    """Return the exception that says most in a group, however deep; `exc` itself when it is no group."""
    # By attribute: the class is `exceptiongroup`'s on Python 3.10.
    while leaves := getattr(exc, "exceptions", ()):
        telling = [leaf for leaf in leaves if not isinstance(leaf, _CLOSED)]
        exc = (telling or leaves)[0]
    return exc


def classify_opening(exc: BaseException) -> tuple[OpenFailure, str]:
    """Return why an opening failed, and a sentence without secrets."""
    leaf = unwrap(exc)
    if isinstance(leaf, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return OpenFailure.COMMAND, f"the command could not be started: {leaf.strerror}"
    return OpenFailure.OTHER, type(leaf).__name__


def classify_call(exc: BaseException) -> CallFailure:
    """Return what a failed call means."""
    leaf = unwrap(exc)
    if isinstance(leaf, sdk.httpx.ConnectError):
        return CallFailure.NOT_RUN
    if isinstance(leaf, (*_CLOSED, OSError)):
        return CallFailure.LOST
    if isinstance(leaf, sdk.httpx.TransportError):
        return CallFailure.LOST
    if not isinstance(leaf, sdk.MCPError):
        return CallFailure.OTHER
    code, message = _error(leaf)
    if code in _SESSION_GONE and _says_session_gone(message):
        return CallFailure.NOT_RUN
    if code == _CONNECTION_CLOSED and message == "Connection closed":
        return CallFailure.LOST
    if code in _TIMEOUTS:
        return CallFailure.TIMEOUT
    return CallFailure.SERVER


def session_is_gone(exc: BaseException) -> bool:
    """Return whether the session cannot be used any more after `exc` and must be replaced."""
    return classify_call(exc) in (CallFailure.NOT_RUN, CallFailure.LOST)


def _error(exc: BaseException) -> tuple[int, str]:
    error = getattr(exc, "error", None)
    return int(getattr(error, "code", 0)), str(getattr(error, "message", ""))


def _says_session_gone(message: str) -> bool:
    words = message.lower()
    return "session" in words and ("terminated" in words or "not found" in words)
