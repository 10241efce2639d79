"""A real OpenTelemetry SDK that keeps in memory what our observer reports, read by name."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from instrumented_sessions.events import Event
from instrumented_sessions.telemetry.old_sdk import EVENT_NAME
from instrumented_sessions.telemetry.otel import OpenTelemetryObserver

from .story import T0, Clock

# Its name before 1.39.
_InMemoryLogs: Any = (
    getattr(logs_export, "InMemoryLogRecordExporter", None) or logs_export.InMemoryLogExporter
)


class Backend:
    """An observer, and the SDK behind it."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, **options: Any) -> None:
        self.clock = Clock()
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._logs: Any = _InMemoryLogs()
        self.tracers = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(logs_export.SimpleLogRecordProcessor(self._logs))
        self.observer = OpenTelemetryObserver(
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            logger_provider=self.loggers,
            clock=self.clock,
            **{"report_in_progress": False, "explain": lambda id: None, **options},
        )

    def tell(self, *events: Event) -> None:
        for event in events:
            self.observer.on_event(event)

    def pass_time(self, to_s: float) -> None:
        self.clock.now = to_s
        self.observer.reporter.report_due()

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, (
            f"{len(found)} spans named {name!r} among {[span.name for span in self.spans]}"
        )
        return found[0]

    @property
    def logs(self) -> list[Any]:
        return [data.log_record for data in self._logs.get_finished_logs()]

    def metrics(self) -> dict[str, Any]:
        """Collect once: metrics by name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for of_resource in data.resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
        }

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """Collect once: one metric's data points by sorted labels."""
        metric = self.metrics().get(name)
        points = metric.data.data_points if metric is not None else ()
        return {tuple(sorted(point.attributes.items())): point for point in points}

    def close(self) -> None:
        self.observer.close()
        self.tracers.shutdown()
        self.meters.shutdown()
        self.loggers.shutdown()


def event_name(record: Any) -> Any:
    """What kind of fact a log record is; an attribute where records have no field for it."""
    return getattr(record, "event_name", None) or record.attributes[EVENT_NAME]


def seconds(nanoseconds: int | None) -> float:
    """Seconds since the story began."""
    assert nanoseconds is not None
    return round(nanoseconds / 1e9 - T0, 3)
