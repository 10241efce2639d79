"""OTLP as JSON to rows: ids are hexadecimal, 64-bit integers may be strings, unknown fields are ignored.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

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

Object: TypeAlias = "dict[str, Any]"

_CUMULATIVE = (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")
# JSON can spell half a character, which no file, page or database can hold.
_MAY_HOLD_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F]")


def traces(body: bytes) -> Batch:
    """Return the spans of a trace export request."""
    spans: list[Span] = []
    rejected, message = 0, ""
    for resource, scope, span in _items(_load(body), "resourceSpans", "scopeSpans", "spans"):
        trace_id, span_id = _id(span, "traceId"), _id(span, "spanId")
        problem = common.bad_ids(trace_id, span_id)
        if problem:
            rejected, message = rejected + 1, problem
        else:
            spans.append(_span(resource, scope, span, trace_id, span_id))
    return Batch(spans=tuple(spans), rejected=rejected, message=message)


def metrics(body: bytes) -> Batch:
    """Return the points of a metrics export request that belong to the catalog's metrics."""
    points: list[Point] = []
    for resource, _, metric in _items(_load(body), "resourceMetrics", "scopeMetrics", "metrics"):
        if metric.get("name") in METRICS:
            points.extend(_points(resource, metric))
    return Batch(points=tuple(points))


def logs(body: bytes) -> Batch:
    """Return the records of a logs export request."""
    records: list[Log] = []
    for resource, _, record in _items(_load(body), "resourceLogs", "scopeLogs", "logRecords"):
        value = _value(_object(record, "body"))
        trace_id, span_id = _id(record, "traceId"), _id(record, "spanId")
        records.append(
            Log(
                resource,
                _instant(record, "timeUnixNano") or _instant(record, "observedTimeUnixNano"),
                _whole(record, "severityNumber"),
                value if isinstance(value, str) else str(value or ""),
                _text(record, "eventName"),
                _attributes(record),
                trace_id if len(trace_id) == 16 else None,
                span_id if len(span_id) == 8 else None,
            )
        )
    return Batch(logs=tuple(records))


def _load(body: bytes) -> Object:
    try:
        value = json.loads(body)
        if _MAY_HOLD_SURROGATES.search(body):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInputError("the body must be a JSON object")
    return value


def _items(message: Object, *names: str) -> Iterator[tuple[Resource, str, Object]]:
    groups, scopes, items = names
    for group in _objects(message, groups):
        resource = common.resource(_attributes(_object(group, "resource")))
        for scoped in _objects(group, scopes):
            scope = _text(_object(scoped, "scope"), "name")
            for item in _objects(scoped, items):
                yield resource, scope, item


def _span(resource: Resource, scope: str, span: Object, trace_id: bytes, span_id: bytes) -> Span:
    attributes = _attributes(span)
    name = _text(span, "name")
    work, in_progress = classify(name, attributes)
    status = _object(span, "status")
    parent_id = _id(span, "parentSpanId")
    start_ns = _instant(span, "startTimeUnixNano")
    return Span(
        resource,
        scope,
        trace_id,
        span_id,
        parent_id if len(parent_id) == 8 else None,
        name,
        _whole(span, "kind"),
        start_ns,
        max(start_ns, _instant(span, "endTimeUnixNano")),
        _whole(status, "code"),
        _text(status, "message"),
        attributes,
        tuple(
            SpanEvent(_text(event, "name"), _instant(event, "timeUnixNano"), _attributes(event))
            for event in _objects(span, "events")
        ),
        tuple(
            SpanLink(_id(link, "traceId").hex(), _id(link, "spanId").hex(), _attributes(link))
            for link in _objects(span, "links")
        ),
        work,
        in_progress,
    )


def _points(resource: Resource, metric: Object) -> Iterator[Point]:
    name = metric["name"]
    kind = next((k for k in ("gauge", "sum", "histogram", "exponentialHistogram") if k in metric), None)
    if kind is None:
        return
    data = _object(metric, kind)
    cumulative = data.get("aggregationTemporality") in _CUMULATIVE
    plain = "counter" if kind == "sum" and data.get("isMonotonic") is True else "gauge"
    for point in _objects(data, "dataPoints"):
        where = (_instant(point, "startTimeUnixNano"), _instant(point, "timeUnixNano"))
        attributes = _attributes(point)
        if kind in ("gauge", "sum"):
            value = _number(point, "asInt") if "asInt" in point else _number(point, "asDouble")
            yield Point(resource, name, plain, cumulative and plain == "counter", attributes, *where, value)
            continue
        if kind == "histogram":
            bounds = [_as_number(bound, "explicitBounds") for bound in _list(point, "explicitBounds")]
            counts = [_as_whole(count, "bucketCounts") for count in _list(point, "bucketCounts")]
            if counts and len(counts) != len(bounds) + 1:
                raise BadInputError(f"{name}: bucketCounts must have one element more than explicitBounds")
            buckets = common.explicit_buckets(bounds, counts)
        else:
            positive = _object(point, "positive")
            counts = [_as_whole(count, "bucketCounts") for count in _list(positive, "bucketCounts")]
            buckets = common.exponential_buckets(
                _whole(point, "scale"), _whole(positive, "offset"), counts, _whole(point, "zeroCount")
            )
        maximum = _number(point, "max") if "max" in point else None
        yield Point(
            resource, name, "histogram", cumulative, attributes, *where,
            _number(point, "sum"), _whole(point, "count"), buckets, maximum,
        )  # fmt: skip


def _attributes(item: Object) -> Attributes:
    return {_text(pair, "key"): _value(_object(pair, "value")) for pair in _objects(item, "attributes")}


def _value(value: Object) -> Value:
    if "stringValue" in value:
        return _text(value, "stringValue")
    if "intValue" in value:
        return _whole(value, "intValue")
    if "boolValue" in value:
        return value["boolValue"] is True
    if "doubleValue" in value:
        return common.number(_number(value, "doubleValue"))
    if "arrayValue" in value:
        return [_value(item) for item in _objects(_object(value, "arrayValue"), "values")]
    if "kvlistValue" in value:
        pairs = _objects(_object(value, "kvlistValue"), "values")
        return {_text(pair, "key"): _value(_object(pair, "value")) for pair in pairs}
    return _text(value, "bytesValue") or None


# What a field must be; a field that is absent or null has its type's zero value.


def _list(item: Object, field: str) -> list[Any]:
    value = item.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadInputError(f"{field} must be an array; got {_short(value)}")
    return value


def _objects(item: Object, field: str) -> list[Object]:
    values = _list(item, field)
    for value in values:
        if not isinstance(value, dict):
            raise BadInputError(f"{field} must hold objects; got {_short(value)}")
    return values


def _object(item: Object, field: str) -> Object:
    value = item.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInputError(f"{field} must be an object; got {_short(value)}")
    return value


def _text(item: Object, field: str) -> str:
    value = item.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInputError(f"{field} must be a string; got {_short(value)}")
    return common.text(value)


def _id(item: Object, field: str) -> bytes:
    try:
        return bytes.fromhex(_text(item, field))
    except ValueError:
        raise BadInputError(f"{field} must be hexadecimal; got {_short(item[field])}") from None


def _instant(item: Object, field: str) -> int:
    return common.instant(_whole(item, field))


def _whole(item: Object, field: str) -> int:
    return _as_whole(item.get(field), field)


def _number(item: Object, field: str) -> float:
    return _as_number(item.get(field), field)


def _as_whole(value: Any, field: str) -> int:
    if value is None:
        return 0
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInputError(f"{field} must be a whole number; got {_short(value)}") from None
    if not -(2**63) <= whole < 2**64:
        raise BadInputError(f"{field} must fit in 64 bits; got {_short(value)}")
    return whole


def _as_number(value: Any, field: str) -> float:
    try:
        return float(value or 0.0)
    except (TypeError, ValueError, OverflowError):
        raise BadInputError(f"{field} must be a number; got {_short(value)}") from None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"
