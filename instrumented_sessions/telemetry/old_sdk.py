"""What OpenTelemetry lacks in the older of the versions we work with, 1.30 and later; each thing once.

Where the public interface has no way, this uses internals: those of versions that are out do not change.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import Aggregation
    from opentelemetry.sdk.resources import Resource

EVENT_NAME = "event.name"
"""The attribute that names an event where records have no field for it: in 1.34 and before."""


def emitter(logger: Logger) -> Callable[..., None]:
    """Return what emits a record from keywords; `Logger.emit` of 1.36 and before takes a record only."""
    if "event_name" in inspect.signature(logger.emit).parameters:
        return logger.emit
    return lambda **facts: _emit_record(logger, facts)


def _emit_record(logger: Logger, facts: dict[str, Any]) -> None:
    target: Any = getattr(logger, "_logger", logger)  # The API's stand-in has the SDK's one inside.
    resource = getattr(target, "resource", None)
    if resource is None:
        return  # The program has no SDK.
    from opentelemetry.sdk._logs import LogRecord  # type: ignore[attr-defined]  # Later ones have none.

    if "event_name" not in inspect.signature(LogRecord.__init__).parameters:
        name, span = facts.pop("event_name"), trace.get_current_span(facts.pop("context"))
        context = span.get_span_context()
        facts["attributes"] = {**(facts["attributes"] or {}), EVENT_NAME: name}
        facts.update(trace_id=context.trace_id, span_id=context.span_id, trace_flags=context.trace_flags)
    target.emit(LogRecord(resource=resource, **facts))


def aggregations() -> dict[type, Aggregation]:
    """Let histograms have the buckets they ask for; OTLP exporters of 1.30 give all of them the same."""
    from opentelemetry.sdk.metrics import Histogram
    from opentelemetry.sdk.metrics.view import DefaultAggregation

    wanted = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "")
    return {} if wanted.startswith("base2_") else {Histogram: DefaultAggregation()}


def rename(provider: Any, about: Resource) -> None:
    """Let `about` override what a provider of ours says of the process; 1.43 and before cannot be told."""
    if hasattr(provider, "_update_resource"):
        provider._update_resource(about)
        return
    # Tracers, loggers and storages hold this very object, so it is changed and not replaced.
    resource = getattr(provider, "_sdk_config", provider).resource
    resource._attributes = resource.merge(about).attributes


def add_reader(provider: Any, reader: MetricReader) -> None:
    """Give a meter provider another reader, which begins at zero; 1.42 and before take no more."""
    if hasattr(provider, "add_metric_reader"):
        provider.add_metric_reader(reader)
        return
    from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage

    consumer = provider._measurement_consumer
    make: Any = MetricReaderStorage  # Later ones take one argument more.
    storage = make(
        consumer._sdk_config, reader._instrument_class_temporality, reader._instrument_class_aggregation
    )
    with consumer._lock:  # Replaced, not changed: measurements walk through it without the lock.
        consumer._reader_storages = {**consumer._reader_storages, reader: storage}
    reader._set_collect_callback(consumer.collect)


def remove_reader(provider: Any, reader: MetricReader) -> None:
    """Take a reader from a meter provider, and shut it down."""
    if hasattr(provider, "remove_metric_reader"):
        provider.remove_metric_reader(reader)
        return
    consumer = provider._measurement_consumer
    with consumer._lock:
        storages = dict(consumer._reader_storages)
        storages.pop(reader, None)
        consumer._reader_storages = storages
    reader._set_collect_callback(None)
    reader.shutdown()
