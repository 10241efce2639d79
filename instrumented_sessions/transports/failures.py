"""What an exception of the SDK means: why an opening failed, and whether a call may have run."""

from __future__ import annotations

from enum import Enum

import anyio

from ..vocabulary import OpenFailure
from . import answers, sdk
from .http_failures import Evidence, describe_transport_error, is_unsent


class NotSent(anyio.BrokenResourceError):
    """The connection was gone before the first byte of the message was written."""


class CallFailure(str, Enum):
    """What a failed call means for its caller."""

    SERVER = "server"
    """The server answered with a JSON-RPC error: raise it unchanged."""
    NOT_RUN = "not_run"
    """There is proof that the server did not run the call."""
    LOST = "lost"
    """The connection broke, or the answer did; the server may have run the call."""
    TIMEOUT = "timeout"
    """The SDK's own read timeout; the server may have run the call."""
    OTHER = "other"
    """Something else, on our side."""


_EVIDENCE = "instrumented_sessions_evidence"
_CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
_TIMEOUT = -32001 if sdk.SDK_GENERATION == 2 else 408
_SESSION_GONE = (-32600, 32600, -32001)  # 2.x servers; the 1.x SDK; older and other servers.


def is_mcp_error(exc: BaseException) -> bool:
    """Return whether `exc` is the SDK's JSON-RPC error, `MCPError` or `McpError`."""
    return isinstance(exc, sdk.MCPError)


def unwrap(exc: BaseException) -> BaseException:
    """Return the exception in a group, however deep, that says most; `exc` itself when it is no group."""
    # By attribute: the class is `exceptiongroup`'s on Python 3.10.
    while leaves := getattr(exc, "exceptions", ()):
        exc = min(leaves, key=_says_little)
    return exc


def _says_little(exc: BaseException) -> int:
    """Order the members of a group: what broke, before what broke of it."""
    leaf = unwrap(exc)
    if isinstance(leaf, _CLOSED):
        return 2
    return 1 if is_mcp_error(leaf) or not isinstance(leaf, Exception) else 0


def note_evidence(exc: BaseException, evidence: Evidence) -> None:
    """Keep with `exc` what a transport has seen and the exception does not say, for `classify_opening`."""
    exc.__dict__[_EVIDENCE] = evidence


def classify_opening(exc: BaseException) -> Evidence:
    """Return why an opening failed, and a sentence without secrets.

    Any exception will do; those of our own transports carry what these have seen.
    """
    leaf = unwrap(exc)
    evidence = leaf.__dict__.get(_EVIDENCE)
    if evidence is not None:
        category, text = evidence
        return OpenFailure(category), str(text)
    status = getattr(getattr(leaf, "response", None), "status_code", None)
    if isinstance(leaf, sdk.httpx.TransportError):
        return describe_transport_error(leaf)
    if isinstance(status, int):
        return OpenFailure.HTTP, f"the server answered with HTTP {status}"
    if isinstance(leaf, sdk.OAuthFlowError):
        return OpenFailure.UNAUTHORIZED, f"authorization failed: {type(leaf).__name__}"
    if isinstance(leaf, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return OpenFailure.COMMAND, f"{leaf.filename!r} could not be started: {leaf.strerror}"
    if is_mcp_error(leaf):
        return _describe_answer(leaf)
    if isinstance(leaf, RuntimeError) and "protocol version" in str(leaf):
        return OpenFailure.PROTOCOL, f"no protocol version in common: {leaf}"
    if isinstance(leaf, (ConnectionError, *_CLOSED)):
        return OpenFailure.UNREACHABLE, "the connection was closed before the server answered"
    if isinstance(leaf, ValueError):
        return OpenFailure.PROTOCOL, "the server's answer is not MCP"
    return OpenFailure.OTHER, f"the opening failed with {type(leaf).__name__}"


def _describe_answer(exc: BaseException) -> Evidence:
    code, text = _error(exc)
    if code == answers.CONNECTION_LOST:
        return OpenFailure.UNREACHABLE, "the connection was closed before the server answered"
    if code == answers.PARSE_ERROR:
        return OpenFailure.PROTOCOL, "the server's answer is not a JSON-RPC message"
    if code == _TIMEOUT:
        return OpenFailure.UNREACHABLE, "the server did not answer the handshake"
    return OpenFailure.PROTOCOL, f"the server refused the handshake: {text} ({code})"


def classify_call(exc: BaseException) -> CallFailure:
    """Return what a failed call means for its caller."""
    leaf = unwrap(exc)
    if isinstance(leaf, NotSent) or is_unsent(leaf):
        return CallFailure.NOT_RUN
    if isinstance(leaf, (*_CLOSED, ConnectionError, BrokenPipeError, sdk.httpx.TransportError)):
        return CallFailure.LOST
    if not is_mcp_error(leaf):
        return CallFailure.OTHER
    code, text = _error(leaf)
    fate = answers.fate_of(getattr(getattr(leaf, "error", None), "data", None))
    if fate is not None:
        return CallFailure(fate)
    if code in _SESSION_GONE and _says_session_gone(text):
        return CallFailure.NOT_RUN
    if code == answers.CONNECTION_LOST and text.startswith(("Connection closed", "SSE stream ")):
        # 2.x makes this of whatever broke the write, and keeps that as the context.
        return CallFailure.NOT_RUN if isinstance(leaf.__context__, NotSent) else CallFailure.LOST
    if code == _TIMEOUT and ("timed out" in text.lower()):
        return CallFailure.TIMEOUT
    return CallFailure.SERVER


def may_be_the_sessions(exc: BaseException) -> bool:
    """Return whether an error out of the program's own function can come from the session at all."""
    leaf = unwrap(exc)
    return isinstance(leaf, _CLOSED) or is_mcp_error(leaf)


def session_is_gone(exc: BaseException) -> bool:
    """Return whether the session cannot be used any more after `exc` and must be replaced.

    A call whose own response stream broke off is lost, but its session may be well.
    """
    failure = classify_call(exc)
    if failure is not CallFailure.LOST:
        return failure is CallFailure.NOT_RUN
    leaf = unwrap(exc)
    return not is_mcp_error(leaf) or _error(leaf)[1].startswith("Connection closed")


def _error(exc: BaseException) -> tuple[int, str]:
    error = getattr(exc, "error", None)
    return int(getattr(error, "code", 0)), str(getattr(error, "message", ""))


def _says_session_gone(text: str) -> bool:
    words = text.lower()
    return "session" in words and any(
        end in words for end in ("terminated", "not found", "expired", "invalid")
    )
