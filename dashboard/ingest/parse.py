"""Bytes to rows: chooses the encoding; pure, and safe to run in any thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..rows import Batch
from . import json_encoding, protobuf_encoding

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_PARSERS: dict[tuple[str, str], Callable[[bytes], Batch]] = {
    (PROTOBUF, "traces"): protobuf_encoding.traces,
    (PROTOBUF, "metrics"): protobuf_encoding.metrics,
    (PROTOBUF, "logs"): protobuf_encoding.logs,
    (JSON, "traces"): json_encoding.traces,
    (JSON, "metrics"): json_encoding.metrics,
    (JSON, "logs"): json_encoding.logs,
}


def parse(signal: Signal, media_type: str, body: bytes) -> Batch:
    """Return the rows of one uncompressed OTLP request.

    Args:
        signal: What the request is about.
        media_type: `application/x-protobuf` or `application/json`.
        body: The message.

    Raises:
        BadInputError: The body is not such a message; says where it goes wrong.
    """
    return _PARSERS[media_type, signal](body)
