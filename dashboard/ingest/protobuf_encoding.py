"""OTLP as protobuf to rows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from ..rows import (
    METRICS,
    Attributes,
    Batch,
    Log,
    Point,
    Resource,
    Span,
    SpanEvent,
    SpanLink,
    Value,
    classify,
)
from . import common
from .errors import BadInputError

M = TypeVar("M", bound=Message)


def traces(body: bytes) -> Batch:
    """Return the spans of an `ExportTraceServiceRequest`."""
    spans: list[Span] = []
    rejected, message = 0, ""
    for group in _decode(ExportTraceServiceRequest(), body).resource_spans:
        resource = common.resource(_attributes(group.resource.attributes))
        for scoped in group.scope_spans:
            for span in scoped.spans:
                problem = common.bad_ids(span.trace_id, span.span_id)
                if problem:
                    rejected, message = rejected + 1, problem
                else:
                    spans.append(_span(resource, scoped.scope.name, span))
    return Batch(spans=tuple(spans), rejected=rejected, message=message)


def metrics(body: bytes) -> Batch:
    """Return the points of an `ExportMetricsServiceRequest` that belong to the catalog's metrics."""
    points: list[Point] = []
    for group in _decode(ExportMetricsServiceRequest(), body).resource_metrics:
        resource = common.resource(_attributes(group.resource.attributes))
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                if metric.name in METRICS:
                    points.extend(_points(resource, metric))
    return Batch(points=tuple(points))


def logs(body: bytes) -> Batch:
    """Return the records of an `ExportLogsServiceRequest`."""
    records: list[Log] = []
    for group in _decode(ExportLogsServiceRequest(), body).resource_logs:
        resource = common.resource(_attributes(group.resource.attributes))
        for scoped in group.scope_logs:
            for record in scoped.log_records:
                body_value = _value(record.body)
                records.append(
                    Log(
                        resource,
                        common.instant(record.time_unix_nano or record.observed_time_unix_nano),
                        record.severity_number,
                        body_value if isinstance(body_value, str) else str(body_value or ""),
                        common.text(record.event_name),
                        _attributes(record.attributes),
                        record.trace_id if len(record.trace_id) == 16 else None,
                        record.span_id if len(record.span_id) == 8 else None,
                    )
                )
    return Batch(logs=tuple(records))


def _decode(message: M, body: bytes) -> M:
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise BadInputError(f"the body is not a protobuf {type(message).__name__}: {error}") from None
    return message


def _span(resource: Resource, scope: str, span: Any) -> Span:
    attributes = _attributes(span.attributes)
    name = common.text(span.name)
    work, in_progress = classify(name, attributes)
    start_ns = common.instant(span.start_time_unix_nano)
    return Span(
        resource,
        scope,
        span.trace_id,
        span.span_id,
        span.parent_span_id if len(span.parent_span_id) == 8 else None,
        name,
        span.kind,
        start_ns,
        max(start_ns, common.instant(span.end_time_unix_nano)),
        span.status.code,
        common.text(span.status.message),
        attributes,
        tuple(
            SpanEvent(
                common.text(event.name), common.instant(event.time_unix_nano), _attributes(event.attributes)
            )
            for event in span.events
        ),
        tuple(
            SpanLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links
        ),
        work,
        in_progress,
    )


def _points(resource: Resource, metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind not in ("gauge", "sum", "histogram", "exponential_histogram"):
        return  # Summaries carry no buckets that could be added up.
    data = getattr(metric, kind)
    cumulative = kind != "gauge" and (
        data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    for point in data.data_points:
        where = (common.instant(point.start_time_unix_nano), common.instant(point.time_unix_nano))
        attributes = _attributes(point.attributes)
        if kind in ("gauge", "sum"):
            value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            plain = "counter" if kind == "sum" and data.is_monotonic else "gauge"
            yield Point(
                resource,
                metric.name,
                plain,
                cumulative and plain == "counter",
                attributes,
                *where,
                float(value),
            )
            continue
        if kind == "histogram":
            buckets = common.explicit_buckets(point.explicit_bounds, point.bucket_counts)
        else:
            positive = point.positive
            buckets = common.exponential_buckets(
                point.scale, positive.offset, positive.bucket_counts, point.zero_count
            )
        maximum = point.max if point.HasField("max") else None
        yield Point(
            resource, metric.name, "histogram", cumulative, attributes, *where,
            point.sum, point.count, buckets, maximum,
        )  # fmt: skip


def _attributes(pairs: Iterable[Any]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Value:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return common.text(value.string_value)
    if kind == "int_value":
        return int(value.int_value)
    if kind == "bool_value":
        return bool(value.bool_value)
    if kind == "double_value":
        return common.number(value.double_value)
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return common.text(base64.b64encode(value.bytes_value).decode())
    return None
