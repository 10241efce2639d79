"""The three OTLP/HTTP endpoints: read, parse in a worker thread, hand to the store, answer by the protocol.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
import json
import time

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import ClientDisconnect

from ..rows import Batch
from ..store import StoreBusyError, StoreError
from ..wiring import Wiring
from .body import MAX_BODY_BYTES, decompress, media_type
from .errors import BadInputError
from .parse import JSON, PROTOBUF, SIGNALS, Signal, parse

BODY_TIMEOUT_S = 30.0
"""How long a body may take to arrive, in seconds."""
# A sender reads the answer when it has sent all; a little too much is read so that it learns why.
_MAX_DISCARDED_BYTES = 4 * MAX_BODY_BYTES
_RETRY_AFTER_S = 1
_RPC_INVALID_ARGUMENT, _RPC_INTERNAL, _RPC_UNAVAILABLE = 3, 13, 14

_RESPONSES = {
    "traces": (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
}


def router(wiring: Wiring) -> APIRouter:
    """Return the endpoints `/v1/traces`, `/v1/metrics` and `/v1/logs`."""
    routes = APIRouter(include_in_schema=False)
    for signal in SIGNALS:
        routes.add_api_route(f"/v1/{signal}", _endpoint(wiring, signal), methods=["POST"])
    return routes


def _endpoint(wiring: Wiring, signal: Signal):  # type: ignore[no-untyped-def]  # FastAPI reads the inner one.
    async def receive(request: Request) -> Response:
        try:
            kind = media_type(request.headers.get("content-type", ""))
        except BadInputError as error:
            return _refuse(JSON, error.status, str(error))
        try:
            body = await _read(request)
            encoding = request.headers.get("content-encoding", "")
            batch = await anyio.to_thread.run_sync(
                lambda: parse(signal, kind, decompress(body, encoding)), limiter=wiring.parsers
            )
            return await _take(wiring, signal, kind, batch)
        except BadInputError as error:
            return _refuse(kind, error.status, str(error))
        except StoreBusyError as error:
            return _refuse(kind, 503, str(error))
        except StoreError as error:
            return _refuse(kind, 500, str(error))  # Sent again, it would fail again.
        except ClientDisconnect:
            return _refuse(kind, 400, "the sender left before it had sent all")

    return receive


async def _take(wiring: Wiring, signal: Signal, kind: str, batch: Batch) -> Response:
    received_at = time.time()
    left_out = 0
    if batch.spans or batch.points or batch.logs:
        left_out = await asyncio.wrap_future(wiring.store.submit(batch, received_at))
        wiring.live.apply(batch, received_at)
        wiring.hub.wake()
    message = batch.message
    if left_out:
        message = "too many different series of metrics; check the labels' values"
    return _accept(signal, kind, batch.rejected + left_out, message)


async def _read(request: Request) -> bytes:
    """Return the body as it came.

    Raises:
        BadInputError: It is too large or too slow.
    """
    body = bytearray()
    size = 0
    try:
        with anyio.fail_after(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY_BYTES:
                    body += chunk
                elif size > _MAX_DISCARDED_BYTES:
                    break
    except TimeoutError:
        raise BadInputError(f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s", 408) from None
    if size > MAX_BODY_BYTES:
        raise BadInputError(f"the body is larger than {MAX_BODY_BYTES} bytes", 413)
    return bytes(body)


def _accept(signal: Signal, kind: str, rejected: int, message: str) -> Response:
    response, field, json_field = _RESPONSES[signal]
    if kind == JSON:
        partial = {json_field: str(rejected), "errorMessage": message} if rejected else {}
        return Response(json.dumps({"partialSuccess": partial} if partial else {}), media_type=JSON)
    answer = response()
    if rejected:
        setattr(answer.partial_success, field, rejected)
        answer.partial_success.error_message = message
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def _refuse(kind: str, status: int, message: str) -> Response:
    """Return a google.rpc.Status in the encoding of the request, as the protocol asks."""
    code = {503: _RPC_UNAVAILABLE, 500: _RPC_INTERNAL}.get(status, _RPC_INVALID_ARGUMENT)
    headers = {"retry-after": str(_RETRY_AFTER_S)} if status == 503 else {}
    if kind == JSON:
        return Response(
            json.dumps({"code": code, "message": message}), status, headers=headers, media_type=JSON
        )
    return Response(_rpc_status(code, message), status, headers=headers, media_type=PROTOBUF)


def _rpc_status(code: int, message: str) -> bytes:
    """Encode a google.rpc.Status by hand; two fields do not warrant a dependency."""
    text = message.encode()[:4_000]
    length = bytearray()
    size = len(text)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((0x08, code, 0x12)) + bytes(length) + text
