"""The body of a request: its media type, its encoding, and how large it may be."""

from __future__ import annotations

import zlib

from .errors import BadInputError
from .parse import JSON, PROTOBUF

MAX_BODY_BYTES = 16 * 2**20
"""Largest body on the wire. Default exporters send about 0.2 MB."""
MAX_DECODED_BYTES = 64 * 2**20
"""Largest body after decompression."""


def media_type(content_type: str) -> str:
    """Return the body's media type.

    Raises:
        BadInputError: It is neither protobuf nor JSON.
    """
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind not in (PROTOBUF, JSON):
        raise BadInputError(f"Content-Type must be {PROTOBUF} or {JSON}; got {kind[:60] or 'none'}", 415)
    return kind


def decompress(body: bytes, encoding: str, *, limit: int = MAX_DECODED_BYTES) -> bytes:
    """Return the body as it was before compression.

    Args:
        body: As it came over the wire.
        encoding: The `Content-Encoding` header; empty for none.
        limit: Largest result in bytes; no more is ever unpacked.

    Raises:
        BadInputError: The encoding is not known, the data are broken or unpack to too much.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadInputError(f"Content-Encoding must be gzip, deflate or none; got {encoding[:60]}", 415)
    unpacked = bytearray()
    while body:  # A gzip file may have several members.
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS)
        try:
            unpacked += unpacker.decompress(body, limit + 1 - len(unpacked))
        except zlib.error as error:
            raise BadInputError(f"the body is not valid {encoding}: {error}") from None
        if len(unpacked) > limit:
            raise BadInputError(f"the body unpacks to more than {limit} bytes", 413)
        if not unpacker.eof:
            raise BadInputError(f"the body is not valid {encoding}: it ends too early")
        body = unpacker.unused_data
    return bytes(unpacked)
