"""An OpenTelemetry SDK for programs that have none: bounded pipes to an OTLP/HTTP collector.

Global providers can be set only once in a process. So ours stay for its life, and what is behind them
is replaced: closed and started again by `setup()`, and begun anew in the child after a fork.

Needs the extra `instrumented-sessions[otel]`.
"""

from __future__ import annotations

import uuid
from typing import Any, Protocol

from opentelemetry import _logs, metrics, trace

try:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    raise ImportError(
        "exporting over OTLP needs the OpenTelemetry SDK; run: pip install 'instrumented-sessions[otel]'"
    ) from error

from .environment import number
from .export_health import EXPORT_HEALTH
from .old_sdk import add_reader, aggregations, remove_reader, rename
from .pipes import LogPipe, SpanPipe, export

__all__ = ["EXPORT_HEALTH", "SIGNALS", "Signal", "fresh_instance", "resource"]

SPAN_INTERVAL_MS = 200
METRIC_INTERVAL_MS = 5_000
_QUEUE_SIZE = 2_048


def resource(service_name: str | None) -> Resource:
    """Return what names this process; what `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say is kept."""
    made = Resource.create({"service.name": service_name} if service_name else None)
    if "service.instance.id" in made.attributes:
        return made
    return made.merge(fresh_instance())


def fresh_instance() -> Resource:
    """Return a new `service.instance.id`."""
    return Resource({"service.instance.id": str(uuid.uuid4())})


class Signal(Protocol):
    """One of traces, metrics and logs."""

    name: str

    def start(self, endpoint: str | None, about: Resource) -> bool:
        """Export to `endpoint`, a base address, or where `OTEL_*` says; False for one with its own."""
        ...

    def stop(self) -> None:
        """Export what is queued and end; may block for as long as the collector makes it."""
        ...

    def abort(self) -> None:
        """Let a `stop()` that takes too long try no more; never blocks."""
        ...

    def forget(self) -> None:
        """Let go of the parent's pipe; called in the child after a fork."""
        ...

    @property
    def dropped(self) -> int:
        """How many spans or logs found the queue full, or were refused by the collector."""
        ...


class _Traces:
    name = "traces"

    def __init__(self) -> None:
        self._pipe = SpanPipe("traces")
        self._provider: TracerProvider | None = None

    def start(self, endpoint: str | None, about: Resource) -> bool:
        if self._provider is None:
            if not _is_unset(trace.get_tracer_provider()):
                return False
            provider = TracerProvider(resource=about, shutdown_on_exit=False)
            provider.add_span_processor(self._pipe)
            trace.set_tracer_provider(provider)
            if trace.get_tracer_provider() is not provider:
                return False
            self._provider = provider
        rename(self._provider, about)
        self._pipe.open(
            number("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE_SIZE),
            OTLPSpanExporter(endpoint=_path(endpoint, "traces")),
            lambda exporter: BatchSpanProcessor(
                exporter,
                schedule_delay_millis=number("OTEL_BSP_SCHEDULE_DELAY", SPAN_INTERVAL_MS),
            ),
        )
        return True

    def stop(self) -> None:
        self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()

    def forget(self) -> None:
        self._pipe.reset()

    @property
    def dropped(self) -> int:
        return self._pipe.dropped


class _Logs:
    name = "logs"

    def __init__(self) -> None:
        self._pipe = LogPipe("logs")
        self._provider: LoggerProvider | None = None

    def start(self, endpoint: str | None, about: Resource) -> bool:
        if self._provider is None:
            if not _is_unset(_logs.get_logger_provider()):
                return False
            provider = LoggerProvider(resource=about, shutdown_on_exit=False)
            provider.add_log_record_processor(self._pipe)  # type: ignore[arg-type]  # Quacks.
            _logs.set_logger_provider(provider)
            if _logs.get_logger_provider() is not provider:
                return False
            self._provider = provider
        rename(self._provider, about)
        self._pipe.open(
            number("OTEL_BLRP_MAX_QUEUE_SIZE", _QUEUE_SIZE),
            OTLPLogExporter(endpoint=_path(endpoint, "logs")),
            lambda exporter: BatchLogRecordProcessor(
                exporter,
                schedule_delay_millis=number("OTEL_BLRP_SCHEDULE_DELAY", SPAN_INTERVAL_MS),
            ),
        )
        return True

    def stop(self) -> None:
        self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()

    def forget(self) -> None:
        self._pipe.reset()

    @property
    def dropped(self) -> int:
        return self._pipe.dropped


class _Reader(PeriodicExportingMetricReader):
    """May be shut down twice, as removing a reader from its provider shuts it down again."""

    _stopped = False

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if not self._stopped:
            self._stopped = True
            super().shutdown(timeout_millis, **kwargs)


class _MetricExporter(OTLPMetricExporter):
    """May be shut down twice: once to abort, once by its reader."""

    _stopped = False

    def export(self, *args: Any, **kwargs: Any) -> MetricExportResult:
        result = None if self._stopped else export("metrics", super().export, *args, **kwargs)
        return MetricExportResult.FAILURE if result is None else result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if not self._stopped:
            self._stopped = True
            super().shutdown(timeout_millis, **kwargs)


class _Metrics:
    name = "metrics"
    dropped: int = 0  # Values are cumulative: the next export makes up for a lost one.

    def __init__(self) -> None:
        self._provider: MeterProvider | None = None
        self._reader: _Reader | None = None
        self._exporter: _MetricExporter | None = None

    def start(self, endpoint: str | None, about: Resource) -> bool:
        if self._provider is None and not _is_unset(metrics.get_meter_provider()):
            return False
        self._exporter = _MetricExporter(
            endpoint=_path(endpoint, "metrics"), preferred_aggregation=aggregations()
        )
        reader = _Reader(
            self._exporter,
            export_interval_millis=number("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL_MS),
        )
        if self._provider is None:
            provider = MeterProvider([reader], resource=about, shutdown_on_exit=False)
            metrics.set_meter_provider(provider)
            if metrics.get_meter_provider() is not provider:
                provider.shutdown()
                return False
            self._provider = provider
        else:
            rename(self._provider, about)
            add_reader(self._provider, reader)
        self._reader = reader
        return True

    def stop(self) -> None:
        reader, self._reader = self._reader, None
        if reader is None or self._provider is None:
            return
        reader.shutdown()  # Exports once more, first.
        remove_reader(self._provider, reader)

    def abort(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()

    def forget(self) -> None:
        """Take the parent's reader, and with it the parent's counts, out of the child."""
        reader, self._reader = self._reader, None
        if reader is not None and self._provider is not None:
            remove_reader(self._provider, reader)  # First, so that it exports nothing of the parent's.


SIGNALS: tuple[Signal, ...] = (_Metrics(), _Traces(), _Logs())
"""Ours, one set for the process."""


def _is_unset(provider: object) -> bool:
    """Return whether `provider` is the API's stand-in for one that may be set later."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


def _path(endpoint: str | None, signal: str) -> str | None:
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"
