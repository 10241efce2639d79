"""What is secret of a connection, and how it is taken out of errors and of the SDK's logs."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator

import pytest

from instrumented_sessions.transports import sdk, secrets
from instrumented_sessions.transports.secrets import Secrets

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

SDK_LOGGER = logging.getLogger("mcp.client.streamable_http")


@pytest.fixture
def kept() -> Iterator[Secrets]:
    kept = Secrets()
    yield kept
    kept.forget()


def test_secrets_are_taken_out_of_the_whole_chain(kept: Secrets) -> None:
    """Causes, contexts and members of groups included; short words stay."""
    kept.keep(["s3cret", "yes", ""])
    inner = ValueError("token s3cret", 7, {"of": "s3cret"})
    outer = RuntimeError("at http://x?key=s3cret and yes")
    outer.__cause__ = ExceptionGroup("all", [inner])
    inner.__context__ = outer  # A circle.
    kept.scrub(outer)
    shown = "".join(traceback.format_exception(outer))
    assert "s3cret" not in shown
    assert "yes" in shown
    assert inner.args == ("token ***", 7, "***")


def test_answer_of_a_server_loses_secrets_too(kept: Secrets) -> None:
    """In the error object as in its text."""
    kept.keep(["s3cret"])
    data = sdk.types.ErrorData(code=-32602, message="no s3cret", data=["s3cret"])
    error = (
        sdk.MCPError(data.code, data.message, data.data) if sdk.SDK_GENERATION == 2 else sdk.MCPError(data)
    )
    kept.scrub(error)
    assert "s3cret" not in repr(error) + str(error) + repr(error.error)
    assert error.error.message == "no ***"


def test_logs_of_the_sdk_show_no_secret_of_an_open_connection(
    kept: Secrets, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in arguments nor in exceptions; when the connection is gone, its texts are free again."""
    kept.keep(["s3cret"])
    kept.keep_for_now(["signature-1"])
    kept.keep_for_now(["signature-2"])
    secret = "s3" + "cret"  # A traceback shows the line.
    try:
        raise ValueError(secret)
    except ValueError:
        SDK_LOGGER.warning("sent %s with %s and %s", secret, "signature-1", "signature-2", exc_info=True)
    assert "sent *** with signature-1 and ***" in caplog.text
    assert "s3cret" not in caplog.text
    kept.forget()
    SDK_LOGGER.warning("it is no s3cret any more")
    assert "s3cret" in caplog.text


def test_two_connections_may_have_the_same_secret(kept: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    """It stays secret until both are gone."""
    other = Secrets()
    for one in (kept, other):
        one.keep(["s3cret"])
    other.forget()
    SDK_LOGGER.warning("%s", "s3cret")
    assert "s3cret" not in caplog.text


def test_parts_of_what_was_given_are_secret() -> None:
    """A token behind its scheme, userinfo, values of a query, what follows an equals sign."""
    assert {"Bearer abcdefgh", "abcdefgh"} <= set(secrets.in_headers({"authorization": "Bearer abcdefgh"}))
    url = set(secrets.in_url("http://me:p%40ss@host/path?key=a%20b&c=d"))
    assert {"me", "p%40ss", "p@ss", "a%20b", "a b", "key=a%20b&c=d"} <= url
    assert not any("host" in text or "path" in text for text in url)
    assert set(secrets.in_args(["-m", "server", "--token=abcdefgh"])) == {"--token=abcdefgh", "abcdefgh"}
