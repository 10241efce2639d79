"""dashboard/ingest: the same rows from protobuf, as the SDK's own encoders write it, and from JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from instrumented_sessions_dashboard.ingest import BadInputError, parse
from instrumented_sessions_dashboard.rows import Batch, Work
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, Status, StatusCode

from instrumented_sessions.telemetry import catalog

PROTOBUF, JSON = "application/x-protobuf", "application/json"
RESOURCE = Resource.create({"service.name": "agent", "service.instance.id": "i-1", "host.name": "box"})


def as_json(message: Any) -> bytes:
    """Return a message as OTLP/JSON: like protobuf's JSON, but ids are hexadecimal."""

    def hexadecimal(value: Any) -> Any:
        if isinstance(value, list):
            return [hexadecimal(item) for item in value]
        if isinstance(value, dict):
            return {
                key: base64.b64decode(item).hex()
                if key in ("traceId", "spanId", "parentSpanId")
                else hexadecimal(item)
                for key, item in value.items()
            }
        return value

    return json.dumps(hexadecimal(MessageToDict(message, use_integers_for_enums=True))).encode()


@pytest.fixture(params=[PROTOBUF, JSON])
def read(request: pytest.FixtureRequest) -> Callable[[Any, Any], Batch]:
    """Parse a message that was encoded as protobuf or as JSON."""

    def parsed(signal: Any, message: Any) -> Batch:
        body = message.SerializeToString() if request.param == PROTOBUF else as_json(message)
        return parse(signal, request.param, body)

    return parsed


def exported_spans() -> Any:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer(catalog.SCOPE)
    with tracer.start_as_current_span("agent run") as parent:
        holder = tracer.start_span("holder", start_time=5)
        holder.end(9)
        span = tracer.start_span(
            catalog.SPAN_LOCK_WAIT,
            attributes={
                catalog.TRANSPORT_ID: "weather",
                catalog.LOCK: "opening",
                "count": 7,
                "share": 0.5,
                "not_finite": math.nan,
                "on": True,
                "names": ["a", "b"],
            },
            links=[Link(holder.get_span_context(), {"why": "holds"})],
            start_time=1_000_000_000,
        )
        span.add_event("stack", {catalog.CODE_STACKTRACE: "f (a.py:1)"}, 1_500_000_000)
        span.set_status(Status(StatusCode.ERROR, "too late"))
        span.end(3_000_000_000)
        report = tracer.start_span(
            catalog.SPAN_LOCK_WAIT + catalog.IN_PROGRESS_SUFFIX,
            trace.set_span_in_context(span),
            attributes={catalog.IN_PROGRESS: True},
        )
        report.end()
    provider.shutdown()
    assert parent.get_span_context().is_valid
    return encode_spans(exporter.get_finished_spans())


def test_spans_become_rows(read: Callable[[Any, Any], Batch]) -> None:
    """Ids, times, status, attributes, events and links arrive unchanged."""
    batch = read("traces", exported_spans())
    holder, wait, report, parent = batch.spans
    assert wait.resource.service == "agent"
    assert wait.resource.instance == "i-1"
    assert json.loads(wait.resource.attributes)["host.name"] == "box"
    assert wait.scope == catalog.SCOPE
    assert wait.name == catalog.SPAN_LOCK_WAIT
    assert wait.parent_id == parent.span_id
    assert wait.trace_id == parent.trace_id
    assert (wait.start_ns, wait.end_ns, wait.duration_s) == (1_000_000_000, 3_000_000_000, 2.0)
    assert (wait.status, wait.status_message) == (2, "too late")
    assert wait.attributes == {
        catalog.TRANSPORT_ID: "weather",
        catalog.LOCK: "opening",
        "count": 7,
        "share": 0.5,
        "not_finite": "nan",
        "on": True,
        "names": ["a", "b"],
    }
    (event,) = wait.events
    assert event == ("stack", 1_500_000_000, {catalog.CODE_STACKTRACE: "f (a.py:1)"})
    (link,) = wait.links
    assert link == (holder.trace_id.hex(), holder.span_id.hex(), {"why": "holds"})
    assert (wait.work, wait.in_progress) == (Work.LOCK, False)
    assert (report.work, report.in_progress, report.parent_id) == (Work.LOCK, True, wait.span_id)
    assert parent.work is None
    assert parent.parent_id is None
    assert (batch.rejected, batch.message) == (0, "")


def test_metrics_become_points(read: Callable[[Any, Any], Batch]) -> None:
    """Counters and histograms are cumulative, gauges are not, and metrics of others are left out."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter(catalog.SCOPE)
    labels = {"transport": "weather", "outcome": "hit"}
    meter.create_counter(catalog.SESSION_REQUESTS.name).add(3, labels)
    meter.create_counter("http.requests").add(1)
    meter.create_gauge(catalog.SESSIONS.name).set(4, {"transport": "weather", "state": "ready"})
    histogram = meter.create_histogram(
        catalog.LOCK_WAIT_DURATION.name, "s", explicit_bucket_boundaries_advisory=[0.1, 1.0]
    )
    for value in (0.05, 0.5, 0.7, 20.0):
        histogram.record(value, {"transport": "weather", "lock": "opening"})
    batch = read("metrics", encode_metrics(reader.get_metrics_data()))
    provider.shutdown()
    points = {point.metric: point for point in batch.points}
    assert set(points) == {
        catalog.SESSION_REQUESTS.name,
        catalog.SESSIONS.name,
        catalog.LOCK_WAIT_DURATION.name,
    }
    requests = points[catalog.SESSION_REQUESTS.name]
    assert (requests.kind, requests.cumulative, requests.value, requests.attributes) == (
        "counter",
        True,
        3.0,
        labels,
    )
    sessions = points[catalog.SESSIONS.name]
    assert (sessions.kind, sessions.cumulative, sessions.value) == ("gauge", False, 4.0)
    waits = points[catalog.LOCK_WAIT_DURATION.name]
    assert (waits.kind, waits.cumulative, waits.observations, waits.maximum) == ("histogram", True, 4, 20.0)
    assert waits.value == pytest.approx(21.25)
    assert waits.buckets == ((0.0, 0.1, 1), (0.1, 1.0, 2), (1.0, math.inf, 1))


def test_exponential_histograms_become_buckets(read: Callable[[Any, Any], Batch]) -> None:
    """Buckets of an exponential histogram enclose what was recorded."""
    reader = InMemoryMetricReader()
    view = View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=RESOURCE, views=[view], shutdown_on_exit=False)
    histogram = provider.get_meter(catalog.SCOPE).create_histogram(catalog.LOCK_WAIT_DURATION.name, "s")
    for value in (0.0, 0.5, 8.0):
        histogram.record(value, {"transport": "weather"})
    (point,) = read("metrics", encode_metrics(reader.get_metrics_data())).points
    provider.shutdown()
    zero, low, high = point.buckets
    assert zero == (0.0, 0.0, 1)
    assert low[0] < 0.5 <= low[1] * 1.0001
    assert high[0] < 8.0 <= high[1] * 1.0001
    assert low[2] == high[2] == 1


def test_logs_become_records(read: Callable[[Any, Any], Batch]) -> None:
    """A log record keeps its trace, severity and body."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("s") as span:
        provider.get_logger("l").emit(
            timestamp=7, body="waits", severity_number=None, event_name="in_progress", attributes={"a": 1}
        )
    (log,) = read("logs", encode_logs(exporter.get_finished_logs())).logs
    provider.shutdown()
    assert (log.time_ns, log.body, log.event, log.attributes) == (7, "waits", "in_progress", {"a": 1})
    assert log.trace_id == span.get_span_context().trace_id.to_bytes(16, "big")


def spans_json(**fields: Any) -> bytes:
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "a", **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def test_span_with_bad_ids_is_rejected_alone(read: Callable[[Any, Any], Batch]) -> None:
    """The others of its batch are taken, and the answer says why it was not."""
    message = exported_spans()
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = bytes(16)
    batch = read("traces", message)
    assert len(batch.spans) == 3
    assert batch.rejected == 1
    assert "trace_id must be 16 bytes" in batch.message


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [(PROTOBUF, b"\xff\xff\xff"), (JSON, b"{"), (JSON, b"[]"), (JSON, b"\xff"), (JSON, b"[" * 100_000)],
)  # fmt: skip
def test_garbage_is_refused(signal: Any, kind: str, body: bytes) -> None:
    """What is no such message is an error of the sender's."""
    with pytest.raises(BadInputError, match="the body"):
        parse(signal, kind, body)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"traceId": "xyz"}, "traceId must be hexadecimal; got 'xyz'"),
        ({"name": 5}, "name must be a string; got 5"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano must be a whole number; got 'soon'"),
        ({"startTimeUnixNano": 10**30}, "startTimeUnixNano must fit in 64 bits"),
        ({"attributes": {"a": 1}}, "attributes must be an array"),
        ({"attributes": [1]}, "attributes must hold objects; got 1"),
        ({"status": []}, "status must be an object"),
    ],
)
def test_wrong_types_in_json_are_named(fields: dict[str, Any], message: str) -> None:
    """The message names the field and what it holds."""
    with pytest.raises(BadInputError, match=message):
        parse("traces", JSON, spans_json(**fields))


def test_json_takes_what_the_encoding_allows() -> None:
    """Upper-case ids, numbers as strings or not, unknown fields, and instants beyond 2262."""
    body = spans_json(
        traceId="ABCDEF" + "0" * 26, startTimeUnixNano="5", endTimeUnixNano=2**64 - 1, futureField={"x": [1]}
    )
    (span,) = parse("traces", JSON, body).spans
    assert span.trace_id.hex().startswith("abcdef")
    assert span.start_ns == 5
    assert span.end_ns == 2**63 - 1


def test_half_characters_in_json_do_not_reach_the_store() -> None:
    """JSON may spell half of a surrogate pair, which is no text."""
    (span,) = parse("traces", JSON, spans_json(name="a\ud800b")).spans
    assert span.name.encode() == b"a?b"


def test_endless_texts_are_cut() -> None:
    """An attribute of a megabyte does not stay one."""
    value = {"stringValue": "x" * 1_000_000}
    (span,) = parse("traces", JSON, spans_json(attributes=[{"key": "a", "value": value}])).spans
    text = span.attributes["a"]
    assert isinstance(text, str)
    assert len(text) == 16_384


def test_delta_temporality_is_seen() -> None:
    """A sum or histogram since the last point is told from one since the start."""
    metric = {
        "name": catalog.SESSION_REQUESTS.name,
        "sum": {
            "isMonotonic": True,
            "aggregationTemporality": 1,
            "dataPoints": [{"asInt": "3", "timeUnixNano": "9"}],
        },
    }
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    (point,) = parse("metrics", JSON, body).points
    assert (point.kind, point.cumulative, point.value) == ("counter", False, 3.0)
