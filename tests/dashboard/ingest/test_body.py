"""dashboard/ingest/body.py"""

from __future__ import annotations

import gzip
import zlib

import pytest
from instrumented_sessions_dashboard.ingest import BadInputError
from instrumented_sessions_dashboard.ingest.body import decompress, media_type


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"plain", ""),
        (b"plain", "identity"),
        (gzip.compress(b"plain", mtime=0), "gzip"),
        (gzip.compress(b"pl", mtime=0) + gzip.compress(b"ain", mtime=0), "GZip"),
        (zlib.compress(b"plain"), "deflate"),
    ],
)
def test_bodies_are_unpacked(body: bytes, encoding: str) -> None:
    """Every encoding that OTLP exporters use gives the body back."""
    assert decompress(body, encoding) == b"plain"


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (b"plain", "gzip", 400, "not valid gzip"),
        (gzip.compress(b"plain", mtime=0)[:-9], "gzip", 400, "ends too early"),
        (b"plain", "br", 415, "must be gzip, deflate or none; got br"),
        (gzip.compress(bytes(50_000_000)), "gzip", 413, "more than 1000 bytes"),
    ],
)
def test_bodies_that_cannot_be_unpacked_say_why(
    body: bytes, encoding: str, status: int, message: str
) -> None:
    """Broken, unknown and exploding bodies are refused, each with its status."""
    with pytest.raises(BadInputError, match=message) as caught:
        decompress(body, encoding, limit=1_000)
    assert caught.value.status == status


def test_other_media_types_are_refused() -> None:
    """Only the two of OTLP/HTTP are taken, with or without parameters."""
    assert media_type("application/json; charset=utf-8") == "application/json"
    with pytest.raises(BadInputError, match="Content-Type must be"):
        media_type("text/plain")
