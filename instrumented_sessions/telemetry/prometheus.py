"""The same metrics for Prometheus, without OpenTelemetry: an observer that is its own collector.

Needs the extra `instrumented-sessions[prometheus]`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from .. import events, live
from . import catalog
from .exemplars import Exemplar, exemplar_of
from .measure import Labels, Measure

try:
    from prometheus_client import CollectorRegistry, Histogram, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "Prometheus metrics need prometheus_client; run: pip install 'instrumented-sessions[prometheus]'"
    ) from error

_MAX_CHILDREN = 10_000


class PrometheusObserver(Collector):
    """Keeps histograms as events come, reads counters and gauges when scraped; any thread may call it.

    Histograms carry exemplars: the trace and span of the last measurement in each bucket, where it is
    sampled. They are shown to scrapers that ask for OpenMetrics; the plain text format has no room for them.

    Args:
        registry: Where to register. Default: a registry of its own, see `registry`.
        read: Reads what is true now. Default `live.read`.
        exemplar: Tells the span that an event is about. Default: what OpenTelemetry says, if it is in use.
    """

    only_contended = True

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        read: Callable[[], live.Reading] = live.read,
        exemplar: Callable[[events.Event], Exemplar | None] = exemplar_of,
    ) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._read = read
        self._exemplar = exemplar
        self._measure = Measure()
        self.reset()
        self.registry.register(self)
        _reset_after_fork(self)

    def on_event(self, event: events.Event) -> None:
        """Record `event`."""
        samples = self._measure.samples(event)
        exemplar = self._exemplar(event) if samples else None
        for metric, value, labels in samples:
            child = self._children.get((metric.name, labels))
            if child is None:
                child = self._child(metric.name, labels)
            child.observe(value, exemplar)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the catalog; called for each scrape, on the server's thread."""
        values = self._measure.read(self._read())
        for metric in catalog.METRICS:
            name, labels = metric.prometheus_name, metric.prometheus_labels
            if metric.kind == "histogram":
                yield from self._histograms[metric.name].collect()
                continue
            family: CounterMetricFamily | GaugeMetricFamily
            if metric.kind == "counter":
                family = CounterMetricFamily(name, metric.help, labels=labels)
            else:
                family = GaugeMetricFamily(name, metric.help, labels=labels)
            for label_values, value in values[metric.name].items():
                family.add_metric(label_values, value)
            yield family

    def reset(self) -> None:
        """Begin at zero; called in the child after a fork."""
        self._measure.reset()
        self._histograms = {
            metric.name: Histogram(
                metric.prometheus_name,
                metric.help,
                metric.prometheus_labels,
                registry=None,
                buckets=metric.buckets,
            )
            for metric in catalog.METRICS
            if metric.kind == "histogram"
        }
        self._children: dict[
            tuple[str, Labels], Histogram
        ] = {}  # Looking one up by labels costs as much again.

    def close(self) -> None:
        """Leave the registry."""
        self.registry.unregister(self)

    def _child(self, name: str, labels: Labels) -> Histogram:
        child = self._histograms[name].labels(*labels)
        if len(self._children) < _MAX_CHILDREN:
            self._children[name, labels] = child
        return child


class MetricsServer:
    """Serves a registry at `/metrics` from a daemon thread, so that it answers while every loop is stalled.

    Args:
        port: Where to listen; 0 takes a free one, see `port`.
        host: Address to listen on. Default 127.0.0.1.
        registry: What to serve.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, registry: CollectorRegistry) -> None:
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, host, registry)
        self._thread.name = "instrumented-sessions-prometheus"
        self.host = host
        self.port: int = self._server.server_port
        """Where it listens."""

    def __repr__(self) -> str:
        return f"<MetricsServer http://{self.host}:{self.port}/metrics>"

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop listening, waiting at most `timeout_s` seconds for the thread."""
        stop = threading.Thread(target=self._stop, name="instrumented-sessions-prometheus-stop", daemon=True)
        stop.start()  # It waits for the thread without a limit.
        stop.join(timeout_s)

    def _stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def abandon(self) -> None:
        """Let go of the socket in a forked child, where the thread does not run; the parent serves on."""
        self._server.socket.close()


def _reset_after_fork(observer: PrometheusObserver) -> None:
    if hasattr(os, "register_at_fork"):
        reference = weakref.ref(observer)

        def reset() -> None:
            if (alive := reference()) is not None:
                alive.reset()

        os.register_at_fork(after_in_child=reset)
