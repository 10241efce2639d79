"""A program that reports to the dashboard through the real OpenTelemetry SDK and its OTLP/HTTP exporters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind

from instrumented_sessions.telemetry import catalog

Facts = dict[str, Any]


def session(transport: str, conversation: str = "c-1", kind: str = "http", **more: Any) -> Facts:
    """Return what every span of a session carries; keyword names are those of catalog constants."""
    facts = {
        catalog.TRANSPORT_ID: transport,
        catalog.CONVERSATION_ID: conversation,
        catalog.MCP_TRANSPORT: kind,
    }
    return facts | {getattr(catalog, name.upper()): value for name, value in more.items()}


class Agent:
    """Spans and metrics of one process, sent by `flush()`; `close()` ends its exporters."""

    def __init__(self, address: str, service: str = "agent-1", headers: dict[str, str] | None = None) -> None:
        resource = Resource.create({"service.name": service, "service.instance.id": f"{service}-i"})
        self._spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(
            f"{address}/v1/traces", compression=Compression.Gzip, headers=headers, timeout=5
        )
        self._spans.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
        self.tracer = self._spans.get_tracer(catalog.SCOPE)
        metric_exporter = OTLPMetricExporter(f"{address}/v1/metrics", headers=headers, timeout=5)
        reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=3_600_000)
        self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._meter = self._metrics.get_meter(catalog.SCOPE)
        self.gauges: dict[str, dict[tuple[str, ...], float]] = {}
        self._instruments: dict[str, Any] = {}

    def start(
        self,
        name: str,
        ago_s: float,
        facts: Facts,
        parent: Span | None = None,
        links: list[Link] | None = None,
    ) -> Span:
        """Start a span that began `ago_s` seconds ago."""
        context = trace.set_span_in_context(parent) if parent is not None else None
        kind = SpanKind.CLIENT if catalog.MCP_METHOD in facts else SpanKind.INTERNAL
        return self.tracer.start_span(  # type: ignore[return-value]
            name, context, kind, facts, links, start_time=time.time_ns() - int(ago_s * 1e9)
        )

    def end(self, span: Span, ago_s: float = 0.0, outcome: str | None = "ok") -> None:
        """End a span as of `ago_s` seconds ago."""
        if outcome is not None:
            span.set_attribute(catalog.OUTCOME, outcome)
        span.end(time.time_ns() - int(ago_s * 1e9))

    def done(self, name: str, ago_s: float, lasted_s: float, facts: Facts, outcome: str = "ok") -> None:
        """Report a span that ended `ago_s` seconds ago after `lasted_s`."""
        now_ns = time.time_ns()
        end_ns = now_ns - int(ago_s * 1e9)
        span = self.tracer.start_span(
            name, None, SpanKind.INTERNAL, facts, start_time=end_ns - round(lasted_s * 1e9)
        )
        span.set_attribute(catalog.OUTCOME, outcome)
        span.end(end_ns)

    def report(self, open_span: Span, facts: Facts | None = None, links: list[Link] | None = None) -> Span:
        """Report a span that is still open, as the library does."""
        report = self.tracer.start_span(
            open_span.name + catalog.IN_PROGRESS_SUFFIX,
            trace.set_span_in_context(open_span),
            SpanKind.INTERNAL,
            {
                **{k: v for k, v in (open_span.attributes or {}).items() if k != catalog.MCP_METHOD},
                **(facts or {}),
            },
            links,
            start_time=open_span.start_time,
        )
        report.set_attribute(catalog.IN_PROGRESS, True)
        report.set_attribute(catalog.WAITED_S, (time.time_ns() - (open_span.start_time or 0)) / 1e9)
        return report  # type: ignore[return-value]

    def report_now(
        self, open_span: Span, facts: Facts | None = None, links: list[Link] | None = None
    ) -> None:
        """Report a span that is still open."""
        self.report(open_span, facts, links).end()

    def record(self, metric: catalog.Metric, value: float, *labels: str) -> None:
        """Record a value of a histogram, or add it to a counter."""
        instrument = self._instruments.get(metric.name)
        if instrument is None:
            if metric.kind == "histogram":
                instrument = self._meter.create_histogram(
                    metric.name, metric.unit, explicit_bucket_boundaries_advisory=list(metric.buckets)
                )
            else:
                instrument = self._meter.create_counter(metric.name, metric.unit)
            self._instruments[metric.name] = instrument
        attributes = dict(zip(metric.labels, labels))
        if metric.kind == "histogram":
            instrument.record(value, attributes)
        else:
            instrument.add(value, attributes)

    def set(self, metric: catalog.Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        if metric.name not in self.gauges:
            self.gauges[metric.name] = {}

            def observe(_: CallbackOptions) -> Iterator[Observation]:
                for key, current in self.gauges[metric.name].items():
                    yield Observation(current, dict(zip(metric.labels, key)))

            self._meter.create_observable_gauge(metric.name, [observe], metric.unit)
        self.gauges[metric.name][labels] = value

    def flush(self) -> None:
        """Send all ended spans and all metrics now."""
        assert self._spans.force_flush(5_000)
        assert self._metrics.force_flush(5_000)

    def close(self) -> None:
        """End the exporters."""
        self._spans.shutdown()
        self._metrics.shutdown(5_000)


@contextmanager
def agent(address: str, service: str = "agent-1", headers: dict[str, str] | None = None) -> Iterator[Agent]:
    """Lend an agent."""
    program = Agent(address, service, headers)
    try:
        yield program
    finally:
        program.close()
