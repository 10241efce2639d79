from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from instrumented_sessions.transports import sdk
from instrumented_sessions.transports.failures import (
    CallFailure,
    NotSent,
    classify_call,
    classify_opening,
    is_mcp_error,
    session_is_gone,
    unwrap,
)
from instrumented_sessions.vocabulary import OpenFailure
from tests.transports.watching import IS_2

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def mcp_error(code: int, message: str) -> Exception:
    if IS_2:
        return sdk.MCPError(code, message)
    return sdk.MCPError(sdk.types.ErrorData(code=code, message=message))


def test_unwrap_takes_what_broke_out_of_nested_groups() -> None:
    """The connection's failure says more than the streams and answers that broke of it."""
    real = sdk.httpx.ConnectError("no")
    group = ExceptionGroup(
        "outer",
        [
            anyio.ClosedResourceError(),
            ExceptionGroup("inner", [mcp_error(-32000, "Connection closed"), real]),
        ],
    )
    assert unwrap(group) is real


def test_unwrap_prefers_errors_to_cancellation() -> None:
    """A cancelled sibling is not the reason."""
    real = ValueError("no")
    assert unwrap(BaseExceptionGroup("", [KeyboardInterrupt(), real])) is real


def test_unwrap_returns_a_single_exception_itself() -> None:
    """Without a group there is nothing to do."""
    error = OSError("no")
    assert unwrap(error) is error


def test_mcp_errors_are_known() -> None:
    """By the class of the installed generation."""
    assert is_mcp_error(mcp_error(1, "x"))
    assert not is_mcp_error(ValueError())


@pytest.mark.parametrize(
    ("error", "failure", "is_gone"),
    [
        (mcp_error(-32000, "Connection closed"), CallFailure.LOST, True),
        (mcp_error(-32000, "SSE stream ended without a response"), CallFailure.LOST, False),
        (mcp_error(-32000, "the server's own"), CallFailure.SERVER, False),
        (mcp_error(-32600, "Session not found"), CallFailure.NOT_RUN, True),
        (mcp_error(32600, "Session terminated"), CallFailure.NOT_RUN, True),
        (mcp_error(-32600, "Invalid request"), CallFailure.SERVER, False),
        (mcp_error(-32602, "Session not found"), CallFailure.SERVER, False),
        (mcp_error(-32001 if IS_2 else 408, "Request 'tools/call' timed out"), CallFailure.TIMEOUT, False),
        (mcp_error(-32602, "bad"), CallFailure.SERVER, False),
        (anyio.ClosedResourceError(), CallFailure.LOST, True),
        (anyio.BrokenResourceError(), CallFailure.LOST, True),
        (ConnectionResetError(), CallFailure.LOST, True),
        (sdk.httpx.ReadError("x"), CallFailure.LOST, True),
        (sdk.httpx.ConnectError("x"), CallFailure.NOT_RUN, True),
        (sdk.httpx.PoolTimeout("x"), CallFailure.NOT_RUN, True),
        (NotSent(), CallFailure.NOT_RUN, True),
        (ValueError("ours"), CallFailure.OTHER, False),
        (TimeoutError(), CallFailure.OTHER, False),
        (FileNotFoundError(), CallFailure.OTHER, False),
    ],
)
def test_failed_call_is_classified(error: BaseException, failure: CallFailure, is_gone: bool) -> None:
    """What a failure means for the caller and for the session."""
    assert classify_call(error) is failure
    assert session_is_gone(error) == is_gone
    assert classify_call(ExceptionGroup("", [error])) is failure  # type: ignore[list-item]


def test_write_that_never_began_is_told_from_a_lost_answer() -> None:
    """2.x hides the broken write behind its own error, whose context still shows it."""
    error = mcp_error(-32000, "Connection closed")
    error.__context__ = NotSent()
    assert classify_call(error) is CallFailure.NOT_RUN


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (FileNotFoundError(2, "No such file", "tool"), OpenFailure.COMMAND),
        (PermissionError(13, "Permission denied", "tool"), OpenFailure.COMMAND),
        (sdk.httpx.ConnectError("x"), OpenFailure.UNREACHABLE),
        (sdk.httpx.ConnectTimeout("x"), OpenFailure.UNREACHABLE),
        (sdk.httpx.ReadTimeout("x"), OpenFailure.UNREACHABLE),
        (sdk.httpx.RemoteProtocolError("illegal status line"), OpenFailure.PROTOCOL),
        (mcp_error(-32000, "Connection closed"), OpenFailure.UNREACHABLE),
        (mcp_error(-32602, "Unsupported protocol version"), OpenFailure.PROTOCOL),
        (RuntimeError("Unsupported protocol version from the server: 1"), OpenFailure.PROTOCOL),
        (sdk.OAuthFlowError("denied"), OpenFailure.UNAUTHORIZED),
        (ConnectionResetError(), OpenFailure.UNREACHABLE),
        (anyio.EndOfStream(), OpenFailure.UNREACHABLE),
        (KeyError("what"), OpenFailure.OTHER),
    ],
)
def test_failed_opening_of_a_custom_transport_is_classified(error: Exception, category: OpenFailure) -> None:
    """Without any evidence the exception must do."""
    found, sentence = classify_opening(ExceptionGroup("", [error]))
    assert found is category
    assert sentence


def test_importing_the_core_does_not_load_servers() -> None:
    """The SDK is loaded; the parts of it that need a web server are its own matter."""
    code = "import instrumented_sessions.transports.sdk as sdk; print(sdk.SDK_GENERATION)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == str(sdk.SDK_GENERATION)
