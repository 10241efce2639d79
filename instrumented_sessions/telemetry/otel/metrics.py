"""The catalog's metrics as OpenTelemetry instruments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from ... import live
from .. import catalog
from ..catalog import Metric
from ..measure import Labels, Measure, Sample

_MAX_CACHED = 2_000  # As many attribute sets as the SDK keeps for a metric.
_MAX_AGE_S = 1.0


class Metrics:
    """Records histograms as samples come; counters and gauges are read when the SDK collects.

    Args:
        meter: Where instruments are made.
        measure: Keeps the tally of counters.
        read: Reads what is true now; default `live.read`.
    """

    def __init__(self, meter: Meter, measure: Measure, read: Callable[[], live.Reading] = live.read) -> None:
        self._readout = _Readout(lambda: measure.read(read()))
        self._attributes: dict[tuple[str, Labels], dict[str, str]] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in catalog.METRICS:
            if metric.kind == "histogram":
                self._histograms[metric.name] = meter.create_histogram(
                    metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
                )
                continue
            make = (
                meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
            )
            make(metric.name, [partial(self._observe, metric)], metric.unit, metric.help)

    def record(self, sample: Sample, context: Context | None = None) -> None:
        """Record `sample`; `context` names the span that an exemplar points to."""
        histogram = self._histograms[sample.metric.name]
        histogram.record(sample.value, self._attributes_of(sample.metric, sample.labels), context)

    def reset(self) -> None:
        """Forget what was read; called in the child after a fork."""
        self._readout.reset()

    def _observe(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        values = self._readout.values_for(metric.name)
        return [Observation(value, self._attributes_of(metric, labels)) for labels, value in values.items()]

    def _attributes_of(self, metric: Metric, labels: Labels) -> dict[str, str]:
        """Return labels as attributes; those that do not apply are left out."""
        cached = self._attributes.get((metric.name, labels))
        if cached is None:
            cached = {key: value for key, value in zip(metric.labels, labels, strict=True) if value}
            if len(self._attributes) < _MAX_CACHED:
                self._attributes[metric.name, labels] = cached
        return cached


class _Readout:
    """Gives every instrument of one collection the same reading.

    The SDK asks instrument by instrument, and does not say when a collection begins.
    So a reading serves each name once: who asks again begins a new collection.
    """

    def __init__(self, read: Callable[[], Mapping[str, Mapping[Labels, float]]]) -> None:
        self._read = read
        self._lock = threading.Lock()  # Protects what follows.
        self._values: Mapping[str, Mapping[Labels, float]] = {}
        self._served: set[str] = set()
        self._read_at = float("-inf")

    def values_for(self, name: str) -> Mapping[Labels, float]:
        """Return the values of one metric."""
        with self._lock:
            now = time.monotonic()
            if name in self._served or now - self._read_at > _MAX_AGE_S:
                self._values, self._read_at = self._read(), now
                self._served.clear()
            self._served.add(name)
            return self._values.get(name, {})

    def reset(self) -> None:
        """Forget the reading; another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._values = {}
        self._served.clear()
        self._read_at = float("-inf")
